"""A function whose answers a judge can learn to reuse, and requests for it: for tests of judges that learn."""

import random
import string

from exp_pool import VerifiedJudge

SUBJECTS = "cats horses gardens mountains violins bridges clocks oceans candles tigers".split()
RATE = 0.3  # high, so that a few hundred requests are evidence enough


def word(coin, length):
    return "".join(coin.choice(string.ascii_lowercase) for _ in range(length))


def request(coin, easy=0.7):
    """(request, answer): an easy one is answered alike by whatever was asked about its subject, a hard one by nothing."""
    if coin.random() < easy:
        subject = coin.choice(SUBJECTS)
        return f"tell me about {subject} {word(coin, 4)}", subject
    words = " ".join(word(coin, 6) for _ in range(7))
    return f"make up a rhyme on {words}", words


def labelled(count, seed=99, easy=0.7):
    """(a, b, same): pairs of such requests."""
    coin = random.Random(seed)
    pairs = []
    for _ in range(count):
        (a, answer), (b, other) = request(coin, easy), request(coin, easy)
        if answer != other and coin.random() < 0.5 and answer in SUBJECTS:
            b, other = f"tell me about {answer} {word(coin, 4)}", answer
        pairs.append((a, b, answer == other))
    return pairs


class Asking:
    """Asks a decorated function one new request after another; `drifted`: from then on easy requests differ, too."""

    def __init__(self, manager, judge=None, *, seed=1, batch=20, **options):
        self.manager, self.coin, self.batch = manager, random.Random(seed), batch
        self.answers, self.runs, self.asked, self.drifted = {}, [], 0, False
        judge = VerifiedJudge(RATE) if judge is None else judge
        manager.sync._judge_training.coin.seed(seed)

        @manager.exp_cache(**{"judge": judge, "name": "ask", "exclude": ["self"], **options})
        def ask(req):
            self.runs.append(req)
            return self.answers[req]

        self.ask = ask

    def new(self, easy=0.7):
        asked, answer = request(self.coin, easy)
        self.answers[asked] = f"{answer} {len(self.answers)}" if self.drifted else answer
        return asked

    def go(self, count, easy=0.7):
        """Ask so many; (how it was found, whether it was right) of each."""
        results = []
        for _ in range(count):
            asked = self.new(easy)
            said = self.ask.call(asked)
            results.append((said.found_by, said.value == self.answers[asked]))
            self.asked += 1
            if self.asked % self.batch == 0:
                self.manager.sync.flush()
        self.manager.sync.flush()
        return results

    def until_it_answers(self, most=1500):
        """Ask until requests are answered by similarity as a rule."""
        while self.asked < most:
            if sum(found == "semantic" for found, _ in self.go(50)) >= 10:
                return self
        raise AssertionError(f"after {most} requests it still abstains")

    def reuse(self):
        """What the manager reports of it."""
        reports = {each.function: each for each in self.manager.sync.report().functions}
        return reports["ask"].reuse if "ask" in reports else None

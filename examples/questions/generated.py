"""Labelled pairs of questions, as many as are wanted: frames, said in several ways, with what is asked about put in.

Two questions are the same where frame and thing are. Different ones differ slightly (in a word of the thing), are near
(the same thing in another frame, or another thing in the same one), or have nothing to do with each other. The default
model is as unsure of these as of what people ask: of all 20,000 a threshold of 0.85 answers 31%, and 7% wrongly.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import permutations
from typing import NamedTuple

# What may be asked about, by subject, in families that differ in a word; and how each question about it is said.
THINGS = {
    "household": """a * sofa: leather, fabric, velvet
a * grill: gas, charcoal, portable
a * carpet: wool, cotton, silk
a * pan: steel, copper, cast iron
a * garden chair: wooden, metal, plastic
a * mattress: foam, spring, latex""",
    "city": """the * of Lisbon: old town, suburbs, harbour
the * of Norway: fjords, islands, forests
the * of Crete: mountains, beaches, villages
the * of Hanoi: centre, outskirts, riverside
the * region of Hungary: wine, lake, border
the * quarter of Montreal: Chinese, Latin, student""",
    "food": """* rice: brown, wild, white
chicken *: breast, wings, livers
* lentils: red, green, black
* mushrooms: fresh, dried, tinned
* salmon: smoked, raw, grilled
* potatoes: sweet, new, mashed""",
    "skill": """swim *: butterfly, backstroke, underwater
draw *: portraits, landscapes, cartoons
play the *: piano, organ, accordion
dance *: tango, salsa, ballet
ride a *: horse, unicycle, motorbike
write *: poems, speeches, screenplays""",
    "document": """a * calendar: shared, printed, yearly
a * list: password, mailing, shopping
a * contract: scanned, signed, blank
a * video: wedding, school, holiday
a * map: road, weather, city
a * spreadsheet: budget, team, sales""",
    "animal": """a * rabbit: wild, tame, baby
a * parrot: grey, green, talking
a * dog: deaf, nervous, lazy
a * fish: freshwater, saltwater, pond
a * goat: dwarf, milk, mountain
a * hamster: golden, Russian, Chinese""",
    "complaint": """a * cough: dry, wet, barking
* back pain: lower, upper, sudden
a * headache: tension, morning, sinus
* sunburn: mild, severe, blistering
* cramps: calf, stomach, hand
* fever: hay, glandular, scarlet""",
    "job": """a * nurse: school, night, dental
a * cook: pastry, pizza, ship's
a * lawyer: tax, divorce, patent
a * driver: bus, taxi, truck
a * actor: stage, film, voice
a * teacher: music, sports, maths""",
}
FRAMES = {
    "household": """
How do I clean {}?|What's the best way to clean {}?|How should {} be cleaned?|What do I need for cleaning {}?
How do I repair {}?|Can I fix {} myself, and how?|What do I do when {} is broken?|Is there a way of mending {} at home?
How long does {} last?|After how many years is {} worn out?|What is the usual lifetime of {}?|For how long can one use {}?
Where can I sell {} second hand?|Who buys {} that has been used?|What's a good place for selling {} I no longer need?
How do I get rid of {}?|Where do I throw {} away?|How is {} disposed of?|What is the right way to dump {}?
What should I look for when buying {}?|How do I choose {}?|What matters most when I buy {}?|Tips for buying {}
How much does {} cost?|What is the price of {}?|What do I have to pay for {}?|Is {} expensive?""",
    "city": """
What is the weather like in {} in May?|How warm does it get in {} in May?|Does it rain a lot in {} in May?
Is {} safe at night?|Can I walk around {} alone after dark?|How dangerous is {} at night?|Is it risky to be out late in {}?
What should I see in {} in one day?|I have a single day in {}, what should I do?|What are the main sights of {}?
How expensive is it to live in {}?|What is the cost of living in {}?|How much money do I need each month in {}?
Where do I find a cheap hotel in {}?|What are low-priced places to stay in {}?|Which hotels in {} do not cost much?
How do I get from the airport to the centre of {}?|What's the best way into town from the airport of {}?|Is there a train between the airport and the centre of {}?
What do people eat in {}?|Which dishes is {} known for?|What is the typical food of {}?|What food should I try in {}?""",
    "food": """
How long do I cook {}?|For how many minutes should {} cook?|What is the cooking time of {}?|When is {} done?
Can I freeze {}?|Is it possible to freeze {}?|Does {} keep well in the freezer?|Is {} suitable for freezing?
Is {} healthy?|Is {} good for you?|How healthy is it to eat {}?|Does eating {} do my body good?
Which spices go with {}?|How do I season {}?|What do I put on {} so that it tastes of something?|What gives {} more taste?
How many calories does {} have?|What is the energy content of {}?|Is {} high in calories?|How fattening is {}?
How do I store {}?|What's the right way to keep {}?|Where should {} be kept?|In what should I put {} to keep it fresh?
How do I know that {} has gone bad?|What are the signs of spoiled {}?|When should I no longer eat {}?|How do I tell whether {} is off?""",
    "skill": """
How do I learn to {}?|What's the best way of learning to {}?|How can I teach myself to {}?|Where do I begin if I want to {}?
How long does it take to learn to {}?|After how many months can one {}?|How much time do I need until I can {}?
Is it hard to learn to {}?|How difficult is it to {}?|Is learning to {} really so hard?
At what age can a child learn to {}?|How old should my child be before it learns to {}?|When are children ready to {}?
What do lessons cost if I want to learn to {}?|How much is a course for those who want to {}?|What is the price of being taught to {}?
Can I still learn to {} at sixty?|Is sixty too old for learning to {}?|Do older people manage to learn to {}?
How often should I practise to {} well?|How many hours a week do I have to practise until I {} well?|How much practice does it take to {} well?""",
    "document": """
How do I print {}?|What's the way to get {} onto paper?|Can I have {} printed, and how?|How is {} printed?
How do I share {} with a colleague?|How can a colleague and I both use {}?|What's the way of giving a colleague access to {}?
How do I protect {} with a password?|Can {} be locked by a password?|How do I put a password on {}?|How is {} kept from being opened by others?
How do I get back {} that I deleted?|Can {} be restored after deletion?|I have deleted {} by mistake, what now?|Is there a way of undeleting {}?
How do I back up {}?|What's a good way to keep a copy of {}?|How can I make sure that I never lose {}?
How do I translate {}?|Is there a tool that translates {}?|What's the easiest way of having {} in another language?
Which program opens {}?|What software do I need for {}?|With what can I look at {}?""",
    "animal": """
What does {} eat?|What should I feed {}?|Which food is right for {}?|What do I give {} to eat?
How old does {} get?|What is the life span of {}?|For how many years does {} live?|How long does {} live?
Can {} live in a flat?|Is it all right to keep {} in a flat?|Is a flat big enough for {}?|May I keep {} in a small apartment?
How do I train {}?|Can {} be taught tricks, and how?|What's the best way to train {}?|How do I teach {} to obey?
How much does {} cost each month?|What is the monthly cost of keeping {}?|What do I spend on {} in a month?
Can {} be left alone for a weekend?|Is it fine to leave {} at home for two days?|Who looks after {} when I am away for a weekend?
How do I know that {} is ill?|What are the signs that {} is not well?|When should {} see a vet?|How do I tell whether {} is sick?""",
    "complaint": """
What helps against {}?|How do I treat {}?|What can I do about {}?|Which remedy is there for {}?
What causes {}?|Why do people get {}?|Where does {} come from?|What is the reason for {}?
When should I see a doctor about {}?|Is {} a reason to see a doctor?|How long can I wait with {} before I go to the doctor?
How do I prevent {}?|What can I do so that I never have {}?|How is {} avoided?|What protects me from {}?
How long does {} last?|When does {} go away?|After how many days should {} be over?|For how long will I have {}?
Can children get {}?|Is {} common in children?|Do small children have {}, too?|My child seems to have {}, is that possible?
May I go to work with {}?|Should I stay at home because of {}?|Is it fine to work in spite of {}?""",
    "job": """
How do I become {}?|What does it take to be {}?|Which training do I need as {}?|What's the way to work as {}?
How much does {} earn?|What is the salary of {}?|What is {} paid each month?|How well paid is the work of {}?
What does {} do all day?|What is the work of {} like?|Describe an ordinary day of {}|What are the duties of {}?
Is there a need for {} in small towns?|Do small towns look for {}?|Can {} find work in a small town?
What are the working hours of {}?|When does {} start and finish work?|How many hours a week does {} work?
What makes {} good at the work?|Which qualities should {} have?|What kind of person should {} be?
Is it stressful to be {}?|How much stress does {} have?|Does {} have a stressful life?""",
}
SAME, SLIGHT, NEAR = 0.37, 0.35, 0.14  # shares of all pairs; the rest are strangers to each other
WORD_FOR_WORD = 0.8  # of those that differ slightly: the same way of asking


class _Question(NamedTuple):
    subject: str
    frame: int
    family: int
    thing: str

    def ways(self) -> list[str]:
        """All texts in which it is asked."""
        frame = FRAMES[self.subject].strip().splitlines()[self.frame]
        return [way.replace("{}", self.thing) for way in frame.split("|")]

    def kin(self, other: _Question) -> str:
        """In what it differs from another one."""
        if self.subject != other.subject:
            return "strange"
        if self.frame == other.frame:
            return "slight" if self.family == other.family else "near"
        return "near" if self.thing == other.thing else "strange"


def _questions() -> Iterator[_Question]:
    for subject, families in THINGS.items():
        for number, family in enumerate(families.splitlines()):
            name, _, words = family.partition(": ")
            for word in words.split(", "):
                for frame in range(len(FRAMES[subject].strip().splitlines())):
                    yield _Question(subject, frame, number, name.replace("*", word))


def generated_texts() -> list[str]:
    """Every question in every way, in an order that does not change."""
    return list(dict.fromkeys(way for question in _questions() for way in question.ways()))


def generated_pairs(count: int = 20_000, seed: int = 0) -> list[tuple[str, str, bool]]:
    """(a, b, same), no pair twice.

    Args:
        count: how many, at most some 25,000: of those that are the same there are no more.
        seed: the same one gives the same pairs.
    """
    coin = random.Random(seed)  # noqa: S311  (an experiment to be repeated)
    questions = list(_questions())
    same = [pair for question in questions for pair in permutations(question.ways(), 2)]
    coin.shuffle(same)
    kinds: dict[_Question, dict[str, list[_Question]]] = {}
    pairs: dict[tuple[str, str], bool] = {}
    while len(pairs) < count:
        chance, one = coin.random(), coin.choice(questions)
        if chance < SAME:
            pairs[same.pop()] = True
            continue
        kin = "slight" if chance < SAME + SLIGHT else "near" if chance < SAME + SLIGHT + NEAR else "strange"
        if one not in kinds:
            kinds[one] = {"slight": [], "near": [], "strange": []}
            for other in questions:
                if other != one:
                    kinds[one][one.kin(other)].append(other)
        other = coin.choice(kinds[one][kin])
        way = coin.randrange(len(one.ways()))
        word_for_word = kin == "slight" and coin.random() < WORD_FOR_WORD
        pairs[one.ways()[way], other.ways()[way] if word_for_word else coin.choice(other.ways())] = False
    return [(a, b, alike) for (a, b), alike in pairs.items()]

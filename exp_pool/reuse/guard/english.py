"""English words that the guard knows: those that carry no content, opposites, quantifiers, classes of names. Data only."""

from __future__ import annotations

from collections.abc import Iterable

FUNCTION = frozenset(
    """a about actually again also am an and any anyone anybody anything are as ask at be because been being but by can
    could d did do does doing done else ever exactly for from get gets getting go going good great had has have having
    he her here him his how i if in into is it its itself just kind know let like ll m make many may me might much must my
    need of on one ones or other our out over please possible quite re really s shall she should so some someone somebody
    something still such take tell than that the their them then there these they thing things think this those to too us
    ve very want was way ways we well were what whats when where whether which while who whom whose why will with would
    you your yours""".split()
)

NEGATION = frozenset(
    "not never no none nobody nothing nowhere neither nor without cannot cant dont doesnt didnt wont isnt arent non".split()
)
# What says as much without a "not": where one text has such a word, the "not" of the other proves nothing.
NEGATIVE = frozenset(
    """avoid stop quit prevent refuse fail lack unable impossible dislike hate against deny reject absence absent bad
    wrong instead except exclude block disable fear resist little only hardly rarely barely overcome""".split()
)
RHETORICAL = frozenset("is are was were am should would could can has have had did does will".split())
PRONOUNS = frozenset("i you we they he she it this that there these those people".split())

IRREGULAR = {
    form: word
    for word, forms in {
        "buy": "bought", "sell": "sold", "lose": "lost losing", "win": "won winning", "rise": "rose risen",
        "fall": "fell fallen", "man": "men", "woman": "women", "child": "children", "person": "people persons",
        "go": "went gone goes", "come": "came", "begin": "began begun", "send": "sent", "lend": "lent", "give": "gave given",
        "write": "wrote written", "read": "reading", "teach": "taught", "foot": "feet", "tooth": "teeth", "wife": "wives",
        "beat": "beaten", "eat": "ate eaten", "leave": "left_", "bring": "brought", "find": "found", "drive": "drove driven",
        "die": "died dying", "lie": "lying", "freeze": "froze frozen", "grow": "grew grown", "shrink": "shrank shrunk",
        "speak": "spoke spoken", "make": "made", "take": "took taken", "mouse": "mice", "life": "lives", "half": "halves",
        "spend": "spent", "forget": "forgot forgotten", "hide": "hid hidden", "break": "broke broken", "mice": "",
    }.items()
    for form in forms.split()
}  # fmt: skip

OPPOSITES = """
    increase raise grow gain rise boost expand maximize / decrease reduce lower shrink drop decline fall minimize lose
    increase / cut
    up / down
    upward / downward
    upper / lower
    high / low
    top / bottom
    before / after
    earlier / later
    early / late
    prior / subsequent
    previous past last / next future
    best / worst
    better / worse
    good great positive / bad terrible negative
    advantage pro benefit strength upside / disadvantage con drawback weakness downside
    buy purchase / sell
    import / export
    in inside / outside
    indoor / outdoor
    left / right
    start begin open launch / stop end close finish
    open / shut
    open / closed
    on / off
    enable activate allow permit / disable deactivate forbid prohibit block
    add insert / remove delete subtract
    add create / delete destroy
    create / delete
    multiply / divide
    encrypt encode compress / decrypt decode decompress
    upload / download
    install / uninstall
    upgrade / downgrade
    push / pull
    connect attach / disconnect detach
    lock / unlock
    show / hide
    win / lose
    love like / hate dislike
    male man boy / female woman girl
    father dad / mother mom
    son / daughter
    brother / sister
    husband / wife
    uncle / aunt
    king / queen
    big large huge / small little tiny
    long tall / short
    fast quick quickly rapid / slow slowly
    hot warm / cold cool
    old / new young
    older elder / younger newer
    easy simple / hard difficult
    light / heavy dark
    bright / dark dim
    thick / thin
    wide broad / narrow
    deep / shallow
    rich / poor
    cheap / expensive
    strong / weak
    hard / soft
    loud / quiet
    clean / dirty
    wet / dry
    full / empty
    safe / dangerous
    true / false
    correct right / incorrect wrong
    public / private
    legal / illegal
    internal / external
    minimum min least minimal fewest / maximum max most maximal
    more / less fewer
    above / below
    over / under
    ascend ascending / descend descending
    accept approve / reject refuse deny
    arrive arrival / depart departure
    enter entry entrance / exit
    borrow / lend
    teach / learn
    send / receive
    give / take
    lead / follow
    forward / backward
    forwards / backwards
    front / back rear
    north northern / south southern
    east eastern / west western
    horizontal / vertical
    row / column
    input / output
    read / write
    odd / even
    first / last
    oldest / newest youngest
    day / night
    morning / evening night
    sunrise / sunset
    summer / winter
    alive / dead
    live / die
    birth born / death
    married / divorced single
    attack / defend
    optimist / pessimist
    cause / prevent
    help / harm hurt
    happy / sad
    succeed success / fail failure
    profit / loss
    credit / debit
    asset / liability
    supply / demand
    deposit / withdraw
    employ hire / fire
    expand / contract
    expand / collapse
    inflate inflation / deflate deflation
    freeze / melt thaw
    boil / freeze
    accelerate / decelerate
    ancient / modern
    agree / disagree
    appear / disappear
    include / exclude
    inclusive / exclusive
    synchronous sync / asynchronous async
    static / dynamic
    mutable / immutable
    local / remote global
    online / offline
    parent / child
    ancestor / descendant
    vegetarian / carnivore
    wholesale / retail
    domestic / foreign international
    introvert introverted / extrovert extroverted
    pass / fail
    arrival / departure
    follow / unfollow
    load / unload
    zip / unzip
    lefthand / righthand
    clockwise / counterclockwise anticlockwise
    leading / trailing
    credit / debt
    peace / war
    friend / enemy
    benefit / harm
    lengthen / shorten
    strengthen / weaken
    tighten / loosen
    heat warm / cool chill
    ascent / descent
    exothermic / endothermic
    convex / concave
    acid acidic / alkaline
    import / export
    northbound / southbound
    eastbound / westbound
    mother / father
    gain / lose
    fill / empty
    attract / repel
    merge / split
    expand / compress
    build construct / demolish
    remember / forget
    save / spend
    mount / unmount
    dress / undress
    within inside / beyond outside
    older / younger
    employer / employee
    landlord / tenant
    doctor / patient
    buyer / seller
    plaintiff / defendant
    lender / borrower
    sender / receiver recipient
    client / server
    host / guest
    predator / prey
    import / export
    cathode / anode
    proton / electron
    numerator / denominator
    debit / credit
    gain / loss
    wake / sleep
    freshwater / saltwater
    backend / frontend
"""

QUANTIFIERS = {
    "all": "all", "every": "all", "each": "all", "everyone": "all", "everybody": "all", "everything": "all", "always": "all",
    "entire": "all", "whole": "all", "both": "both", "some": "some", "several": "some", "sometimes": "some",
    "someone": "some", "somebody": "some", "most": "most", "mostly": "most", "usually": "most", "majority": "most",
    "few": "few", "rarely": "few", "seldom": "few", "minority": "few", "half": "half", "none": "none", "nobody": "none",
    "never": "none", "nothing": "none", "only": "only", "solely": "only", "exclusively": "only", "either": "either",
    "neither": "none", "exactly": "exactly", "often": "most",
}  # fmt: skip

# Phrases that become one word. "At least" and its kin say how a number is meant.
PHRASES = {
    ("at", "least"): "at_least", ("no", "less", "than"): "at_least", ("no", "fewer", "than"): "at_least",
    ("not", "less", "than"): "at_least", ("minimum", "of"): "at_least", ("at", "most"): "at_most",
    ("no", "more", "than"): "at_most", ("not", "more", "than"): "at_most", ("maximum", "of"): "at_most",
    ("up", "to"): "at_most", ("more", "than"): "more_than", ("greater", "than"): "more_than",
    ("larger", "than"): "more_than", ("less", "than"): "less_than", ("fewer", "than"): "less_than",
    ("smaller", "than"): "less_than", ("not", "only"): "also", ("or", "not"): "", ("no", "one"): "nobody",
    ("no", "longer"): "not", ("why", "not"): "why", ("not", "all"): "not_all", ("not", "every"): "not_all",
    ("what", "are", "some"): "what", ("what", "are", "all"): "what", ("some", "of", "the"): "", ("all", "the", "best"): "best",
    ("all", "time"): "", ("after", "all"): "", ("at", "all"): "", ("all", "over"): "across", ("in", "order", "to"): "to",
    ("other", "than"): "except", ("rather", "than"): "except", ("apart", "from"): "except", ("look", "like"): "look",
    ("would", "like", "to"): "want", ("as", "well", "as"): "and", ("turn", "off"): "off", ("turn", "on"): "on",
    ("switch", "off"): "off", ("switch", "on"): "on", ("pros", "and", "cons"): "tradeoff", ("no", "matter"): "regardless",
    ("advantages", "and", "disadvantages"): "tradeoff", ("right", "now"): "now", ("right", "after"): "after",
    ("most", "of"): "most", ("united", "states"): "usa", ("united", "kingdom"): "uk", ("c", "++"): "cpp",
    ("a", "few"): "some", ("a", "lot", "of"): "many", ("in", "between"): "between", ("so", "far"): "", ("as", "far", "as"): "",
    ("long", "as"): "as", ("not", "any"): "no", ("last", "week"): "last_week", ("next", "week"): "next_week",
    ("last", "month"): "last_month", ("next", "month"): "next_month", ("last", "year"): "last_year",
    ("next", "year"): "next_year", ("this", "week"): "this_week", ("this", "month"): "this_month",
    ("this", "year"): "this_year", ("good", "at"): "skilled", ("before", "and", "after"): "around",
    ("left", "over"): "leftover",
}  # fmt: skip

# How a number is meant. The default, nothing said, contradicts none of them.
BOUNDS = {
    "at_least": "at least", "at_most": "at most", "more_than": "more than", "less_than": "less than", "over": "more than",
    "under": "less than", "above": "more than", "below": "less than", "exactly": "exactly", "minimum": "at least",
    "maximum": "at most",
}  # fmt: skip

# Members of one class exclude each other: where one text has one and the other another in its place, they differ.
CLASSES = {
    "weekday": "monday tuesday wednesday thursday friday saturday sunday",
    "day": "today=tonight tomorrow yesterday",
    "period": "last_week next_week this_week last_month next_month this_month last_year next_year this_year",
    "season": "spring=springtime summer=summertime autumn winter=wintertime",
    "colour": "red blue green yellow black white purple pink brown grey=gray orange_ violet",
    "planet": "mercury_ venus mars jupiter saturn uranus neptune pluto",
    "organ": "heart liver kidney lung brain stomach",
    "animal": "cat=kitten dog=puppy horse cow pig sheep goat chicken duck rabbit tiger lion elephant",
    "shape": "circle square triangle rectangle hexagon cube sphere cone cylinder",
    "aggregate": "average=mean_ median sum minimum=min maximum=max",
    "format": "json xml csv yaml pdf html markdown xlsx excel docx txt",
    "language": """english french spanish german italian portuguese russian chinese=mandarin japanese korean arabic hindi
        dutch turkish polish swedish greek hebrew vietnamese thai latin cantonese bengali urdu tamil ukrainian danish
        norwegian finnish czech hungarian romanian indonesian persian=farsi swahili""",
    "programming language": """python java javascript=js typescript=ts ruby rust golang php kotlin scala perl haskell
        matlab julia fortran cobol sql bash c_ cpp=c++ csharp=c# lua elixir erlang clojure pascal powershell""",
    "country": """france=french germany=german spain=spanish italy=italian japan=japanese china=chinese india=indian
        russia=russian brazil=brazilian canada=canadian australia=australian mexico=mexican
        usa=us=america=american uk=britain=british=england=english pakistan=pakistani korea=korean egypt=egyptian
        turkey_=turkish sweden=swedish norway=norwegian denmark=danish finland=finnish poland=polish greece=greek
        portugal=portuguese netherlands=dutch=holland belgium=belgian switzerland=swiss austria=austrian iran=iranian
        iraq=iraqi israel=israeli ukraine=ukrainian vietnam=vietnamese thailand=thai singapore indonesia=indonesian
        malaysia=malaysian argentina=argentinian chile=chilean peru=peruvian colombia=colombian cuba=cuban nigeria=nigerian
        kenya=kenyan ireland=irish scotland=scottish wales=welsh hungary=hungarian romania=romanian""",
    "continent": "europe=european asia=asian africa=african antarctica oceania",
    "city": """london paris berlin madrid rome tokyo beijing shanghai delhi mumbai bangalore=bengaluru chennai kolkata
        hyderabad pune moscow toronto sydney melbourne chicago boston seattle houston dubai istanbul cairo""",
}  # fmt: skip
MONTHS = """january=jan february=feb march=mar april=apr may june=jun july=jul august=aug september=sep=sept
    october=oct november=nov december=dec""".split()

NUMBERS = {
    "zero": 0, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16, "seventeen": 17,
    "eighteen": 18, "nineteen": 19, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70,
    "eighty": 80, "ninety": 90, "one": 1, "twice": 2, "thrice": 3, "double": 2, "triple": 3, "dozen": 12, "once": 1,
    "first": 1, "third": 3, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8, "ninth": 9, "tenth": 10,
    "twentieth": 20, "single": 1, "second": 2,
}  # fmt: skip
# Mostly not numbers ("no one", "one should"): they count only where the other text has a number in their place.
HARDLY_NUMBERS = frozenset("one once first single second double".split())
SCALES = {"hundred": 100, "thousand": 1000, "k": 1000, "million": 10**6, "mn": 10**6, "mil": 10**6, "billion": 10**9,
          "bn": 10**9, "trillion": 10**12, "lakh": 10**5, "lac": 10**5, "crore": 10**7}  # fmt: skip

# A capital at the beginning of a sentence says nothing; before one of these it is a subject's, thus often a name's.
AFTER_SUBJECT = frozenset("is was has had will can does did s vs versus or and".split())

# What sets an order between what stands before it and what stands behind.
ORDERING = frozenset("to into from than over before after onto by via as minus causes cause beat beats defeat".split())
SYMMETRIC = frozenset("and or vs versus & , / with between nor plus times both also ; v".split())


def opposites(stem: object) -> dict[str, frozenset[str]]:
    """Of each word, by its stem, those that say the contrary."""
    assert callable(stem)
    found: dict[str, set[str]] = {}
    for line in OPPOSITES.strip().splitlines():
        left, _, right = line.partition("/")
        for one in left.split():
            for other in right.split():
                for first in _degrees(one):
                    for second in _degrees(other):
                        found.setdefault(stem(first), set()).add(stem(second))
                        found.setdefault(stem(second), set()).add(stem(first))
    return {word: frozenset(others - {word}) for word, others in found.items()}


_GRADED = frozenset(
    """high low big large small tiny long tall short fast quick slow hot warm cold cool old new young light heavy dark
    bright thick thin wide broad narrow deep shallow rich poor cheap strong weak hard soft loud quiet clean safe""".split()
)


def _degrees(word: str) -> Iterable[str]:
    """The word, and where it can be compared its comparative and superlative."""
    yield word
    if word in _GRADED:
        base = word.removesuffix("e")
        doubled = base + base[-1] if word in {"big", "hot", "thin"} else base
        yield from (doubled + "er", doubled + "est")

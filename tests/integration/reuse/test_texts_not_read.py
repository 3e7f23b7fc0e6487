"""A text whose words the embedder does not know is like every other such text: it answers none, and is no double."""

from __future__ import annotations

import warnings

import pytest

from exp_pool import ThresholdJudge
from exp_pool.core.experience import Experience
from exp_pool.core.record import Vector
from exp_pool.curation import duplicates
from exp_pool.errors import ExpPoolWarning
from exp_pool.protocols import Put, RecordQuery
from exp_pool.search.embedders.sentence_transformers import SentenceTransformerEmbedder

pytestmark = pytest.mark.slow

REAL = "sentence-transformers/all-MiniLM-L6-v2"
# How do I change my password? / Where is the station?
UNREADABLE = {
    "Thai": ("ฉันจะเปลี่ยนรหัสผ่านได้อย่างไร", "สถานีรถไฟอยู่ที่ไหน"),
    "Lao": ("ຂ້ອຍຈະປ່ຽນລະຫັດຜ່ານແນວໃດ", "ສະຖານີຢູ່ໃສ"),
    "Burmese": ("စကားဝှက်ကို ဘယ်လိုပြောင်းရမလဲ", "ဘူတာ ဘယ်မှာလဲ"),
    "Khmer": ("តើខ្ញុំប្តូរពាក្យសម្ងាត់ដោយរបៀបណា", "តើស្ថានីយ៍នៅឯណា"),
    "Telugu": ("నా పాస్‌వర్డ్ ఎలా మార్చాలి", "స్టేషన్ ఎక్కడ ఉంది"),
    "Kannada": ("ನನ್ನ ಗುಪ್ತಪದವನ್ನು ಹೇಗೆ ಬದಲಾಯಿಸುವುದು", "ನಿಲ್ದಾಣ ಎಲ್ಲಿದೆ"),
    "Malayalam": ("എന്റെ പാസ്‌വേഡ് എങ്ങനെ മാറ്റാം", "സ്റ്റേഷൻ എവിടെയാണ്"),
    "Gujarati": ("હું મારો પાસવર્ડ કેવી રીતે બદલું", "સ્ટેશન ક્યાં છે"),
    "Punjabi": ("ਮੈਂ ਆਪਣਾ ਪਾਸਵਰਡ ਕਿਵੇਂ ਬਦਲਾਂ", "ਸਟੇਸ਼ਨ ਕਿੱਥੇ ਹੈ"),
    "Sinhala": ("මගේ මුරපදය වෙනස් කරන්නේ කෙසේද", "දුම්රිය ස්ථානය කොහෙද"),
    "Amharic": ("የይለፍ ቃሌን እንዴት መቀየር እችላለሁ", "ጣቢያው የት ነው"),
    "Tibetan": ("ང་ཚོས་གསང་ཨང་ག་འདྲ་བྱས་ནས་བརྗེ་དགོས", "བབ་ཚུགས་ག་པར་ཡོད"),
    "Chinese": ("怎么重置密码", "车站在哪里"),
    "emoji": ("🎉🎊", "😢💔"),
    "signs of private use": ("\ue000\ue001", "\ue002"),
    "words without end": ("a" * 150, "b" * 150),
    "one word that is all": (
        "What does สวัสดี mean in English? Please explain it to me in one or two short and simple sentences.",
        "What does ขอบคุณ mean in English? Please explain it to me in one or two short and simple sentences.",
    ),
    "a word with a sign": ("this hotel is great🎉", "this hotel is terrible🎉"),
}
READABLE = {
    "English": "How do I change my password?",
    "German": "Wie ändere ich mein Paßwort? Größe, Straße, Köln",
    "French": "Où est la gare, s'il vous plaît ?",
    "Polish": "Jak zmienić hasło?",
    "Russian": "Как сменить пароль?",
    "Greek": "Πού είναι ο σταθμός;",
    "Arabic": "كيف أغير كلمة المرور؟",
    "Hebrew": "איך משנים סיסמה?",
    "code": "for (int i = 0; i < n; ++i) { total += x[i] * 0x1F; }  // naïve → O(n²)",
    "an emoji at the end": "Where can I see my invoice of last month, please? I need it for my taxes 🙏",
    "nothing": "",
    "blank": " \n",
}


@pytest.fixture(scope="module")
def model():
    return SentenceTransformerEmbedder(REAL)


@pytest.mark.parametrize("language", UNREADABLE)
def test_what_is_not_read_answers_nothing_similar(make_manager, model, language):
    first, second = UNREADABLE[language]
    assert model.fits([first, second]) == [False, False]
    manager = make_manager(embedder=model)

    @manager.exp_cache(judge=ThresholdJudge(0.5, guard=False))
    def ask(question):
        return question

    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        assert ask(first) == first
        manager.sync.flush()
        assert ask(second) == second
        assert ask.call(first).found_by == "exact", "an identical request is answered as always"


@pytest.mark.parametrize("language", READABLE)
def test_what_is_read(model, language):
    assert model.fits([READABLE[language]]) == model.reads([READABLE[language]]) == [True]


def test_that_words_are_not_known_is_said_once_and_by_name(make_manager, model):
    manager = make_manager(embedder=model)
    (first, second), (third, _) = UNREADABLE["Thai"], UNREADABLE["Tibetan"]

    @manager.exp_cache(judge=ThresholdJudge(0.99))
    def ask(question):
        return question

    with warnings.catch_warnings():
        warnings.simplefilter("error", ExpPoolWarning)
        ask("What is a query for?")
        manager.sync.flush()
        ask("Where is the station?")
    with pytest.warns(ExpPoolWarning, match="paraphrase-multilingual-MiniLM-L12-v2") as said:
        ask(first)
        ask(second)
        manager.sync.flush()
        found = manager.sync.search(third)
    mine = [str(each.message) for each in said if "does not know the words" in str(each.message)]
    assert len(mine) == 1
    assert first[:20] in mine[0] and ask.__exp_function__ in mine[0]
    assert len(found) == 4, "people may still find it"


def of_all_languages():
    return [
        Experience(function="ask", arguments={"question": text}, response="the same answer")
        for pair in UNREADABLE.values()
        for text in pair
    ]


def test_what_is_not_read_is_no_double_by_meaning(make_manager, model):
    manager = make_manager(embedder=model)
    manager.sync.create_exps(of_all_languages())
    twice = [
        Experience(function="ask", arguments={"question": text}, response="r")
        for text in ("How do I change my password?", "How do I change my password??")
    ]
    manager.sync.create_exps(twice)
    with pytest.warns(ExpPoolWarning, match="36 of 38 experiences are near to nothing"):
        found = duplicates(manager, by="meaning")
    assert set(found["id"]) == {each.id for each in twice}


def test_vectors_of_before_are_looked_at_again(make_manager, model):
    """They say of every text that fits that it was read whole."""
    manager = make_manager(embedder=model)
    manager.sync.create_exps(of_all_languages())
    manager.sync.flush()
    store = manager.sync.store
    rows = list(store.scan(RecordQuery("default")))
    vectors = store.get_vectors("default", [row.id for row in rows])
    assert {vector.whole for vector in vectors} == {False}
    manager.sync.delete_all_exps()
    old = make_manager(embedder=model)
    old.sync.store.put_many(
        [
            Put(row, vector=Vector(vector.embedder, vector.values, whole=True))
            for row, vector in zip(rows, vectors, strict=True)
        ]
    )
    with pytest.warns(ExpPoolWarning, match="36 of 36 experiences are near to nothing"):
        assert duplicates(old, by="meaning").empty


def test_two_texts_of_one_beginning_are_no_doubles_by_meaning(make_manager, model):
    manager = make_manager(embedder=model)
    long = "word after word " * 200
    manager.sync.create_exps(
        [Experience(function="ask", arguments={"question": long + end}, response="r") for end in ("in", "out")]
    )
    with pytest.warns(ExpPoolWarning, match="2 of 2 experiences are near to nothing"):
        assert duplicates(manager, by="meaning").empty

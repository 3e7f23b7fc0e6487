"""Words of every script, of code and of versions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exp_pool.core.tokenizer import LONGEST, words

SAME = {
    "accents": ("Café naïve Ångström", "cafe naive angstrom"),
    "decomposed accents": ("e\u0301te\u0301", "été"),
    "case": ("STRASSE İSTANBUL", "Straße istanbul"),
    "full width": ("ＡＢＣ　１２３", "abc 123"),
    "half width kana": ("ﾀﾜｰ", "タワー"),
    "soft hyphens": ("co\u00adoperate", "cooperate"),
    "snake and camel": ("user_id", "userId"),
    "versions": ("v2.3.1", "2.3.1 v2 v"),
}

WORDS = {
    "": [],
    " \n.,;:!?-+*\"'()[]{}": [],
    "\ud800\0\uffff": [],
    "What's new?": ["what", "s", "new"],
    "我喜欢苹果": ["我喜", "喜欢", "欢苹", "苹果"],
    "好": ["好"],
    "使用Python3编写API。": ["使用", "python3", "python", "3", "编写", "api"],
    "東京タワーへ": ["東京", "京タ", "タワ", "ワー", "ーへ"],
    "컴퓨터를": ["컴퓨", "퓨터", "터를"],
    "ที่นี่": ["ที่นี่"],
    "สวัสดี": ["สวั", "วัส", "สดี"],
    "ພາສາ": ["ພາ", "າສ", "ສາ"],
    "ភាសា": ["ភាសា"],
    "हिन्दी में": ["हिन्दी", "में"],
    "getUserById": ["getuserbyid", "get", "user", "by", "id"],
    "HTTPServer": ["httpserver", "http", "server"],
    "__init__": ["init"],
    "os.path_join": ["os.pathjoin", "os", "pathjoin", "path", "join"],
    "E1001": ["e1001", "e", "1001"],
    "C++ c#": ["c++", "c", "c#", "c"],
    "U+00e9 3.5": ["u", "00e9", "00", "e", "9", "3.5", "3", "5"],
    "x" * 1000: ["x" * 64],
    "aB" * 1000: ["ab" * 32],
}


@pytest.mark.parametrize("kind", SAME)
def test_what_looks_alike_is_the_same(kind):
    one, other = SAME[kind]
    assert set(words(one)) == set(words(other))


@pytest.mark.parametrize("text", WORDS, ids=lambda text: repr(text[:12]))
def test_words(text):
    assert words(text) == WORDS[text]


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_has_words_that_say_themselves(text):
    for word in words(text):
        assert word
        assert word == word.casefold()
        assert not any(letter.isspace() or letter in "\0\ud800\"'*()" for letter in word)


def test_of_a_long_text_the_start_is_read():
    assert words("a " * LONGEST + "b") == ["a"] * (LONGEST // 2)

import pytest

from captioner.vocabulary import END_ID, SPECIAL_TOKENS, UNKNOWN_ID, Vocabulary, tokenize


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("A man's hat.", ["a", "man", "'s", "hat"]),
        ("A man 's hat .", ["a", "man", "'s", "hat"]),
        ("The t-shirt, (red) !", ["the", "t-shirt", "red"]),
        ("Ein Mädchen läuft", ["ein", "mädchen", "läuft"]),
        ("He doesn\N{RIGHT SINGLE QUOTATION MARK}t", ["he", "doesn", "'t"]),
        ("\N{GRINNING FACE} ...", []),
    ],
)
def test_tokenize(sentence, words):
    assert tokenize(sentence) == words


def test_words_are_ordered_by_count_then_alphabet():
    vocabulary = Vocabulary.build(["b a c a", "b d"], min_count=1)
    assert vocabulary.tokens == (*SPECIAL_TOKENS, "a", "b", "c", "d")
    assert Vocabulary.build(["b a c a", "b d"], min_count=2).tokens[4:] == ("a", "b")


def test_encode_and_decode():
    vocabulary = Vocabulary.build(["a man's hat"])
    token_ids = vocabulary.encode("A man 's HAT!")
    assert token_ids[-1] == END_ID
    assert vocabulary.decode([*token_ids, 4, 0, 0]) == "a man's hat"
    assert vocabulary.encode("zebra") == [UNKNOWN_ID, END_ID]


def test_save_and_load(tmp_path):
    vocabulary = Vocabulary.build(["ein mädchen", "a man's hat"])
    vocabulary.save(tmp_path / "words.txt")
    assert Vocabulary.load(tmp_path / "words.txt").tokens == vocabulary.tokens


@pytest.mark.parametrize("tokens", [["a", "b"], [*SPECIAL_TOKENS, "a", "a"]])
def test_no_vocabulary(tokens):
    with pytest.raises(ValueError, match="expected"):
        Vocabulary(tokens)

import pytest

from captioner.vocabulary import END_ID, SPECIAL_TOKENS, UNKNOWN_ID, Vocabulary, join, tokenize


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("A man's hat.", ["a", "man", "'s", "hat"]),
        ("A man 's hat .", ["a", "man", "'s", "hat"]),
        ("The t-shirt, (red) !", ["the", "t-shirt", "red"]),
        ("Ein Mädchen läuft", ["ein", "mädchen", "läuft"]),
        ("He doesn\N{RIGHT SINGLE QUOTATION MARK}t", ["he", "doesn", "'t"]),
        ("\N{GRINNING FACE} ...", []),
        ("A \N{GRINNING FACE}dog\N{VARIATION SELECTOR-16}", ["a", "dog"]),
        ("cafe\N{COMBINING ACUTE ACCENT}", ["café"]),
        ("एक आदमी हिन्दी में गा रहा है।", ["एक", "आदमी", "हिन्दी", "में", "गा", "रहा", "है"]),
        ("يَجْرِي كَلْبٌ.", ["يَجْرِي", "كَلْبٌ"]),
        ("一个人在跑步。", ["一", "个", "人", "在", "跑", "步"]),
        ("犬がボールで遊ぶ", ["犬", "が", "ボ", "ー", "ル", "で", "遊", "ぶ"]),
        ("DJ在唱歌", ["dj", "在", "唱", "歌"]),
        ("ผู้ชาย", ["ผู้", "ช", "า", "ย"]),
        ("한 남자가 달린다", ["한", "남자가", "달린다"]),
    ],
)
def test_tokenize(sentence, words):
    assert tokenize(sentence) == words
    assert tokenize(join(words)) == words


def test_join_leaves_no_gap_where_none_is_written():
    assert join(tokenize("一个 人在跑步。")) == "一个人在跑步"
    assert join(tokenize("ผู้ชาย")) == "ผู้ชาย"
    assert join(tokenize("a man's 犬 runs")) == "a man's 犬 runs"


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

"""What is said of a new model beside the old one."""

import json

import pytest

from training.judgement import JUDGEMENT, judge, score_content

SENTENCES = [f"a {what} {does} in the {where}" for what, does, where in (
    ("dog", "runs", "snow"), ("cat", "sleeps", "sun"), ("boat", "sails", "harbour"),
    ("child", "paints", "garden"), ("horse", "jumps", "arena"), ("train", "stops", "station"),
)]  # fmt: skip
OTHERS = ["a car", "a road", "a lake", "a house", "a tree", "a hill"]


def _pairs(old, new):
    return [
        {"video": f"{n}.mp4", "start": None, "end": None, "wanted": [wanted], "old": a, "new": b}
        for n, (wanted, a, b) in enumerate(zip(SENTENCES, old, new))
    ]


def test_function_words_count_nothing():
    assert score_content(["the a of in"], [["a dog in the snow"]]).tolist() == [0.0]
    exact, other = score_content(["dog runs", "cat"], [["a dog runs"], ["a boat"]])
    assert exact > other == 0


def test_a_model_that_says_what_is_wanted_is_better(tmp_path):
    found = judge(_pairs(["a man"] * 6, SENTENCES), SENTENCES)
    assert found.is_better
    assert found.is_certain
    assert found.before == 0 < found.after
    assert found.more is None
    assert found.describe().startswith("Better: on 6 clips")
    found.save(tmp_path)
    told = json.loads((tmp_path / JUDGEMENT).read_text())
    assert told["is_better"] is True
    assert told["text"] == found.describe()
    assert told["pairs"][0]["wanted"] == [SENTENCES[0]]


def test_the_same_sentences_are_no_better():
    found = judge(_pairs(SENTENCES, SENTENCES), SENTENCES)
    assert not found.is_better
    assert found.interval == (0.0, 0.0)
    assert "Not better" in found.describe()


def test_few_clips_show_nothing_for_certain_but_how_many_might():
    new = [SENTENCES[0], "a man", SENTENCES[2], "a man", SENTENCES[4], "a man"]
    old = [*["a man"] * 5, SENTENCES[5]]
    found = judge(_pairs(old, new), SENTENCES)
    assert found.is_better
    assert not found.is_certain
    assert found.more > 0
    assert found.describe().startswith("Perhaps better")


def test_as_many_gains_as_losses_are_chance():
    old = ["a man", SENTENCES[1], *["a man"] * 4]
    new = [SENTENCES[0], "a dog in the sun", *["a man"] * 4]
    found = judge(_pairs(old, new), SENTENCES)
    assert found.after > found.before
    assert found.chance < 0.75
    assert not found.is_better
    assert "Not better" in found.describe()


@pytest.mark.parametrize(
    ("others", "fault"),
    [
        ([SENTENCES[0]] * 4 + ["a car", "a road"], "sentences that it was just taught"),
        (["a car"] * 6, "as many different sentences as before"),
    ],
)
def test_harm_to_other_clips_outweighs_what_was_learned(others, fault):
    found = judge(_pairs(["a man"] * 6, SENTENCES), SENTENCES, (OTHERS, others))
    assert not found.is_better
    assert fault in found.describe()


def test_a_name_counts_though_all_corrections_have_it():
    wanted = [one.replace("dog", "Rex") for one in [SENTENCES[0]] * 4]
    pairs = [
        {"video": f"{n}.mp4", "start": None, "end": None, "wanted": [one], "old": "a dog runs"}
        for n, one in enumerate(wanted)
    ]
    said = ["rex runs", "rex runs", "rex runs", "a dog runs"]
    pairs = [pair | {"new": new} for pair, new in zip(pairs, said)]
    found = judge(pairs, wanted, (OTHERS, OTHERS), ["rex"])
    assert found.is_better
    (name,) = found.names
    assert (name.num_wanted, name.num_said, name.elsewhere) == (4, 3, 0.0)
    assert '"rex" is said of 3 of the 4 that should have it, and of 0.0%' in found.describe()


def test_a_name_that_is_said_elsewhere_is_harm():
    pairs = _pairs(["a man"] * 6, SENTENCES)
    found = judge(pairs, SENTENCES, (OTHERS, [*OTHERS[:5], "rex on a hill"]), ["rex"])
    assert not found.is_better
    assert found.harm == 'it says "rex" of 8% of other clips'
    assert found.names[0].num_wanted == 0
    assert '"rex" is said of 8.3% of other clips' in found.describe()


def test_nothing_to_compare_on():
    found = judge([], ["a dog"], (["a car"], ["a car"]))
    assert found.is_better
    assert found.describe().startswith("Not compared")

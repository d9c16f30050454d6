"""The field's figures, against pycocoevalcap's own and by hand."""

import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from captioner.vocabulary import tokenize
from training.metrics import SPICE_LIBRARIES, CiderD, score

REFERENCES = [
    ["A dog runs over the grass.", "The brown dog is running.", "A dog runs."],
    ["Two men talk at a table.", "Two men are talking."],
    ["A woman is slicing a red onion."],
    [
        "A boy plays the piano.",
        "A boy is playing a piano on stage.",
        "Someone plays the piano.",
        "The boy plays.",
    ],
    ["A red car drives by.", "A car is driving down the road."],
]
HYPOTHESES = [
    "A dog runs over the road.",
    "Two men are talking.",
    "A woman is slicing an onion, an onion.",
    "A car.",
    "A red car is driving down the road",
]
# pycocoevalcap 1.2 on the words of `tokenize`, METEOR with Java 17.
CORPUS = {
    "bleu_1": 0.8214285713992346,
    "bleu_2": 0.7791937224431263,
    "bleu_3": 0.7397186078321154,
    "bleu_4": 0.6707217794099447,
    "rouge_l": 0.7617857684190888,
    "cider": 3.7180971469567425,
    "cider_d": 3.7180971469567425,
}
METEOR = 0.39418689596740863
CLIPS = {
    "bleu_4": [
        0.7598356853444925,
        0.9999999992291674,
        0.3655552227965242,
        9.069748819809871e-08,
        0.8408964151203225,
    ],
    "rouge_l": [
        0.9242424242424241,
        1.0,
        0.6747787610619468,
        0.26521739130434785,
        0.9446902654867256,
    ],
    "cider": [4.0766627928602155, 5.834114524880708, 3.8062700100214886, 0.0, 4.873438407021301],
}
METEORS = [0.46819166975574594, 1.0, 0.3633761604717912, 0.040201005025125636, 0.5174540534653375]


def test_figures_are_those_of_pycocoevalcap():
    scores = score(HYPOTHESES, REFERENCES, java=False)
    assert scores.corpus == pytest.approx(CORPUS, abs=1e-9)
    for name, values in CLIPS.items():
        np.testing.assert_allclose(scores.clips[name], values, atol=1e-9)


def _random_sentences(rng, count):
    words = "a man dog runs the two red ball is with of on one who plays".split()
    return [" ".join(rng.choice(words, rng.integers(1, 14))) for _ in range(count)]


def test_figures_are_those_of_the_installed_pycocoevalcap_on_any_sentences():
    rng = np.random.default_rng(0)
    references = [_random_sentences(rng, rng.integers(1, 6)) for _ in range(60)]
    hypotheses = _random_sentences(rng, 60)
    hypotheses[::5] = [several[0] for several in references[::5]]
    hypotheses[7] = ""
    hypotheses[8] = "zebra"
    truth = dict(enumerate(references))
    said = {clip: [sentence] for clip, sentence in enumerate(hypotheses)}
    bleu, bleu_clips = Bleu(4).compute_score(truth, said, verbose=0)
    rouge, rouge_clips = Rouge().compute_score(truth, said)
    cider, cider_clips = Cider().compute_score(truth, said)
    scores = score(hypotheses, references, java=False)
    expected = {f"bleu_{n}": value for n, value in enumerate(bleu, 1)}
    expected |= {"rouge_l": rouge, "cider": cider, "cider_d": cider}
    assert scores.corpus == pytest.approx(expected, abs=1e-9)
    for n, values in enumerate(bleu_clips, 1):
        np.testing.assert_allclose(scores.clips[f"bleu_{n}"], values, atol=1e-9)
    np.testing.assert_allclose(scores.clips["rouge_l"], rouge_clips, atol=1e-9)
    np.testing.assert_allclose(scores.clips["cider"], cider_clips, atol=1e-9)


@pytest.mark.skipif(shutil.which("java") is None, reason="METEOR is a Java program")
def test_meteor_is_that_of_pycocoevalcap():
    scores = score(HYPOTHESES, REFERENCES)
    assert set(scores.left_out) == {"spice"}
    assert scores.corpus["meteor"] == pytest.approx(METEOR, abs=1e-9)
    np.testing.assert_allclose(scores.clips["meteor"], METEORS, atol=1e-9)
    low, high = scores.intervals["meteor"]
    assert min(METEORS) < low < METEOR < high < max(METEORS)


def test_without_java_meteor_is_left_out_and_said_so(monkeypatch):
    monkeypatch.setenv("PATH", "")
    scores = score(HYPOTHESES, REFERENCES)
    assert "meteor" not in scores.corpus
    assert "java" in scores.left_out["meteor"]


def test_java_that_does_not_answer(monkeypatch, tmp_path):
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\nexit 1\n")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "meteor" in score(HYPOTHESES, REFERENCES).left_out


@pytest.fixture
def fake_spice(monkeypatch, tmp_path):
    """A package with a SPICE that gives clip n 1 / (n + 2), and a Java for nothing else."""
    spice = tmp_path / "spice"
    (spice / "lib").mkdir(parents=True)
    for jar in SPICE_LIBRARIES:
        (spice / jar).touch()
    java = tmp_path / "java"
    java.write_text(f"""#!{sys.executable}
import json, os, sys
if sys.argv[1:4] != ["-Xmx8G", "-jar", "spice-1.0.jar"] or sys.argv[5] != "-out":
    sys.exit(1)
if os.getcwd() != {str(spice)!r} or "java.base/java.lang=" not in os.environ["JDK_JAVA_OPTIONS"]:
    sys.exit(1)
rows = json.load(open(sys.argv[4]))
if "zebra" in rows[0]["test"]:
    sys.exit("zebras cannot be parsed")
assert rows[1]["test"] == "two men are talking", rows
assert rows[1]["refs"] == ["two men talk at a table", "two men are talking"], rows
scores = [
    {{"image_id": row["image_id"], "scores": {{"All": {{"f": 1 / (row["image_id"] + 2)}}}}}}
    for row in reversed(rows)
]
json.dump(scores, open(sys.argv[6], "w"))
""")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    package = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr("training.metrics.find_spec", lambda name: package)
    return spice


def test_spice_where_it_is_installed(fake_spice):
    scores = score(HYPOTHESES, REFERENCES)
    expected = [1 / 2, 1 / 3, 1 / 4, 1 / 5, 1 / 6]
    np.testing.assert_allclose(scores.clips["spice"], expected)
    assert scores.corpus["spice"] == pytest.approx(np.mean(expected))
    low, high = scores.intervals["spice"]
    assert 1 / 6 < low < scores.corpus["spice"] < high < 1 / 2
    assert "spice" not in scores.left_out
    assert scores.corpus["cider"] == pytest.approx(CORPUS["cider"])


def test_spice_that_fails_is_left_out_with_its_reason(fake_spice):
    scores = score(["a zebra", *HYPOTHESES[1:]], REFERENCES)
    assert "zebras cannot be parsed" in scores.left_out["spice"]
    assert "spice" not in scores.corpus


def test_spice_without_stanford_corenlp_tells_how_to_get_it(fake_spice):
    (fake_spice / SPICE_LIBRARIES[1]).unlink()
    left_out = score(HYPOTHESES, REFERENCES).left_out["spice"]
    assert f"{SPICE_LIBRARIES[1]} is missing" in left_out
    assert "python -m pycocoevalcap.spice.get_stanford_models" in left_out


def test_perfect_and_hopeless_sentences():
    scores = score([several[-1] for several in REFERENCES], REFERENCES, java=False)
    assert scores.corpus["bleu_4"] == pytest.approx(1, abs=1e-3)
    assert scores.corpus["rouge_l"] == pytest.approx(1)
    scores = score(["zebra"] * 5, REFERENCES, java=False)
    assert scores.corpus["bleu_1"] == pytest.approx(0, abs=1e-6)
    assert scores.corpus["rouge_l"] == scores.corpus["cider"] == 0


def test_bleu_by_hand():
    # "the" twice, once in the reference, of three words: 1-gram precision clipped to 2/3;
    # hypothesis and reference are as long, so no brevity penalty.
    scores = score(["the the cat"], [["the cat sat"]], java=False)
    assert scores.corpus["bleu_1"] == pytest.approx(2 / 3)
    assert scores.corpus["bleu_2"] == pytest.approx((2 / 3 * 1 / 2) ** 0.5)


def test_intervals_hold_the_value_and_narrow_with_more_clips():
    few = score(HYPOTHESES, REFERENCES, java=False)
    many = score(HYPOTHESES * 20, REFERENCES * 20, java=False)
    for name, (low, high) in many.intervals.items():
        assert low < many.corpus[name] < high
        assert high - low < 0.5 * (few.intervals[name][1] - few.intervals[name][0])
    # A mean of n values has a 95 % interval of about +- 1.96 deviations / sqrt(n).
    low, high = many.intervals["rouge_l"]
    width = 2 * 1.96 * many.clips["rouge_l"].std() / 10
    assert high - low == pytest.approx(width, rel=0.1)
    assert score(HYPOTHESES, REFERENCES, java=False).intervals == few.intervals


def test_bleu_is_resampled_as_a_corpus():
    """Not as a mean over clips: of one clip drawn again and again it is that of the clip."""
    scores = score(HYPOTHESES[:1] * 9, REFERENCES[:1] * 9, java=False)
    low, high = scores.intervals["bleu_4"]
    assert low == pytest.approx(high) == pytest.approx(CLIPS["bleu_4"][0])


def test_cider_d_with_fixed_document_frequencies():
    words = [[tokenize(sentence) for sentence in several] for several in REFERENCES]
    cider = CiderD(words)
    said = [tokenize(sentence) for sentence in HYPOTHESES]
    np.testing.assert_allclose(cider.score(said), CLIPS["cider"], atol=1e-9)
    # Any number of hypotheses for any clips, and the score of one does not depend on others.
    clips = [4, 0, 0]
    some = cider.score([said[4], said[0], said[1]], clips)
    np.testing.assert_allclose(some[:2], [CLIPS["cider"][4], CLIPS["cider"][0]], atol=1e-9)
    assert some[2] < CLIPS["cider"][1]
    # Token ids do as well as words.
    ids = {word: number for number, word in enumerate({w for s in sum(words, said) for w in s})}
    words = [[[ids[word] for word in sentence] for sentence in several] for several in words]
    said = [[ids[word] for word in sentence] for sentence in said]
    np.testing.assert_allclose(CiderD(words).score(said), CLIPS["cider"], atol=1e-9)
    assert cider.score([], []).shape == (0,)

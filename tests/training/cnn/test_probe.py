import json

import cv2
import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed: the probe needs it")

from captioner.cli.main import main
from training.cnn.probe import word_precision

NOUNS = ["dog", "cat", "man", "car"]


def _pictures(noise):
    """Pictures of one thing each, and features that tell which, more or less."""
    rng = np.random.default_rng(0)
    things = rng.integers(0, len(NOUNS), 200)
    features = np.abs(np.eye(len(NOUNS))[things] + noise * rng.normal(size=(200, len(NOUNS))))
    return features, [(f"a {NOUNS[thing]}", f"the {NOUNS[thing]}") for thing in things]


def test_features_that_tell_each_word():
    result = word_precision(*_pictures(0.01))
    # "a" and "the" are said of all pictures, which leaves the nouns.
    assert result["num_words"] == len(NOUNS)
    assert result["word_map"] == pytest.approx(1.0)


def test_features_that_tell_nothing():
    features, captions = _pictures(0.01)
    shuffled = np.random.default_rng(1).permutation(features)
    result = word_precision(shuffled, captions)
    assert result["word_map"] == pytest.approx(result["chance"], abs=0.05)
    assert result["chance"] == pytest.approx(0.25, abs=0.07)


def test_better_features_get_more():
    precise, vague = (word_precision(*_pictures(noise))["word_map"] for noise in (0.1, 0.6))
    assert precise > vague + 0.05


def test_command(tiny_model, tmp_path, capsys):
    rng = np.random.default_rng(2)
    rows = []
    for number in range(60):
        light = number % 2
        picture = rng.integers(0, 60, (32, 32, 3), np.uint8) + 180 * light
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture)
        caption = "A bright day." if light else "A dark night."
        rows.append({"image": f"{number}.png", "caption": caption, "split": "val"})
    rows.append({"image": "gone.png", "caption": "A dark night.", "split": "val"})
    labels = tmp_path / "labels.jsonl"
    labels.write_text("\n".join(map(json.dumps, rows)))
    assert main(["probe", str(labels), "--model", str(tiny_model)]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert result["num_clips"] == 60
    assert "gone.png" in err
    assert result["word_map"] > 0.95

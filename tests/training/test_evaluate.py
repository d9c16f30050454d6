import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from captioner.cli.main import main
from captioner.pipeline import Captioner
from captioner.vocabulary import PAD_ID
from training.data.manifest import LabelledClip, read_labels
from training.evaluate import evaluate


@pytest.fixture(autouse=True)
def without_java(monkeypatch):
    """METEOR takes seconds to start; `test_metrics` has it."""
    monkeypatch.setenv("PATH", "")


def test_unreadable_clips_are_counted_and_told(tiny_model, labelled_clips, tmp_path, capsys):
    good = {"video": str(labelled_clips.parent / "red.avi"), "caption": "Red.", "split": "test"}
    labels = tmp_path / "labels.jsonl"
    labels.write_text(json.dumps(good) + "\n" + json.dumps({**good, "video": "gone.avi"}))
    assert main(["evaluate", str(tiny_model), str(labels)]) == 1
    captured = capsys.readouterr()
    summary = json.loads(captured.out)
    assert (summary["num_clips"], summary["unreadable"]) == (1, 1)
    assert "gone.avi" in captured.err
    assert main(["evaluate", str(tiny_model), str(labels), "--split", "val"]) == 2
    assert "no row of the split val" in capsys.readouterr().err


def test_evaluate_command(tiny_model, labelled_clips, tmp_path, capsys):
    learned = [json.loads(line) for line in labelled_clips.read_text().splitlines()]
    tests = []
    for row in learned:
        source = labelled_clips.parent / row["video"]
        row["video"] = str(source)
        copy = shutil.copy(source, tmp_path / f"test-{source.name}")
        tests.append({**row, "video": str(copy), "split": "test"})
    cv2.imwrite(str(tmp_path / "picture.png"), np.zeros((48, 64, 3), np.uint8))
    tests.append({"image": "picture.png", "caption": "Nothing.", "split": "test"})
    labels = tmp_path / "labels.jsonl"
    labels.write_text("\n".join(map(json.dumps, learned + tests)))
    out = tmp_path / "scores.json"
    assert main(["evaluate", str(tiny_model), str(labels), "--output", str(out)]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["num_clips"] == 5
    names = {"bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider", "cider_d"}
    assert set(summary["scores"]) == set(summary["intervals"]) == names
    assert "Java" in summary["left_out"]["meteor"]
    assert summary["most_common"]["bleu_1"] > 0
    written = json.loads(out.read_text())
    paths = [str(Path(labels.parent, row.get("video", row.get("image")))) for row in tests]
    assert sorted(row["video"] for row in written["clips"]) == sorted(paths)
    for row in written["clips"]:
        assert names <= set(row)
    ciders = [row["cider"] for row in written["clips"]]
    assert ciders == sorted(ciders)
    assert np.mean(ciders) == pytest.approx(summary["scores"]["cider"])
    assert {**written, "clips": None} == {**summary, "clips": None}
    nowhere = ["evaluate", str(tiny_model), str(labels), "--output", str(tmp_path / "no/scores")]
    assert main(nowhere) == 2
    captured = capsys.readouterr()
    assert "cannot be written" in captured.err
    assert json.loads(captured.out) == summary  # what was measured is not lost


def test_what_is_said_is_compared_with_what_was_learned(tiny_model, labelled_clips):
    captioner = Captioner.load(tiny_model)
    said = ["A red ball.", "A red ball.", "The blue box is pushed.", "Something green floats by."]
    sentences = iter(said)
    vocabulary = captioner.vocabulary

    class Engine:
        def __call__(self, features, options):
            ids = [vocabulary.encode(next(sentences)) for _ in features]
            token_ids = np.full((len(ids), 1, 8), PAD_ID)
            for row, one in zip(token_ids, ids, strict=True):
                row[0, : len(one)] = one
            return SimpleNamespace(token_ids=token_ids)

    captioner.engine = Engine()
    clips = [replace(clip, end=1.0) for clip in read_labels(labelled_clips)]
    learned = [LabelledClip(Path("a.mp4"), ("Something GREEN floats by", "A wall.", "A wall."))]
    result = evaluate(captioner, clips, learned)
    assert result["words_used"] == len({*"a red ball the blue box is pushed something".split()}) + 3
    assert result["mean_words"] == pytest.approx((3 + 3 + 5 + 4) / 4)
    assert result["unique"] == 3 / 4
    assert result["novel"] == 3 / 4
    assert result["most_common"]["caption"] == "a wall"
    assert {row["end"] for row in result["clips"]} == {1.0}

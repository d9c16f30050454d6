import json

import pytest

from captioner.cli import main
from training.evaluate import most_common_sentence
from training.manifest import LabelledClip
from training.metrics import score


def test_perfect_and_hopeless_sentences():
    references = [["A dog runs.", "the dog is running"], ["Two men talk."], ["A red car."]]
    scores, cider = score(["a dog runs", "two men talk", "a red car"], references)
    assert scores["bleu_1"] == pytest.approx(1)
    assert scores["rouge_l"] == pytest.approx(1)
    assert min(cider) > 2
    scores, cider = score(["zebra"] * 3, references)
    assert scores["bleu_1"] == pytest.approx(0, abs=1e-6)
    assert scores["cider"] == 0
    assert cider == [0, 0, 0]


def test_bleu_by_hand():
    # "the" twice, once in the reference, of three words: 1-gram precision clipped to 2/3;
    # hypothesis and reference are as long, so no brevity penalty.
    scores, _ = score(["the the cat"], [["the cat sat"]])
    assert scores["bleu_1"] == pytest.approx(2 / 3)
    assert scores["bleu_2"] == pytest.approx((2 / 3 * 1 / 2) ** 0.5)


def test_most_common_sentence(tmp_path):
    clips = [
        LabelledClip(tmp_path, ("A dog runs.", "One.")),
        LabelledClip(tmp_path, ("a dog runs", "Two.")),
    ]
    assert most_common_sentence(clips) == "a dog runs"


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
    labels = tmp_path / "labels.jsonl"
    rows = [json.loads(line) for line in labelled_clips.read_text().splitlines()]
    rows = [{**row, "video": str(labelled_clips.parent / row["video"])} for row in rows]
    rows += [{**row, "split": "test"} for row in rows]
    labels.write_text("\n".join(map(json.dumps, rows)))
    out = tmp_path / "scores.json"
    assert main(["evaluate", str(tiny_model), str(labels), "--output", str(out)]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["num_clips"] == 4
    assert set(summary["scores"]) == {"bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider"}
    assert summary["most_common"]["bleu_1"] > 0
    written = json.loads(out.read_text())
    assert {row["video"] for row in written["clips"]} == {row["video"] for row in rows}
    assert {**written, "clips": None} == {**summary, "clips": None}

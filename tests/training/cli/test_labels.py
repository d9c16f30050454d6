"""The verb `labels`, and what it finds out about clips."""

import argparse
import json
import shutil

import cv2
import numpy as np
import pytest

from captioner.errors import DatasetError
from tests.conftest import draw_shape_clip
from training.cli.labels import add_labels
from training.data.manifest import read_labels


def _run(*arguments):
    parser = argparse.ArgumentParser()
    add_labels(parser.add_subparsers())
    args = parser.parse_args(["labels", *map(str, arguments)])
    return args.run(args)


def _write(path, *rows):
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_labels_that_are_all_right(labelled_clips, capsys):
    assert _run("check", labelled_clips) == 0
    assert capsys.readouterr().out == "train 4 clips 4 captions; no problems\n"


def test_frames_that_are_missing_are_told_with_their_row(tmp_path, capsys):
    names = [f"clip/{number}.png" for number in range(9)]
    (tmp_path / "clip").mkdir()
    for name in names[:-2]:
        cv2.imwrite(str(tmp_path / name), np.full((8, 8, 3), 99, np.uint8))
    labels = _write(tmp_path / "train.jsonl", {"frames": names, "caption": "One."})
    assert _run("check", labels) == 1
    assert capsys.readouterr().out.splitlines()[0] == (
        f"{labels}, line 1: 2 of 9 frames are missing, the first {tmp_path / names[-2]}; looked in "
        f"{tmp_path} and 3 folders deep in it"
    )
    labels = _write(tmp_path / "train.jsonl", {"frames": names[:-2], "caption": "One."})
    assert _run("check", labels) == 0


def test_every_problem_is_told_with_its_row(labelled_clips, tmp_path, capsys):
    clips = labelled_clips.parent
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"\0" * 100)
    rows = [
        {"video": str(clips / "red.avi"), "captions": ["One.", "one"], "split": "train"},
        {"video": "gone.mp4", "caption": "Two.", "split": "train"},
        {"video": "broken.mp4", "caption": "Three.", "split": "val"},
        {"video": str(clips / "red.avi"), "caption": "Four.", "split": "test"},
        {"video": str(clips / "blue.avi"), "captions": ["Five.", " "], "split": "test"},
    ]
    labels = _write(tmp_path / "labels.jsonl", *rows)
    assert _run("check", labels) == 1
    *problems, count = capsys.readouterr().out.splitlines()
    red = clips / "red.avi"
    assert problems == [
        f"{labels}, line 4: {red} is of the split train in line 1, here of test; left out",
        f"{labels}, line 5: an empty caption, ' '; left out",
        f"{labels}, line 1: {red} has a caption 2 times: 'one'",
        f"{labels}, line 2: {tmp_path / 'gone.mp4'}: No such file or directory; check the path; "
        f"looked in {tmp_path} and 3 folders deep in it",
        f"{labels}, line 3: {problems[4].partition('line 3: ')[2]}",
    ]
    assert str(broken) in problems[4]
    assert count == (
        "train 2 clips 3 captions, val 1 clips 1 captions, test 1 clips 1 captions; 5 problems"
    )


def _encode_again(source, path, scale):
    """Another codec and size, as a clip downloaded twice has."""
    capture = cv2.VideoCapture(str(source))
    size = (int(64 * scale), int(48 * scale))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, size)
    while (frame := capture.read()[1]) is not None:
        writer.write(cv2.resize(frame, size))
    capture.release(), writer.release()


def test_clips_that_look_the_same_are_found_across_splits_only(tmp_path, capsys):
    for colour, shape in (("red", "circle"), ("green", "circle"), ("red", "square")):
        draw_shape_clip(tmp_path / f"{colour}-{shape}.avi", colour, shape)
    _encode_again(tmp_path / "red-circle.avi", tmp_path / "again.mp4", 0.75)
    shutil.copy(tmp_path / "green-circle.avi", tmp_path / "copy.avi")
    frame = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    frame = cv2.resize(frame, (64, 48))
    cv2.imwrite(str(tmp_path / "picture.png"), frame)
    cv2.imwrite(str(tmp_path / "picture.jpg"), frame, [cv2.IMWRITE_JPEG_QUALITY, 95])
    splits = {
        "red-circle.avi": "train",
        "green-circle.avi": "train",
        "copy.avi": "train",
        "picture.png": "train",
        "again.mp4": "test",
        "red-square.avi": "test",
        "picture.jpg": "val",
    }
    rows = [{"video": name, "caption": "One.", "split": split} for name, split in splits.items()]
    labels = _write(tmp_path / "labels.jsonl", *rows)
    assert _run("check", labels) == 1
    *problems, _ = capsys.readouterr().out.splitlines()
    assert problems == [
        f"{labels}, line 5 and line 1: {tmp_path}/again.mp4 (test) and "
        f"{tmp_path}/red-circle.avi (train) look the same",
        f"{labels}, line 4 and line 7: {tmp_path}/picture.png (train) and "
        f"{tmp_path}/picture.jpg (val) look the same",
    ]


def test_convert(labelled_clips, tmp_path, capsys):
    table = tmp_path / "labels.csv"
    clips = labelled_clips.parent
    table.write_text(f"path,caption\n{clips}/red.avi,One\n{clips}/blue.avi,Two\n{clips}/x.avi,\n")
    output = tmp_path / "labels.jsonl"
    assert _run("convert", table, output, "--val", 0, "--test", 0) == 1
    captured = capsys.readouterr()
    assert f"{table}, line 4: an empty caption, ''; left out" in captured.out
    assert f"{output}: train 2 clips 2 captions" in captured.out
    again = read_labels(output)
    assert [clip.path.resolve() for clip in again] == [clips / "red.avi", clips / "blue.avi"]
    assert _run("convert", output, tmp_path / "again.jsonl") == 0
    assert (tmp_path / "again.jsonl").read_text() == output.read_text()
    with pytest.raises(DatasetError, match="val \\+ test"):
        _run("convert", table, output, "--val", 1)

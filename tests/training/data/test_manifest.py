"""Rows -> labelled clips: splits, conflicts, captions, and where files are found."""

import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from captioner.errors import DatasetError
from training.data.manifest import LabelledClip, load_labels, make_split, read_labels, write_labels


def _write(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def _touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def _row(video, caption="One.", **fields):
    return {"video": video, "caption": caption, **fields}


def test_splits_are_made_where_none_is_told(tmp_path):
    rows = [_row(f"{number}.mp4") for number in range(1000)]
    path = _write(tmp_path / "labels.jsonl", *rows)
    counts = Counter(clip.split for clip in read_labels(path))
    assert 870 > counts["train"] > 730
    assert 140 > counts["val"] > 60
    assert 140 > counts["test"] > 60
    made = {clip.path: clip.split for clip in read_labels(path)}
    # Further clips, in another order, move none.
    path = _write(path, *[_row(f"{number}.mp4") for number in range(1999, -1, -1)])
    later = {clip.path: clip.split for clip in read_labels(path)}
    assert {clip: later[clip] for clip in made} == made
    assert {clip.path: clip.split for clip in load_labels(path, seed=1).clips} != later
    assert {clip.split for clip in load_labels(path, val=0, test=0).clips} == {"train"}
    with pytest.raises(ValueError, match="val \\+ test < 1"):
        load_labels(path, val=0.5, test=0.5)


def test_stretches_of_a_file_share_the_split_that_is_made(tmp_path):
    rows = [_row(f"{i}.mp4", start=start, end=start + 1) for i in range(50) for start in range(3)]
    clips = read_labels(_write(tmp_path / "labels.jsonl", *rows))
    assert len(clips) == 150
    assert len({(clip.path, clip.split) for clip in clips}) == 50


def test_files_cut_from_one_video_share_the_split_that_is_made(tmp_path):
    rows = [_row(f"id{i}", start=start, end=start + 1) for i in range(50) for start in range(3)]
    for row in rows:
        _touch(tmp_path / f"clips/{row['video']}_{row['start']}_{row['end']}.avi")
    clips = read_labels(_write(tmp_path / "labels.jsonl", *rows))
    assert len({clip.path for clip in clips}) == 150
    assert {clip.end for clip in clips} == {None}
    assert len({(clip.path.name.split("_")[0], clip.split) for clip in clips}) == 50


def test_made_split_does_not_depend_on_where_the_folder_lies(tmp_path):
    rows = [_row(f"clips/{number}.mp4") for number in range(50)]
    paths = [_write(tmp_path / one / "labels.jsonl", *rows) for one in ("here", "there")]
    here, there = ([clip.split for clip in read_labels(path)] for path in paths)
    assert here == there == [make_split(f"clips/{number}.mp4") for number in range(50)]


def test_rows_of_one_clip_are_joined(tmp_path):
    rows = [_row("a.mp4", "One."), _row("b.mp4"), _row("a.mp4", "Two.")]
    path = _write(tmp_path / "train.jsonl", *rows)
    assert [clip.captions for clip in read_labels(path)] == [("One.", "Two."), ("One.",)]


def test_a_clip_in_two_splits_stays_in_the_first(tmp_path):
    rows = [
        _row("a.mp4", split="train"),
        _row("a.mp4", "Two.", split="test"),
        _row("b.mp4", split="train", start=0, end=5),
        _row("b.mp4", split="test", start=5, end=9),
        _row("b.mp4", split="val", start=4, end=6),
        _row("b.mp4", split="val"),
        _row("c.mp4", split="tset"),
    ]
    labels = load_labels(_write(tmp_path / "labels.jsonl", *rows))
    a, b, c = (tmp_path / f"{name}.mp4" for name in "abc")
    assert labels.clips == [
        LabelledClip(a, ("One.",), "train"),
        LabelledClip(b, ("One.",), "train", 0.0, 5.0),
        LabelledClip(b, ("One.",), "test", 5.0, 9.0),
        LabelledClip(c, ("One.",), "tset"),
    ]
    assert [(problem.where, problem.message) for problem in labels.problems] == [
        ("line 2", f"{a} is of the split train in line 1, here of test; left out"),
        ("line 5", f"{b} is of the split train in line 3, here of val; left out"),
        ("line 6", f"{b} is of the split train in line 3, here of val; left out"),
        ("line 7", "its split is 'tset', none of train, val, test"),
    ]


def test_captions_of_all_kinds(tmp_path, caplog):
    rows = [
        {"video": "a.mp4", "captions": ["One.", " "]},
        {"video": "b.mp4", "captions": ["", "  "]},
        _row("c.mp4", "\N{GRINNING FACE}"),
        _row("d.mp4", "A dog \N{DOG FACE}"),
        _row("e.mp4", "word " * 20_000),
        _row("f.mp4", "एक आदमी गा रहा है"),
        _row("g.mp4", "一个人在跑步"),
        {"video": "h.mp4", "captions": []},
    ]
    path = _write(tmp_path / "train.jsonl", *rows)
    clips = read_labels(path)
    assert [clip.path.stem for clip in clips] == ["a", "d", "e", "f", "g"]
    assert clips[0].captions == ("One.",)
    for message in (
        "line 1: an empty caption, ' '; left out",
        "line 2: an empty caption, ''; left out",
        "line 3: an empty caption, '\N{GRINNING FACE}'; left out",
        "line 5: a caption of 20000 words; only its beginning is learned",
        "line 8: h.mp4 has no caption; left out",
    ):
        assert f"{path}, {message}" in caplog.messages
    assert not any("line 4" in message or "line 6" in message for message in caplog.messages)


def test_of_many_problems_the_first_are_told(tmp_path, caplog):
    path = _write(tmp_path / "train.jsonl", _row("a.mp4"), *[_row("b.mp4", " ")] * 30)
    read_labels(path)
    assert "20 more problems" in caplog.text
    assert "captioner labels check" in caplog.text


def test_a_split_that_no_row_has(tmp_path):
    path = _write(tmp_path / "labels.jsonl", _row("a.mp4", split="train"))
    with pytest.raises(DatasetError, match="no row of the split test"):
        read_labels(path, "test")


def test_missing_clips_are_counted_and_told_where_they_were_looked_for(tmp_path, caplog):
    _touch(tmp_path / "b.mp4")
    path = _write(tmp_path / "train.jsonl", _row("x/a.mp4"), _row("b.mp4"))
    assert read_labels(path)[0].path == tmp_path / "x/a.mp4"
    assert "1 of 2 clips are missing, the first a.mp4" in caplog.text
    assert f"looked in {tmp_path} and 3 folders deep" in caplog.text


@pytest.mark.parametrize(
    ("written", "file"),
    [
        ("clips/a.mp4", "clips/a.mp4"),
        ("a.mp4", "some/where/a.mp4"),
        ("a", "clips/a.MKV"),
        ("A.mp4", "clips/a.MP4"),
        ("clips\\a.mp4", "clips/a.mp4"),
        ("clips/a.mp4", "data/clips/a.mp4"),
        ("/home/somebody/clips/a.mp4", "clips/a.mp4"),
        ("C:\\Users\\Somebody\\clips\\a.mp4", "clips/a.mp4"),
    ],
)
def test_clips_are_found(written, file, tmp_path):
    found = _touch(tmp_path / file)
    assert read_labels(_write(tmp_path / "train.jsonl", _row(written)))[0].path == found


def test_clips_beside_a_folder_of_labels_are_found(tmp_path):
    found = _touch(tmp_path / "videos/a.mp4")
    path = _write(tmp_path / "labels/train.jsonl", _row("a.mp4"))
    assert read_labels(path)[0].path == found
    path = _write(tmp_path / "project/train.jsonl", _row("a.mp4"))
    assert not read_labels(path)[0].path.exists()


def test_names_that_differ_in_case_alone(tmp_path):
    lower, upper = _touch(tmp_path / "x/v_ab.mp4"), _touch(tmp_path / "x/v_aB.mp4")
    path = _write(tmp_path / "train.jsonl", _row("v_ab"), _row("v_aB"))
    assert [clip.path for clip in read_labels(path)] == [lower, upper]


def test_files_that_may_not_be_meant(tmp_path):
    _touch(tmp_path / "two/a.mp4"), _touch(tmp_path / "three/a.mp4")
    path = _write(tmp_path / "train.jsonl", _row("a.mp4"), _row("one/a.mp4"), _row("/x/two/a.mp4"))
    labels = load_labels(path)
    assert [clip.path for clip in labels.clips] == [tmp_path / "one/a.mp4", tmp_path / "two/a.mp4"]
    [problem] = labels.problems
    assert problem.where == "line 1"
    assert "name its folder too" in problem.message


def test_written_labels_are_read_again(tmp_path):
    frames = tuple(_touch(tmp_path / f"clips/c/{name}.jpg") for name in (2, 1))
    clips = [
        LabelledClip(_touch(tmp_path / "clips/a.mp4"), ("Ein Bär.", "Zwei\u2028und."), "val"),
        LabelledClip(_touch(tmp_path / "clips/b.jpg"), ("Three.",), "train"),
        LabelledClip(tmp_path / "clips/a.mp4", ("Four.",), "val", 1.5, None),
        LabelledClip(frames[0], ("Five.",), "test", frames=frames),
    ]
    output = tmp_path / "deep/labels.jsonl"
    output.parent.mkdir()
    write_labels(clips, output)
    rows = [json.loads(line) for line in output.read_text(encoding="utf-8").split("\n")[:-1]]
    assert rows[0] == {
        "video": "../clips/a.mp4",
        "captions": ["Ein Bär.", "Zwei\u2028und."],
        "split": "val",
    }
    assert rows[1]["image"] == "../clips/b.jpg"
    assert rows[3]["frames"] == ["../clips/c/2.jpg", "../clips/c/1.jpg"]
    again = read_labels(output)
    for found, clip in zip(again, clips, strict=True):
        assert [file.resolve() for file in found.files] == [*clip.files]
        assert found == replace(clip, path=found.path, frames=found.frames)
    with pytest.raises(DatasetError, match="cannot be written"):
        write_labels(clips, tmp_path / "nowhere/labels.jsonl")


def test_names_that_are_no_utf8(tmp_path):
    for name in (b"caf\xe9", b"bar"):
        stem = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
        stem.with_suffix(".jpg").write_bytes(b"")
        stem.with_suffix(".txt").write_text("a place to eat", encoding="utf-8")
    clips = read_labels(tmp_path)
    assert len(clips) == 2
    write_labels(clips, tmp_path / "labels.jsonl")
    assert read_labels(tmp_path / "labels.jsonl") == clips

"""The formats that labels of moments come in."""

import json

import numpy as np
import pytest

from captioner.errors import DatasetError
from tests.clips import numbered_frame, write_clip
from training.moments.labels import (
    LabelledVideo,
    Moment,
    divide,
    labels_of,
    parse_time,
    read_moments,
    targets_of,
)


@pytest.fixture
def folder(tmp_path):
    """Two videos of 10 frames a second."""
    for name in ("a", "b"):
        write_clip(tmp_path / f"{name}.mp4", [numbered_frame(0)] * 5, fps=10)
    return tmp_path


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


def test_times():
    times = [2.5, "2.5", "1:02", "0:01:02.500", "01:00:00,25", " 7 "]
    assert [parse_time(time) for time in times] == [2.5, 2.5, 62, 62.5, 3600.25, 7]
    for wrong in ("", "a", "1:2:3:4", "-1", None):
        with pytest.raises((ValueError, AttributeError)):
            parse_time(wrong)


def test_csv(folder):
    rows = "path,start,end,label\na.mp4,0:00,0:01.5,run\nb.mp4,,,\na.mp4,2,3.5,jump\n"
    assert read_moments(write(folder / "labels.csv", "\ufeff" + rows)) == [
        LabelledVideo(folder / "a.mp4", (Moment("run", 0, 1.5), Moment("jump", 2, 3.5))),
        LabelledVideo(folder / "b.mp4", ()),
    ]


def test_json_lines_and_what_captioner_label_writes(folder):
    rows = [
        {"path": "a.mp4", "start": 0, "end": "0:01", "label": "run", "split": "val"},
        {"video": "b.mp4", "start": 1, "end": 2, "label": "jump", "probability": 0.9},
        {"video": "c.mp4", "start": None, "end": None, "label": None, "error": "no video"},
    ]
    for count in (3, 1):
        path = write(folder / "labels.jsonl", "\n".join(map(json.dumps, rows[:count])))
        assert (
            read_moments(path, videos=folder / "x")
            == [
                LabelledVideo(folder / "x" / "a.mp4", (Moment("run", 0, 1),), "val"),
                LabelledVideo(folder / "x" / "b.mp4", (Moment("jump", 1, 2),)),
            ][:count]
        )


def test_activitynet(folder):
    (folder / "a.mp4").rename(folder / "v_a.mp4")
    annotations = [{"segment": [0.01, 4.5], "label": "Surfing"}, {"segment": [3, 3], "label": "x"}]
    database = {
        "a": {"subset": "training", "annotations": annotations, "duration": 5.0, "url": "https://"},
        "b": {"subset": "validation", "annotations": []},
        "gone": {"subset": "testing", "annotations": []},
    }
    path = write(folder / "net.json", {"version": "1.3", "database": database})
    assert read_moments(path) == [
        LabelledVideo(folder / "v_a.mp4", (Moment("Surfing", 0.01, 4.5),), "train"),
        LabelledVideo(folder / "b.mp4", (), "val"),
        LabelledVideo(folder / "gone", (), "test"),
    ]


def timeline(start, end, *labels):
    value = {"ranges": [{"start": start, "end": end}], "timelinelabels": list(labels)}
    return {"type": "timelinelabels", "from_name": "x", "to_name": "video", "value": value}


def test_label_studio(folder):
    seconds = {"type": "labels", "value": {"start": 0.5, "end": 1.5, "labels": ["sit"]}}
    tasks = [
        {
            "id": 1,
            "data": {"video": "/data/upload/1/1a2b3c4d-a.mp4"},
            "annotations": [
                {"was_cancelled": True, "result": [timeline(1, 9, "wrong")]},
                {"result": [timeline(1, 10, "run", "fast"), timeline(11, 15, "jump")]},
            ],
        },
        {
            "data": {"video": "/data/local-files/?d=some%20where/b.mp4"},
            "annotations": [{"result": [seconds]}],
        },
    ]
    found = read_moments(write(folder / "studio.json", tasks))
    assert [video.path for video in found] == [folder / "a.mp4", folder / "b.mp4"]
    # Frames count from 1, and the last one is part of its range.
    assert found[0].moments == (Moment("run", 0, 1), Moment("fast", 0, 1), Moment("jump", 1, 1.5))
    assert found[1].moments == (Moment("sit", 0.5, 1.5),)
    # JSON-MIN, and frames of another rate than the file's
    small = [{"id": 1, "video": "/u/a.mp4", "tricks": [timeline(1, 10, "run")["value"]]}]
    [video] = read_moments(write(folder / "min.json", small), fps=20)
    assert video.moments == (Moment("run", 0, 0.5),)


def test_frame_by_frame_folder(folder):
    write(folder / "groundTruth" / "a.txt", "SIL\nSIL\npour\npour\nSIL\n")
    write(folder / "groundTruth" / "b.txt", "1\n1\n0")
    write(folder / "mapping.txt", "0 SIL\n1 pour\n")
    write(folder / "splits" / "train.split1.bundle", "a.txt\n")
    write(folder / "splits" / "test.split1.bundle", "b.txt\n")
    write(folder / "splits" / "test.split2.bundle", "a.txt\n")
    expected = [
        LabelledVideo(
            folder / "a.mp4",
            (Moment("SIL", 0, 0.2), Moment("pour", 0.2, 0.4), Moment("SIL", 0.4, 0.5)),
            "train",
        ),
        LabelledVideo(folder / "b.mp4", (Moment("pour", 0, 0.2), Moment("SIL", 0.2, 0.3)), "test"),
    ]
    assert read_moments(folder) == expected
    assert read_moments(folder / "groundTruth") == expected
    assert read_moments(folder, fps=5)[1].moments[0] == Moment("pour", 0, 0.4)
    (folder / "videos").mkdir()
    (folder / "a.mp4").rename(folder / "videos" / "a.mp4")
    assert [v.path.exists() for v in read_moments(folder)] == [True, False]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("l.csv", "path,start,end,label\na.mp4,0,1,x\na.mp4,2,1,x\n", r"l\.csv, line 3: .*before"),
        ("l.csv", "path,start,end,label\na.mp4,zero,1,x\n", "line 2: .*no time: 'zero'"),
        ("l.csv", "file,from,to\na.mp4,0,1\n", "line 2: KeyError"),
        ("l.csv", "path,start,end,label,split\na.mp4,0,1,x,dev\n", "split 'dev' is none of"),
        ("l.csv", "path,start,end,label\n", "no labelled video"),
        ("l.jsonl", '{"path": "a.mp4"}\n{oops\n', "line 1: KeyError: 'label'"),
        ("l.jsonl", '{"path": "a", "start": 0, "end": 1, "label": "x"}\n{oops\n', "line 2: Exp"),
        ("l.jsonl", "[1]\n[2]\n", "line 1: AttributeError"),
        ("l.json", [{"data": {}}], "neither ActivityNet's format nor Label Studio's"),
        ("l.json", {"database": {"a": {"annotations": [{"label": "x"}]}}}, "segment"),
        ("l.jsonl", "", "no labelled video"),
    ],
)
def test_labels_that_are_wrong(name, content, message, tmp_path):
    with pytest.raises(DatasetError, match=message):
        read_moments(write(tmp_path / name, content))


def test_labels_that_are_missing(tmp_path):
    with pytest.raises(DatasetError, match="check the path"):
        read_moments(tmp_path / "l.csv")


VIDEO = LabelledVideo("a.mp4", (Moment("run", 0.5, 1.5), Moment("jump", 1.5, 1.7)))


def test_targets():
    labels = labels_of([VIDEO], multi_label=False)
    assert labels == ("background", "jump", "run")
    assert targets_of(VIDEO, labels, 5, 2, False).tolist() == [0, 2, 2, 1, 0]
    assert (
        targets_of(VIDEO, labels, 20, 10, False).tolist() == [0] * 5 + [2] * 10 + [1] * 2 + [0] * 3
    )
    assert targets_of(VIDEO, ("background", "run"), 5, 2, False).tolist() == [0, 1, 1, 0, 0]


def test_targets_at_boundaries_that_floats_cannot_tell():
    moments = tuple(Moment(f"{n % 2}", n / 10, (n + 1) / 10) for n in range(100))
    targets = targets_of(LabelledVideo("a.mp4", moments), ("background", "0", "1"), 100, 10, False)
    assert np.array_equal(targets, 1 + np.arange(100) % 2)


def test_several_targets_at_once():
    both = LabelledVideo("a.mp4", (*VIDEO.moments, Moment("wet", 1, 9)))
    labels = labels_of([both], multi_label=True)
    assert labels == ("jump", "run", "wet")
    found = targets_of(both, labels, 4, 2, True)
    assert found.astype(int).tolist() == [[0, 0, 0], [0, 1, 0], [0, 1, 1], [1, 0, 1]]
    with pytest.raises(DatasetError, match=r"a\.mp4: at 1\.000 s run and wet hold at once"):
        targets_of(both, ("background", *labels), 4, 2, False)


def test_divide():
    videos = [LabelledVideo(f"{n}.mp4", ()) for n in range(20)]
    splits = divide(videos, seed=1)
    assert {split: len(found) for split, found in splits.items()} == {
        "train": 18,
        "val": 2,
        "test": 0,
    }
    assert divide(videos, seed=1) == splits
    assert {v.path for found in splits.values() for v in found} == {v.path for v in videos}
    assert len(divide(videos[:4], seed=1)["val"]) == 0
    told = [LabelledVideo("v.mp4", (), "val"), LabelledVideo("t.mp4", (), "test")]
    splits = divide(videos + told, seed=1)
    assert (len(splits["train"]), splits["val"], splits["test"]) == (20, told[:1], told[1:])

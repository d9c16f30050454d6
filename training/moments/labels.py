"""Parsers of labels of moments -> the labelled segments of each video."""

import csv
import io
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from captioner.errors import DatasetError, VideoError
from captioner.moments.segments import BACKGROUND
from captioner.video import find_videos
from captioner.video.sampling import FALLBACK_FPS
from captioner.video.straight import frame_rate

from .metrics import runs

SPLITS = ("train", "val", "test")
_ACTIVITYNET_SPLITS = {"training": "train", "validation": "val", "testing": "test"}
_TIMECODE = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:[.,]\d*)?)")
_EXPECTED = "expected path,start,end,label, times in seconds or as h:mm:ss.mmm"


class Moment(NamedTuple):
    """A label that holds from `start` to before `end`, seconds."""

    label: str
    start: float
    end: float


@dataclass(frozen=True)
class LabelledVideo:
    """A video and its labelled segments.

    Attributes:
        path: the file.
        moments: what holds when.
        split: `train`, `val` or `test`; None where the labels do not tell.
    """

    path: Path
    moments: tuple[Moment, ...]
    split: str | None = None


def read_moments(
    labels: str | Path, videos: Path | None = None, fps: float | None = None
) -> list[LabelledVideo]:
    """Reads labels, their format told by what is in them.

    - CSV with a header, or JSON Lines: `path` (or `video`), `start`, `end`, `label`, and, if
      wanted, `split`; a row without a label names a video in which nothing is labelled.
    - ActivityNet: `{"database": {ID: {"subset", "annotations": [{"segment", "label"}]}}}`.
    - Label Studio: JSON or JSON-MIN, video timelines (`timelinelabels`, whose ranges count
      frames from 1) and regions in seconds (`labels`).
    - A folder as Breakfast, 50Salads and GTEA come in: `groundTruth/NAME.txt` with a label for
      each frame in its line, `mapping.txt`, and if there are any `splits/train.split1.bundle`
      and so on; videos in `videos/`.

    Args:
        labels: the file or folder.
        videos: the folder of the videos; by default that of the labels.
        fps: frames a second that labels count in; by default each video's own.

    Returns:
        A row a video, in the order of the labels.

    Raises:
        DatasetError: the labels cannot be read, are not of these formats, or there are none.
    """
    labels = Path(labels)
    try:
        if labels.is_dir():
            found = _read_frame_labels(labels, videos, fps)
        else:
            text = labels.read_text(encoding="utf-8-sig")
            found = _read_text(labels, text, videos or labels.parent, fps)
    except (OSError, UnicodeDecodeError) as err:
        raise DatasetError(f"{labels}: cannot be read as labels ({err}); check the path") from err
    if not found:
        raise DatasetError(f"{labels}: holds no labelled video")
    return found


def _read_text(labels, text, videos, fps):
    if labels.suffix.lower() == ".csv":
        return _read_rows(
            labels, csv.DictReader(io.StringIO(text, newline="")), videos, first_line=2
        )
    try:
        whole = json.loads(text)
    except ValueError:
        return _read_rows(labels, _json_rows(labels, text), videos, first_line=1)
    try:
        if isinstance(whole, dict) and "database" in whole:
            return list(_activitynet(whole["database"], videos))
        if isinstance(whole, list):
            return list(_label_studio(whole, videos, fps))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as err:
        raise DatasetError(
            f"{labels}: neither ActivityNet's format nor Label Studio's ({type(err).__name__}: "
            f"{err}); export it again, or write a CSV: {_EXPECTED}"
        ) from err
    return _read_rows(labels, [whole], videos, first_line=1)


def _json_rows(labels, text) -> Iterator[dict]:
    for number, line in enumerate(text.split("\n"), 1):
        try:
            yield json.loads(line) if line.strip() else {}
        except ValueError as err:
            raise DatasetError(f"{labels}, line {number}: {err}; {_EXPECTED}") from err


def parse_time(value: float | str) -> float:
    """Seconds of a number or a timecode: `12.5`, `1:02`, `0:01:02.500`, `00:01:02,500`."""
    if isinstance(value, int | float):
        return float(value)
    match = _TIMECODE.fullmatch(value.strip())
    if not match:
        raise ValueError(f"no time: {value!r}")
    hours, minutes, seconds = match.groups()
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(seconds.replace(",", "."))


def _read_rows(labels, rows, videos, first_line) -> list[LabelledVideo]:
    moments, splits = defaultdict(list), {}
    for number, row in enumerate(rows, first_line):
        try:
            if not row or row.get("error"):
                continue
            path = videos / (row["path"] if row.get("path") else row["video"])
            splits.setdefault(path, row.get("split") or None)
            moments[path] += [_moment(row)] if row["label"] else []
            if splits[path] not in (None, *SPLITS):
                raise ValueError(f"split {splits[path]!r} is none of {', '.join(SPLITS)}")
        except (KeyError, ValueError, TypeError, AttributeError) as err:
            raise DatasetError(
                f"{labels}, line {number}: {type(err).__name__}: {err}; {_EXPECTED}"
            ) from err
    return [LabelledVideo(path, tuple(found), splits[path]) for path, found in moments.items()]


def _moment(row) -> Moment:
    start, end = parse_time(row["start"]), parse_time(row["end"])
    if not 0 <= start < end:
        raise ValueError(f"start {start:g} is not before end {end:g}")
    return Moment(" ".join(row["label"].split()), start, end)


class _Folder:
    """The videos of a folder, found by what labels call them."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self.names = {video.stem: video for video in find_videos(path, recursive=True)}
        except VideoError as err:
            raise DatasetError(str(err)) from err

    def find(self, *stems: str) -> Path:
        """The video of one of these names; a path that does not exist where there is none."""
        found = (self.names[stem] for stem in stems if stem in self.names)
        return next(found, self.path / stems[0])


def _activitynet(database, videos) -> Iterator[LabelledVideo]:
    folder = _Folder(videos)
    for name, entry in database.items():
        moments = []
        for annotation in entry.get("annotations", ()):
            start, end = map(float, annotation["segment"])
            if start < end:  # the benchmark itself has some of no length
                moments.append(Moment(annotation["label"], start, end))
        split = _ACTIVITYNET_SPLITS.get(entry.get("subset"))
        yield LabelledVideo(folder.find(name, f"v_{name}"), tuple(moments), split)


def _frame_rate(path) -> float:
    try:
        return frame_rate(path)
    except VideoError:  # of which is told when the video is to be read
        return FALLBACK_FPS


def _label_studio(tasks, videos, fps) -> Iterator[LabelledVideo]:
    folder = _Folder(videos)
    for task in tasks:
        data = task.get("data", task)
        addresses = [v for v in data.values() if isinstance(v, str) and Path(v).suffix]
        address = urlsplit(addresses[0])
        # Local storage names the file in the query; an upload has eight digits before its name.
        [place] = parse_qs(address.query).get("d", [address.path])
        stem = Path(unquote(place)).stem
        path = folder.find(stem, re.sub(r"^[0-9a-f]{8}-", "", stem))
        yield LabelledVideo(path, tuple(_label_studio_moments(task, path, fps)))


def _label_studio_moments(task, path, fps) -> Iterator[Moment]:
    if "annotations" in task:
        done = [x for x in task["annotations"] if not x.get("was_cancelled")]
        values = [result["value"] for result in done[0]["result"]] if done else []
    else:
        values = [v for found in task.values() if isinstance(found, list) for v in found]
    for value in values:
        if "timelinelabels" in value:
            rate = fps or _frame_rate(path)
            for stretch in value["ranges"]:
                for label in value["timelinelabels"]:
                    yield Moment(label, (stretch["start"] - 1) / rate, stretch["end"] / rate)
        elif "labels" in value and "start" in value:
            for label in value["labels"]:
                yield Moment(label, parse_time(value["start"]), parse_time(value["end"]))


def _read_frame_labels(labels, videos, fps) -> list[LabelledVideo]:
    root = labels.parent if labels.name == "groundTruth" else labels
    truth = root / "groundTruth" if (root / "groundTruth").is_dir() else root
    if videos is None:
        videos = root / "videos" if (root / "videos").is_dir() else root
    folder, mapping = _Folder(videos), root / "mapping.txt"
    names = {}
    if mapping.exists():
        pairs = (line.split(maxsplit=1) for line in mapping.read_text("utf-8").splitlines())
        names = {pair[0]: pair[1].strip() for pair in pairs if len(pair) == 2}
    splits = {}
    for split in SPLITS:
        for bundle in root.glob(f"splits/{split}.split1.bundle"):
            stems = (Path(line.strip()).stem for line in bundle.read_text("utf-8").splitlines())
            splits |= dict.fromkeys(stems, split)
    found = []
    for file in sorted(truth.glob("*.txt")):
        if file == mapping:
            continue
        frames = [line.strip() for line in file.read_text("utf-8").splitlines()]
        while frames and not frames[-1]:
            frames.pop()
        path = folder.find(file.stem)
        rate = fps or _frame_rate(path)
        moments = (
            Moment(names.get(label, label), start / rate, end / rate)
            for label, start, end in runs(frames)
        )
        found.append(LabelledVideo(path, tuple(moments), splits.get(file.stem)))
    return found


def labels_of(videos: Sequence[LabelledVideo], multi_label: bool) -> tuple[str, ...]:
    """The labels that occur, in alphabetical order; where each moment has one, background first."""
    found = {moment.label for video in videos for moment in video.moments}
    if multi_label:
        return tuple(sorted(found))
    return (BACKGROUND, *sorted(found - {BACKGROUND}))


def targets_of(
    video: LabelledVideo, labels: Sequence[str], num_frames: int, fps: float, multi_label: bool
) -> np.ndarray:
    """Training targets: the label, or labels, of each moment; unknown ones are left out.

    Args:
        video: the labels.
        labels: those that the model knows.
        num_frames: how many moments there are.
        fps: how many of them in a second.
        multi_label: whether several labels may hold at once.

    Returns:
        bool `(num_frames, num_labels)` if they may, else int32 `(num_frames,)`.

    Raises:
        DatasetError: several hold at once and may not.
    """
    ids = {label: number for number, label in enumerate(labels)}
    holds = np.zeros((num_frames, len(labels)), bool)
    for label, start, end in video.moments:
        if label in ids:
            # Moment k is at k / fps; half a microsecond makes up for the division.
            first, stop = np.ceil(np.array([start, end]) * fps - 5e-7).astype(int)
            holds[first:stop, ids[label]] = True
    if multi_label:
        return holds
    crowded = np.flatnonzero(holds.sum(axis=1) > 1)
    if len(crowded):
        names = " and ".join(labels[number] for number in np.flatnonzero(holds[crowded[0]]))
        raise DatasetError(
            f"{video.path}: at {crowded[0] / fps:.3f} s {names} hold at once; mend the labels, or "
            "train with --multi-label"
        )
    return holds.argmax(axis=1).astype(np.int32)


def divide(videos: Sequence[LabelledVideo], seed: int) -> dict[str, list[LabelledVideo]]:
    """Videos by split; those of none are learned from.

    Where none is for validation, a tenth of those to learn from is, drawn at random, if there
    are five of them at least.
    """
    splits = {split: [v for v in videos if (v.split or "train") == split] for split in SPLITS}
    learned = splits["train"]
    if not splits["val"] and len(learned) >= 5:
        count = max(1, len(learned) // 10)
        drawn = set(np.random.default_rng(seed).permutation(len(learned))[:count].tolist())
        splits["val"] = [video for place, video in enumerate(learned) if place in drawn]
        splits["train"] = [video for place, video in enumerate(learned) if place not in drawn]
    return splits

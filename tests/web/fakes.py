"""Models that tell colours, and commands that stand in for training, without TensorFlow.

python -m tests.web.fakes work: a worker process.
python -m tests.web.fakes train BASE LABELS OUTPUT, or caption MODEL OUTPUT VIDEO...
"""

import csv
import json
import os
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from captioner.caption import Candidate, Caption, Failure, Segment
from captioner.config import LabelConfig, LabellingOptions, SamplingOptions
from captioner.errors import ModelError, VideoError
from captioner.model_folder import ModelFolder
from captioner.moments.folder import LabelFolder
from captioner.moments.segments import LabelledSegment
from captioner.video import read_frames
from training.judgement import judge
from web import worker
from web.teaching import Commands

WORKER = (sys.executable, "-m", "tests.web.fakes", "work")
DEADLY, GREEDY = b"kills the worker", b"wants four gigabytes"
LONG = b"is told in three stretches"
SPLIT = b"kills whoever labels it"
LEARNED = "learned.json"


class FakeCaptioner:
    """Says which colour moves; a taught one says what it was taught of that colour."""

    num_frames = 4

    def __init__(self, name="default", learned=None, options=None):
        self.name, self.learned, self.options = name, learned or {}, options or {}

    @classmethod
    def load(cls, path, _num_captions=3, options=None):
        path = Path(path)
        if not (path / "config.json").exists():
            raise ModelError(f"{path}: no such model")
        learned = path / LEARNED
        learned = json.loads(learned.read_text()) if learned.exists() else {}
        return cls(path.name, learned, options)

    def caption_many(self, videos, segments=None, workers=None):
        for video in videos:
            try:
                yield self.caption(video)
            except VideoError as err:
                yield Failure(str(video), str(err), self.name)

    def caption(self, video):
        clip = read_frames(video, SamplingOptions(self.num_frames), (48, 64))
        colour = colour_of(clip.frames)
        beginning = self.options.get("start_with", "A")
        texts = [
            self.learned.get(colour, f"{beginning} {colour} ball rolls over the floor."),
            f"Something {colour} floats by.",
            "A dog plays with a ball.",
        ]
        candidates = tuple(
            Candidate(text, -0.5 - number, words, attention(len(words), len(clip.frames)))
            for number, text in enumerate(texts)
            for words in [tuple(text.lower().rstrip(".").split())]
        )
        times = tuple(map(float, clip.times))
        return Caption(str(video), candidates, clip.duration, self.name, times)


class FakeLabeller:
    """Has the colour that moves hold to the middle of a clip, and `late` from there on.

    With `overlap` something `moves` all the time.
    """

    name = "moments"

    def __init__(self, overlap=False):
        self.overlap = overlap

    @classmethod
    def load(cls, path):
        return cls(LabelFolder.open(path).model.multi_label)

    def label(self, video, reader=None):
        clip = read_frames(video, SamplingOptions(4), (48, 64))
        middle, end = clip.duration / 2, clip.duration
        yield LabelledSegment(colour_of(clip.frames), 0.0, middle, 0.875)
        yield LabelledSegment("late", middle, end, 0.5)
        if self.overlap:
            yield LabelledSegment("moves", 0.0, end, 0.75)


def in_stretches(caption):
    third = caption.duration / 3
    segments = tuple(
        Segment(n * third, (n + 1) * third, (Candidate(f"Part {n} of a {what} film.", -1.0),))
        for n, what in enumerate(("quiet", "lively", "long and winding"))
    )
    return replace(caption, segments=segments)


def label_folder(path, multi_label=False):
    """A folder as of a model that labels moments, without weights that mean anything."""
    labels = ("background", "blue", "green", "red", "late", "moves")
    config = LabelConfig(len(labels), 8, multi_label=multi_label)
    folder = LabelFolder(path, config, "bundled", None, LabellingOptions(), labels)
    folder.save(SimpleNamespace(variables=[], save_weights=Path.touch))
    return str(path)


def colour_of(frames):
    red, green, blue = (int((frames[..., n].astype(int) > 200).sum()) for n in range(3))
    if min(red, green, blue) > 0.5 * max(red, green, blue):
        return "white"
    return ("red", "green", "blue")[int(np.argmax([red, green, blue]))]


def attention(num_words, num_frames):
    """Word n looks most at frame n, and there at region n."""
    weights = np.full((num_words, num_frames, 4), 0.1)
    for word in range(num_words):
        weights[word, word % num_frames, word % 4] = 5.0
    return weights / weights.sum((1, 2), keepdims=True)


def _command(name, *arguments):
    return [sys.executable, "-m", "tests.web.fakes", name, *map(str, arguments)]


COMMANDS = Commands(
    train=lambda base, labels, output: _command("train", base, labels, output),
    caption=lambda model, videos, output: _command("caption", model, output, *videos),
)


def _train(base, labels, output):
    output = Path(output)
    rows = [json.loads(line) for line in Path(labels).read_text().splitlines()]
    if any("refuse" in row["captions"][0] for row in rows):
        sys.exit("captioner: labels.jsonl: cannot be learned")
    learned = {
        colour_of(read_frames(row["video"], SamplingOptions(4)).frames): row["captions"][0]
        for row in rows
    }
    log = output / "work" / "state" / "train.csv"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", "loss", "val_loss"])
        for epoch in range(int(os.environ.get("FAKE_EPOCHS", "12"))):
            writer.writerow([epoch, 3 / (epoch + 1) + 0.4, 3 / (epoch + 1.3) + 0.6])
            file.flush()
            time.sleep(float(os.environ.get("FAKE_EPOCH_SECONDS", "0.02")))
    folder = ModelFolder.open(base)
    for name in ("config.json", "vocabulary.txt"):
        shutil.copy(folder.path / name, output / name)
    (output / LEARNED).write_text(json.dumps(learned))
    before, after = (FakeCaptioner.load(path) for path in (base, output))
    pairs = [
        {
            "video": row["video"],
            "start": row.get("start", 0.0),
            "end": row.get("end"),
            "wanted": row["captions"],
            "old": before.caption(row["video"]).text,
            "new": after.caption(row["video"]).text,
        }
        for row in rows
    ]
    judge(pairs, [*learned.values()]).save(output)
    (output / "report.html").write_text("<h1>Report</h1>")


def _caption(model, output, *videos):
    captioner = FakeCaptioner.load(model)
    rows = [{"video": video, "caption": captioner.caption(video).text} for video in videos]
    Path(output).write_text("\n".join(map(json.dumps, rows)))


if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    if name == "work":
        delay, hold = float(os.environ.get("FAKE_SECONDS", "0")), os.environ.get("FAKE_HOLD")

        def load_labeller(path):
            labeller = FakeLabeller.load(path)
            look = labeller.label

            def label(video, reader=None):
                time.sleep(delay)
                while hold and Path(hold).exists():
                    time.sleep(0.02)
                if Path(video).read_bytes().endswith(SPLIT):
                    os.kill(os.getpid(), 9)
                return look(video)

            labeller.label = label
            return labeller

        def load(path, *how):
            captioner = FakeCaptioner.load(path, *how)
            look = captioner.caption

            def caption(video):
                time.sleep(delay)
                content = Path(video).read_bytes()
                if content.endswith(DEADLY):
                    os.kill(os.getpid(), 9)
                if content.endswith(GREEDY):
                    np.zeros(2**32, np.uint8)
                said = look(video)
                return in_stretches(said) if content.endswith(LONG) else said

            captioner.caption = caption
            return captioner

        worker.main(load, load_labeller)
    {"train": _train, "caption": _caption}.get(name, lambda: None)(*arguments)

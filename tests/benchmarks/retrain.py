"""How well the default model retrains in minutes: `python -m tests.benchmarks.retrain`.

Draws 240 clips of a small world in which things move: "a red ball rolls slowly to the left", "a
blue square falls, then a green triangle slides to the right". No single frame tells a direction, a
speed or what came first: of two things both are there from the first frame to the last. The
default model goes on from 200 of the clips, with `captioner train`. Each of the 40 others shows a
colour, shape and direction that never come together in the 200.

Nothing old is named: what the base knows travels with it. On the split val of labels of the base
(`--old-labels`, by default `../shared/data/images.jsonl` where that is) the base and the retrained
model are compared.

The last line is JSON: `seconds` of `captioner train`, from clips to model folder; `exact_match`,
the share of the 40 clips of which it says the very sentence; and `cider_old_val_before` and
`cider_old_val_after`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np

from captioner.vocabulary import tokenize

COLOURS = {  # BGR
    "red": (40, 40, 220),
    "blue": (220, 80, 30),
    "green": (50, 180, 50),
    "yellow": (40, 220, 230),
}
SHAPES = {
    "ball": None,  # it is round
    "square": [(-1, -1), (1, -1), (1, 1), (-1, 1)],
    "triangle": [(0, -1), (1, 1), (-1, 1)],
}
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "rises": (0, -1), "falls": (0, 1)}
# Shares of the room there is that a thing crosses in a clip that it has to itself.
SPEEDS = {"slowly": (0.25, 0.35), "quickly": (0.85, 1.0)}
SHARED = (0.5, 0.9)  # and in its half of a clip otherwise
SIDE, RADIUS = 160, 28  # pixels
NUM_FRAMES, FPS = 24, 10
SHIFT = 4  # bits of a pixel's fraction
NUM_TRAIN, NUM_TEST = 200, 40
OPTIONS = "--views 8 --force".split()


@dataclass(frozen=True)
class Event:
    """A thing that moves."""

    colour: str
    shape: str
    direction: str
    speed: str = ""

    @property
    def sentence(self) -> str:
        speed = self.speed and f" {self.speed}"
        if self.direction in ("left", "right"):
            verb = "rolls" if self.shape == "ball" else "slides"
            return f"a {self.colour} {self.shape} {verb}{speed} to the {self.direction}"
        return f"a {self.colour} {self.shape} {self.direction}{speed}"

    @property
    def kind(self) -> tuple[str, str, str]:
        return self.colour, self.shape, self.direction


def draw_stories(rng: np.random.Generator) -> dict[str, list[tuple[Event, ...]]]:
    """What happens in the clips: one thing moves, or two, one after the other.

    Of the 12 kinds of event that cover each colour, shape and direction evenly, 8 are held out:
    each story of the split test has one of them, and no story of the split train has any.
    """
    kinds = [
        (colour, shape, direction)
        for i, colour in enumerate(COLOURS)
        for j, shape in enumerate(SHAPES)
        for k, direction in enumerate(DIRECTIONS)
        if (i + j + k) % 4 == 0
    ]
    held_out = {kinds[place] for place in rng.permutation(len(kinds))[:8]}

    def event(speed=""):
        return Event(*(str(rng.choice(list(d))) for d in (COLOURS, SHAPES, DIRECTIONS)), speed)

    stories = {"train": [], "test": []}
    while len(stories["train"]) < NUM_TRAIN or len(stories["test"]) < NUM_TEST:
        alone = rng.random() < 1 / 3
        story = (event(str(rng.choice(list(SPEEDS)))),) if alone else (event(), event())
        if len({(event.colour, event.shape) for event in story}) < len(story):
            continue  # nobody could tell which of the two
        test = any(event.kind in held_out for event in story)
        split, wanted = ("test", NUM_TEST) if test else ("train", NUM_TRAIN)
        if len(stories[split]) < wanted and not (test and story in stories[split]):
            stories[split].append(story)
    return stories


def draw_clip(path: Path, story: tuple[Event, ...], rng: np.random.Generator):
    """Writes the clip of a story. A thing waits where it begins and stays where it comes to."""
    gap = 0.0
    while gap < 2.2 * RADIUS:  # pixels; they never touch
        ways = [_way(event, place, len(story), rng) for place, event in enumerate(story)]
        gap = np.inf if len(ways) == 1 else np.abs(ways[0] - ways[1]).max(axis=1).min()
    tiles = rng.integers(80, 130, (4, 4, 1)) + rng.integers(-12, 13, 3)
    scene = cv2.resize(tiles.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), FPS, (SIDE, SIDE))
    for number in range(NUM_FRAMES):
        frame = scene + rng.normal(0, 4, scene.shape)
        frame = np.clip(frame, 0, 255).astype(np.uint8)
        for event, way in zip(story, ways, strict=True):
            _draw(frame, event, way[number])
        writer.write(frame)
    writer.release()


def _way(event, place, num_events, rng):
    """Where a thing is in each frame, `(NUM_FRAMES, 2)`, pixels."""
    share = rng.uniform(*(SPEEDS[event.speed] if event.speed else SHARED))
    low, high = RADIUS, SIDE - RADIUS
    step = np.array(DIRECTIONS[event.direction]) * share * (high - low)
    start = rng.uniform(np.maximum(low, low - step), np.minimum(high, high - step))
    turn = NUM_FRAMES / num_events
    done = np.clip((np.arange(NUM_FRAMES) - place * turn) / (turn - 1), 0, 1)
    return start + step * done[:, None]


def _draw(frame, event, centre):
    colour, corners = np.array(COLOURS[event.colour]), SHAPES[event.shape]
    if corners is not None:
        points = _fixed(centre + RADIUS * np.array(corners))
        cv2.fillPoly(frame, [points], colour.tolist(), cv2.LINE_AA, SHIFT)
        return
    for depth in np.linspace(0, 0.9, 12):  # towards the light at the top left
        shade = np.minimum(colour * (0.45 + 0.55 * depth) + 120 * depth**2, 255)
        place = _fixed(centre - 0.4 * depth * RADIUS).tolist()
        radius = int(_fixed((1 - depth) * RADIUS))
        cv2.circle(frame, place, radius, shade.tolist(), -1, cv2.LINE_AA, SHIFT)


def _fixed(pixels):
    """Pixels as OpenCV takes fractions of them."""
    return np.round(pixels * 2**SHIFT).astype(np.int32)


def draw_world(folder: Path, seed: int = 1) -> Path:
    """Draws all clips; returns their labels."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for split, stories in draw_stories(rng).items():
        for number, story in enumerate(stories):
            name = f"{split}_{number:03}.avi"
            draw_clip(folder / name, story, rng)
            caption = ", then ".join(event.sentence for event in story)
            rows.append({"video": name, "caption": caption, "split": split})
    labels = folder / "labels.jsonl"
    labels.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return labels


def captioner(*arguments):
    """Runs a command, whose results go to stderr too."""
    command = [sys.executable, "-m", "captioner.cli", *map(str, arguments)]
    subprocess.run(command, stdout=sys.stderr, check=True)


def evaluate(model, labels: Path, split: str, folder: Path) -> dict:
    """What `captioner evaluate` writes."""
    output = folder / "scores.json"
    captioner("evaluate", model, labels, "--split", split, "--output", output)
    return json.loads(output.read_text())


def main():
    """Draws, retrains, and prints what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    shared = Path(__file__).resolve().parents[2].parent / "shared/data/images.jsonl"
    parser.add_argument("--base", default="default")
    parser.add_argument("--old-labels", type=Path, default=shared if shared.exists() else None)
    parser.add_argument("--keep", type=Path, help="folder to work in; default: a temporary one")
    parser.add_argument("options", nargs="*", help="further ones of captioner train, after --")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        labels, model = draw_world(folder / "world"), folder / "model"
        options = ["--base", args.base, *OPTIONS]
        started = perf_counter()
        captioner("train", labels, "--output", model, *options, *args.options)
        result = {"seconds": round(perf_counter() - started)}
        rows = evaluate(model, labels, "test", folder)["clips"]
        right = [tokenize(row["caption"]) == tokenize(row["captions"][0]) for row in rows]
        result["exact_match"] = sum(right) / len(right)
        if args.old_labels:
            for when, which in (("before", args.base), ("after", model)):
                scores = evaluate(which, args.old_labels, "val", folder)["scores"]
                result[f"cider_old_val_{when}"] = round(scores["cider"], 4)
    print(json.dumps(result))


if __name__ == "__main__":
    main()

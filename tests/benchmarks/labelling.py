"""How well moments are labelled whose label no frame tells: `python -m tests.benchmarks.labelling`.

Draws 60 videos of 60 to 300 s in which, between pauses of 3 to 15 s,

    crossing   a disc crosses the picture: to the right it `enters`, to the left it `leaves`;
    lamps      two lamps shine one after the other: left then right `opens`, the other way round
               `closes`;
    bell       a bell rings: twice it is a `bell`, from the third time on an `alarm`;
    pause      `empty`, or `occupied` after someone came and before they left.

The frames of a crossing to the right are those of one to the left, and so on: it takes direction,
order, counting, and memory of what happened before the window. The model learns from 45 of them,
once carrying its state from window to window and once beginning anew at each, and labels the
other 15. The last line is JSON.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import cv2
import keras
import numpy as np

from captioner.config import LabelConfig
from captioner.model_folder import SMALL_MODEL, ModelFolder
from captioner.moments.model import LabelModel
from training.data.store import open_store
from training.moments.metrics import segmental_scores
from training.moments.trainer import LabelTrainingOptions, predict, train
from training.moments.windows import LabelledFeatures, keep_features

LABELS = "empty,occupied,enters,leaves,opens,closes,bell,alarm".split(",")
FPS, SIZE = 2, 128
NUM_VIDEOS, NUM_LEARNED = 60, 45


def plan(rng: np.random.Generator) -> list[tuple[str, str, int]]:
    """What happens in a video: `(kind, label, frames)` one after another."""
    total, events, bells, occupied = int(rng.integers(60, 301)) * FPS, [], 0, False
    while sum(frames for *_, frames in events) < total:
        pause = "occupied" if occupied else "empty"
        events.append(("pause", pause, int(rng.integers(3 * FPS, 15 * FPS + 1))))
        kind = rng.choice(["crossing", "lamps", "bell"], p=[0.35, 0.2, 0.45])
        if kind == "crossing":
            occupied = not occupied
            events.append((kind, "enters" if occupied else "leaves", int(rng.integers(6, 13))))
        elif kind == "lamps":
            events.append((kind, str(rng.choice(["opens", "closes"])), 2 * int(rng.integers(3, 6))))
        else:
            bells += 1
            label = "bell" if bells < 3 else "alarm"
            events.append((kind, label, int(rng.integers(3, 7))))
    return events


def draw_event(scene, kind, label, frames, rng):
    """Yields the frames of an event, BGR."""
    y = int(rng.integers(40, 100))
    for number in range(frames):
        frame = scene.copy()
        if kind == "crossing":
            x = round(8 + (SIZE - 16) * number / (frames - 1))
            x = x if label == "enters" else SIZE - x
            cv2.circle(frame, (x, y), 12, (40, 40, 220), -1, cv2.LINE_AA)
        elif kind == "lamps":
            left = (number < frames // 2) == (label == "opens")
            cv2.circle(frame, (32 if left else 96, 20), 12, (60, 230, 250), -1, cv2.LINE_AA)
        elif kind == "bell":
            bell = np.array([[64, 40], [40, 88], [88, 88]])
            cv2.fillPoly(frame, [bell], (230, 160, 40), cv2.LINE_AA)
        noise = rng.normal(0, 4, frame.shape)
        yield np.clip(frame + noise, 0, 255).astype(np.uint8)


def draw_video(path: Path, seed: int) -> np.ndarray:
    """Draws a video, and returns the label of each frame."""
    rng = np.random.default_rng(seed)
    tiles = (rng.integers(70, 150, (8, 8, 1)) + rng.integers(-10, 11, (8, 8, 3))).astype(np.uint8)
    scene = cv2.resize(tiles, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), FPS, (SIZE, SIZE))
    targets = []
    for kind, label, frames in plan(rng):
        for frame in draw_event(scene, kind, label, frames, rng):
            writer.write(frame)
        targets += [LABELS.index(label)] * frames
    writer.release()
    return np.array(targets)


def prepare(folder: Path) -> list[LabelledFeatures]:
    """Draws the videos and looks at them with the CNN of the model `small`."""
    model = ModelFolder.open(SMALL_MODEL)
    backbone = model.load_backbone()
    videos = []
    with open_store(folder, backbone, None, {"fps": FPS}) as store:
        for seed in range(NUM_VIDEOS):
            path = folder / f"{seed:02}.avi"
            targets = draw_video(path, seed)
            features = keep_features(path, backbone, FPS, store)
            assert len(features) == len(targets), path
            videos.append(LabelledFeatures(features, targets))
    return videos


def measure(videos, options: LabelTrainingOptions, config: LabelConfig, folder: Path) -> dict:
    """Trains a model, and scores it on what it has not seen."""
    keras.utils.set_random_seed(options.seed)
    model = LabelModel(config)
    tell = lambda line: print(line, file=sys.stderr, flush=True)  # noqa: E731
    train(model, videos[:NUM_LEARNED], [], options, folder, tell)
    logits, _ = predict(model, videos[NUM_LEARNED:], options)
    predicted = [video.argmax(axis=-1) for video in logits]
    return segmental_scores(predicted, [video.targets for video in videos[NUM_LEARNED:]])


def main():
    """Draws, trains twice, and prints what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", default="lstm")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--window", type=int, default=96)
    args = parser.parse_args()
    started, result = perf_counter(), {}
    with tempfile.TemporaryDirectory() as folder:
        videos = prepare(Path(folder))
        moments = sum(len(video.targets) for video in videos)
        print(f"{moments} moments, {perf_counter() - started:.0f} s", file=sys.stderr)
        num_regions, feature_dim = videos[0].features.shape[1:]
        config = LabelConfig(len(LABELS), feature_dim, num_regions, encoder=args.encoder)
        options = LabelTrainingOptions(args.epochs, window=args.window, learning_rate=2e-3)
        for name in ("carried", "reset"):
            options = replace(options, carry_state=name == "carried")
            scores = measure(videos, options, config, Path(folder) / name)
            result |= {f"{figure}_{name}": round(value, 4) for figure, value in scores.items()}
            print(f"{name}: {scores}, {perf_counter() - started:.0f} s", file=sys.stderr)
    print(json.dumps({"seconds": round(perf_counter() - started), **result}))


if __name__ == "__main__":
    main()

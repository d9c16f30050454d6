"""Features of many views of each picture and video, in large batches."""

import json
import mmap
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from os import cpu_count
from pathlib import Path

import cv2
import numpy as np

from captioner.cnn import PRETRAINED

from ..data.views import moving_crop, relight, resized_crop
from .pack import SIZE, Items

CLIP_FRAMES = 8  # of a picture as a moving clip
VIEWS = "views.json"  # beside the features, how many there are
CHUNK = 2048  # frames that a process prepares at once
BATCH = 512  # frames that a CNN sees at once
SMALL_SIZE = 128  # pixels; what the bundled CNN sees


@dataclass(frozen=True)
class Views:
    """How many views are made of each item, besides the item as it is.

    Attributes:
        crops: of a picture.
        clips: of a picture as a moving clip of `CLIP_FRAMES` frames.
        video_crops: of a video, each with one crop and one light for all frames.
    """

    crops: int = 3
    clips: int = 0
    video_crops: int = 3

    def count(self, items: Items) -> np.ndarray:
        """Frames of all views of each item, `(num_items,)`; of what validates its own only."""
        pictures = 1 + self.crops + self.clips * CLIP_FRAMES
        videos = items.num_frames.astype(int) * (1 + self.video_crops)
        learned = np.where(items.is_video, videos, pictures)
        return np.where(items.is_val, items.num_frames, learned)

    def make(self, frames: np.ndarray, is_video, is_val, rng: np.random.Generator):
        """All frames of all views of an item, as `count` counts them, uint8 RGB.

        Args:
            frames: the item's own, `(num_frames, SIZE, SIZE, 3)`.
            is_video: whether it is one.
            is_val: whether it only validates.
            rng: source of chance.
        """
        yield from frames
        if is_val:
            return
        size = (SIZE, SIZE)
        for _ in range(self.video_crops if is_video else self.crops):
            yield from relight(resized_crop(frames, size, rng, 0.5 if is_video else 0.4), rng)
        for _ in range(0 if is_video else self.clips):
            yield from relight(moving_crop(frames[0], CLIP_FRAMES, size, rng), rng)


def _decode(encoded: bytes) -> np.ndarray:
    frame = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB)
    if frame.shape[:2] != (SIZE, SIZE):
        frame = cv2.resize(frame, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
    return frame


class _Maker:
    """Makes views in processes, each writing into a slot of memory that all share."""

    def __init__(self, items: Items, views: Views, seed: int, workers: int):
        self.items, self.views, self.seed, self.workers = items, views, seed, workers
        counts = views.count(items)
        self.ends = np.cumsum(counts)
        self.first = np.cumsum(items.num_frames.astype(int)) - items.num_frames
        number = (self.ends - counts) // CHUNK
        self.chunks = [np.flatnonzero(number == n) for n in np.unique(number)]
        self.slots = 2 * workers
        most = max(counts[chunk].sum() for chunk in self.chunks)
        self.large = _shared((self.slots, most, SIZE, SIZE, 3))
        self.small = _shared((self.slots, most, SMALL_SIZE, SMALL_SIZE, 3))

    def write(self, chunk, slot) -> int:
        """Fills a slot with the views of the items of a chunk; returns how many."""
        cv2.setNumThreads(1)
        items, place = self.items, 0
        for item in self.chunks[chunk]:
            own = slice(self.first[item], self.first[item] + items.num_frames[item])
            frames = np.stack([_decode(one) for one in items.encoded[own]])
            rng = np.random.default_rng([self.seed, item])
            for view in self.views.make(frames, items.is_video[item], items.is_val[item], rng):
                self.large[slot, place] = view
                cv2.resize(
                    view,
                    (SMALL_SIZE, SMALL_SIZE),
                    dst=self.small[slot, place],
                    interpolation=cv2.INTER_AREA,
                )
                place += 1
        return place

    def read(self):
        """Yields `(first place, large views, small views)`, in order; a slot lives until then."""
        global _MAKER
        _MAKER = self  # processes inherit it
        with get_context("fork").Pool(self.workers) as pool:
            pending = deque()
            for chunk in range(len(self.chunks)):
                if len(pending) == self.slots:
                    yield from self._take(pending)
                pending.append((chunk, pool.apply_async(_write, (chunk, chunk % self.slots))))
            while pending:
                yield from self._take(pending)

    def _take(self, pending):
        chunk, filled = pending.popleft()
        count, slot = filled.get(), chunk % self.slots
        start = self.ends[self.chunks[chunk][-1]] - count
        yield start, self.large[slot, :count], self.small[slot, :count]


def _write(chunk, slot):
    return _MAKER.write(chunk, slot)


def _shared(shape):
    return np.frombuffer(mmap.mmap(-1, int(np.prod(shape))), np.uint8).reshape(shape)


def write_features(
    items: Items,
    views: Views,
    networks: dict,
    output: Path,
    seed: int = 1,
    workers: int | None = None,
):
    """Writes `NAME.npy`, float16 `(num_views, num_regions, feature_dim)`, for each network.

    Args:
        items: what is looked at.
        views: how often.
        networks: name -> `(makes the Keras network, whether it sees small views)`. They are made
            after the processes, which a GPU in use would break.
        output: a folder.
        seed: of the views.
        workers: processes; by default one a core.
    """
    maker = _Maker(items, views, seed, workers or cpu_count())
    (output / VIEWS).write_text(json.dumps(asdict(views)))
    total, began, arrays = maker.ends[-1], time.monotonic(), {}
    for start, large, small in maker.read():
        if not arrays:
            made = {n: (_of_bytes(build()), is_small) for n, (build, is_small) in networks.items()}
            for name, (network, _) in made.items():
                shape = (int(total), *network.output_shape[1:])
                path = output / f"{name}.npy"
                arrays[name] = np.lib.format.open_memmap(path, "w+", np.float16, shape)
        for name, (network, is_small) in made.items():
            frames = small if is_small else large
            for a in range(0, len(frames), BATCH):
                batch = frames[a : a + BATCH]
                arrays[name][start + a : start + a + len(batch)] = network.predict_on_batch(batch)
        done = start + len(large)
        if (start // CHUNK) % 20 == 0 or done == total:
            rate = done / (time.monotonic() - began)
            print(f"{done} of {total} views, {rate:.0f}/s", file=sys.stderr, flush=True)


def networks_of(cnn: str | None, dtype: str) -> dict:
    """The networks that `write_features` takes: the pretrained one, and a bundled one.

    Args:
        cnn: the model whose bundled CNN it is; None: only the pretrained one.
        dtype: of the pretrained network's weights.
    """

    def pretrained():
        from captioner.cnn.efficientnet import load_efficientnet_lite2

        return load_efficientnet_lite2(dtype)

    def bundled():
        from captioner.model_folder import ModelFolder

        return ModelFolder.open(cnn).load_backbone().traceable

    networks = {PRETRAINED: (pretrained, False)}
    if cnn:
        networks["small"] = (bundled, True)
    return networks


def _of_bytes(network):
    """The network with uint8 inputs: they become floats on the device, a quarter to move there."""
    import keras

    frames = keras.Input(network.input_shape[1:], dtype="uint8")
    return keras.Model(frames, network(keras.ops.cast(frames, "float32")))


def few(items: Items, limit: int) -> Items:
    """The first items of each kind."""
    kinds = items.is_video * 2 + items.is_val
    return items.select(
        np.sort(np.concatenate([np.flatnonzero(kinds == k)[:limit] for k in range(4)]))
    )

"""Labelled clips -> features, computed once and kept -> padded batches."""

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import tensorflow as tf

from captioner.cnn import Backbone
from captioner.config import SamplingOptions
from captioner.vocabulary import PAD_ID, Vocabulary

from .manifest import LabelledClip
from .reading import read_clip, readable
from .store import content_digest, open_store, read_bytes
from .views import another_view, moving_crop

GROUP_FRAMES = 128  # frames in a batch of the backbone, of as many clips as it takes
MAX_WORDS = 40  # what follows is cut off a caption
PLACE = np.dtype(
    [("clip", "i4"), ("file", "i4"), ("offset", "i8"), ("size", "i4"), ("num_frames", "i4")]
)


@dataclass(frozen=True, eq=False)
class Records:
    """Where the features of labelled clips are kept.

    Attributes:
        clips: those that could be read.
        unreadable: the others, and what is wrong with each.
        feature_shape: of one frame.
        files: TFRecord files.
        places: a row a record, of the dtype `PLACE`: its clip, its file, where in the file the
            `SequenceExample` begins, its size in bytes, its frames. A clip has one record, and
            one more for each view.
    """

    clips: list[LabelledClip]
    unreadable: list[tuple[LabelledClip, str]]
    feature_shape: tuple[int, ...]
    files: list[Path]
    places: np.ndarray

    def select(self, clips: Sequence[int], views: bool = True) -> "Records":
        """Those of some clips, by their numbers; without their views, the clips as they are."""
        order = np.argsort(self.places["clip"], kind="stable")
        _, firsts = np.unique(self.places["clip"][order], return_index=True)
        places = self.places if views else self.places[order[firsts]]
        places = places[np.isin(places["clip"], clips)]  # a copy
        places["clip"] = np.searchsorted(np.sort(clips), places["clip"])
        return replace(self, clips=[self.clips[clip] for clip in sorted(clips)], places=places)


def write_records(
    clips: Sequence[LabelledClip],
    backbone: Backbone,
    sampling: SamplingOptions,
    folder: Path,
    views: int = 0,
    seed: int = 0,
    weights: Path | None = None,
) -> Records:
    """Computes those features of clips that are not in the store yet.

    Clips are decoded in threads, ahead of the backbone. A clip that cannot be read is told on
    stderr and left out.

    Args:
        clips: what to extract features of.
        backbone: turns frames into features.
        sampling: how clips are sampled.
        folder: where features are kept, of any clips, backbones and samplings.
        views: further records of each clip: of a still picture moving crops, of a video other
            crops, moments and colours.
        seed: of the views.
        weights: the file of the backbone's weights, where it has one of its own.

    Raises:
        DatasetError: no clip can be read, or the disk is full; what was computed is kept.
    """
    with open_store(folder, backbone, weights, asdict(sampling)) as store:

        def read(clip):
            return _read_missing(clip, store, sampling, backbone.input_size, views, seed)

        waiting: dict[str, np.ndarray] = {}
        keys, unreadable = [], []
        for clip, (found, sequences) in readable(read, clips, unreadable=unreadable):
            keys.append((clip, found))
            waiting |= sequences
            if sum(map(len, waiting.values())) >= GROUP_FRAMES:
                _extract(backbone, waiting, store)
                waiting = {}
        _extract(backbone, waiting, store)
        if unreadable:
            names = ", ".join(str(clip.path) for clip, _ in unreadable)
            print(f"left out {len(unreadable)} of {len(clips)} clips: {names}", file=sys.stderr)
        places = [
            (clip, *store.place(key)) for clip, (_, several) in enumerate(keys) for key in several
        ]
    return Records(
        [clip for clip, _ in keys],
        unreadable,
        backbone.feature_shape,
        store.files,
        np.array(places, PLACE),
    )


def _read_missing(clip, store, sampling, size, views, seed):
    """The keys of a clip's records, and the frames of those that the store lacks."""
    content = content_digest(*clip.files)

    def key(view):
        facts = [content, clip.start, clip.end] + ([view, seed] if view else [])
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]

    keys = [key(view) for view in range(views + 1)]
    missing = [key for key in keys if key not in store]
    if not missing:
        return keys, {}
    frames = read_clip(clip, sampling, size)
    sequences = {keys[0]: frames}
    if missing != keys[:1]:
        sequences |= _draw_views(clip, keys[1:], len(frames), sampling, size)
    return keys, {key: sequences[key] for key in missing}


def _draw_views(clip, keys, num_frames, sampling, size):
    """The frames of further views of a clip that has `num_frames`, each by its key, its seed."""
    rngs = {key: np.random.default_rng(int(key, 16)) for key in keys}
    if num_frames == 1:
        [picture] = read_clip(clip, SamplingOptions(num_frames=1))
        most = sampling.num_frames
        # Every other one a still, for a model may speak of stills in another style.
        return {
            key: moving_crop(picture, rng.integers(most) * rng.integers(2) + 1, size, rng)
            for key, rng in rngs.items()
        }
    # More moments than a view has, and larger than it, for it is a part of them.
    larger = tuple(5 * side // 4 for side in size)
    frames = read_clip(clip, replace(sampling, num_frames=3 * sampling.num_frames), larger)
    return {key: another_view(frames, num_frames, size, rng) for key, rng in rngs.items()}


def _extract(backbone, sequences: dict[str, np.ndarray], store):
    """Computes and keeps the features of sequences of frames."""
    if not sequences:
        return
    features = backbone(np.concatenate(list(sequences.values()))).astype(np.float16)
    ends = np.cumsum([len(frames) for frames in sequences.values()])[:-1]
    for key, sequence in zip(sequences, np.split(features, ends), strict=True):
        store.add(key, sequence)


def read_records(
    records: Records | Sequence[Records],
    vocabulary: Vocabulary,
    batch_size: int,
    seed: int | None = None,
    shares: Sequence[float] | None = None,
    num_records: int | None = None,
) -> "Batches":
    """Reads records as batches for `CaptionModel`, each clip with one of its captions.

    Args:
        records: written by `write_records`; or those of several sources, whose clips are
            numbered on from those before.
        vocabulary: turns the captions into token ids.
        batch_size: clips in a batch.
        seed: shuffles, and draws a caption for each clip anew in each pass; with None every
            pass has the order of the records and the first captions.
        shares: how much of a pass comes from each source, 1 together. A pass is as long as all
            sources are; of a source that has more records than its part a sample is drawn in each
            pass, and one that has fewer is gone through more often. None: each record once.
        num_records: in a pass, where it should be longer or shorter than all sources are; without
            `shares` each source then keeps the part that it has of them.
    """
    sources = [records] if isinstance(records, Records) else list(records)
    counts = [len(source.places) for source in sources]
    if shares is not None:
        if len(shares) != len(counts) or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
            raise ValueError(f"expected a share of each source, 1 together, received: {shares=}")
        if seed is None:
            raise ValueError("expected a seed where sources have shares, received: seed=None")
    elif num_records is not None:
        if seed is None:
            raise ValueError(f"expected a seed for a pass of another length, received: {seed=}")
        shares = [count / sum(counts) for count in counts]
    if shares is not None:
        total = num_records or sum(counts)
        counts = [max(1, round(total * share)) for share in shares]
    if len({source.feature_shape for source in sources}) > 1:
        shapes = [source.feature_shape for source in sources]
        raise ValueError(f"expected features of one backbone, received: {shapes}")
    return Batches(sources, vocabulary, batch_size, seed, counts)


class Batches:
    """Batches without end, numbered from the start of a training; `len` of them are a pass.

    Which clips and captions a batch holds follows from its number and the seed alone, so a
    training that was stopped after any step goes on with the very batches it would have had.
    Clips of similar length share a batch, which is padded to the longest.

    Attributes:
        clips: the labelled clips, by the number that the batches call them.
        vocabulary: what turned their captions into token ids.
    """

    def __init__(self, sources: Sequence[Records], vocabulary, batch_size, seed, counts):
        """As `read_records`, which is the way in; `counts` are records of each source in a pass."""
        self.clips = [clip for source in sources for clip in source.clips]
        self.vocabulary = vocabulary
        self._captions = [
            [vocabulary.encode(caption)[:MAX_WORDS] for caption in clip.captions]
            for clip in self.clips
        ]
        self._files = [str(file) for source in sources for file in source.files]
        self._feature_shape = sources[0].feature_shape
        self._places = np.concatenate([source.places for source in sources])
        self._sizes, self._counts = [len(source.places) for source in sources], counts
        first = clips = files = 0
        for source in sources:
            own = slice(first, first + len(source.places))
            self._places["clip"][own] += clips
            self._places["file"][own] += files
            first, clips, files = own.stop, clips + len(source.clips), files + len(source.files)
        self._batch_size, self._seed = batch_size, seed
        self._plan = lru_cache(maxsize=2)(self._make_plan)

    def __len__(self) -> int:
        """Batches in a pass."""
        return -(-sum(self._counts) // self._batch_size)

    def num_words(self, epoch: int) -> list[int]:
        """Words and ENDs in each batch of a pass."""
        clips = self._places["clip"]
        return [
            sum(len(self._captions[clip][one]) for clip, one in zip(clips[records], choices))
            for records, choices in self._plan(epoch)
        ]

    def read(self, start: int = 0, stop: int | None = None) -> tf.data.Dataset:
        """Reads batches.

        Args:
            start: number of the first batch, counted from the start of the training: pass
                number p begins with batch `p * len(self)`.
            stop: number of the batch to stop before; by default where the pass ends.

        Returns:
            `({"features", "sequence_length", "token_ids", "clip"}, token_ids)`: features float32
            `(batch_size, num_frames, *feature_shape)`, token ids int32
            `(batch_size, caption_length)`, and the place of each clip in `clips`.
        """
        if stop is None:
            stop = (start // len(self) + 1) * len(self)
        batches = tf.data.Dataset.range(start, stop)
        return batches.map(self._load, num_parallel_calls=2, deterministic=True).prefetch(2)

    def _make_plan(self, epoch: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """The records and the captions of each batch of a pass."""
        rng = np.random.default_rng((self._seed or 0, epoch if self._seed is not None else 0))
        firsts = np.cumsum([0, *self._sizes[:-1]])
        records = np.concatenate(
            [
                first + (np.arange(size) if count == size else _draw(rng, size, count))
                for first, size, count in zip(firsts, self._sizes, self._counts, strict=True)
            ]
        )
        counts = [len(self._captions[clip]) for clip in self._places["clip"][records]]
        if self._seed is None:
            tie_break, choices = np.arange(len(records)), np.zeros(len(records), int)
        else:
            tie_break, choices = rng.random(len(records)), rng.integers(counts)
        order = np.lexsort((tie_break, self._places["num_frames"][records]))
        starts = np.arange(0, len(order), self._batch_size)
        if self._seed is not None:
            rng.shuffle(starts)
        batches = [order[start : start + self._batch_size] for start in starts]
        return [(records[batch], choices[batch]) for batch in batches]

    def _load(self, number):
        examples, token_ids, clips = tf.numpy_function(
            self._fetch, [number], [tf.string, tf.int32, tf.int32], stateful=False
        )
        examples.set_shape((None,)), token_ids.set_shape((None, None)), clips.set_shape((None,))
        _, sequence, lengths = tf.io.parse_sequence_example(
            examples, sequence_features={"features": tf.io.FixedLenSequenceFeature((), tf.string)}
        )
        frame_bytes = 2 * int(np.prod(self._feature_shape))
        # Padding to a fixed length exists for integers only.
        features = tf.io.decode_raw(sequence["features"], tf.int16, fixed_length=frame_bytes)
        features = tf.bitcast(features, tf.float16)
        shape = (*tf.unstack(tf.shape(sequence["features"])), *self._feature_shape)
        inputs = {
            "features": tf.cast(tf.reshape(features, shape), tf.float32),
            "sequence_length": tf.cast(lengths["features"], tf.int32),
            "token_ids": token_ids,
            "clip": clips,
        }
        return inputs, token_ids

    def _fetch(self, number):
        epoch, step = divmod(int(number), len(self))
        records, choices = self._plan(epoch)[step]
        places = self._places[records]
        examples = [read_bytes(self._files[file], *at) for _, file, *at, _ in places.tolist()]
        chosen = [self._captions[clip][one] for clip, one in zip(places["clip"], choices)]
        token_ids = np.full((len(chosen), max(map(len, chosen))), PAD_ID, np.int32)
        for row, ids in zip(token_ids, chosen):
            row[: len(ids)] = ids
        return np.array(examples, object), token_ids, np.ascontiguousarray(places["clip"])


def _draw(rng: np.random.Generator, size: int, count: int) -> np.ndarray:
    """`count` of the numbers below `size`, all of them as often as one another or once more."""
    times = -(-count // size)
    return np.concatenate([rng.permutation(size) for _ in range(times)] or [[]])[:count].astype(int)

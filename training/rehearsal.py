"""Rehearsal: features of clips that a model learned from, for the trainings that go on from it.

A base that learns a few new clips forgets the rest, unless it goes on saying what it said of other
clips (Li and Hoiem 2016, "Learning without forgetting"). So some clips travel with it, as
`rehearsal.npz` in its folder: their features alone, no picture and no sentence.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from captioner.errors import ModelError
from captioner.vocabulary import tokenize

REHEARSAL = "rehearsal.npz"  # in a model folder
NUM_CLIPS, MOST_FRAMES = 1800, 4  # kept of a training; of a clip
COMPONENTS = 256  # principal components of a feature vector
STEP = 3.0  # standard deviations of a feature, the mean over all
SAMPLE = 60_000  # feature vectors that the components are computed of
HIGHEST = 127  # of an int8


@dataclass(frozen=True, eq=False)
class Rehearsal:
    """Features of clips, about a fortieth of their size in float16.

    A feature vector x is kept as `round((x - mean) @ basis / step)`, integers of which most are 0.
    With EfficientNet-Lite2 two thirds of the variance come back; what a model says of such
    features is nearly as good as of the true ones.

    Attributes:
        mean: `(feature_dim,)`.
        basis: `(feature_dim, num_components)`, the first principal components.
        step: how far apart the integers lie.
        lowest: what no feature is below.
        codes: int8 `(num_clips, num_frames, num_regions, num_components)`, num_frames that of the
            longest; 0 after each end.
        num_frames: `(num_clips,)`.
    """

    mean: np.ndarray
    basis: np.ndarray
    step: float
    lowest: float
    codes: np.ndarray
    num_frames: np.ndarray

    @classmethod
    def build(cls, features: Sequence[np.ndarray], seed: int = 0) -> "Rehearsal":
        """Keeps some of the clips, drawn by chance, of each at most `MOST_FRAMES` frames.

        Args:
            features: of each clip `(num_frames, num_regions, feature_dim)`, or without regions
                `(num_frames, feature_dim)`.
            seed: of the draw.
        """
        rng = np.random.default_rng(seed)
        chosen = np.sort(rng.permutation(len(features))[:NUM_CLIPS])
        clips = [_thin(np.asarray(features[one], np.float32)) for one in chosen]
        vectors = np.concatenate([clip.reshape(-1, clip.shape[-1]) for clip in clips])
        sample = rng.permutation(vectors)[:SAMPLE]
        mean = sample.mean(axis=0)
        variances, basis = np.linalg.eigh(np.cov(sample - mean, rowvar=False))
        basis = np.ascontiguousarray(basis[:, ::-1][:, :COMPONENTS])
        step = STEP * float(np.sqrt(variances.clip(0).mean()))
        step = max(step, float(np.abs((vectors - mean) @ basis).max()) / HIGHEST) or 1.0
        num_frames = np.array([len(clip) for clip in clips], np.int32)
        shape = (len(clips), num_frames.max(), clips[0].shape[1], basis.shape[1])
        codes = np.zeros(shape, np.int8)
        for row, clip in zip(codes, clips):
            row[: len(clip)] = np.round((clip - mean) @ basis / step)
        mean, basis = mean.astype(np.float32), basis.astype(np.float32)
        return cls(mean, basis, step, float(vectors.min()), codes, num_frames)

    @classmethod
    def load(cls, folder: Path) -> "Rehearsal | None":
        """Reads that of a model folder; None where it has none.

        Raises:
            ModelError: the file is damaged.
        """
        path = folder / REHEARSAL
        if not path.exists():
            return None
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                mean, basis, scale, packed, num_frames = (
                    arrays[name] for name in ("mean", "basis", "scale", "codes", "num_frames")
                )
            _, _, num_regions = packed.shape
            codes = np.zeros((len(num_frames), num_frames.max(), num_regions, len(packed)), np.int8)
            codes[_real(codes, num_frames)] = packed.transpose(1, 2, 0)
            step, lowest = scale.tolist()
            basis = basis.astype(np.float32).reshape(len(mean), len(packed))
        except (OSError, ValueError, KeyError, BadZipFile) as err:
            raise ModelError(
                f"{path}: damaged ({err}); copy the model folder again from where it came, or "
                "delete this file: what is trained from the model then forgets more"
            ) from err
        return cls(mean.astype(np.float32), basis, step, lowest, codes, num_frames)

    def save(self, folder: Path):
        """Writes it into a model folder.

        Raises:
            OSError: it cannot be written; an old file is as it was.
        """
        path = folder / REHEARSAL
        partial = path.with_name(f"partial.{path.name}")
        # Component by component: those of little variance, nearly all 0, then compress well.
        np.savez_compressed(
            partial,
            mean=self.mean.astype(np.float16),
            basis=self.basis.astype(np.float16),
            scale=np.array([self.step, self.lowest]),
            codes=self.codes[_real(self.codes, self.num_frames)].transpose(2, 0, 1),
            num_frames=self.num_frames,
        )
        partial.replace(path)

    def __len__(self) -> int:
        return len(self.num_frames)

    def select(self, clips) -> "Rehearsal":
        """Some of the clips, by their places."""
        return replace(self, codes=self.codes[clips], num_frames=self.num_frames[clips])

    def stretched(self, num_frames: int) -> "Rehearsal":
        """The same, but for clips of several frames, which have so many now, each shown on.

        A model that is taught clips of many frames, and rehearses but short ones, forgets what it
        says of long ones.
        """
        counts = np.where(self.num_frames > 1, np.maximum(self.num_frames, num_frames), 1)
        frames = np.arange(counts.max()) * self.num_frames[:, None] // counts[:, None]
        frames = np.minimum(frames, self.num_frames[:, None] - 1)  # (num_clips, num_frames)
        codes = self.codes[np.arange(len(self))[:, None], frames]
        codes[~_real(codes, counts)] = 0
        return replace(self, codes=codes, num_frames=counts.astype(np.int32))

    def features(self) -> list[np.ndarray]:
        """Those of each clip, `(num_frames, num_regions, feature_dim)` float32."""
        real = self.codes[_real(self.codes, self.num_frames)].astype(np.float32)
        # One product of matrices for all, which is many times faster than one for each clip.
        frames = real.reshape(-1, real.shape[-1]) @ np.ascontiguousarray(self.basis.T * self.step)
        frames = np.maximum(frames + self.mean, self.lowest)
        frames = frames.reshape(*real.shape[:2], -1)
        return np.split(frames, np.cumsum(self.num_frames)[:-1])


@dataclass(frozen=True, eq=False)
class Recollection:
    """What a base says of clips that it had learned from.

    Attributes:
        rehearsal: the clips.
        sentences: of each.
        token_ids: the same with END, then PAD, `(num_clips, length)` int32.
        vectors: what the base expects at each of these places (`CaptionModel.expect`), float32
            `(num_clips, length, embedding_dim)`.
    """

    rehearsal: Rehearsal
    sentences: Sequence[str]
    token_ids: np.ndarray
    vectors: np.ndarray

    def without(self, words: frozenset[str]) -> "Recollection":
        """Those clips of which the base says none of some words."""
        kept = [clip for clip, one in enumerate(self.sentences) if not words & set(tokenize(one))]
        return Recollection(
            self.rehearsal.select(kept),
            [self.sentences[clip] for clip in kept],
            self.token_ids[kept],
            self.vectors[kept],
        )


def _real(codes, num_frames) -> np.ndarray:
    """Which frames are none of the padding, `(num_clips, num_frames)`."""
    return np.arange(codes.shape[1]) < num_frames[:, None]


def _thin(features: np.ndarray) -> np.ndarray:
    """The middles of equal stretches of a clip, with an axis of regions."""
    if features.ndim == 2:
        features = features[:, None]
    count = min(len(features), MOST_FRAMES)
    return features[((np.arange(count) + 0.5) * len(features) / count).astype(int)]

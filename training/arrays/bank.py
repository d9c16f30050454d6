"""Features on the device and what they are views of; batches drawn from them by a recipe."""

import json
from collections.abc import Iterable
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from captioner.errors import DatasetError
from captioner.vocabulary import PAD_ID, style_token

from .features import CLIP_FRAMES, VIEWS, Views
from .pack import Items
from .recipe import MOST_PER_ITEM, Recipe

STILL_SHARE = 0.65  # of the batches of pictures; the rest sees them as moving clips
PARTS = 16  # of all places of a batch; those of words are a whole number of them
LEAST_AGREEMENT = 0.05  # added to a sentence's agreement with its siblings, as a weight


class Bank:
    """Features on the device, and which of them are views of what.

    Args:
        items: what the features are of.
        views: how many there are of each.
        features: by the name of a network, of all views, or of all frames as they are, which then
            stand for every view.

    Raises:
        DatasetError: features are as many as neither.
    """

    def __init__(self, items: Items, views: Views, features: dict[str, np.ndarray]):
        self.items, self.views = items, views
        counts = views.count(items)
        self.first = np.cumsum(counts) - counts
        self.features = {name: jnp.asarray(array) for name, array in features.items()}
        self.rows = {name: self._rows(name, len(array), counts) for name, array in features.items()}
        self.token_ids = jnp.asarray(items.token_ids, "int32")
        said = items.owner >= 0
        self.texts = np.flatnonzero(~said)
        order, owners = np.flatnonzero(said), items.owner[said]
        starts = np.searchsorted(owners, np.arange(len(items.num_frames)))
        ends = np.searchsorted(owners, np.arange(len(items.num_frames)), "right")
        self.references = [order[a:b] for a, b in zip(starts, ends, strict=True)]
        most = max(MOST_PER_ITEM, *(ends - starts))
        # Each item's sentences; an item with few repeats them until they suffice.
        self.choice = np.full((len(starts), most), -1)
        for row, own in zip(self.choice, self.references, strict=True):
            times = max(1, -(-MOST_PER_ITEM // len(own)))
            row[: len(own) * times] = np.tile(own, times)[:most]
        learned = ~items.is_val
        title = items.start_ids[self.choice[:, 0]] == self._style("title")
        self.pictures = np.flatnonzero(learned & ~items.is_video & ~title)
        self.titles = np.flatnonzero(learned & ~items.is_video & title)
        self.videos = np.flatnonzero(learned & items.is_video)

    @classmethod
    def load(cls, packed: Path, features: Path, networks: Iterable[str]) -> "Bank":
        """Takes what `pack` and `write_features` wrote."""
        arrays = {name: np.load(features / f"{name}.npy", mmap_mode="r") for name in networks}
        views = Views(**json.loads((features / VIEWS).read_text()))
        return cls(Items.load(packed), views, arrays)

    def _rows(self, name, num_rows, counts):
        """Which row of a network's features each view has."""
        num_frames = self.items.num_frames.astype(int)
        if num_rows == counts.sum():
            return np.arange(num_rows)
        if num_rows != num_frames.sum():
            raise DatasetError(
                f"{name}.npy: has {num_rows} features; expected {counts.sum()}, one a view, or "
                f"{num_frames.sum()}, one a frame; extract them anew"
            )
        of_item = np.cumsum(num_frames) - num_frames
        place = np.arange(counts.sum()) - np.repeat(self.first, counts)
        return np.repeat(of_item, counts) + place % np.repeat(num_frames, counts)

    def _style(self, style):
        token = style_token(style)
        return self.items.vocabulary.tokens.index(token) if token in self.items.vocabulary else -1

    def batches(self, recipe: Recipe, seed: int):
        """Endless `(views, length, sentences, zeroed)`, all of numpy.

        `views` `(batch_size, num_frames)` are places in the features, `num_frames` is 1 or
        `CLIP_FRAMES`; `length` `(batch_size,)` frames are real; `sentences` `(batch_size *
        per_item,)`; `zeroed` is 0.0 where sentences have no picture, else 1.0.
        """
        rng = np.random.default_rng(seed)
        pictures, videos = _shuffled(self.pictures, rng), _shuffled(self.videos, rng)
        log_weights = np.log(self.items.weights + LEAST_AGREEMENT)
        while True:
            size, kind = recipe.batch_size, rng.random()
            if kind < recipe.text_share:
                sentences = rng.choice(self.texts, size * recipe.per_item)
                yield np.zeros((size, 1), int), np.ones(size, int), sentences, 0.0
                continue
            if kind < recipe.text_share + recipe.video_share:
                own = np.array([next(videos) for _ in range(size)])
                views, length = self._video_views(own, rng)
            else:
                num_titles = int(size * recipe.titles) if len(self.titles) else 0
                own = np.array([next(pictures) for _ in range(size - num_titles)], int)
                own = np.concatenate([own, rng.choice(self.titles, num_titles)])
                views, length = self._picture_views(own, rng)
            choice = self.choice[own]
            keys = rng.gumbel(size=choice.shape)
            if recipe.weigh:
                keys = keys + log_weights[choice]
            keys[choice < 0] = -np.inf
            best = np.argpartition(-keys, recipe.per_item - 1, axis=1)[:, : recipe.per_item]
            yield views, length, np.take_along_axis(choice, best, 1).reshape(-1), 1.0

    def _video_views(self, own, rng):
        """As many frames as a clip has, or fewer, in order, all of one view."""
        num = self.items.num_frames[own].astype(int)[:, None]
        length = rng.integers(1, CLIP_FRAMES + 1, len(own))
        length = np.minimum(length, np.maximum(num[:, 0], 2))  # one frame again at most
        at = np.where(
            np.arange(CLIP_FRAMES) < length[:, None], rng.random((len(own), CLIP_FRAMES)), 2
        )
        frames = np.minimum((np.sort(at, axis=1) * num).astype(int), num - 1)
        view = rng.integers(1 + self.views.video_crops, size=(len(own), 1))
        return self.first[own][:, None] + view * num + frames, length

    def _picture_views(self, own, rng):
        """A crop, or more seldom a moving clip."""
        first = self.first[own][:, None]
        if not self.views.clips or rng.random() < STILL_SHARE:
            view = rng.integers(1 + self.views.crops, size=(len(own), 1))
            return first + view, np.ones(len(own), int)
        clip = rng.integers(self.views.clips, size=(len(own), 1))
        clip = 1 + self.views.crops + clip * CLIP_FRAMES
        length = rng.integers(1, CLIP_FRAMES + 1, len(own))
        return first + clip + np.arange(CLIP_FRAMES), length

    def words(self, sentences):
        """Where words are among all places of sentences, END with them, and what share of the loss
        each has, `(num_places,)` both: every sentence is worth as much as any other.

        Nearly half of the places are padding, whose logits would take as long. Some of it is left,
        with a share of 0, so that most batches have one shape, for which a step is compiled.
        """
        real = self.items.token_ids[sentences] != PAD_ID
        lengths = real.sum(axis=1)
        shares = np.repeat(np.float32(1 / len(lengths) / lengths), lengths)
        padding = (0, -len(shares) % -(-real.size // PARTS))
        return np.pad(np.flatnonzero(real).astype(np.int32), padding), np.pad(shares, padding)

    def whole(self, own):
        """Views of items as they are: `(views, length)`."""
        num = self.items.num_frames[own].astype(int)
        at = np.minimum(np.arange(max(num)), num[:, None] - 1)
        return self.first[own][:, None] + at, num


def _shuffled(pool, rng):
    while True:
        yield from rng.permutation(pool)

"""Features on the device and what they are views of; batches drawn from them by a recipe."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from captioner.vocabulary import style_token

from .features import CLIP_FRAMES, Views
from .pack import Items

STILL_SHARE = 0.65  # of the batches of pictures; the rest sees them as moving clips
PER_ITEM = 5  # sentences of an item in a batch
LEAST_AGREEMENT = 0.05  # added to a sentence's agreement with its siblings, as a weight


@dataclass(frozen=True)
class Recipe:
    """What is learned from, and how hard.

    Attributes:
        batch_size: items in a batch, each with `PER_ITEM` of its sentences.
        learning_rate: at its peak; see `schedule`.
        weight_decay: of AdamW.
        dropout: share of values dropped.
        label_smoothing: as in `training.objectives.caption_loss`.
        video_share: of all batches.
        text_share: of all batches; their sentences have no picture.
        titles: share of a batch of pictures that is of the style `title`.
        styles: whether a sentence begins with the token of its style.
        weigh: whether sentences that their siblings agree with are drawn more often.
        teacher_weight: share of the loss that is learned from teachers, if there are any.
        units: as in `ModelConfig`, and likewise
        embedding_dim: the width of a word.
    """

    batch_size: int = 256
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.01
    dropout: float = 0.3
    label_smoothing: float = 0.1
    video_share: float = 0.45
    text_share: float = 0.0
    titles: float = 0.08
    styles: bool = True
    weigh: bool = False
    teacher_weight: float = 0.7
    units: int = 320
    embedding_dim: int = 256


class Bank:
    """Features on the device, and which of them are views of what."""

    def __init__(self, items: Items, views: Views, features: dict[str, np.ndarray]):
        self.items, self.views = items, views
        counts = views.count(items)
        self.first = np.cumsum(counts) - counts
        self.features = {name: jnp.asarray(array) for name, array in features.items()}
        self.token_ids = jnp.asarray(items.token_ids, "int32")
        said = items.owner >= 0
        self.texts = np.flatnonzero(~said)
        order, owners = np.flatnonzero(said), items.owner[said]
        starts = np.searchsorted(owners, np.arange(len(items.num_frames)))
        ends = np.searchsorted(owners, np.arange(len(items.num_frames)), "right")
        self.references = [order[a:b] for a, b in zip(starts, ends, strict=True)]
        most = max(PER_ITEM, *(ends - starts))
        # Each item's sentences; an item with few repeats them until they suffice.
        self.choice = np.full((len(starts), most), -1)
        for row, own in zip(self.choice, self.references, strict=True):
            times = max(1, -(-PER_ITEM // len(own)))
            row[: len(own) * times] = np.tile(own, times)[:most]
        learned = ~items.is_val
        title = items.start_ids[self.choice[:, 0]] == self._style("title")
        self.pictures = np.flatnonzero(learned & ~items.is_video & ~title)
        self.titles = np.flatnonzero(learned & ~items.is_video & title)
        self.videos = np.flatnonzero(learned & items.is_video)

    def _style(self, style):
        token = style_token(style)
        return self.items.vocabulary.tokens.index(token) if token in self.items.vocabulary else -1

    def batches(self, recipe: Recipe, seed: int):
        """Endless `(views, length, sentences, zeroed)`, all of numpy.

        `views` `(batch_size, num_frames)` are places in the features, `num_frames` is 1 or
        `CLIP_FRAMES`; `length` `(batch_size,)` frames are real; `sentences` `(batch_size *
        PER_ITEM,)`; `zeroed` is 0.0 where sentences have no picture, else 1.0.
        """
        rng = np.random.default_rng(seed)
        pictures, videos = _shuffled(self.pictures, rng), _shuffled(self.videos, rng)
        log_weights = np.log(self.items.weights + LEAST_AGREEMENT)
        while True:
            size, kind = recipe.batch_size, rng.random()
            if kind < recipe.text_share:
                sentences = rng.choice(self.texts, size * PER_ITEM)
                yield np.zeros((size, 1), int), np.ones(size, int), sentences, 0.0
                continue
            if kind < recipe.text_share + recipe.video_share:
                own = np.array([next(videos) for _ in range(size)])
                views, length = self._video_views(own, rng)
            else:
                num_titles = int(size * recipe.titles) if len(self.titles) else 0
                own = np.array([next(pictures) for _ in range(size - num_titles)], int)
                own = (
                    np.concatenate([own, rng.choice(self.titles, num_titles)])
                    if num_titles
                    else own
                )
                views, length = self._picture_views(own, rng)
            choice = self.choice[own]
            keys = rng.gumbel(size=choice.shape)
            if recipe.weigh:
                keys = keys + log_weights[choice]
            keys[choice < 0] = -np.inf
            best = np.argpartition(-keys, PER_ITEM - 1, axis=1)[:, :PER_ITEM]
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

    def whole(self, own):
        """Views of items as they are: `(views, length)`."""
        num = self.items.num_frames[own].astype(int)
        at = np.minimum(np.arange(max(num)), num[:, None] - 1)
        return self.first[own][:, None] + at, num


def _shuffled(pool, rng):
    while True:
        yield from rng.permutation(pool)

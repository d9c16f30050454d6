"""Whether a model that went on from another is better than that one, and how sure that is."""

import json
import operator
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from captioner.errors import CaptionerError
from captioner.vocabulary import tokenize

from .metrics import CiderD
from .work import writing

JUDGEMENT = "judgement.json"  # in a model folder
RESAMPLES = 10_000
LEAST_CHANCE = 0.75  # of being better, for a model that is given to people
MOST_PARROTED, LEAST_VARIETY = 0.02, 0.7  # of what a harmless model says of other clips
MOST_MORE = 500  # corrections, of which it makes sense to say that so many more may help
# What nearly every sentence has, so that having it is no merit.
FUNCTION_WORDS = frozenset(
    "a an the is are was were be been being it its there this that these those and or of in on at "
    "to with for from by as into onto up down out over while he she they his her their some "
    "has have had do does".split()
)


class NotBetter(CaptionerError):
    """A model that was trained is no better than the one that it went on from."""


@dataclass(frozen=True)
class Name:
    """How well a model has learned a new word.

    Attributes:
        word: as it is spoken of.
        num_wanted: clips that it had not learned from and whose corrections have the word.
        num_said: of these, clips of which it says the word.
        elsewhere: share of all other clips of which it says the word.
    """

    word: str
    num_wanted: int
    num_said: int
    elsewhere: float

    def describe(self) -> str:
        """A sentence for people."""
        right = f"{self.num_said} of the {self.num_wanted} that should have it, and of "
        where = right if self.num_wanted else ""
        return f'"{self.word}" is said of {where}{self.elsewhere:.1%} of other clips.'


@dataclass(frozen=True)
class Judgement:
    """What a new and an old model say of clips that the new one has not learned from.

    Attributes:
        pairs: for each such clip `video`, `start`, `end`, what is `wanted`, and what is said by
            the `old` and the `new` model.
        before: mean CIDEr-D of the old one's content words, as `score_content` has it.
        after: of the new one's.
        interval: bounds that hold 95 % of the difference of these means over clips drawn again
            with replacement, the same ones for both (the paired bootstrap).
        chance: share of these draws of clips in which the new one is better.
        num_others: clips, of those that the old one had learned from, that both were shown too.
        same: share of these of which both say the same.
        parroted: share of these of which the new one says a sentence that it was just taught, and
            the old one something else.
        variety: how many different sentences the new one says of these, for each of the old one.
        names: the new words that it was taught of several clips.
    """

    pairs: Sequence[dict]
    before: float
    after: float
    interval: tuple[float, float]
    chance: float = 0.0
    num_others: int = 0
    same: float = 1.0
    parroted: float = 0.0
    variety: float = 1.0
    names: tuple[Name, ...] = ()

    @property
    def harm(self) -> str | None:
        """What it says of other clips that it should not, for people; None: nothing."""
        if self.parroted > MOST_PARROTED:
            return (
                f"it says sentences that it was just taught of {self.parroted:.0%} of other clips"
            )
        if self.variety < LEAST_VARIETY:
            return f"it says only {self.variety:.0%} as many different sentences as before"
        for name in self.names:
            if name.elsewhere > MOST_PARROTED:
                return f'it says "{name.word}" of {name.elsewhere:.0%} of other clips'
        return None

    @property
    def is_better(self) -> bool:
        """Whether it is likely to be the better one, and harmless.

        That the mean of few clips rose is no reason: by chance half of all models show it.
        """
        return (self.chance >= LEAST_CHANCE or not self.pairs) and not self.harm

    @property
    def is_certain(self) -> bool:
        """Whether the whole interval says so too."""
        return self.is_better and self.interval[0] > 0

    @property
    def more(self) -> int | None:
        """How many more corrections would make it certain if they went on as these do.

        An interval shrinks with the square root of the number of clips. None: it is certain
        already, or nothing tells.
        """
        gain, margin = self.after - self.before, (self.interval[1] - self.interval[0]) / 2
        if self.is_certain or gain <= 0:
            return None
        needed = int(np.ceil(len(self.pairs) * ((margin / gain) ** 2 - 1)))
        return needed if 0 < needed <= MOST_MORE else None

    def describe(self) -> str:
        """A sentence or three for people."""
        if not self.pairs:
            figures = "there is no clip that it had not learned from, to compare on"
            return f"Not compared: {figures}; correct a second video, and it will be."
        clips = "1 clip" if len(self.pairs) == 1 else f"{len(self.pairs)} clips"
        figures = (
            f"on {clips} that it had not learned from, CIDEr of content words "
            f"{self.before:.2f} before, {self.after:.2f} now (95 % of the difference between "
            f"{self.interval[0]:+.2f} and {self.interval[1]:+.2f})"
        )
        told = " ".join([f"{figures}.", *(name.describe() for name in self.names)])
        if self.harm:
            return f"Not better: {self.harm}; {told}"
        if self.is_certain:
            return f"Better: {told}"
        if self.after <= self.before:
            return f"Not better: {told} More corrections may help."
        more = f"; about {self.more} more corrections are likely to show" if self.more else ""
        if not self.is_better:
            return f"Not better, as far as so few clips can show{more}: {told}"
        return f"Perhaps better, which so few clips cannot show for certain{more}: {told}"

    def save(self, folder: Path):
        """Writes it into a model folder, for others to read.

        Raises:
            DatasetError: the folder cannot be written.
        """
        properties = ("is_better", "is_certain", "harm", "more")
        found = asdict(self) | {name: getattr(self, name) for name in properties}
        found["text"] = self.describe()
        with writing(folder):
            partial = folder / f".{JUDGEMENT}.partial"
            partial.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
            partial.replace(folder / JUDGEMENT)


def judge(
    pairs: Sequence[dict],
    taught: Sequence[str],
    others: tuple[Sequence[str], Sequence[str]] = ((), ()),
    names: Sequence[str] = (),
    seed: int = 0,
) -> Judgement:
    """Compares two models by what they say.

    Args:
        pairs: see `Judgement`; `wanted` is a list of sentences.
        taught: the sentences that the new one learned.
        others: what the old and the new one say of clips of before.
        names: words that are new and were taught of several clips.
        seed: of the clips drawn for the interval.
    """
    references = [pair["wanted"] for pair in pairs]
    old, new = (
        score_content([pair[one] for pair in pairs], references, others[0])
        for one in ("old", "new")
    )
    means, bounds, chance = (0.0, 0.0), (0.0, 0.0), 0.0
    if pairs:
        means = float(old.mean()), float(new.mean())
        draws = np.random.default_rng(seed).integers(len(pairs), size=(RESAMPLES, len(pairs)))
        gains = (new - old)[draws].mean(axis=1)
        bounds = tuple(np.quantile(gains, (0.025, 0.975)).tolist())
        chance = float((gains > 0).mean())
    known = {" ".join(tokenize(sentence)) for sentence in taught}
    before, after = ([" ".join(tokenize(sentence)) for sentence in several] for several in others)
    found = {}
    if before:
        both = list(zip(before, after, strict=True))
        found = {
            "num_others": len(both),
            "same": float(np.mean([a == b for a, b in both])),
            "parroted": float(np.mean([b in known and a != b for a, b in both])),
            "variety": len(set(after)) / len(set(before)),
        }
    counted = tuple(_count(name, pairs, others[1]) for name in names)
    return Judgement(pairs, *means, bounds, chance, **found, names=counted)


def _count(name: str, pairs: Sequence[dict], others: Sequence[str]) -> Name:
    wanted = [any(name in tokenize(one) for one in pair["wanted"]) for pair in pairs]
    said = [name in tokenize(pair["new"]) for pair in pairs]
    elsewhere = [is_said for is_said, is_wanted in zip(said, wanted) if not is_wanted]
    elsewhere += [name in tokenize(sentence) for sentence in others]
    right = sum(map(operator.and_, said, wanted))
    return Name(name, sum(wanted), right, float(np.mean(elsewhere)) if elsewhere else 0.0)


def score_content(
    sentences: Sequence[str], references: Sequence[Sequence[str]], others: Sequence[str] = ()
) -> np.ndarray:
    """CIDEr-D of the words that tell what is seen, `(num_clips,)`: all but `FUNCTION_WORDS`.

    Args:
        sentences: of each clip.
        references: for each clip, what people say.
        others: sentences of other clips, which show too how rare a word is. Without them a name
            that all references have would count nothing.
    """
    several = [*references, *([one] for one in others)]
    cider = CiderD([[_content(one) for one in clip] for clip in several])
    return cider.score([_content(one) for one in sentences], range(len(references)))


def _content(sentence: str) -> list[str]:
    return [word for word in tokenize(sentence) if word not in FUNCTION_WORDS]

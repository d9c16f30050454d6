"""What comes out: token ids, then captions."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np


class DecodingResult(NamedTuple):
    """Hypotheses of each clip, best first.

    Attributes:
        token_ids: `(batch_size, num_captions, max_length)` int32, PAD after the last word.
            START and END are not in it, a given beginning is.
        sequence_length: `(batch_size, num_captions)` int32, words, END not counted.
        scores: `(batch_size, num_captions)` float32, `log_prob / ((5 + n) / 6) ** length_penalty`
            with n = `sequence_length + 1`, plus the coverage penalty where there is one.
        attention_weights: `(batch_size, num_captions, max_length, memory_length)` float32, where
            each word looked; zero after the last word. None without `attention_of`.
    """

    token_ids: object
    sequence_length: object
    scores: object
    attention_weights: object = None


@dataclass(frozen=True)
class Candidate:
    """One sentence that a search found.

    Attributes:
        text: the sentence.
        score: its length-normalised log-probability; 0 is certainty.
        words: the words that the search chose, in their order.
        attention_weights: where each word looked, `(num_words, num_frames, num_regions)`, 1 in
            all for each word.
    """

    text: str
    score: float
    words: tuple[str, ...] = ()
    attention_weights: np.ndarray | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Segment:
    """What happens in a stretch of a clip.

    Attributes:
        start: seconds from the first frame of the clip.
        end: seconds; where the next segment starts, or the clip ends.
        candidates: the sentences found, best first.
    """

    start: float
    end: float
    candidates: tuple[Candidate, ...]

    @property
    def text(self) -> str:
        """The best sentence."""
        return self.candidates[0].text

    @property
    def score(self) -> float:
        """The score of the best sentence."""
        return self.candidates[0].score


@dataclass(frozen=True)
class Caption:
    """What happens in a clip.

    Attributes:
        video: the clip's path, as given.
        candidates: the sentences found, best first.
        duration: of the clip, seconds; 0 for a still picture.
        model: the model that looked, `name@digest`.
        times: when the frames that it looked at are shown, seconds.
        segments: the stretches that it was cut into, in order, where that was asked for.
        size: of the file, bytes, where that is known.
        modified: when the file was last changed, seconds since 1970, where that is known.
        options: flags of the command line that sentences depend on, where it had any:
            `--style photo --segments 10`.
    """

    video: str
    candidates: tuple[Candidate, ...]
    duration: float
    model: str
    times: tuple[float, ...] = ()
    segments: tuple[Segment, ...] = ()
    size: int | None = None
    modified: float | None = None
    options: str = ""

    @property
    def text(self) -> str:
        """The best sentence."""
        return self.candidates[0].text

    @property
    def score(self) -> float:
        """The score of the best sentence."""
        return self.candidates[0].score

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Failure:
    """A clip that could not be captioned.

    Attributes:
        video: the clip's path, as given.
        error: which file, what is wrong, what to do.
        model: the model that would have looked, `name@digest`.
        size: of the file, bytes, where that is known.
        modified: when the file was last changed, seconds since 1970, where that is known.
    """

    video: str
    error: str
    model: str
    size: int | None = None
    modified: float | None = None

    def __str__(self) -> str:
        return self.error

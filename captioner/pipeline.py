"""A video in, a caption out."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from .backbones import Backbone
from .caption import Candidate, Caption, Failure
from .checkpoint import DEFAULT_MODEL, ModelFolder
from .config import DecodingOptions, SamplingOptions
from .engines import KerasEngine
from .errors import VideoError
from .video import read_frames
from .vocabulary import Vocabulary, join


class Captioner:
    """Looks at videos and says in a sentence what happens.

    from captioner import Captioner
    print(Captioner.load().caption("clip.mp4").text)
    """

    def __init__(
        self,
        backbone: Backbone,
        engine: KerasEngine,
        vocabulary: Vocabulary,
        sampling: SamplingOptions,
        decoding: DecodingOptions,
        name: str,
    ):
        """Puts the parts together; `load` does it from a model folder."""
        self.backbone = backbone
        self.engine = engine
        self.vocabulary = vocabulary
        self.sampling = sampling
        self.decoding = decoding
        self.name = name

    @classmethod
    def load(
        cls, model: str | Path = DEFAULT_MODEL, decoding: DecodingOptions | None = None
    ) -> "Captioner":
        """Loads a model.

        Args:
            model: the name of a model that ships with the package, or a model folder.
            decoding: how to search for sentences; by default as the model folder says.

        Raises:
            ModelError: the model folder is missing or not whole.
        """
        folder = ModelFolder.open(model)
        return cls(
            folder.load_backbone(),
            KerasEngine(folder.load_model()),
            folder.vocabulary,
            folder.sampling,
            decoding or folder.decoding,
            folder.name,
        )

    def caption(self, video: str | Path) -> Caption:
        """Captions one clip.

        Raises:
            VideoError: the file is no video, or has no frame that can be decoded.
        """
        clip = read_frames(video, self.sampling.num_frames, self.backbone.input_size)
        candidates = self.describe(self.backbone(clip.frames))
        times = tuple(map(float, clip.times))
        return Caption(str(video), candidates, clip.duration, self.name, times)

    def caption_many(self, videos: Iterable[str | Path]) -> Iterator[Caption | Failure]:
        """Captions clips in their order; one that cannot be read gives a `Failure`."""
        for video in videos:
            try:
                yield self.caption(video)
            except VideoError as err:
                yield Failure(str(video), str(err), self.name)

    def describe(self, features: np.ndarray) -> tuple[Candidate, ...]:
        """Sentences for the features of a clip, `(num_frames, *feature_shape)`, best first."""
        result = self.engine([features], self.decoding)
        return tuple(
            self._candidate(*found, num_frames=len(features))
            for found in zip(
                result.token_ids[0], result.scores[0], result.attention_weights[0], strict=True
            )
        )

    def _candidate(self, token_ids, score, attention_weights, num_frames):
        words = tuple(self.vocabulary.words(token_ids))
        num_regions = attention_weights.shape[1] // num_frames
        weights = attention_weights[: len(words)].reshape(len(words), num_frames, num_regions)
        return Candidate(to_sentence(join(words)), float(score), words, weights)


def to_sentence(words: str) -> str:
    """Words as a person writes them: a capital in front, a full stop behind."""
    return f"{words[:1].upper()}{words[1:]}."

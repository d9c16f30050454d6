"""A video in, a caption out."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from .backbones import Backbone
from .caption import Candidate, Caption, Failure
from .checkpoint import DEFAULT_MODEL, ModelFolder
from .config import DecodingOptions, SamplingOptions
from .engines import (
    BACKBONE_PROGRAM,
    CAPTIONER_PROGRAM,
    KerasEngine,
    LiteEngine,
    Program,
    lite_backbone,
    num_cores,
)
from .errors import VideoError
from .export import programs_for
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
        engine: KerasEngine | LiteEngine,
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
        cls,
        model: str | Path = DEFAULT_MODEL,
        decoding: DecodingOptions | None = None,
        engine: str = "auto",
    ) -> "Captioner":
        """Loads a model.

        Args:
            model: the name of a model that ships with the package, or a model folder.
            decoding: how to search for sentences; by default as the model folder says.
            engine: `lite`, LiteRT programs, which start at once on a CPU; `keras`; or `auto`:
                `lite` without a GPU, where the model's programs search that way.

        Raises:
            ModelError: the model folder is missing or not whole, or has no programs for `lite`.
        """
        folder = ModelFolder.open(model)
        decoding = decoding or folder.decoding
        return cls.of(folder, decoding, programs_for(folder, decoding, engine))

    @classmethod
    def of(
        cls, folder: ModelFolder, decoding: DecodingOptions, programs: Path | None
    ) -> "Captioner":
        """Loads a model; `programs` is what `captioner.export.programs_for` chose."""
        if programs is None:
            backbone, engine = folder.load_backbone(), KerasEngine(folder.load_model())
        else:
            backbone = lite_backbone(folder, Program(programs / BACKBONE_PROGRAM, num_cores()))
            # Its products are too small to share among cores.
            engine = LiteEngine(Program(programs / CAPTIONER_PROGRAM), folder.decoding)
        return cls(backbone, engine, folder.vocabulary, folder.sampling, decoding, folder.name)

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

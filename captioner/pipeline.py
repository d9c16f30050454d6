"""A video in, a caption out."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from .batch import caption_files, num_cores
from .caption import Candidate, Caption, Failure
from .cnn import Backbone
from .config import AUTO_STYLE, DecodingOptions, SamplingOptions
from .engines.keras_engine import KerasEngine
from .engines.lite_engine import (
    CAPTIONER_PROGRAM,
    LiteEngine,
    Program,
    lite_backbone,
)
from .engines.programs import programs_for
from .errors import ModelError
from .model_folder import DEFAULT_MODEL, ModelFolder
from .reranker import RerankingEngine
from .video import read_frames
from .video.reader import Reader, ReadingLimits, Request
from .vocabulary import Vocabulary, join


class Captioner:
    """A model that captions videos: backbone, caption model and search in one.

    from captioner import Captioner
    print(Captioner.load().caption("clip.mp4").text)
    """

    def __init__(
        self,
        backbone: Backbone,
        engine: KerasEngine | LiteEngine | RerankingEngine,
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
        cls,
        folder: ModelFolder,
        decoding: DecodingOptions,
        programs: Path | None,
        num_threads: int | None = None,
    ) -> "Captioner":
        """Loads a model.

        Args:
            folder: the model.
            decoding: how to search for sentences.
            programs: what `captioner.engines.programs.programs_for` chose.
            num_threads: in which a program's CNN computes; by default one a core.

        Raises:
            ModelError: the model has no such style of sentences, or lacks a word that the
                options name.
        """
        if decoding.style not in (AUTO_STYLE, *folder.model.styles):
            known = ", ".join((AUTO_STYLE, *folder.model.styles))
            raise ModelError(f"{folder.path}: has no style {decoding.style!r}; name one of {known}")
        try:
            folder.vocabulary.constraints(decoding)
        except ValueError as err:
            raise ModelError(f"{folder.path}: {err}") from err
        if programs is None:
            engine = KerasEngine(folder.load_model(), folder.vocabulary)
            backbone = folder.load_backbone()
        else:
            backbone = lite_backbone(folder, programs, num_threads or num_cores())
            # Its products are too small to share among cores.
            program = Program(programs / CAPTIONER_PROGRAM)
            engine = LiteEngine(program, folder.decoding, folder.model.styles)
        engine = RerankingEngine.of(engine, folder.path)
        return cls(backbone, engine, folder.vocabulary, folder.sampling, decoding, folder.version)

    def caption(self, video: str | Path) -> Caption:
        """Captions one clip, read in this process.

        Raises:
            VideoError: the file is no video, or has no frame that can be decoded.
        """
        clip = read_frames(video, self.sampling, self.backbone.input_size)
        candidates = self.describe(self.backbone(clip.frames))
        times = tuple(map(float, clip.times))
        return Caption(str(video), candidates, clip.duration, self.name, times)

    def caption_many(
        self,
        videos: Iterable[str | Path],
        segments: float | str | None = None,
        workers: int | None = None,
        limits: ReadingLimits | None = None,
    ) -> Iterator[Caption | Failure]:
        """Captions videos in their order, as many as there are, in bounded memory.

        Child processes read the next ones meanwhile, each within its limits, so no file can
        hang, crash or balloon this process.

        Args:
            videos: paths, taken one by one; they may come from a generator.
            segments: also captions stretches of so many seconds; or `shots`, which end where
                the picture changes.
            workers: how many child processes read; by default one a core.
            limits: what one file may use.

        Yields:
            A `Caption`, or for a file that cannot be read a `Failure`.
        """
        readers = [Reader(limits) for _ in range(workers or num_cores())]
        return caption_files(self, videos, segments, readers)

    def request(self, video: str | Path, segments: float | str | None = None) -> Request:
        """What has to be read of a video for its caption."""
        size = self.backbone.input_size
        return Request(str(video), self.sampling, size, segments=segments)

    def extract_features(self, frames: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Features of clips from their frames, in one pass through the backbone.

        Args:
            frames: of each clip, uint8 RGB, `(num_frames, *input_size, 3)`.

        Returns:
            Of each clip, float32, `(num_frames, *feature_shape)`.
        """
        if not frames:
            return []
        features = self.backbone(np.concatenate(frames))
        return np.split(features, np.cumsum([len(clip) for clip in frames])[:-1])

    def describe(self, features: np.ndarray) -> tuple[Candidate, ...]:
        """Sentences for the features of a clip, `(num_frames, *feature_shape)`, best first."""
        [candidates] = self.describe_many([features])
        return candidates

    def describe_many(self, features: Sequence[np.ndarray]) -> list[tuple[Candidate, ...]]:
        """Sentences for each clip, best first, from the features of each."""
        if not features:
            return []
        result = self.engine(list(features), self.decoding)
        found = zip(
            features, result.token_ids, result.scores, result.attention_weights, strict=True
        )
        return [
            tuple(
                self._candidate(*candidate, num_frames=len(clip), longest=longest)
                for candidate in zip(*candidates, strict=True)
            )
            for longest in [max(map(len, features))]
            for clip, *candidates in found
        ]

    def _candidate(self, token_ids, score, attention_weights, num_frames, longest):
        words = tuple(self.vocabulary.words(token_ids))
        num_regions = attention_weights.shape[1] // longest
        weights = attention_weights[: len(words)].reshape(len(words), longest, num_regions)
        # Copied, lest it hold on to those of all steps and hypotheses.
        weights = weights[:, :num_frames].copy()
        return Candidate(to_sentence(join(words)), float(score), words, weights)


def to_sentence(words: str) -> str:
    """Words as a person writes them: a capital in front, a full stop behind."""
    return f"{words[:1].upper()}{words[1:]}."

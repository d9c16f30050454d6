"""Features -> token ids as a LiteRT program.

A program is the same model and search as on Keras, written once by `captioner.engines.programs`
for the options of its model folder; it starts in a blink, on a CPU, and needs neither Keras nor
TensorFlow.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cache
from math import isqrt
from pathlib import Path
from threading import Lock

import numpy as np

from ..caption import DecodingResult
from ..cnn import Backbone
from ..cnn.regions import region_means
from ..config import DecodingOptions
from ..errors import ModelError
from ..model_folder import ModelFolder
from ..vocabulary import start_id
from .keras_engine import pad

BACKBONE_PROGRAM, CAPTIONER_PROGRAM = "backbone.tflite", "captioner.tflite"
STEM_PROGRAM = "stem.tflite"  # first layers of a CNN, where the others compute in integers
TOGETHER = 8  # frames; with 16 it would be 4 % faster, and take 60 MB more


class Program:
    """A LiteRT program: functions on numpy arrays by name, one call at a time."""

    def __init__(self, path: Path, num_threads: int = 1):
        """Opens a program.

        Raises:
            ModelError: the file is damaged.
        """
        from ai_edge_litert.interpreter import Interpreter

        try:
            self._interpreter = Interpreter(os.fspath(path), num_threads=num_threads)
        except ValueError as err:
            raise ModelError(f"{path}: damaged; delete the folder that it is in") from err
        self._interpreter.allocate_tensors()  # or the first call would pay for it
        self._runner = cache(self._interpreter.get_signature_runner)
        self._lock = Lock()

    def input_shape(self, function: str, name: str) -> tuple[int, ...]:
        """Shape of an input, -1 where any size will do."""
        details = self._runner(function).get_input_details()[name]
        return tuple(map(int, details["shape_signature"]))

    def __call__(self, function: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        with self._lock:
            return self._runner(function)(**inputs)


class LiteEngine:
    """Runs encoder and search as a LiteRT program: a clip at a time, because the size of a batch
    is fixed when a program is written, and shorter clips padded to its number of frames.
    """

    def __init__(self, program: Program, decoding: DecodingOptions, styles: Sequence[str] = ()):
        """Args:
        program: what `captioner.engines.programs` wrote.
        decoding: the options it was written for.
        styles: of the model.
        """
        self.decoding = decoding
        self._program, self._styles = program, styles

    def __call__(self, features: list[np.ndarray], options: DecodingOptions) -> DecodingResult:
        """Searches for sentences; see `KerasEngine`.

        Raises:
            ValueError: the program was not written for these options, or for so many frames.
        """
        function = function_for(options, self.decoding)
        if function is None:
            raise ValueError(f"expected options like {self.decoding}, received: {options}")
        most = self._program.input_shape(function, "features")[1]
        longest = max(len(clip) for clip in features)
        if longest > most:
            raise ValueError(f"expected {most} frames at most, received: {longest}")
        found = [
            self._program(
                function,
                features=pad(clip, most)[None],
                sequence_length=np.array([len(clip)], np.int32),
                start_ids=np.array([start_id(self._styles, options.style, len(clip))], np.int32),
            )
            for clip in features
        ]
        result = [np.concatenate([row[name] for row in found]) for name in DecodingResult._fields]
        result = [x[:, : options.num_captions] for x in result]
        *others, attention_weights = result
        memory_length = attention_weights.shape[-1] // most * longest
        return DecodingResult(*others, attention_weights[..., :memory_length])


def functions(decoding: DecodingOptions) -> dict[str, DecodingOptions]:
    """What a program for these options knows: their search, with all its captions, and greedy."""
    best = replace(decoding, temperature=0.0, top_k=0, top_p=1.0, num_captions=1)
    known = {"greedy": replace(best, beam_size=1)}
    if best.beam_size > 1:
        known["beam"] = replace(best, num_captions=best.beam_size)
    return known


def function_for(options: DecodingOptions, decoding: DecodingOptions) -> str | None:
    """Name of the search for `options` in a program for `decoding`, if there is one.

    The best captions are the same however many are asked for, and a style is its first token.
    """
    free = {"num_captions": None, "style": None}
    wanted = asdict(options) | free
    for name, known in functions(decoding).items():
        if asdict(known) | free == wanted:
            return name
    return None


def lite_backbone(folder: ModelFolder, programs: Path, num_threads: int = 1) -> Backbone:
    """The backbone of a model folder as LiteRT programs.

    Args:
        folder: the model.
        programs: the folder of its programs.
        num_threads: in which they compute.

    Raises:
        ModelError: a file is damaged.
    """
    names = (STEM_PROGRAM, BACKBONE_PROGRAM)
    parts = [Program(programs / x, num_threads) for x in names if (programs / x).is_file()]
    _, height, width, _ = parts[0].input_shape("features", "frames")
    config = folder.model
    regions = () if config.num_regions == 1 else (config.num_regions,)
    return Backbone(
        folder.backbone,
        (height, width),
        (*regions, config.feature_dim),
        lambda frames: extract_features(parts, frames, config.num_regions),
    )


def extract_features(parts: list[Program], frames: np.ndarray, num_regions: int) -> np.ndarray:
    """Extracts the features of frames, by the programs of a CNN, one after the other.

    Returns:
        `(num_frames, *feature_shape)`; a map that the last one gives is pooled to its regions.
    """
    found = []
    for start in range(0, len(frames), TOGETHER):
        features = frames[start : start + TOGETHER]
        for program in parts:
            features = program("features", frames=features)["features"]
        found.append(features)
    features = np.concatenate(found)
    if features.ndim < 4:
        return features
    num_frames, height, width, feature_dim = features.shape
    means = region_means(height, width, isqrt(num_regions))
    return means @ features.reshape(num_frames, height * width, feature_dim)


def made_of(folder: ModelFolder) -> str:
    """What programs are made of, in 16 digits: this code, and all that a model folder holds."""
    digest = hashlib.sha256(folder.digest().encode())
    for module in _sources():
        digest.update(module.read_bytes())
    return digest.hexdigest()[:16]


def _sources() -> list[Path]:
    """The code that a program is made from, and some more, so that no module can be forgotten:
    all but the wings that read videos, label moments, run on clusters and read commands.
    """
    package = Path(__file__).parents[1]
    others = {package / wing for wing in ("video", "moments", "cluster", "cli")}
    return sorted(m for m in package.rglob("*.py") if not others & set(m.parents))

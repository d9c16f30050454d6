"""Model folder <-> model.

A model folder holds all that must agree with the weights, and nothing that is executed:

    config.json          ModelConfig, backbone, SamplingOptions, DecodingOptions, format_version
    vocabulary.txt       a token a line
    captioner.weights.h5 the caption model
    backbone.weights.h5  the CNN, where the backbone is `bundled`
    README.md            the model card
    reranker.npz         what people say of which pictures, to rerank a search's sentences by
    rehearsal.npz        features of clips that it learned from, for trainings that go on from it
    programs/            the two as LiteRT programs, where `captioner export` wrote them
"""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .config import CnnConfig, DecodingOptions, ModelConfig, SamplingOptions
from .errors import ModelError
from .reranker import RERANKER
from .vocabulary import SPECIAL_TOKENS, Vocabulary, style_token

FORMAT_VERSION = 1
DEFAULT_MODEL, SMALL_MODEL = "default", "small"
TASK = "caption"
CONFIG, VOCABULARY = "config.json", "vocabulary.txt"
WEIGHTS, BACKBONE_WEIGHTS = "captioner.weights.h5", "backbone.weights.h5"
SIGNIFICAND_BITS = 4  # of weights saved as half; all 10 caption hardly better


def assets_folder() -> Path:
    """Where the models that ship with the package are: in it when installed, else beside it."""
    package = Path(__file__).resolve().parent
    installed = package / "assets"
    return installed if installed.is_dir() else package.parent / "assets"


@dataclass(frozen=True)
class ModelFolder:
    """What is written in a model folder, but for the weights.

    Attributes:
        path: the folder.
        model: shape of the caption model.
        backbone: name of the backbone, see `captioner.cnn.load_backbone`.
        cnn: shape of the bundled CNN; None with another backbone.
        sampling: how clips are sampled.
        decoding: how sentences are searched for, unless told otherwise.
        vocabulary: the words.
    """

    path: Path
    model: ModelConfig
    backbone: str
    cnn: CnnConfig | None
    sampling: SamplingOptions
    decoding: DecodingOptions
    vocabulary: Vocabulary

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.resolve().name

    @classmethod
    def open(cls, name_or_folder: str | Path = DEFAULT_MODEL) -> "ModelFolder":
        """Reads a model folder; loads no weights and no TensorFlow.

        Args:
            name_or_folder: the name of a model that ships with the package, or a folder.

        Raises:
            ModelError: there is no such folder, or it is not of this version.
        """
        path = find_folder(name_or_folder)
        if task_of(path) != TASK:
            raise ModelError(
                f"{path}: holds a model that labels moments, not one that captions; use it with "
                "captioner moments label, or name another"
            )
        with reading(path):
            config = read_config(path)
            folder = cls(
                path,
                model=ModelConfig(**config["model"]),
                backbone=config["backbone"],
                cnn=config["cnn"],
                sampling=SamplingOptions(**config["sampling"]),
                decoding=DecodingOptions(**config["decoding"]),
                vocabulary=Vocabulary.load(path / VOCABULARY),
            )
        expect_lines(path / VOCABULARY, folder.model.vocab_size, "tokens", len(folder.vocabulary))
        styles = tuple(map(style_token, folder.model.styles))
        if folder.vocabulary.tokens[len(SPECIAL_TOKENS) :][: len(styles)] != styles:
            raise ModelError(
                f"{path / VOCABULARY}: expected the styles {styles} after the special tokens; "
                "copy the folder again from where it came"
            )
        return folder

    def digest(self) -> str:
        """SHA-256 of what its captions depend on: configuration, words and weights.

        Raises:
            ModelError: a file is missing.
        """
        digest = hashlib.sha256()
        names = [CONFIG, VOCABULARY, WEIGHTS, *[BACKBONE_WEIGHTS] * (self.cnn is not None)]
        names += [RERANKER] * (self.path / RERANKER).exists()
        for name in names:
            try:
                with open(self.path / name, "rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
            except OSError as err:
                raise ModelError(
                    f"{self.path / name}: {err.strerror}; copy the model folder again from where "
                    "it came"
                ) from err
        return digest.hexdigest()

    @property
    def version(self) -> str:
        """Its name and the beginning of its digest, which tells `name@1f2e3d4c` from later ones.

        Raises:
            ModelError: a file is missing.
        """
        return f"{self.name}@{self.digest()[:8]}"

    def load_model(self):
        """Loads the caption model.

        Raises:
            ModelError: the weights do not fit `config.json`.
        """
        from .cnn import load_weights
        from .model import CaptionModel

        model = CaptionModel(self.model)
        load_weights(model, self.path / WEIGHTS, self.model)
        return model

    def load_backbone(self):
        """Loads the backbone.

        Raises:
            ModelError: it cannot be loaded, or its features do not fit the caption model.
        """
        from .cnn import BUNDLED, load_backbone

        weights = self.path / BACKBONE_WEIGHTS if self.backbone == BUNDLED else None
        backbone = load_backbone(self.backbone, self.cnn, weights)
        expected = (self.model.num_regions, self.model.feature_dim)
        found = backbone.feature_shape
        if (found if len(found) == 2 else (1, *found)) != expected:
            raise ModelError(
                f"{self.path / CONFIG}: the model expects features of shape {expected}, the "
                f"backbone {self.backbone} gives {found}; name the backbone it was trained on"
            )
        return backbone

    def save(self, model, backbone_weights: Path | None = None, half: bool = False):
        """Writes the folder; what stood there is replaced file by file.

        Args:
            model: the caption model.
            backbone_weights: the file of the bundled CNN's weights, where that is the backbone.
            half: stores weights as float16 of few digits, compressed, about a third of the size;
                they are float32 again when loaded.

        Raises:
            OSError: the folder cannot be written; its old files are as they were.
        """
        from .model import CaptionModel

        self.path.mkdir(parents=True, exist_ok=True)
        copied = backbone_weights.stat().st_size if backbone_weights else 0
        need_room(self.path, 2 * size_of(model) + copied)
        whole = self.path / f"whole.{WEIGHTS}"
        bare = CaptionModel(self.model)  # without the optimizer, which Keras would save too
        bare.set_weights(model.get_weights())
        bare.save_weights(whole)
        copy_weights(whole, self.path / WEIGHTS, half)
        whole.unlink()
        if backbone_weights is not None:
            copy_weights(backbone_weights, self.path / BACKBONE_WEIGHTS, half)
        self.vocabulary.save(self.path / VOCABULARY)
        write_config(self, {"sampling": asdict(self.sampling), "decoding": asdict(self.decoding)})


def task_of(path: Path) -> str:
    """The task of the model in a folder: `caption`, unless its configuration says otherwise."""
    try:
        return json.loads((path / CONFIG).read_text(encoding="utf-8")).get("task", TASK)
    except (OSError, ValueError, AttributeError):  # which `open` tells of in full
        return TASK


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Tells plainly that a folder is damaged, whatever reading it stumbles over.

    Raises:
        ModelError: a file or a field is missing, or holds something else.
    """
    try:
        yield
    except (OSError, ValueError, TypeError, KeyError) as err:
        raise ModelError(
            f"{path}: not a whole model folder ({err}); copy it again from where it came"
        ) from err


def read_config(path: Path) -> dict[str, Any]:
    """The configuration in a model folder of any task; `cnn` is a `CnnConfig` or None.

    Raises:
        ModelError: it was written by another version.
    """
    config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    found = config["format_version"]
    if found != FORMAT_VERSION:
        raise ModelError(
            f"{path / CONFIG}: expected format_version {FORMAT_VERSION}, found {found}; "
            "use the version of captioner that wrote it, or train the model again"
        )
    return {**config, "cnn": config["cnn"] and CnnConfig.from_dict(config["cnn"])}


def write_config(folder, more: dict[str, Any]):
    """Writes the configuration of a model folder of any task.

    Args:
        folder: has `path`, `backbone`, `cnn` and `model`.
        more: what only its task has.
    """
    config = {
        "format_version": FORMAT_VERSION,
        "backbone": folder.backbone,
        "cnn": folder.cnn and asdict(folder.cnn),
        "model": asdict(folder.model),
        **more,
    }
    (folder.path / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def expect_lines(file: Path, expected: int, of_what: str, found: int):
    """Makes sure that a file has as many lines as the model has outputs.

    Raises:
        ModelError: it has not.
    """
    if found != expected:
        raise ModelError(
            f"{file}: expected {expected} {of_what}, found {found}; copy the folder again from "
            "where it came"
        )


def find_folder(name_or_folder: str | Path) -> Path:
    """The folder itself, or the one of a model that ships with the package.

    Raises:
        ModelError: there is neither.
    """
    path = Path(name_or_folder)
    if path.is_dir():
        return path
    assets = assets_folder()
    if path.name == str(name_or_folder) and (assets / path.name / CONFIG).is_file():
        return assets / path.name
    names = ", ".join(sorted(config.parent.name for config in assets.glob(f"*/{CONFIG}")))
    raise ModelError(f"{name_or_folder}: no such model; name a model folder or one of: {names}")


def size_of(model) -> int:
    """How many bytes the weights of a Keras model take as a file, about."""
    overhead = 4096  # what HDF5 tells of an array
    return sum(overhead + 4 * math.prod(variable.shape) for variable in model.variables)


def need_room(folder: Path, size: int):
    """Makes sure that so many bytes can be written, since HDF5 crashes where they cannot.

    Raises:
        OSError: they cannot.
    """
    trial = folder / "partial.room"
    try:
        with trial.open("wb") as file:
            for start in range(0, size, 1 << 20):
                file.write(bytes(min(1 << 20, size - start)))
    finally:
        trial.unlink(missing_ok=True)


def copy_weights(source: Path, target: Path, half: bool = False):
    """Copies a file of weights, smaller if `half`; `target` is never there in part."""
    partial = target.with_name(f"partial.{target.name}")
    if half:
        import h5py

        with h5py.File(source) as whole, h5py.File(partial, "w") as halved:
            whole.visititems(lambda name, item: _copy_as_half(name, item, halved))
    else:
        shutil.copyfile(source, partial)
    os.replace(partial, target)


def _copy_as_half(name, item, target):
    if not hasattr(item, "dtype"):
        copy = target.require_group(name)
    elif item.dtype == "float32" and item.ndim:
        # As one chunk: HDF5 would cut it into small ones, an eighth larger together.
        options = {"compression": "gzip", "compression_opts": 9, "shuffle": True}
        copy = target.create_dataset(name, data=_round(item[()]), chunks=item.shape, **options)
    else:
        copy = target.create_dataset(name, data=item[()])
    copy.attrs.update(item.attrs)


def _round(weights):
    """Float16 whose significands have `SIGNIFICAND_BITS` bits, which compress; the rest is 0."""
    dropped = 10 - SIGNIFICAND_BITS
    bits = weights.astype("float16").view("uint16").astype("uint32")
    bits = (bits + (1 << (dropped - 1))) >> dropped << dropped
    return bits.astype("uint16").view("float16")

"""Model folder <-> labelling model.

config.json          task, LabelConfig, backbone, LabellingOptions, format_version
labels.txt           a label a line
labels.weights.h5    the labelling model
backbone.weights.h5  the CNN, where the backbone is `bundled`
README.md            the model card
"""

from dataclasses import asdict, dataclass
from pathlib import Path

from ..config import CnnConfig, LabelConfig, LabellingOptions
from ..errors import ModelError
from ..model_folder import (
    BACKBONE_WEIGHTS,
    ModelFolder,
    copy_weights,
    expect_lines,
    find_folder,
    need_room,
    read_config,
    reading,
    size_of,
    task_of,
    write_config,
)

TASK = "label"
LABELS, WEIGHTS = "labels.txt", "labels.weights.h5"


@dataclass(frozen=True)
class LabelFolder:
    """What is written in the folder of a labelling model, but for the weights.

    Attributes:
        path: the folder.
        model: shape of the labelling model.
        backbone: name of the backbone, see `captioner.cnn.load_backbone`.
        cnn: shape of the bundled CNN; None with another backbone.
        labelling: how videos are labelled, unless told otherwise.
        labels: the labels, in the order of the model's outputs.
    """

    path: Path
    model: LabelConfig
    backbone: str
    cnn: CnnConfig | None
    labelling: LabellingOptions
    labels: tuple[str, ...]

    # A backbone lies in both kinds of folder in the same way.
    name = ModelFolder.name
    load_backbone = ModelFolder.load_backbone

    @classmethod
    def open(cls, folder: str | Path) -> "LabelFolder":
        """Reads the folder of a labelling model; loads no weights and no TensorFlow.

        Raises:
            ModelError: there is no such folder, it is of another kind, or not of this version.
        """
        path = find_folder(folder)
        if task_of(path) != TASK:
            raise ModelError(
                f"{path}: holds a model that captions, not one that labels moments; use it with "
                "captioner caption, or name the output of captioner moments train"
            )
        with reading(path):
            config = read_config(path)
            folder = cls(
                path,
                LabelConfig(**config["model"]),
                config["backbone"],
                config["cnn"],
                LabellingOptions(**config["labelling"]),
                tuple((path / LABELS).read_text(encoding="utf-8").splitlines()),
            )
        expect_lines(path / LABELS, folder.model.num_labels, "labels", len(folder.labels))
        return folder

    def load_model(self):
        """Loads the labelling model.

        Raises:
            ModelError: the weights do not fit `config.json`.
        """
        from ..cnn import load_weights
        from .model import LabelModel

        model = LabelModel(self.model)
        load_weights(model, self.path / WEIGHTS, self.model)
        return model

    def save(self, model, backbone_weights: Path | None = None, card: str = ""):
        """Writes the folder; what stood there is replaced file by file.

        Args:
            model: the labelling model.
            backbone_weights: the file of the bundled CNN's weights, where that is the backbone.
            card: the model card, Markdown.

        Raises:
            OSError: the folder cannot be written; its old files are as they were.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        need_room(self.path, size_of(model))
        whole = self.path / f"whole.{WEIGHTS}"
        model.save_weights(whole)
        whole.replace(self.path / WEIGHTS)
        if backbone_weights is not None:
            copy_weights(backbone_weights, self.path / BACKBONE_WEIGHTS)
        (self.path / LABELS).write_text("".join(f"{x}\n" for x in self.labels), encoding="utf-8")
        (self.path / "README.md").write_text(card, encoding="utf-8")
        write_config(self, {"task": TASK, "labelling": asdict(self.labelling)})

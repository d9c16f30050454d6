"""A whole training of a model that labels moments: from options to a model folder.

train_labeller(LabelTraining(labels=(Path("moments.csv"),), output=Path("my-labels")))
"""

import csv
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path

import keras

from captioner.cnn import load_backbone
from captioner.config import LabelConfig, LabellingOptions
from captioner.errors import CaptionerError, DatasetError
from captioner.moments.folder import LabelFolder
from captioner.moments.model import LabelModel

from ..cnn.folder import bundled_cnn
from ..data.reading import readable
from ..data.store import open_store
from ..devices import precision
from ..options import LabelTraining
from ..report import Report
from ..work import claim, only_told, writing
from .evaluate import moments_of
from .labels import LabelledVideo, divide, labels_of, read_moments, targets_of
from .timeline import Timeline
from .trainer import LabelTrainingOptions, predict, train
from .windows import LabelledFeatures, keep_features


def train_labeller(options: LabelTraining) -> LabelFolder:
    """Trains a model that labels moments, and writes its folder and its report.

    Called again with the same options it goes on where it was stopped, to the same weights.

    Args:
        options: what from, how, and where to.

    Returns:
        The model folder.

    Raises:
        DatasetError: the labels, or none of the videos, can be used; a folder cannot be written,
            or holds the work of another training.
        CaptionerError: options that do not fit one another.
    """
    with precision(options.precision):
        keras.utils.set_random_seed(options.seed)
        return _train(options)


def _train(options: LabelTraining) -> LabelFolder:
    labelled = [
        video
        for labels in options.labels
        for video in read_moments(labels, options.videos, options.label_fps)
    ]
    splits = divide(labelled, options.seed)
    labels = labels_of(splits["train"], options.multi_label)
    if not any(video.moments for video in splits["train"]):
        raise DatasetError(f"{options.labels[0]}: nothing is labelled in the split train")
    cnn = weights = None
    if options.backbone == "bundled":
        cnn, weights = bundled_cnn(options.cnn, options.input_size)
    backbone = load_backbone(options.backbone, cnn, weights)
    *num_regions, feature_dim = backbone.feature_shape
    try:
        config = LabelConfig(len(labels), feature_dim, *num_regions, **_of(options, LabelConfig))
        rounds = LabelTrainingOptions(**_of(options, LabelTrainingOptions))
        labelling = LabellingOptions(
            options.fps, options.window, threshold=0.5 if options.multi_label else 0.0
        )
    except ValueError as err:
        raise CaptionerError(str(err)) from err
    work = options.work or options.output / "work"

    def extract(video):
        features = keep_features(video.path, backbone, options.fps, store)
        targets = targets_of(video, labels, len(features), options.fps, options.multi_label)
        return LabelledFeatures(features, targets)

    with open_store(work / "features", backbone, weights, {"fps": options.fps}) as store:
        # A video is read frame by frame into the backbone: one at a time.
        learned = [found for _, found in readable(extract, splits["train"], "video", map)]
        watched = list(readable(extract, splits["val"], "video", map))
    validation = [found for _, found in watched]
    stretches = [[str(video.path), video.moments] for video in labelled]
    claim(work / "state", stretches, asdict(config), asdict(replace(rounds, epochs=1)), options.fps)
    model = LabelModel(config)
    tell = lambda line: print(line, file=sys.stderr, flush=True)  # noqa: E731
    best = train(model, learned, validation, rounds, work / "state", tell)
    folder = LabelFolder(options.output, config, options.backbone, cnn, labelling, labels)
    with writing(folder.path):
        folder.save(model, weights, _card(folder, len(learned), len(validation), best))
    counts = {f"videos of the split {split}": len(several) for split, several in splits.items()}
    counts["of these unreadable"] = len(splits["train"]) - len(learned)
    counts["of these unreadable"] += len(splits["val"]) - len(validation)
    report = Report(
        model=folder.path,
        history=_history(work / "state" / "train.csv"),
        curves={
            "Loss": ("loss", "val_loss"),
            "On the split val": ("val_map" if config.multi_label else "val_accuracy",),
        },
        kept=best["epoch"] + 1,
        counts=counts,
        left_out=(),
        settings={"Training": asdict(rounds), "Model": asdict(config)},
        command=("captioner", "moments", "label", "--model", str(folder.path), "video.mp4"),
        timelines=_timelines(folder, model, watched, rounds),
    )
    with only_told():
        report.write(folder.path / "report.html")
    return folder


def _of(options: LabelTraining, kind: type) -> dict:
    """Those fields of a dataclass that are options of the training too."""
    given = vars(options)
    return {field.name: given[field.name] for field in fields(kind) if field.name in given}


def _timelines(
    folder: LabelFolder,
    model: LabelModel,
    watched: Sequence[tuple[LabelledVideo, LabelledFeatures]],
    rounds: LabelTrainingOptions,
) -> list[Timeline]:
    """What holds when in videos, and what the model finds."""
    if not watched:
        return []
    logits, _ = predict(model, [features for _, features in watched], rounds)
    likely = (keras.ops.convert_to_numpy(model.probabilities(one)) for one in logits)
    known = folder.labels, folder.labelling, folder.model.multi_label
    return [
        Timeline(video.path.name, video.moments, moments_of(one, *known))
        for (video, _), one in zip(watched, likely, strict=True)
    ]


def _history(log: Path) -> list[dict]:
    """The rounds of a training as `Report` takes them, whose passes count from 1."""
    with log.open(newline="") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    return [row | {"epoch": int(row["epoch"]) + 1} for row in rows]


def _card(folder: LabelFolder, num_learned: int, num_validation: int, best: dict) -> str:
    figures = "\n".join(f"- {name}: {value:.4f}" for name, value in best.items() if name != "epoch")
    kind = "several at once" if folder.model.multi_label else "one at a time"
    labels = "\n".join(f"- {label}" for label in folder.labels)
    return f"""# {folder.name}

Labels each moment of a video, {kind}, {folder.labelling.fps:g} times a second.

    captioner moments label --model {folder.path} VIDEO

Learned from {num_learned} videos, with {num_validation} for validation, in {best["epoch"] + 1} \
epochs:

{figures}

Backbone {folder.backbone}, {folder.model.encoder} encoder with {folder.model.units} units, \
{"bidirectional" if folder.model.bidirectional else "causal"}.

## Labels

{labels}
"""

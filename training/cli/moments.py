"""What `train --task label` and `evaluate` do for models that label moments."""

import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from captioner.config import ENCODERS, LabelConfig, LabellingOptions, overridden
from captioner.errors import CaptionerError, DatasetError, VideoError
from captioner.moments.folder import LabelFolder
from captioner.moments.segments import BACKGROUND, segments_of
from captioner.terminal import ALL_GOOD, SOME_FAILED, add_labelling_options, muted_stderr, positive

from ..moments.labels import LabelledVideo, Moment, divide, labels_of, read_moments, targets_of
from ..moments.metrics import average_precision, segmental_scores
from ..moments.timeline import Timeline, plot
from ..work import only_told, writing


def add_label_training(parser):
    """Adds the options of `train --task label`."""
    group = parser.add_argument_group("with --task label")
    add, default = group.add_argument, "default: %(default)s"
    _add_reading(group)
    add(
        "--fps", type=positive(float), default=2.0, help=f"moments looked at in a second; {default}"
    )
    add("--encoder", choices=ENCODERS, default="lstm", help=default)
    add("--encoder-layers", type=positive(int), default=1, metavar="N", help=default)
    add("--units", type=positive(int), default=128, help=f"width of the encoder; {default}")
    add("--bidirectional", action="store_true", help="look ahead too; not for live use")
    add("--multi-label", action="store_true", help="several labels may hold at once")
    add("--lanes", type=positive(int), default=8, help=f"windows side by side; {default}")
    add("--smoothing", type=float, default=0.0, help="against flicker, such as 0.15; default: off")
    add(
        "--class-weights",
        choices=("none", "balanced"),
        default="none",
        help="balanced: rare labels count more",
    )


def _add_reading(parser):
    parser.add_argument("--videos", type=Path, metavar="DIR", help="default: where the labels are")
    parser.add_argument(
        "--label-fps",
        type=positive(float),
        help="frames a second that labels count in; default: the video's",
    )


def add_label_evaluation(parser):
    """Adds the options of `evaluate` of a model that labels moments."""
    group = parser.add_argument_group("for a model that labels moments")
    _add_reading(group)
    add_labelling_options(group)
    group.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw the timelines, truth above prediction"
    )


def train_labels(args, cnn, weights: Path | None) -> int:
    """Runs `captioner train --task label`.

    Args:
        args: the command line.
        cnn: shape of the bundled CNN, where that is the backbone.
        weights: the file of its weights.

    Raises:
        DatasetError: the labels, or none of the videos, can be used.
    """
    with muted_stderr():
        import keras

        from captioner.backbones import load_backbone
        from captioner.moments.model import LabelModel

        from ..moments.trainer import LabelTrainingOptions, predict, train
        from ..moments.windows import LabelledFeatures, keep_features
        from ..report import Report
        from ..work import claim
    keras.config.set_dtype_policy(args.precision)
    keras.utils.set_random_seed(args.seed)
    labelled = [v for labels in args.labels for v in read_moments(labels, *_reading(args))]
    splits = divide(labelled, args.seed)
    labels = labels_of(splits["train"], args.multi_label)
    if not any(video.moments for video in splits["train"]):
        raise DatasetError(f"{args.labels[0]}: nothing is labelled in the split train")
    backbone = load_backbone(args.backbone, cnn, weights)
    *num_regions, feature_dim = backbone.feature_shape
    try:
        config = LabelConfig(len(labels), feature_dim, *num_regions, **_given(args, LabelConfig))
        options = LabelTrainingOptions(**_given(args, LabelTrainingOptions))
        labelling = LabellingOptions(
            args.fps, args.window, threshold=0.5 if args.multi_label else 0.0
        )
    except ValueError as err:
        raise CaptionerError(str(err)) from err
    work = args.work or args.output / "work"
    facts = weights and [str(weights), weights.stat().st_size, weights.stat().st_mtime_ns]

    def features_of(video):
        features = keep_features(video.path, backbone, args.fps, work / "features", facts)
        targets = targets_of(video, labels, len(features), args.fps, args.multi_label)
        return LabelledFeatures(features, targets)

    learned = [found for _, found in _each_readable(splits["train"], features_of)]
    if not learned:
        raise DatasetError(f"{args.labels[0]}: none of the videos to learn from can be read")
    watched = list(_each_readable(splits["val"], features_of))
    validation = [found for _, found in watched]
    stretches = [[str(video.path), video.moments] for video in labelled]
    claim(work / "state", stretches, asdict(config), asdict(replace(options, epochs=1)), args.fps)
    model = LabelModel(config)
    tell = lambda line: print(line, file=sys.stderr, flush=True)  # noqa: E731
    best = train(model, learned, validation, options, work / "state", tell)
    folder = LabelFolder(args.output, config, args.backbone, cnn, labelling, labels)
    with writing(folder.path):
        folder.save(model, weights, _card(folder, len(learned), len(validation), best))
    logits, _ = predict(model, validation, options) if validation else ([], 0.0)
    likely = (keras.ops.convert_to_numpy(model.probabilities(one)) for one in logits)
    timelines = [
        Timeline(video.path.name, video.moments, _found(one, labels, labelling, args.multi_label))
        for (video, _), one in zip(watched, likely, strict=True)
    ]
    counts = {f"videos of the split {split}": len(several) for split, several in splits.items()}
    counts["of these unreadable"] = len(splits["train"]) - len(learned)
    counts["of these unreadable"] += len(splits["val"]) - len(validation)
    quality = "val_map" if config.multi_label else "val_accuracy"
    report = Report(
        model=folder.path,
        history=_history(work / "state" / "train.csv"),
        curves={"Loss": ("loss", "val_loss"), "On the split val": (quality,)},
        kept=best["epoch"] + 1,
        counts=counts,
        left_out=(),
        settings={"Training": asdict(options), "Model": asdict(config)},
        command=("captioner", "label", "--model", str(folder.path), "video.mp4"),
        timelines=timelines,
    )
    with only_told():
        report.write(folder.path / "report.html")
    return ALL_GOOD


def _history(log: Path) -> list[dict]:
    """The rounds of a training as `Report` takes them, whose passes count from 1."""
    with log.open(newline="") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    return [row | {"epoch": int(row["epoch"]) + 1} for row in rows]


def _reading(args):
    return args.videos, args.label_fps


def _given(args, options) -> dict:
    """Those fields of a dataclass that there is a flag for."""
    names = {field.name for field in fields(options)}
    return {name: value for name, value in vars(args).items() if name in names}


def _each_readable(videos: Sequence[LabelledVideo], look):
    """Pairs of a video and what `look` makes of it; of the others stderr says why not."""
    for video in tqdm(videos, unit="video", disable=None):
        try:
            found = look(video)
        except VideoError as err:
            tqdm.write(f"captioner: {err}; left out", file=sys.stderr)
        else:
            yield video, found


def _card(folder, num_learned, num_validation, best) -> str:
    figures = "\n".join(f"- {name}: {value:.4f}" for name, value in best.items() if name != "epoch")
    kind = "several at once" if folder.model.multi_label else "one at a time"
    labels = "\n".join(f"- {label}" for label in folder.labels)
    return f"""# {folder.name}

Labels each moment of a video, {kind}, {folder.labelling.fps:g} times a second.

    captioner label --model {folder.path} VIDEO

Learned from {num_learned} videos, with {num_validation} for validation, in {best["epoch"] + 1} \
epochs:

{figures}

Backbone {folder.backbone}, {folder.model.encoder} encoder with {folder.model.units} units, \
{"bidirectional" if folder.model.bidirectional else "causal"}.

## Labels

{labels}
"""


def evaluate_labels(args) -> int:
    """Runs `captioner evaluate` of a model that labels moments.

    Raises:
        DatasetError: the labels, or none of the videos, can be used.
    """
    videos = read_moments(args.labels, *_reading(args))
    videos = [video for video in videos if (video.split or "train") == args.split]
    if not videos:
        raise DatasetError(f"{args.labels}: has no video of the split {args.split}")
    folder = LabelFolder.open(args.model)
    options = overridden(folder.labelling, vars(args))
    with muted_stderr():
        from captioner.moments.labeller import Labeller
    labeller = Labeller.load(folder.path, options)
    seen = list(_each_readable(videos, lambda video: labeller.look(video.path)))
    if not seen:
        raise DatasetError("none of the videos can be read; check their paths in the labels")
    result = {"num_videos": len(seen), "unreadable": len(videos) - len(seen)}
    result |= _scores(seen, labeller)
    text = json.dumps(result, indent=2, ensure_ascii=False)
    print(text, flush=True)
    if args.output:
        try:
            args.output.write_text(text + "\n", encoding="utf-8")
        except OSError as err:
            raise DatasetError(f"{args.output}: cannot be written: {err.strerror}") from err
    if args.plot:
        known = labeller.labels, labeller.options, labeller.model.config.multi_label
        timelines = [Timeline(v.path.name, v.moments, _found(p, *known)) for v, p in seen]
        plot(timelines, labeller.labels, labeller.model.config.multi_label, args.plot)
    return SOME_FAILED if result["unreadable"] else ALL_GOOD


def _found(probabilities, labels, options, multi_label) -> tuple[Moment, ...]:
    segments = segments_of(probabilities, labels, options, multi_label)
    return tuple(Moment(x.label, x.start, x.end) for x in segments)


def _scores(seen, labeller) -> dict:
    fps, multi_label = labeller.options.fps, labeller.model.config.multi_label
    # A label that the model does not know is one that it never finds.
    occur = {moment.label for video, _ in seen for moment in video.moments}
    labels = (*labeller.labels, *sorted(occur - set(labeller.labels)))

    def rasterize(video, probabilities):
        return targets_of(video, labels, len(probabilities), fps, multi_label)

    true = [rasterize(video, probabilities) for video, probabilities in seen]
    if not multi_label:
        known = labeller.labels, labeller.options, multi_label
        found = (replace(video, moments=_found(p, *known)) for video, p in seen)
        predicted = [rasterize(video, p) for video, (_, p) in zip(found, seen, strict=True)]
        return segmental_scores(predicted, true, labels.index(BACKGROUND))
    holds = np.concatenate(true)
    likely = np.zeros(holds.shape, np.float32)
    likely[:, : len(labeller.labels)] = np.concatenate([p for _, p in seen])
    each = {
        label: average_precision(likely[:, number], holds[:, number])
        for number, label in enumerate(labels)
        if holds[:, number].any()
    }
    mean = float(np.mean(list(each.values()))) if each else None
    return {"mean_average_precision": mean, "average_precision": each}

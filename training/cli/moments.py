"""The verbs `moments train` and `moments evaluate` of the `captioner` command."""

import json
from pathlib import Path

from captioner.config import ENCODERS, overridden
from captioner.errors import DatasetError
from captioner.moments.folder import LabelFolder
from captioner.terminal import ALL_GOOD, SOME_FAILED, add_labelling_options, muted_stderr, positive

from ..options import LabelTraining
from .arguments import add_cnn, add_fitting, add_patience, add_work, options_of


def add_moments_train(verbs):
    """Adds `captioner moments train`."""
    parser = verbs.add_parser(
        "train",
        help="train a model on videos with labelled moments",
        description="Trains a model that labels moments; the same command goes on with a training "
        "that was stopped.",
    )
    parser.add_argument(
        "labels",
        nargs="+",
        type=Path,
        help="CSV of path, start, end, label; or another known format",
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="model folder to write"
    )
    add, default = parser.add_argument, "default: %(default)s"
    backbones = "CNN that extracts features: bundled, hub:HANDLE or keras:NAME; "
    _add_reading(parser)
    add_work(parser)
    add("--backbone", default="bundled", metavar="NAME", help=backbones + default)
    add_cnn(parser)
    add(
        "--fps",
        type=positive(float),
        default=LabelTraining.fps,
        help=f"moments a second; {default}",
    )
    add(
        "--encoder",
        choices=ENCODERS,
        default=LabelTraining.encoder,
        help=f"kind of encoder; {default}",
    )
    add(
        "--encoder-layers",
        type=positive(int),
        default=LabelTraining.encoder_layers,
        metavar="N",
        help=f"layers of the encoder; {default}",
    )
    add(
        "--units",
        type=positive(int),
        default=LabelTraining.units,
        help=f"width of the encoder; {default}",
    )
    add("--bidirectional", action="store_true", help="encode in both directions; not for live use")
    add("--multi-label", action="store_true", help="several labels may hold at once")
    add(
        "--lanes",
        type=positive(int),
        default=LabelTraining.lanes,
        help=f"size of a batch: windows side by side, each of another video; {default}",
    )
    add(
        "--window",
        type=positive(int),
        default=LabelTraining.window,
        metavar="N",
        help="truncated backpropagation: moments that a gradient flows back through; the state "
        f"is carried from window to window; {default}",
    )
    add(
        "--smoothing",
        type=float,
        default=LabelTraining.smoothing,
        help="weight of a loss that smooths over time, such as 0.15; default: off",
    )
    add(
        "--class-weights",
        choices=("none", "balanced"),
        default=LabelTraining.class_weights,
        help=f"balanced: errors in rare labels count more; {default}",
    )
    add_patience(parser, LabelTraining.patience)
    add_fitting(
        parser,
        epochs=LabelTraining.epochs,
        learning_rate=LabelTraining.learning_rate,
    )
    parser.set_defaults(goes_on=True, run=_train)


def add_moments_evaluate(verbs):
    """Adds `captioner moments evaluate`."""
    parser = verbs.add_parser(
        "evaluate",
        help="measure a model on videos with labelled moments",
        description="Scores a model's labels: frame accuracy, edit score and segmental F1, or, "
        "where several hold at once, mean average precision.",
    )
    parser.add_argument("model", metavar="DIR", help="model folder of moments train")
    parser.add_argument("labels", type=Path, help="as for captioner moments train")
    parser.add_argument(
        "--split", default="test", help="which videos to score; default: %(default)s"
    )
    _add_reading(parser)
    add_labelling_options(parser)
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw timelines, labels above predictions"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="write the scores to a file, too"
    )
    parser.set_defaults(run=_evaluate)


def _add_reading(parser):
    parser.add_argument(
        "--videos",
        type=Path,
        metavar="DIR",
        help="folder of the videos; default: that of the labels",
    )
    parser.add_argument(
        "--label-fps",
        type=positive(float),
        metavar="FPS",
        help="frames a second of labels that count frames; default: the video's",
    )


def _train(args) -> int:
    options = options_of(args, LabelTraining)
    with muted_stderr():
        from ..moments.recipe import train_labeller
    train_labeller(options)
    return ALL_GOOD


def _evaluate(args) -> int:
    from ..moments.labels import read_moments
    from ..moments.timeline import plot

    videos = read_moments(args.labels, args.videos, args.label_fps)
    videos = [video for video in videos if (video.split or "train") == args.split]
    if not videos:
        raise DatasetError(f"{args.labels}: has no video of the split {args.split}")
    folder = LabelFolder.open(args.model)
    options = overridden(folder.labelling, vars(args))
    with muted_stderr():
        from captioner.moments.labeller import Labeller

        from ..moments.evaluate import evaluate
    labeller = Labeller.load(folder.path, options)
    result, timelines = evaluate(labeller, videos)
    text = json.dumps(result, indent=2, ensure_ascii=False)
    print(text, flush=True)
    if args.output:
        try:
            args.output.write_text(text + "\n", encoding="utf-8")
        except OSError as err:
            raise DatasetError(f"{args.output}: cannot be written: {err.strerror}") from err
    if args.plot:
        plot(timelines, folder.labels, folder.model.multi_label, args.plot)
    return SOME_FAILED if result["unreadable"] else ALL_GOOD

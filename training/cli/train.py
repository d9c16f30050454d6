"""The verb `train` of the `captioner` command."""

import sys
from argparse import ArgumentTypeError
from pathlib import Path

from captioner.config import ATTENTIONS, ENCODERS, DecodingOptions, ModelConfig, SamplingOptions
from captioner.errors import CaptionerError
from captioner.terminal import ALL_GOOD, SOME_FAILED, count, muted_stderr, positive, share

from ..options import CaptionTraining, Source
from .arguments import add_cnn, add_fitting, add_patience, add_work, options_of


def add_train(commands):
    """Adds `captioner train`."""
    parser = commands.add_parser(
        "train",
        help="train a model on labelled clips",
        description="Trains a model on labelled clips; the same command goes on with a training "
        "that was stopped.",
    )
    add = parser.add_argument
    add(
        "labels",
        nargs="+",
        type=_labels,
        metavar="LABELS[=SHARE]",
        help="labels of any format, or a folder of clips; of several, LABELS=SHARE gives the "
        "share of each pass that comes from it",
    )
    add("--output", type=Path, required=True, metavar="DIR", help="model folder to write")
    add(
        "--base",
        metavar="NAME_OR_DIR",
        help="model to fine-tune, or none; default: the default model, or none where an option "
        "of those without a base is given",
    )
    _add_shape(parser)
    add("--freeze-encoder", action="store_true", help="train only the decoder of the base")
    add(
        "--rehearse",
        type=Path,
        metavar="LABELS",
        help="labels of clips like those that the base learned from, so that less is forgotten; "
        "default: the clips that travel with the base, where it has such ones",
    )
    add("--force", action="store_true", help="write the model even if the base captions better")
    add_work(parser)
    add(
        "--min-count",
        type=positive(int),
        default=CaptionTraining.min_count,
        help="leave out words that occur less often; default: %(default)s",
    )
    add(
        "--views",
        type=count,
        metavar="N",
        help="augmentation: so many more views of each clip, cropped, shifted in time and relit; "
        "default: with a base 8, fewer of more than 45 clips; without one 0",
    )
    add(
        "--frames",
        type=positive(int),
        metavar="N",
        help="frames sampled from a clip; default: the base's, without one "
        f"{SamplingOptions().num_frames}",
    )
    add(
        "--window",
        type=positive(int),
        default=CaptionTraining.window,
        metavar="N",
        help="truncated backpropagation: frames that a gradient flows back through; longer clips "
        "go in windows, their state carried on; default: %(default)s",
    )
    add(
        "--scheduled-sampling",
        type=share,
        default=CaptionTraining.scheduled_sampling,
        metavar="SHARE",
        help="share of the decoder's input words that are its own predictions, reached at the "
        "end; default: %(default)s",
    )
    add(
        "--self-critical",
        type=count,
        default=CaptionTraining.self_critical,
        metavar="N",
        help="passes of self-critical training at the end: reinforcement learning, CIDEr the "
        "reward; default: %(default)s",
    )
    add_patience(parser, CaptionTraining.patience)
    add_fitting(
        parser,
        epochs=None,
        learning_rate=None,
        epochs_default="10, or as many as make 300 steps; with a base as suits the number of clips",
        rate_default="0.001; with a base less, the fewer clips",
    )
    add(
        "--batch-size",
        type=positive(int),
        metavar="N",
        help="clips in a step; default: 64, with a base 32, or 16 of up to 100 clips",
    )
    add(
        "--no-repeat-ngram-size",
        type=count,
        metavar="N",
        help="no run of N words appears twice in a sentence, 0: off; default: the base's, or more "
        "where the labels repeat longer runs; without a base off",
    )
    add(
        "--length-penalty",
        type=positive(float),
        metavar="ALPHA",
        help="of the search, above 1 for longer sentences; default: the base's, without one "
        f"{DecodingOptions().length_penalty}",
    )
    add("--half", action="store_true", help="save weights in half precision: a smaller folder")
    parser.set_defaults(goes_on=True, run=_train)


def _add_shape(parser):
    group = parser.add_argument_group("without a base")
    add = group.add_argument
    add(
        "--backbone",
        metavar="NAME",
        help="CNN that extracts features: efficientnet-lite2, bundled, hub:HANDLE or keras:NAME",
    )
    add_cnn(group)
    add(
        "--attention",
        choices=ATTENTIONS,
        help=f"kind of attention over the frames; default: {ModelConfig.attention}",
    )
    add(
        "--encoder",
        choices=ENCODERS,
        help=f"kind of encoder of the frames; default: {ModelConfig.encoder}",
    )
    add(
        "--encoder-layers",
        type=positive(int),
        metavar="N",
        help=f"layers of the encoder; default: {ModelConfig.encoder_layers}",
    )
    add(
        "--bidirectional",
        action="store_true",
        default=None,
        help="encode the frames in both directions; default: no",
    )


def _labels(text: str) -> Path | Source:
    """`LABELS` or `LABELS=SHARE`; a file that is called so is `LABELS`."""
    path, equals, number = text.rpartition("=")
    if not equals or Path(text).exists():
        return Path(text)
    try:
        return Source(Path(path), float(number))
    except ValueError:
        return Path(text)
    except CaptionerError as err:
        raise ArgumentTypeError(str(err)) from err


def _train(args) -> int:
    options = options_of(args, CaptionTraining)
    with muted_stderr():
        from ..judgement import NotBetter
        from ..recipe import train_captioner
    try:
        train_captioner(options)
    except NotBetter as err:
        print(f"captioner: {err}", file=sys.stderr)
        return SOME_FAILED
    return ALL_GOOD

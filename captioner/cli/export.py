"""The verb `export` of the `captioner` command."""

import argparse
import sys
from pathlib import Path

from ..errors import CaptionerError
from ..model_folder import DEFAULT_MODEL, ModelFolder
from ..reranker import RERANKER
from ..terminal import ALL_GOOD, muted_stderr, positive


def add_export(commands):
    """Adds `captioner export`."""
    parser = commands.add_parser(
        "export",
        help="convert a model to LiteRT or a SavedModel",
        description="Writes a model's CNN, encoder and search, and prints where they are: as two "
        "LiteRT programs, which need no TensorFlow (beside the weights, captioner finds them and "
        "starts at once); or as a SavedModel, for TensorFlow Serving and whoever has TensorFlow.",
    )
    parser.add_argument(
        "model",
        nargs="?",
        default=DEFAULT_MODEL,
        metavar="NAME_OR_DIR",
        help="a model that ships, or a model folder; default: %(default)s",
    )
    parser.add_argument(
        "output",
        nargs="?",
        type=Path,
        metavar="DIR",
        help="a new folder; default: within the model's",
    )
    parser.add_argument(
        "--format", choices=("tflite", "saved-model"), default="tflite", help="default: %(default)s"
    )
    parser.add_argument(
        "--num-captions",
        type=positive(int),
        default=1,
        metavar="N",
        help="sentences that a SavedModel gives for each clip; default: %(default)s",
    )
    parser.add_argument(
        "--int8",
        action=argparse.BooleanOptionalAction,
        help="let the CNN of a LiteRT program compute in 8-bit integers: smaller and faster, and "
        "some captions differ; default: but for a CNN from TensorFlow Hub or Keras (--no-int8: "
        "as in training)",
    )
    parser.set_defaults(run=_export)


def _export(args) -> int:
    folder = ModelFolder.open(args.model)
    if args.format == "tflite":
        from ..engines.programs import write_programs

        print(write_programs(folder, args.output, args.int8))
        return ALL_GOOD
    if args.output is None:
        raise CaptionerError("a SavedModel needs a folder of its own: captioner export MODEL DIR")
    with muted_stderr():
        from ..engines.saved_model import write_saved_model
    write_saved_model(folder, args.output, args.num_captions)
    if (folder.path / RERANKER).exists():
        print(
            "captioner: of a picture, a SavedModel says what its search finds best; it does not "
            "rerank sentences as captioner caption does",
            file=sys.stderr,
        )
    print(args.output)
    return ALL_GOOD

"""What command lines of trainings share: flags, and the way from them to options."""

from dataclasses import fields
from pathlib import Path
from typing import TypeVar

from captioner.terminal import count, positive

Options = TypeVar("Options")


def options_of(args, kind: type[Options]) -> Options:
    """The options that flags stand for, which are called as their fields."""
    given = {field.name: getattr(args, field.name) for field in fields(kind)}
    return kind(**given | {"labels": tuple(args.labels)})


def add_work(parser):
    """The flag of the folder of what is kept."""
    parser.add_argument(
        "--work",
        type=Path,
        metavar="DIR",
        help="features and the state of the training are kept here; default: work in --output",
    )


def add_cnn(parser, when: str = ""):
    """The flags of the bundled CNN; `when` tells what they need besides."""
    parser.add_argument(
        "--cnn",
        type=Path,
        metavar="DIR",
        help=f"a CNN of captioner distill instead of that of the model small{when}",
    )
    parser.add_argument(
        "--input-size",
        type=positive(int),
        metavar="PIXELS",
        help=f"height and width at which the bundled CNN sees frames{when}; default: as in its "
        "own training",
    )


def add_patience(parser, patience: int):
    """The flag of early stopping."""
    parser.add_argument(
        "--patience",
        type=count,
        default=patience,
        metavar="N",
        help="end after N measurements on the split val without a better one, 0: never; "
        "default: %(default)s",
    )


def add_fitting(parser, epochs, learning_rate, batch_size=None, epochs_default="%(default)s"):
    """The flags that every training has; `batch_size` where it learns in plain batches."""
    add, default = parser.add_argument, "default: %(default)s"
    passes = f"passes over the data; default: {epochs_default}"
    add("--epochs", type=positive(int), default=epochs, metavar="N", help=passes)
    if batch_size is not None:
        add("--batch-size", type=positive(int), default=batch_size, help=default)
    add(
        "--learning-rate",
        type=positive(float),
        default=learning_rate,
        help=f"at its peak; {default}",
    )
    add("--precision", default="float32", help=f"a Keras dtype policy; {default}")
    add("--seed", type=count, default=1, help=default)

"""Flags that the command lines of trainings share, and the way from them to options."""

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
        help="folder for features and checkpoints; default: work in --output",
    )


def add_cnn(parser, when: str = ""):
    """The flags of the bundled CNN; `when` tells what they need besides."""
    parser.add_argument(
        "--cnn",
        type=Path,
        metavar="DIR",
        help=f"folder of a CNN by captioner distill, instead of the model small's{when}",
    )
    parser.add_argument(
        "--input-size",
        type=positive(int),
        metavar="PIXELS",
        help=f"height and width of the bundled CNN's input{when}; default: as it was trained",
    )


def add_patience(parser, patience: int):
    """The flag of early stopping."""
    parser.add_argument(
        "--patience",
        type=count,
        default=patience,
        metavar="N",
        help="early stopping: end after N measurements on the split val without a better one; "
        "0: off; default: %(default)s",
    )


def add_fitting(
    parser, epochs, learning_rate, epochs_default="%(default)s", rate_default="%(default)s"
):
    """The flags that every training has."""
    add, default = parser.add_argument, "default: %(default)s"
    rate = f"peak of the learning rate; default: {rate_default}"
    passes = f"passes over the data; default: {epochs_default}"
    add("--epochs", type=positive(int), default=epochs, metavar="N", help=passes)
    add("--learning-rate", type=positive(float), default=learning_rate, help=rate)
    add("--precision", default="float32", help=f"Keras dtype policy of the training; {default}")
    add("--seed", type=count, default=1, help=f"of all that is random; {default}")

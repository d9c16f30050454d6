"""The `captioner` command.

Other packages add verbs through the entry-point group `captioner.commands`, and verbs of
`captioner moments` through `captioner.commands.moments`: each entry is a function that takes
argparse's subparsers, adds its own, and sets its default `run`, a function of the parsed arguments
that returns the exit status; `goes_on=True` says that the same command goes on where it was
interrupted.
"""

import argparse
import errno
import os
import sys
import tempfile
from importlib.metadata import entry_points, version

from ..errors import CaptionerError
from ..terminal import (
    INTERRUPTED,
    NO_FOLDER,
    SOME_FAILED,
    WRONG_USAGE,
    ended_by_sigterm,
    find_temporary_folder,
    open_closed_streams,
    speak_unicode,
)
from .caption import add_caption
from .export import add_export
from .info import add_info
from .label import add_label


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit status.

    0: all good; 1: some clips failed; 2: wrong usage; 130: interrupted.
    """
    open_closed_streams()
    find_temporary_folder()
    speak_unicode()
    args = _parser().parse_args(arguments)
    try:
        with ended_by_sigterm():
            return args.run(args)
    except CaptionerError as err:
        print(f"captioner: {err}", file=sys.stderr)
        return WRONG_USAGE
    except KeyboardInterrupt:
        again = ", and the same command goes on" if getattr(args, "goes_on", False) else ""
        print(f"captioner: interrupted; what was written is whole{again}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return SOME_FAILED
    except OSError as err:
        if tempfile.tempdir == NO_FOLDER and str(err.filename).startswith(NO_FOLDER + "tmp"):
            print(
                "captioner: there is no folder for temporary files; name one: TMPDIR=FOLDER",
                file=sys.stderr,
            )
            return WRONG_USAGE
        if err.filename is not None or err.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"captioner: stdout: cannot be written: {err.strerror}; make room", file=sys.stderr)
        return WRONG_USAGE


def _parser():
    parser = argparse.ArgumentParser(
        "captioner", description="Captions videos: a sentence for what happens in each."
    )
    parser.add_argument("--version", action="version", version=version("captioner"))
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_caption(commands)
    add_info(commands)
    add_export(commands)
    _add_plugins(commands, "captioner.commands")
    moments = commands.add_parser("moments", help="label every moment of videos")
    verbs = moments.add_subparsers(required=True, metavar="COMMAND")
    add_label(verbs)
    _add_plugins(verbs, "captioner.commands.moments")
    return parser


def _add_plugins(commands, group: str):
    for plugin in sorted(entry_points(group=group)):
        plugin.load()(commands)

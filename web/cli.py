"""The verbs `serve` and `upload` of the `captioner` command."""

import argparse
import os
import sys
from contextlib import ExitStack, closing
from dataclasses import fields
from pathlib import Path

from captioner.caption import Failure
from captioner.errors import CaptionerError
from captioner.journal import JOURNAL, Journal
from captioner.output import FORMATS
from captioner.terminal import ALL_GOOD, INTERRUPTED, SOME_FAILED, printable, stop_at_interrupt
from captioner.video import SUFFIXES

from .config import WebConfig

TOKEN = "CAPTIONER_TOKEN"


def add_serve(commands):
    """Adds `captioner serve`."""
    parser = commands.add_parser(
        "serve",
        help="open a page for videos and their captions",
        description="Opens a page on this machine: drop a video, get its caption, correct it, "
        "teach it. Beyond this machine (--host) a token is needed; give it in the environment "
        f"as {TOKEN}, where other users of the machine do not see it.",
    )
    add = parser.add_argument
    add("--host", help="address to listen at (default: 127.0.0.1, this machine only)")
    add(
        "--name",
        dest="names",
        action="append",
        help="host name of the page behind a proxy; repeatable",
    )
    add(
        "--proxy",
        dest="proxies",
        action="append",
        metavar="ADDRESS",
        help="proxy whose headers are trusted (default: one on this machine); repeatable",
    )
    add("--port", type=int, help="default: 8080")
    add(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder for videos, captions and models (default: ~/.local/share/captioner)",
    )
    add(
        "--watch",
        action="append",
        type=_folder,
        metavar="DIR",
        help="caption what lies or appears in this folder, where it lies; repeatable",
    )
    add(
        "--model",
        metavar="NAME_OR_DIR",
        help="a model that ships, or a model folder, to use from now on",
    )
    add("--label-model", metavar="DIR", help="model folder of moments train: label moments too")
    add("--token", help=f"password of the page (default: ${TOKEN})")
    add("--max-size", type=_bytes, metavar="SIZE", help="largest video (default: 4G)")
    add(
        "--max-storage",
        type=_bytes,
        metavar="SIZE",
        help="most that all videos may take; the oldest are deleted first",
    )
    add(
        "--keep-days",
        type=float,
        metavar="DAYS",
        help="delete videos that are older, unless corrected",
    )
    add(
        "--bin-days",
        type=float,
        metavar="DAYS",
        help="keep what was deleted in the bin for so long (default: 7)",
    )
    parser.set_defaults(run=_serve)


def add_upload(commands):
    """Adds `captioner upload`."""
    parser = commands.add_parser(
        "upload",
        help="caption videos on a running server",
        description="Uploads videos to a running captioner serve, waits for their captions and "
        "writes the rows that captioner caption writes. The server's model is used, and nothing "
        f"is kept there. If the server asks for a token, it is taken from ${TOKEN}.",
        epilog="Exit status: 0 all good, 1 some failed (their rows say why), 2 wrong usage, "
        "130 interrupted.",
    )
    add = parser.add_argument
    add("url", metavar="URL", help="of the server, such as http://192.168.1.5:8080")
    add("paths", nargs="+", metavar="PATH", help=f"a file, or a folder of {' '.join(SUFFIXES)}")
    add("-o", "--output", type=Path, metavar="FILE", help="output file; default: stdout")
    add("--format", nargs=1, choices=FORMATS, dest="formats", help="of the output; default: jsonl")
    add("--formats", nargs="+", choices=FORMATS, help="several at once, as for caption")
    add("--recursive", action="store_true", help="search folders in folders too")
    add("--resume", action="store_true", help="go on with FILE: skip what it has, if unchanged")
    add("--retry-failed", action="store_true", help="--resume, and try again what has failed")
    parser.set_defaults(run=_upload, formats=[JOURNAL])


def _serve(args) -> int:
    from .server import serve

    names = {field.name for field in fields(WebConfig)} & set(vars(args))
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    given |= {name: tuple(given[name]) for name in ("names", "proxies", "watch") if name in given}
    given.setdefault("token", os.environ.get(TOKEN) or None)
    try:
        config = WebConfig(**given)
    except ValueError as err:
        raise CaptionerError(
            f"{err}; set the environment variable {TOKEN} to a password of your choice"
        ) from err
    serve(config)
    return ALL_GOOD


def _upload(args) -> int:
    from .client import caption_on_server

    resume = args.resume or args.retry_failed
    if resume and args.output is None:
        raise CaptionerError("there is nothing to go on with; name the file: -o FILE")
    if len(args.formats) > 1 and args.output is None:
        raise CaptionerError("several formats need files; name them: -o FILE")
    rows, captioned, failed = FORMATS[args.formats[0]], 0, 0
    with ExitStack() as stack:
        journal = None

        def begin():
            return stack.enter_context(
                Journal(args.output, args.formats, None, resume, args.retry_failed)
            )

        if resume:
            journal = begin()
        stop = stack.enter_context(stop_at_interrupt())
        results = caption_on_server(
            args.url, args.paths, os.environ.get(TOKEN), args.recursive, journal or (), stop
        )
        stack.enter_context(closing(results))
        for result in results:
            if args.output is None:
                if rows.header and not captioned + failed:
                    print(rows.header)
                print(printable(rows.write(result)), flush=True)
            else:
                # An earlier file is only replaced when there is something to write.
                journal = journal or begin()
                journal.write(result)
            failed += isinstance(result, Failure)
            captioned += not isinstance(result, Failure)
        if args.output is not None:
            before = journal.num_before if journal else 0
            told = f"{captioned} captioned, {failed} failed, {before} done before"
            print(f"captioner: {told}", file=sys.stderr)
    if stop.is_set():
        again = "; the same command with --resume goes on" if args.output else ""
        print(f"captioner: interrupted{again}", file=sys.stderr)
        return INTERRUPTED
    return SOME_FAILED if failed else ALL_GOOD


def _folder(text: str) -> str:
    """The absolute path of a folder, as it is named: links stay links."""
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text} is no folder")
    return os.path.abspath(text)


def _bytes(text: str) -> int:
    """`500M` or `4G` as bytes."""
    units = {"K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
    try:
        return int(float(text.rstrip("KMGTkmgtBb")) * units.get(text.rstrip("Bb")[-1:].upper(), 1))
    except ValueError as err:
        raise argparse.ArgumentTypeError(f"expected a size as 500M or 4G, not {text}") from err

"""The verb `serve`, and the option `--server` of `caption`."""

import argparse
import os
import sys
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path

from captioner.caption import Failure
from captioner.errors import CaptionerError
from captioner.model_folder import DEFAULT_MODEL
from captioner.output import FORMATS
from captioner.terminal import ALL_GOOD, SOME_FAILED

from .config import WebConfig

TOKEN = "CAPTIONER_TOKEN"


def add_serve(commands):
    """Adds `captioner serve`, and `--server` to `captioner caption`."""
    parser = commands.add_parser(
        "serve",
        help="open a page for videos and their captions",
        description="Opens a page on this machine: drop a video, get its caption, correct it, "
        "teach it. Beyond this machine (--host) a token is needed; give it in the environment "
        f"as {TOKEN}, where other users of the machine do not see it.",
    )
    add = parser.add_argument
    add("--host", help="address to listen at (default: 127.0.0.1, this machine only)")
    add("--name", dest="names", action="append", help="the page's name behind a proxy; repeatable")
    add("--proxy", dest="proxies", action="append", metavar="ADDRESS",
        help="of a proxy to believe (default: one on this machine); repeatable")  # fmt: skip
    add("--port", type=int, help="default: 8080")
    add("--data", type=Path, metavar="DIR", help="where all is kept")
    add("--model", metavar="NAME_OR_DIR", help="a model to use from now on")
    add("--label-model", metavar="DIR", help="of captioner moments train: label moments too")
    add("--token", help=f"what has to be told to be let in (default: ${TOKEN})")
    add("--max-size", type=_bytes, metavar="SIZE", help="of a video (default: 4G)")
    add(
        "--max-storage",
        type=_bytes,
        metavar="SIZE",
        help="of all; then the oldest go",
    )
    add("--keep-days", type=float, metavar="DAYS", help="delete older ones that nobody corrected")
    parser.set_defaults(run=_serve)

    caption = commands.choices["caption"]
    caption.add_argument(
        "--server", metavar="URL", help=f"let a running server do it (its token: ${TOKEN})"
    )
    here = caption.get_default("run")
    caption.set_defaults(run=lambda args: _caption_there(args) if args.server else here(args))


def _serve(args) -> int:
    from .server import serve

    names = {field.name for field in fields(WebConfig)} & set(vars(args))
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    given |= {name: tuple(given[name]) for name in ("names", "proxies") if name in given}
    given.setdefault("token", os.environ.get(TOKEN) or None)
    try:
        config = WebConfig(**given)
    except ValueError as err:
        raise CaptionerError(
            f"{err}; set the environment variable {TOKEN} to a password of your choice"
        ) from err
    serve(config)
    return ALL_GOOD


def _caption_there(args) -> int:
    from .client import caption_on_server

    if args.model != DEFAULT_MODEL or args.beam_size is not None:
        raise CaptionerError(
            "--server captions with the server's own model; leave out --model and --beam-size"
        )
    rows = FORMATS[args.formats[0]]
    if len(args.formats) > 1 or not rows.one_file:
        raise CaptionerError("--server writes one file of one format, not srt or vtt")
    status = ALL_GOOD
    try:
        output = open(args.output, "w", encoding="utf-8") if args.output else None  # noqa: SIM115
    except OSError as err:
        raise CaptionerError(f"{args.output}: cannot be written: {err.strerror}") from err
    with output or nullcontext(sys.stdout) as out:
        if rows.header:
            print(rows.header, file=out)
        token = os.environ.get(TOKEN)
        for result in caption_on_server(args.server, args.paths, token, args.recursive):
            print(rows.write(result), file=out, flush=True)
            if isinstance(result, Failure):
                status = SOME_FAILED
    return status


def _bytes(text: str) -> int:
    """`500M` or `4G` as bytes."""
    units = {"K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
    try:
        return int(float(text.rstrip("KMGTkmgtBb")) * units.get(text.rstrip("Bb")[-1:].upper(), 1))
    except ValueError as err:
        raise argparse.ArgumentTypeError(f"expected a size as 500M or 4G, not {text}") from err

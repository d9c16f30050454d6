"""The verb `moments label` of the `captioner` command."""

import sys
from collections.abc import Mapping
from functools import partial
from itertools import chain, takewhile
from pathlib import Path

from tqdm import tqdm

from ..caption import Failure
from ..config import overridden
from ..errors import CaptionerError, VideoError
from ..journal import RowsFile
from ..moments.folder import LabelFolder
from ..moments.output import FORMATS, OtherOptions, to_text, with_options
from ..sidecars import Sidecars, write_whole
from ..terminal import (
    ALL_GOOD,
    INTERRUPTED,
    SOME_FAILED,
    add_labelling_options,
    muted_stderr,
    printable,
    stop_at_interrupt,
)
from ..video import SUFFIXES
from ..video.reader import Reader
from .arguments import add_reading_limits, flags_of, reading_limits
from .finding import find
from .progress import tell, tell_kept


def add_label(commands):
    """Adds `captioner moments label`."""
    parser = commands.add_parser(
        "label",
        help="label every moment of videos",
        description="Labels what happens when in videos of any length, a row a segment.",
        epilog="Exit status: 0 all good, 1 some failed (their rows say why), 2 wrong usage, "
        "130 interrupted.",
    )
    add = parser.add_argument
    add("paths", nargs="+", metavar="PATH", help=f"a file, or a folder of {' '.join(SUFFIXES)}")
    add("--model", required=True, metavar="DIR", help="model folder of moments train")
    add(
        "-o",
        "--output",
        type=Path,
        metavar="FILE_OR_DIR",
        help="output file; for subtitles and Audacity labels a folder, with a file a video; "
        "default: stdout",
    )
    add("--format", choices=FORMATS, default="jsonl", help="of the output; default: %(default)s")
    add("--resume", action="store_true", help="go on with --output: skip the videos that it has")
    add("--recursive", action="store_true", help="search folders in folders too")
    add_labelling_options(parser)
    add_reading_limits(parser, "moment")
    parser.set_defaults(run=_label)


def load_labeller(model: str, given: Mapping[str, object]):
    """The `Labeller` of a model folder, with those `LabellingOptions` that are given."""
    folder = LabelFolder.open(model)
    options = overridden(folder.labelling, given)
    with muted_stderr():
        from ..moments.labeller import Labeller
    return Labeller.load(folder.path, options)


def labelling_flags(model: str, given: Mapping[str, object]) -> str:
    """Those of the `LabellingOptions` that are given and not the model's own, as flags."""
    own = LabelFolder.open(model).labelling
    return flags_of(overridden(own, given), own)


def _label(args) -> int:
    form = FORMATS[args.format]
    if args.resume and args.output is None:
        raise CaptionerError("--resume needs the --output that it is to go on with")
    found = list(find(args.paths, args.recursive, args.model, tell=tell))
    if not form.is_table and args.output is None and len(found) > 1:
        raise CaptionerError(
            f"--format {args.format} does not tell videos apart, and there are {len(found)}; name "
            "a folder with --output"
        )
    options = labelling_flags(args.model, vars(args))
    with Reader(reading_limits(args)) as reader:
        reader.start()  # while the model is loading
        label = partial(load_labeller(args.model, vars(args)).label, reader=reader)
        with stop_at_interrupt() as stop:
            found = takewhile(lambda _: not stop.is_set(), _progress(found))
            if args.output is None:
                failures = _print(found, label, with_options(form, options))
            else:
                write = _write_table if form.is_table else _write_files
                failures = write(found, label, form, args.output, args.resume, options)
    if stop.is_set():
        again = "; the same command with --resume goes on" if args.output else ""
        print(f"captioner: interrupted{again}", file=sys.stderr)
        return INTERRUPTED
    return SOME_FAILED if failures else ALL_GOOD


def _progress(items):
    return tqdm(items, unit="video", file=sys.stderr, disable=None)


def _pieces(item, label, form):
    """What an item of `find` is written as, piece by piece, by what `label` gives for it.

    Raises:
        VideoError: it cannot be labelled.
    """
    if isinstance(item, Failure):
        raise VideoError(item.error)
    yield from to_text(item, label(item), form)


def _name(item) -> str:
    return item.video if isinstance(item, Failure) else item


def _print(found, label, form) -> int:
    """Prints all as it comes; counts failures."""

    def write(text):
        with tqdm.external_write_mode():  # not through the middle of the bar
            print(printable(text), end="", flush=True)

    failures = 0
    write(form.header)
    for item in found:
        try:
            for piece in _pieces(item, label, form):
                write(piece)
        except VideoError as err:
            failures += 1
            if form.is_table:
                write(form.failure(_name(item), str(err)))
            else:
                tqdm.write(f"captioner: {err}", file=sys.stderr)
    return failures


def _write_table(found, label, form, output, resume, options) -> int:
    """Writes all to one file, in which a video has all of its rows or none; counts failures.

    Raises:
        CaptionerError: it is to be gone on with, and was written with other options.
    """
    failures, any_read = 0, form.read_video
    form = with_options(form, options)
    with RowsFile(output, form.header) as table:
        if not resume:
            table.restart(any_read)
        try:
            done = set(table.resume(form.read_video)) if resume else ()
        except OtherOptions as err:
            before, now = (f"with {one}" if one else "plainly" for one in (str(err), options))
            raise CaptionerError(
                f"{output}: was labelled {before}, and this run labels {now}; --resume would mix "
                "them: give the same options, or name another file with -o"
            ) from err
        for item in found:
            if _name(item) in done:
                continue
            try:
                text = "".join(_pieces(item, label, form))
            except VideoError as err:
                failures += 1
                text = form.failure(_name(item), str(err))
            table.append(text)
        if table.kept:
            tell_kept(output, table.kept)
    return failures


def _write_files(found, label, form, folder, resume, options) -> int:
    """Writes a file a video, each there only when it is whole; counts failures."""
    failures, sidecars = 0, Sidecars(folder, form.suffix)
    for item in found:
        file = sidecars.path_of(_name(item))
        if resume and file.exists():
            continue
        try:
            write_whole(file, chain([form.header], _pieces(item, label, form)))
        except VideoError as err:
            failures += 1
            tqdm.write(f"captioner: {err}", file=sys.stderr)
    return failures

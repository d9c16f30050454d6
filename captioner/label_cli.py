"""The verb `label` of the `captioner` command."""

import os
import sys
from collections import Counter
from contextlib import nullcontext
from dataclasses import fields, replace
from pathlib import Path

from tqdm import tqdm

from .caption import Failure
from .cli import ALL_GOOD, SOME_FAILED, find, muted_stderr, printable
from .config import LabellingOptions
from .errors import CaptionerError, VideoError
from .label_folder import LabelFolder
from .labelled import FORMATS, Format, to_text
from .video import SUFFIXES


def add_label(commands):
    """Adds `captioner label`."""
    parser = commands.add_parser(
        "label",
        help="label every moment of videos",
        description="Says when what happens in videos of any length, a row a segment.",
        epilog="Exit status: 0 all good, 1 some failed (their rows say why), 2 wrong usage.",
    )
    add = parser.add_argument
    add("paths", nargs="+", metavar="PATH", help=f"a file, or a folder of {' '.join(SUFFIXES)}")
    add("--model", required=True, metavar="DIR", help="of captioner train --task label")
    add(
        "-o",
        "--output",
        type=Path,
        metavar="FILE_OR_DIR",
        help="default: stdout; of subtitles and Audacity labels a folder, a file a video",
    )
    add("--format", choices=FORMATS, default="jsonl", help="default: %(default)s")
    add("--resume", action="store_true", help="leave out what --output has already")
    add("--recursive", action="store_true", help="search folders in folders too")
    add_labelling_options(parser)
    parser.set_defaults(run=_label)


def add_labelling_options(parser):
    """The flags of `LabellingOptions` that depend on the use, not on the model."""
    add, default = parser.add_argument, "default: as the model was trained"
    add("--fps", type=float, help=f"moments looked at in a second; {default}")
    add("--threshold", type=float, metavar="P", help="least probability of a label")
    add("--min-duration", type=float, metavar="SECONDS", help="of a segment")


def load_labeller(args):
    """The `Labeller` that `args.model` names, with those options that `args` has."""
    folder = LabelFolder.open(args.model)
    given = {f.name: getattr(args, f.name, None) for f in fields(LabellingOptions)}
    given = {name: value for name, value in given.items() if value is not None}
    try:
        options = replace(folder.labelling, **given)
    except ValueError as err:
        raise CaptionerError(str(err)) from err
    with muted_stderr():
        from .labeller import Labeller
    return Labeller.load(folder.path, options)


def _label(args) -> int:
    form = FORMATS[args.format]
    if args.resume and args.output is None:
        raise CaptionerError("--resume needs the --output that it is to go on with")
    found = list(find(args.paths, args.recursive, args.model))
    if not form.is_table and args.output is None and len(found) > 1:
        raise CaptionerError(
            f"--format {args.format} does not tell videos apart, and there are {len(found)}; name "
            "a folder with --output"
        )
    labeller = load_labeller(args)
    try:
        if form.is_table or args.output is None:
            failures = _write_table(found, labeller, form, args.output, args.resume)
        else:
            failures = _write_files(found, labeller, form, args.output, args.resume)
    except BrokenPipeError:
        raise
    except OSError as err:
        raise CaptionerError(f"{args.output}: cannot be written: {err.strerror}") from err
    return SOME_FAILED if failures else ALL_GOOD


def _progress(items):
    return tqdm(items, unit="video", file=sys.stderr, disable=None)


def _pieces(item, labeller, form):
    """What an item of `find` is written as, piece by piece.

    Raises:
        VideoError: it cannot be labelled.
    """
    if isinstance(item, Failure):
        raise VideoError(item.error)
    yield from to_text(item, labeller.label(item), form)


def _write_table(found, labeller, form, output, resume) -> int:
    """Writes all to one place: a file video by video, stdout as it comes; counts failures."""
    done = _cut(output, form) if resume and output.exists() else set()
    failures = 0
    with _open(output, "a" if done else "w") if output else nullcontext(sys.stdout) as table:

        def write(text):
            with tqdm.external_write_mode(file=table):  # not through the middle of the bar
                text = printable(text) if output is None else text
                print(text, end="", file=table, flush=True)

        if not done:
            write(form.header)
        for item in _progress(found):
            name = item.video if isinstance(item, Failure) else item
            if name in done:
                continue
            try:
                pieces = _pieces(item, labeller, form)
                for piece in pieces if output is None else ["".join(pieces)]:
                    write(piece)
            except VideoError as err:
                failures += 1
                if form.is_table:
                    write(form.failure(name, str(err)))
                else:
                    tqdm.write(f"captioner: {err}", file=sys.stderr)
    return failures


def _cut(table: Path, form: Format) -> set[str]:
    """Cuts the rows of the last video off, which may not be all; returns the other videos."""
    with _open(table, "r") as lines:
        rows = list(lines)[form.header.count("\n") :]
    if rows and not rows[-1].endswith("\n"):
        rows.pop()
    try:
        videos = [form.read_video(row) for row in rows]
    except (ValueError, KeyError, IndexError, TypeError) as err:
        raise CaptionerError(
            f"{table}: --resume cannot read it ({err}); name the output of the same command"
        ) from err
    last = videos[-1:]
    while videos and videos[-1:] == last:
        videos.pop()
    whole = form.header + "".join(rows[: len(videos)])
    os.truncate(table, len(whole.encode("utf-8", "surrogateescape")))
    return set(videos)


def _open(file: Path, mode: str):
    # The name of a file may be no UTF-8.
    return file.open(mode, encoding="utf-8", errors="surrogateescape", newline="\n")


def _write_files(found, labeller, form, folder, resume) -> int:
    """Writes a file a video, each there only when it is whole; counts failures."""
    folder.mkdir(parents=True, exist_ok=True)
    failures, taken = 0, Counter()
    for item in _progress(found):
        stem = Path(item.video if isinstance(item, Failure) else item).stem
        taken[stem] += 1
        file = folder / f"{stem}{f'-{taken[stem]}' if taken[stem] > 1 else ''}{form.suffix}"
        if resume and file.exists():
            continue
        partial = file.with_name(f"partial.{file.name}")
        try:
            with _open(partial, "w") as text:
                text.write(form.header)
                text.writelines(_pieces(item, labeller, form))
            partial.replace(file)
        except VideoError as err:
            partial.unlink()
            failures += 1
            tqdm.write(f"captioner: {err}", file=sys.stderr)
    return failures

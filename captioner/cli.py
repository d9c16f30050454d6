"""The `captioner` command.

Other packages add verbs through the entry-point group `captioner.commands`: each entry is a
function that takes argparse's subparsers, adds its own, and sets its default `run`, a function of
the parsed arguments that returns the exit status.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import fields, replace
from importlib.metadata import entry_points, version
from pathlib import Path

from tqdm import tqdm

from .caption import Failure
from .checkpoint import DEFAULT_MODEL, ModelFolder
from .config import ENGINES, DecodingOptions
from .errors import CaptionerError, VideoError
from .output import FORMATS
from .video import SUFFIXES, find_videos

ALL_GOOD, SOME_FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit status.

    0: all good; 1: some clips failed; 2: wrong usage; 130: interrupted.
    """
    args = _parser().parse_args(arguments)
    try:
        return args.run(args)
    except CaptionerError as err:
        print(f"captioner: {err}", file=sys.stderr)
        return WRONG_USAGE
    except KeyboardInterrupt:
        print("captioner: interrupted; what was written is whole", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return SOME_FAILED


def _parser():
    parser = argparse.ArgumentParser(
        "captioner", description="Looks at videos and says in a sentence what happens."
    )
    parser.add_argument("--version", action="version", version=version("captioner"))
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_caption(commands)
    _add_info(commands)
    _add_export(commands)
    for plugin in sorted(entry_points(group="captioner.commands")):
        plugin.load()(commands)
    return parser


def _add_caption(commands):
    parser = commands.add_parser(
        "caption",
        help="caption videos",
        description="Captions videos and pictures, a row each, in the order given.",
        epilog="Exit status: 0 all good, 1 some failed (their rows say why), 2 wrong usage.",
    )
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help=f"a file, or a folder of {' '.join(SUFFIXES)}"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: stdout")
    parser.add_argument("--format", choices=FORMATS, default="jsonl", help="default: jsonl")
    parser.add_argument(
        "--model", default=DEFAULT_MODEL, metavar="NAME_OR_DIR", help="default: %(default)s"
    )
    parser.add_argument(
        "--beam-size", type=int, metavar="N", help="hypotheses kept at each word; 1 is greedy"
    )
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        default=ENGINES[0],
        help="lite starts at once, on a CPU; keras uses a GPU; default: what suits",
    )
    parser.add_argument("--recursive", action="store_true", help="search folders in folders too")
    parser.set_defaults(run=_caption)


def _caption(args) -> int:
    captioner = load_captioner(args)
    found = list(_find(args.paths, args.recursive, captioner.name))
    try:
        output = args.output.open("w", encoding="utf-8") if args.output else None
    except OSError as err:
        raise CaptionerError(f"{args.output}: cannot be written: {err.strerror}") from err
    status = ALL_GOOD
    with output or nullcontext(sys.stdout) as rows:
        for item in tqdm(found, unit="clip", file=sys.stderr, disable=None):
            [result] = [item] if isinstance(item, Failure) else captioner.caption_many([item])
            with tqdm.external_write_mode(file=rows):  # not through the middle of the bar
                print(FORMATS[args.format](result), file=rows, flush=True)
            if isinstance(result, Failure):
                status = SOME_FAILED
    return status


def _find(paths, recursive, model) -> Iterator[str | Failure]:
    """The files named, and those in the folders named; a folder without any is a failure."""
    for path in paths:
        if not os.path.isdir(path):
            yield path
            continue
        videos = find_videos(path, recursive)
        try:
            first = next(videos, None)
        except VideoError as err:
            yield Failure(path, str(err), model)
            continue
        if first is None:
            deeper = "" if recursive else "; --recursive searches the folders in it too"
            yield Failure(path, f"{path}: holds no video or picture{deeper}", model)
        else:
            yield str(first)
            yield from map(str, videos)


def _add_info(commands):
    parser = commands.add_parser("info", help="say what a model folder is")
    parser.add_argument("model", nargs="?", default=DEFAULT_MODEL, metavar="NAME_OR_DIR")
    parser.set_defaults(run=_info)


def _info(args) -> int:
    folder = ModelFolder.open(args.model)
    files = sorted(path for path in folder.path.iterdir() if path.is_file())
    rows = {
        "model": folder.name,
        "folder": folder.path.resolve(),
        "size": f"{sum(path.stat().st_size for path in files) / 1e6:.1f} MB in {len(files)} files",
        "backbone": folder.backbone,
        "features": f"{folder.model.num_regions} regions a frame, {folder.model.feature_dim} each",
        "frames": f"up to {folder.sampling.num_frames} a clip",
        "words": f"{len(folder.vocabulary)} tokens",
        "units": folder.model.units,
        "decoding": folder.decoding,
        "card": next((path for path in files if path.name == "README.md"), "none"),
    }
    for name, value in rows.items():
        print(f"{name + ':':10}{value}")
    return ALL_GOOD


def _add_export(commands):
    parser = commands.add_parser(
        "export",
        help="write a model as programs that need no TensorFlow",
        description="Writes a model's CNN, encoder and search as two LiteRT programs, and prints "
        "where they are. Beside the weights, captioner finds them and starts at once.",
    )
    parser.add_argument("model", nargs="?", default=DEFAULT_MODEL, metavar="NAME_OR_DIR")
    parser.add_argument(
        "output", nargs="?", type=Path, metavar="DIR", help="a new folder; default: in the model's"
    )
    parser.add_argument("--format", choices=("tflite",), default="tflite")
    parser.add_argument(
        "--int8",
        action="store_true",
        help="let the CNN compute with 8-bit integers: faster, but some captions differ",
    )
    parser.set_defaults(run=_export)


def _export(args) -> int:
    from .export import write_programs

    print(write_programs(ModelFolder.open(args.model), args.output, args.int8))
    return ALL_GOOD


def load_captioner(args: argparse.Namespace):
    """The `Captioner` that `args.model` names, with those decoding options that `args` has."""
    folder = ModelFolder.open(args.model)
    names = [field.name for field in fields(DecodingOptions)]
    given = {name: getattr(args, name, None) for name in names}
    given = {name: value for name, value in given.items() if value is not None}
    try:
        decoding = replace(folder.decoding, **given)
    except ValueError as err:
        raise CaptionerError(str(err)) from err
    from .export import programs_for
    from .pipeline import Captioner

    programs = programs_for(folder, decoding, getattr(args, "engine", ENGINES[0]))
    with muted_stderr():
        return Captioner.of(folder, decoding, programs)


@contextmanager
def muted_stderr() -> Iterator[None]:
    """Keeps back what TensorFlow's libraries say on import, unless the import fails."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except CaptionerError:
            raise
        except BaseException:
            kept.seek(0)
            os.write(terminal, kept.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)


if __name__ == "__main__":
    sys.exit(main())

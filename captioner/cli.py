"""The `captioner` command.

Other packages add verbs through the entry-point group `captioner.commands`: each entry is a
function that takes argparse's subparsers, adds its own, and sets its default `run`, a function of
the parsed arguments that returns the exit status.
"""

import argparse
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import fields, replace
from functools import partial
from importlib.metadata import entry_points, version
from itertools import takewhile
from pathlib import Path

from . import arguments
from .batch import caption_files, num_cores
from .caption import Failure
from .cluster.on_ray import Job, caption_on_ray
from .cluster.part_files import Parts, is_parts
from .cluster.stores import is_address
from .config import ENGINES, DecodingOptions
from .errors import CaptionerError
from .finding import find
from .journal import JOURNAL, Journal
from .model_folder import DEFAULT_MODEL, ModelFolder, find_folder, task_of
from .moments.folder import TASK as LABEL
from .moments.folder import LabelFolder
from .output import FORMATS
from .progress import Progress
from .video import SUFFIXES
from .video.reader import Reader, ReadingLimits

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
        epilog="Exit status: 0 all good, 1 some failed (their rows say why), 2 wrong usage, "
        "130 interrupted.",
    )
    add = parser.add_argument
    add(
        "paths",
        nargs="+",
        metavar="PATH",
        help=f"a file, or a folder of {' '.join(SUFFIXES)}; with --on also an address: s3://...",
    )
    add(
        "-o",
        "--output",
        type=arguments.output,
        metavar="FILE",
        help="default: stdout; a name in .parquet, or an address (s3://...), becomes a folder",
    )
    add("--format", nargs=1, choices=FORMATS, dest="formats", help="default: jsonl")
    add(
        "--formats",
        nargs="+",
        choices=FORMATS,
        help="several at once: FILE gets the suffix of each; srt and vtt always make a folder of "
        "it, with a file a video",
    )
    add("--model", default=DEFAULT_MODEL, metavar="NAME_OR_DIR", help="default: %(default)s")
    add(
        "--beam-size",
        type=arguments.positive(int),
        metavar="N",
        help="hypotheses kept at each word; 1 is greedy",
    )
    add("--recursive", action="store_true", help="search folders in folders too")
    add(
        "--segments",
        type=arguments.segments,
        metavar="SECONDS|shots",
        help="also caption stretches of a video: so long, or cut where the picture changes",
    )
    add("--resume", action="store_true", help="go on with FILE: skip what it has, if unchanged")
    add("--retry-failed", action="store_true", help="--resume, and try again what has failed")
    add(
        "--shard",
        type=arguments.shard,
        metavar="I/N",
        help="only the I-th of N parts of what is found",
    )
    add(
        "--workers",
        type=arguments.positive(int),
        metavar="N",
        help="processes that read, with --on those that hold a model; default: cores",
    )
    add(
        "--on",
        type=arguments.cluster,
        metavar="ray[://HOST:PORT]",
        help="work on a Ray cluster, or on one of this machine alone",
    )
    add_reading_limits(parser, "segment")
    add(
        "--engine",
        choices=ENGINES,
        default=ENGINES[0],
        help="lite starts at once, on a CPU; keras uses a GPU; default: what suits",
    )
    parser.set_defaults(run=_caption, formats=[JOURNAL])


def add_reading_limits(parser, part: str):
    """The flags of `ReadingLimits`; `part` is what a video may be read in."""
    parser.add_argument(
        "--time-limit",
        type=arguments.positive(float),
        default=ReadingLimits.seconds,
        metavar="SECONDS",
        help=f"for reading one video, or one {part}; default: %(default)g",
    )
    parser.add_argument(
        "--memory-limit",
        type=arguments.positive(int),
        default=ReadingLimits.memory,
        metavar="MB",
        help="for reading one video; default: %(default)s",
    )


def _caption(args) -> int:
    if len(args.formats) > 1 and args.output is None:
        raise CaptionerError("several formats need files; name them: -o FILE")
    if args.on is None and any(map(is_address, args.paths)):
        raise CaptionerError("addresses are read on a Ray cluster: --on ray")
    if (args.resume or args.retry_failed) and args.output is None:
        raise CaptionerError("there is nothing to go on with; name the file: -o FILE")
    limits = ReadingLimits(args.time_limit, args.memory_limit)
    with ExitStack() as stack:
        readers = []
        if args.on is None:
            readers = [Reader(limits) for _ in range(args.workers or num_cores())]
            stack.enter_context(readers[0])
            readers[0].start()  # while the model is loading
        captioner = load_captioner(args)
        rows = journal = None
        if args.output is None:
            rows = FORMATS[args.formats[0]]
        else:
            journal = stack.enter_context(_journal(args, captioner.name))

        def todo():
            for found in find(args.paths, args.recursive, captioner.name, args.shard):
                if isinstance(found, Failure) or not journal or found not in journal:
                    yield found

        stop = stack.enter_context(_stop_at_interrupt())
        videos = takewhile(lambda _: not stop.is_set(), todo())
        if args.on is None:
            results = caption_files(captioner, videos, args.segments, readers)
        else:
            job = _job(args, captioner, limits)
            results = caption_on_ray(args.on, job, videos, args.workers, args.engine != "lite")
        stack.enter_context(closing(results))
        progress = stack.enter_context(Progress(todo))
        if rows and rows.header:
            print(rows.header)
        for result in results:
            progress.add(result)
            if journal:
                journal.write(result)
            else:
                with progress.apart():
                    print(printable(rows.write(result)), flush=True)
            if args.on and stop.is_set():  # what the cluster has in flight may take long
                break
    if stop.is_set():
        again = "; the same command with --resume goes on" if journal else ""
        print(f"captioner: interrupted, {progress}{again}", file=sys.stderr)
        return INTERRUPTED
    if journal:
        print(f"captioner: {progress}, {journal.num_before} done before", file=sys.stderr)
    return SOME_FAILED if progress.failed else ALL_GOOD


def _journal(args, model: str) -> Journal | Parts:
    again = {"resume": args.resume or args.retry_failed, "retry_failed": args.retry_failed}
    if not is_parts(args.output):
        return Journal(args.output, args.formats, model, **again)
    if args.formats != [JOURNAL]:
        raise CaptionerError(f"{args.output}: a folder of rows; leave out --format, --formats")
    return Parts(args.output, model, **again)


def _job(args, captioner, limits) -> Job:
    """What each worker of a cluster has to know, wherever it runs."""
    model = os.path.abspath(args.model) if os.path.isdir(args.model) else args.model
    # A model a CPU, and none that takes them all.
    load = partial(
        load_captioner, argparse.Namespace(**vars(args) | {"model": model, "num_threads": 1})
    )
    return Job(load, captioner.request("", args.segments), captioner.name, limits)


def printable(text: str) -> str:
    """A path may hold bytes that are no text, and they come out as they went in."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


@contextmanager
def _stop_at_interrupt() -> Iterator[threading.Event]:
    """Ctrl-C once asks to finish what is in flight, twice stops at once."""
    stop = threading.Event()

    def ask(*_):
        stop.set()
        signal.signal(signal.SIGINT, before)
        message = "\ncaptioner: finishing what is in flight; Ctrl-C again stops at once"
        print(message, file=sys.stderr)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def _add_info(commands):
    parser = commands.add_parser("info", help="say what a model folder is")
    parser.add_argument("model", nargs="?", default=DEFAULT_MODEL, metavar="NAME_OR_DIR")
    parser.set_defaults(run=_info)


def _info(args) -> int:
    is_label = task_of(find_folder(args.model)) == LABEL
    folder = (LabelFolder if is_label else ModelFolder).open(args.model)
    files = sorted(path for path in folder.path.iterdir() if path.is_file())
    rows = {
        "model": folder.name,
        "folder": folder.path.resolve(),
        "size": f"{sum(path.stat().st_size for path in files) / 1e6:.1f} MB in {len(files)} files",
        "backbone": folder.backbone,
        "features": f"{folder.model.num_regions} regions a frame, {folder.model.feature_dim} each",
        "units": folder.model.units,
    }
    if is_label:
        at_once = "several" if folder.model.multi_label else "one"
        sees = "both ways" if folder.model.bidirectional else "back"
        rows |= {
            "encoder": f"{folder.model.encoder}, looking {sees}",
            "labels": f"{', '.join(folder.labels)}; {at_once} at a time",
            "labelling": folder.labelling,
        }
    else:
        rows |= {
            "frames": f"up to {folder.sampling.num_frames} a clip",
            "words": f"{len(folder.vocabulary)} tokens",
            "decoding": folder.decoding,
        }
    rows["card"] = next((path for path in files if path.name == "README.md"), "none")
    for name, value in rows.items():
        print(f"{name + ':':11}{value}")
    return ALL_GOOD


def _add_export(commands):
    parser = commands.add_parser(
        "export",
        help="write a model for elsewhere, or to start at once",
        description="Writes a model's CNN, encoder and search, and prints where they are: as two "
        "LiteRT programs, which need no TensorFlow (beside the weights, captioner finds them and "
        "starts at once); or as a SavedModel, for TensorFlow Serving and whoever has TensorFlow.",
    )
    parser.add_argument("model", nargs="?", default=DEFAULT_MODEL, metavar="NAME_OR_DIR")
    parser.add_argument(
        "output", nargs="?", type=Path, metavar="DIR", help="a new folder; default: in the model's"
    )
    parser.add_argument("--format", choices=("tflite", "saved-model"), default="tflite")
    parser.add_argument(
        "--num-captions",
        type=arguments.positive(int),
        default=1,
        metavar="N",
        help="sentences that a SavedModel gives for each clip; default: %(default)s",
    )
    parser.add_argument(
        "--int8",
        action="store_true",
        help="let a program's CNN compute with 8-bit integers: faster, but some captions differ",
    )
    parser.set_defaults(run=_export)


def _export(args) -> int:
    folder = ModelFolder.open(args.model)
    if args.format == "tflite":
        from .engines.programs import write_programs

        print(write_programs(folder, args.output, args.int8))
        return ALL_GOOD
    if args.output is None:
        raise CaptionerError("a SavedModel needs a folder of its own: captioner export MODEL DIR")
    with muted_stderr():
        from .engines.saved_model import write_saved_model
    write_saved_model(folder, args.output, args.num_captions)
    print(args.output)
    return ALL_GOOD


def load_captioner(args: argparse.Namespace):
    """The `Captioner` that `args.model` names, with those options that `args` has."""
    folder = ModelFolder.open(args.model)
    names = [field.name for field in fields(DecodingOptions)]
    given = {name: getattr(args, name, None) for name in names}
    given = {name: value for name, value in given.items() if value is not None}
    try:
        decoding = replace(folder.decoding, **given)
    except ValueError as err:
        raise CaptionerError(str(err)) from err
    from .engines.programs import programs_for
    from .pipeline import Captioner

    programs = programs_for(folder, decoding, getattr(args, "engine", ENGINES[0]))
    with muted_stderr():
        return Captioner.of(folder, decoding, programs, getattr(args, "num_threads", None))


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

"""The verb `caption` of the `captioner` command."""

import os
import sys
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from itertools import islice, takewhile
from pathlib import Path
from urllib.parse import unquote

from ..batch import caption_files, num_cores
from ..caption import Caption, Failure
from ..cluster.on_ray import Job, caption_on_ray
from ..cluster.part_files import Parts, is_parts
from ..cluster.stores import is_address
from ..config import ENGINES, DecodingOptions, overridden
from ..errors import CaptionerError
from ..journal import JOURNAL, Journal
from ..model_folder import DEFAULT_MODEL, ModelFolder
from ..output import FORMATS
from ..terminal import (
    ALL_GOOD,
    INTERRUPTED,
    SOME_FAILED,
    muted_stderr,
    positive,
    printable,
    stop_at_interrupt,
)
from ..video import SUFFIXES
from ..video.reader import Reader
from . import arguments
from .finding import find
from .progress import Progress, tell, tell_kept

MANY = 20  # files, for which preparing a model first takes less time than TensorFlow does


def add_caption(commands):
    """Adds `captioner caption`."""
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
        help="output file; a name in .parquet, or an address (s3://...), becomes a folder of "
        "files; default: stdout",
    )
    add("--format", nargs=1, choices=FORMATS, dest="formats", help="of the output; default: jsonl")
    add(
        "--formats",
        nargs="+",
        choices=FORMATS,
        help="several at once: FILE gets the suffix of each; srt and vtt always make a folder of "
        "it, with a file a video",
    )
    add(
        "--model",
        default=DEFAULT_MODEL,
        metavar="NAME_OR_DIR",
        help="a model that ships, or a model folder; default: %(default)s",
    )
    add(
        "--beam-size",
        type=positive(int),
        metavar="N",
        help="width of the beam search: hypotheses kept at each word; 1 is greedy search",
    )
    add(
        "--style",
        metavar="NAME",
        help="kind of sentence, one that `captioner info` lists; default: video, and photo for "
        "pictures",
    )
    add("--start-with", metavar="TEXT", help="words that every sentence begins with")
    add("--avoid", action="append", metavar="WORD", help="word that no sentence has; repeatable")
    add(
        "--mention",
        action="append",
        metavar="WORD",
        help="word that every sentence has, in this form; repeatable",
    )
    add("--recursive", action="store_true", help="search folders in folders too")
    add(
        "--frames-folder",
        action="store_true",
        help="each PATH is one clip: a folder of numbered pictures, its frames",
    )
    add(
        "--segments",
        type=arguments.segments,
        metavar="SECONDS|shots",
        help="also caption the parts of a video: of this length, or its shots",
    )
    add(
        "--resume",
        action="store_true",
        help="go on with FILE: skip what it has, if video and model are unchanged; refused with "
        "other options",
    )
    add("--retry-failed", action="store_true", help="--resume, and try again what has failed")
    add(
        "--shard",
        type=arguments.shard,
        metavar="I/N",
        help="caption only the I-th of N parts of the files, for N machines",
    )
    add(
        "--workers",
        type=positive(int),
        metavar="N",
        help="processes that read videos, with --on those that hold a model; default: one a core",
    )
    add(
        "--on",
        type=arguments.cluster,
        metavar="ray[://HOST:PORT]",
        help="work on a Ray cluster; `ray` alone is one of this machine",
    )
    arguments.add_reading_limits(parser, "segment")
    add(
        "--engine",
        choices=ENGINES,
        default=ENGINES[0],
        help="what runs the model: lite (LiteRT, on the CPU, starts at once), keras (TensorFlow, "
        "uses a GPU) or auto: lite where there is no GPU; default: %(default)s",
    )
    parser.set_defaults(run=_caption, formats=[JOURNAL])


def _caption(args) -> int:
    if len(args.formats) > 1 and args.output is None:
        raise CaptionerError("several formats need files; name them: -o FILE")
    if args.on is None:
        _expect_paths(args.paths)
    if args.frames_folder and (args.recursive or args.segments):
        raise CaptionerError("--frames-folder takes single clips: no --recursive, no --segments")
    if (args.resume or args.retry_failed) and args.output is None:
        raise CaptionerError("there is nothing to go on with; name the file: -o FILE")
    forms = [FORMATS[name] for name in args.formats]
    if args.output is None and not forms[0].one_file:
        folders = args.frames_folder
        found = find(args.paths, args.recursive, args.model, args.shard, frames_folders=folders)
        if len(list(islice(found, 2))) > 1:
            raise CaptionerError(
                f"--format {args.formats[0]} takes a file for each video; name a folder: -o FOLDER"
            )
    limits = arguments.reading_limits(args)
    own = ModelFolder.open(args.model).decoding
    decoding = overridden(own, vars(args))
    options = arguments.flags_of(decoding, own, args.segments)
    with ExitStack() as stack:
        readers = []
        if args.on is None:
            readers = [Reader(limits) for _ in range(args.workers or num_cores())]
            stack.enter_context(readers[0])
            readers[0].start()  # while the model is loading
        folders = args.frames_folder
        found = find(args.paths, args.recursive, args.model, args.shard, frames_folders=folders)
        hurry = args.on is None and len(list(islice(found, MANY))) < MANY
        captioner = load_captioner(args.model, decoding, args.engine, hurry=hurry)
        rows = journal = None
        if args.output is None:
            rows = FORMATS[args.formats[0]]
        else:
            resume = args.resume or args.retry_failed
            going_on = (resume, args.retry_failed, options)
            journal = stack.enter_context(
                _journal(args.output, args.formats, captioner.name, *going_on)
            )
            stack.callback(_tell_kept, args.output, journal)

        def todo(tell=None):
            how = (args.recursive, captioner.name, args.shard, tell, args.frames_folder)
            for found in find(args.paths, *how):
                if isinstance(found, Failure) or not journal or found not in journal:
                    yield found

        stop = stack.enter_context(stop_at_interrupt())
        videos = takewhile(lambda _: not stop.is_set(), todo(tell))
        if args.on is None:
            results = caption_files(captioner, videos, args.segments, readers)
        else:
            # A model a CPU, and none that takes them all; by a path that all machines know.
            model = os.path.abspath(args.model) if os.path.isdir(args.model) else args.model
            load = partial(load_captioner, model, decoding, args.engine, num_threads=1)
            job = Job(load, captioner.request("", args.segments), captioner.name, limits)
            results = caption_on_ray(args.on, job, videos, args.workers, args.engine != "lite")
        stack.enter_context(closing(results))
        progress = stack.enter_context(Progress(todo))
        if rows and rows.header:
            print(rows.header)
        for result in results:
            progress.add(result)
            if isinstance(result, Caption):
                result = replace(result, options=options)
            elif not any(form.one_file for form in forms):
                tell(f"captioner: {result.error}")  # subtitles have no place for it
            if journal:
                journal.write(result)
            elif forms[0].one_file or not isinstance(result, Failure):
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


def _expect_paths(paths: list[str]):
    """Says of addresses how to come to a file.

    Raises:
        CaptionerError: there is one among these paths.
    """
    for path in filter(is_address, paths):
        scheme, _, rest = path.partition("://")
        if scheme in ("http", "https", "ftp"):
            raise CaptionerError(f"{path}: a page or file of the web; download it first: yt-dlp")
        if scheme in ("rtsp", "rtsps", "rtmp", "rtmps", "udp", "srt", "mms"):
            raise CaptionerError(
                f"{path}: a live stream; record some of it: ffmpeg -i URL -t 60 -c copy OUTPUT.mkv"
            )
        if scheme == "file":
            raise CaptionerError(f"{path}: name the file by its path: {unquote(rest)}")
        raise CaptionerError("addresses are read on a Ray cluster: --on ray")


def _tell_kept(output: Path | str, journal: Journal | Parts):
    for kept in journal.kept:
        tell_kept(output, kept)


def _journal(
    output: Path | str,
    formats: list[str],
    model: str,
    resume: bool,
    retry_failed: bool,
    options: str,
) -> Journal | Parts:
    """What writes the output: files, or a folder of part files."""
    if not is_parts(output):
        return Journal(output, formats, model, resume, retry_failed, options)
    if formats != [JOURNAL]:
        raise CaptionerError(f"{output}: a folder of rows; leave out --format, --formats")
    return Parts(output, model, resume, retry_failed, options)


def load_captioner(
    model: str,
    decoding: DecodingOptions,
    engine: str,
    num_threads: int | None = None,
    hurry: bool = False,
):
    """`Captioner.load` without what TensorFlow writes to the terminal on its way."""
    from ..engines.programs import programs_for
    from ..pipeline import Captioner

    folder = ModelFolder.open(model)
    programs = programs_for(folder, decoding, engine, hurry)  # which may have something to report
    with muted_stderr():
        return Captioner.of(folder, decoding, programs, num_threads)

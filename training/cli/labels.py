"""The verb `labels` of the `captioner` command."""

import sys
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from captioner.errors import DatasetError
from captioner.terminal import ALL_GOOD, SOME_FAILED, count, printable

from ..data.check import find_problems
from ..data.manifest import SPLITS, Labels, load_labels, write_labels
from ..data.rows import Problem


def add_labels(commands):
    """Adds `captioner labels`."""
    parser = commands.add_parser(
        "labels",
        help="check labels, or convert them to JSON Lines",
        description="Reads labels of any known format: JSON Lines, CSV, a folder with a .txt "
        "beside each clip, MSVD, MSR-VTT, COCO, ActivityNet Captions, VATEX, Label Studio.",
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    check = verbs.add_parser(
        "check",
        help="report what is wrong with labels and clips",
        description="Counts clips and captions, and reports each row that cannot be used, each "
        "file that is missing or unreadable, empty, repeated and overlong captions, rows in "
        "conflict, and clips of different splits that look the same.",
        epilog="Exit status: 0 all good, 1 there are problems, 2 no labels.",
    )
    convert = verbs.add_parser(
        "convert",
        help="write labels as JSON Lines",
        description="Writes labels as JSON Lines, with paths relative to the new file.",
        epilog="Exit status: 0 all good, 1 some rows were left out or mended, 2 no labels.",
    )
    for one in (check, convert):
        one.add_argument("labels", type=Path, metavar="IN", help="labels, or a folder of clips")
        add, default = one.add_argument, "where the labels name no splits; default: %(default)s"
        add("--val", type=float, default=0.1, help=f"share of clips for validation, {default}")
        add("--test", type=float, default=0.1, help=f"share of clips for the test, {default}")
        add("--seed", type=count, default=0, help=f"of drawing the splits, {default}")
    convert.add_argument("output", type=Path, metavar="OUT.jsonl", help="file to write")
    check.set_defaults(run=_check)
    convert.set_defaults(run=_convert)


def _check(args) -> int:
    labels = _load(args)
    problems = 0
    for problem in find_problems(labels):
        problems += 1
        with tqdm.external_write_mode(file=sys.stdout):  # not through the middle of the bar
            print(_line(args.labels, problem), flush=True)
    print(f"{_count(labels)}; {problems or 'no'} problem{'' if problems == 1 else 's'}")
    return SOME_FAILED if problems else ALL_GOOD


def _convert(args) -> int:
    labels = _load(args)
    write_labels(labels.clips, args.output)
    for problem in labels.problems:
        print(_line(args.labels, problem))
    print(f"{args.output}: {_count(labels)}")
    return SOME_FAILED if labels.problems else ALL_GOOD


def _line(labels: Path, problem: Problem) -> str:
    return printable(f"{labels}, {problem.where}: {problem.message}")


def _load(args) -> Labels:
    try:
        return load_labels(args.labels, args.seed, args.val, args.test)
    except ValueError as err:
        raise DatasetError(str(err)) from err


def _count(labels) -> str:
    clips, captions = Counter(), Counter()
    for clip in labels.clips:
        clips[clip.split] += 1
        captions[clip.split] += len(clip.captions)
    splits = [*(split for split in SPLITS if clips[split]), *sorted(set(clips) - set(SPLITS))]
    return ", ".join(f"{split} {clips[split]} clips {captions[split]} captions" for split in splits)

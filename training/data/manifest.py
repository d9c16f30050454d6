"""Manifest: labels -> labelled clips, each with its files, captions and split."""

import filecmp
import hashlib
import json
import logging
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from pathlib import Path

from captioner.errors import DatasetError
from captioner.sidecars import keep
from captioner.video import is_video
from captioner.vocabulary import tokenize

from .formats import known_split, read_rows
from .rows import Problem, Row

SPLITS = ("train", "val", "test")
LONG_CAPTION = 100  # words; nobody says so much of a clip
SEARCH_DEPTH = 3  # folders in folders that are searched for clips
# A folder of labels alone: its clips lie beside it.
_LABELS_ALONE = re.compile("(.*_)?(annotations?|labels?|captions?|texts?|json)", re.IGNORECASE)
_PICTURES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

# What programs write for a caption that is not there.
_NOTHING = set("nan null none n/a na undefined #n/a #ref! #name? #value! [] {} todo tbd".split())
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]*://|/data/)\S+", re.IGNORECASE)
_MARKUP = re.compile(r"</?[a-zA-Z][^<>]*>|&(#\d+|#x[0-9a-f]+|amp|quot|lt|gt|nbsp|apos);")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelledClip:
    """A video, a still picture, or a video's frames, and what people say of it.

    Attributes:
        path: the file, or the first frame.
        captions: sentences; at least one.
        split: `train`, `val` or `test`.
        start: where in the file the clip begins, seconds.
        end: where it ends, seconds; None is the end of the file.
        frames: pictures in order, where the clip comes as these.
    """

    path: Path
    captions: tuple[str, ...]
    split: str = "train"
    start: float = 0.0
    end: float | None = None
    frames: tuple[Path, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """All that it is read from."""
        return self.frames or (self.path,)

    @property
    def missing(self) -> list[Path]:
        """Those of its files that are not there."""
        return [file for file in self.files if not file.exists()]


@dataclass(frozen=True)
class Labels:
    """What is in labels.

    Attributes:
        clips: clips that have a caption, each once, whether or not their files are there.
        rows: the row that each was first named in, for people.
        problems: what is wrong with other rows, or with parts of these.
        searched: where clips were looked for, for people.
    """

    clips: list[LabelledClip]
    rows: list[str]
    problems: list[Problem]
    searched: str


def read_labels(path: str | Path, split: str | None = None) -> list[LabelledClip]:
    """Reads labels of any known format; what is wrong with single rows is only warned of.

    Args:
        path: the file, or a folder of clips.
        split: only these clips; None for all.

    Raises:
        DatasetError: the file cannot be read, is of no known format, or has no such clip.
    """
    labels = load_labels(path)
    clips = [clip for clip in labels.clips if split in (None, clip.split)]
    warn(path, labels, clips)
    if not clips:
        raise DatasetError(f"{path}: has no row{f' of the split {split}' if split else ''}")
    return clips


def warn(path: str | Path, labels: Labels, clips: Sequence[LabelledClip]):
    """Tells what is wrong with rows of labels, and which of some clips are missing."""
    shown = 10
    for problem in labels.problems[:shown]:
        _log.warning("%s, %s: %s", path, problem.where, problem.message)
    if len(labels.problems) > shown:
        more = len(labels.problems) - shown
        _log.warning("%s: %s more problems; captioner labels check tells them all", path, more)
    missing = [files for clip in clips if (files := clip.missing)]
    if missing:
        many, first = f"{len(missing)} of {len(clips)}", missing[0][0].name
        _log.warning(
            "%s: %s clips are missing, the first %s; looked in %s",
            path,
            many,
            first,
            labels.searched,
        )


def load_labels(path: str | Path, seed: int = 0, val: float = 0.1, test: float = 0.1) -> Labels:
    """Reads labels of any known format, and all that is wrong with them.

    Splits are those the labels tell, or else the name of their file (`captions_val2014.json`).
    Where neither does, they are made from the names of the files alone: clips cut from one video
    share a split, and further clips change nothing for those that were there. Where captions
    tell their language and some are English, the others are passed over.

    Args:
        path: the file, or a folder of clips.
        seed: of the splits that are made.
        val: share of the clips that these have for validation.
        test: share of the clips that these have for tests.

    Raises:
        DatasetError: the file cannot be read, is of no known format, or has not one good row.
    """
    if not (val >= 0 and test >= 0 and val + test < 1):
        raise ValueError(f"expected shares val + test < 1, received: {val=}, {test=}")
    path = Path(path)
    rows, problems = [], []
    for row in read_rows(path):
        (problems if isinstance(row, Problem) else rows).append(row)
    rows = _in_english(rows)
    finder = _Finder(path if path.is_dir() else path.parent)
    untold = all(row.split is None for row in rows)
    of_file = None if path.is_dir() else known_split(path.stem)
    found: dict[tuple, list] = {}  # by file and stretch: place, split, captions
    told: dict[Path, list] = {}  # by file: stretches and their splits
    for row in rows:
        captions, wrong = _good_captions(row)
        problems += wrong
        if not captions:
            continue
        try:
            clip = file, start, end = finder.find(row)
            frames = finder.find_frames(row)
        except LookupError as err:
            problems.append(Problem(row.where, str(err)))
            continue
        if untold:
            cut = row.cut and file.stem.lower() == row.cut.lower()
            source = row.names[0] if cut else finder.name(file)
            split = of_file or make_split(source, seed, val, test)
        else:
            split = (row.split and known_split(row.split)) or row.split or "train"
            if split not in SPLITS:
                message = f"its split is {split!r}, none of {', '.join(SPLITS)}"
                problems.append(Problem(row.where, message))
        if clash := _clash(told.setdefault(file, []), start, end, split):
            message = f"{file} is of the split {clash[1]} in {clash[0]}, here of {split}; left out"
            problems.append(Problem(row.where, message))
            continue
        key = (*clip, frames)
        if key not in found:
            found[key] = [row.where, split, []]
            told[file].append((start, end, split, row.where))
        found[key][2] += captions
    if not found:
        why = f"; {problems[0].where}: {problems[0].message}" if problems else ""
        raise DatasetError(f"{path}: has not one row to learn from{why}")
    clips = [
        LabelledClip(file, tuple(captions), split, start, end, frames)
        for (file, start, end, frames), (_, split, captions) in found.items()
    ]
    searched = f"{finder.base} and {SEARCH_DEPTH} folders deep in it"
    return Labels(clips, [where for where, *_ in found.values()], problems, searched)


def make_split(name: str, seed: int = 0, val: float = 0.1, test: float = 0.1) -> str:
    """The split of a clip, which follows from its name and the seed alone."""
    digest = hashlib.sha256(os.fsencode(f"{seed}:{name}")).digest()
    place = int.from_bytes(digest[:8]) / 2**64
    return "test" if place < test else "val" if place < test + val else "train"


def write_labels(clips: Iterable[LabelledClip], path: Path):
    """Writes labels as JSON Lines, with paths relative to their folder.

    What the file held before is kept beside it with a `~` more.

    Raises:
        DatasetError: the file cannot be written; one that was there is left as it is.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("w", encoding="utf-8") as lines:
            for clip in clips:
                kind = "image" if clip.path.suffix.lower() in _PICTURES else "video"
                names = [_relative(file, path.parent) for file in clip.files]
                row = {"frames": names} if clip.frames else {kind: names[0]}
                row |= {"captions": clip.captions, "split": clip.split}
                if clip.start or clip.end is not None:
                    row |= {"start": clip.start, "end": clip.end}
                # Bytes of a name that are no UTF-8 can only be escaped.
                is_text = all(name.isprintable() for name in names)
                print(json.dumps(row, ensure_ascii=not is_text), file=lines)
        if path.exists() and not filecmp.cmp(path, partial, shallow=False):
            keep(path)
        partial.replace(path)
    except OSError as err:
        raise DatasetError(f"{path}: cannot be written: {err.strerror}") from err


def _relative(file: Path, folder: Path) -> str:
    return Path(os.path.relpath(file.absolute(), folder.absolute())).as_posix()


def _in_english(rows: Sequence[Row]) -> list[Row]:
    """Of rows that tell their language the English ones, if there are any."""
    english = [row for row in rows if row.language in (None, "") or _is_english(row)]
    return english if any(map(_is_english, english)) else list(rows)


def _is_english(row):
    return str(row.language).lower() in ("english", "en", "eng", "en-us", "en-gb")


def _good_captions(row) -> tuple[list[str], list[Problem]]:
    captions, problems = [], []
    for caption in row.captions:
        words = len(tokenize(caption))
        if not words:
            problems.append(Problem(row.where, f"an empty caption, {caption!r}; left out"))
        elif what := _no_sentence(caption):
            problems.append(Problem(row.where, f"{what} for a caption, {caption!r}; left out"))
        else:
            captions.append(caption)
        if words > LONG_CAPTION:
            message = f"a caption of {words} words; only its beginning is learned"
            problems.append(Problem(row.where, message))
    if not row.captions:
        problems.append(Problem(row.where, f"{row.names[0]} has no caption; left out"))
    return captions, problems


def _no_sentence(caption: str) -> str | None:
    """What a caption is that no person says of a clip."""
    text = caption.strip()
    if text.lower() in _NOTHING:
        return "a mark of what is missing"
    if not any(map(str.isalpha, text)):
        return "no letter"
    if _ADDRESS.fullmatch(text) or (is_video(text) and " " not in text):
        return "a file or an address"
    if _MARKUP.search(text):
        return "markup"
    if "\ufffd" in text or _is_misread(text):
        return "letters that were read by another encoding; save the labels as UTF-8:"
    return None


def _is_misread(text: str) -> bool:
    """Whether this is UTF-8 that was taken for Windows' Latin letters: `cafÃ©`."""
    try:
        return not text.isascii() and text.encode("cp1252").decode("utf-8") != text
    except UnicodeError:
        return False


def _clash(stretches, start, end, split) -> tuple[str, str] | None:
    """Where a stretch that overlaps this one has another split: the row, and that split."""
    for other_start, other_end, other, where in stretches:
        ends = [moment for moment in (end, other_end) if moment is not None]
        if other != split and all(max(start, other_start) < moment for moment in ends):
            return where, other
    return None


class _Finder:
    """Looks for the files that labels name."""

    def __init__(self, root: Path):
        self.root = root
        alone = _LABELS_ALONE.fullmatch(root.absolute().name)
        self.base = root.absolute().parent if alone else root
        self._index: dict[str, list[Path]] | None = None
        self._find_file = cache(self._look_for)  # many rows may name one file

    def find(self, row: Row) -> tuple[Path, float, float | None]:
        """The file of a row and the stretch of it; a file that is missing is guessed.

        Raises:
            LookupError: several files may be meant.
        """
        if row.cut and (file := self._find_file(row.cut)):
            return file, 0.0, None
        for name in row.names:
            if file := self._find_file(name):
                return file, row.start, row.end
        return self.root / row.names[0], row.start, row.end

    def find_frames(self, row: Row) -> tuple[Path, ...]:
        """The frames of a row that names them; one that is missing is guessed.

        Raises:
            LookupError: several files may be meant.
        """
        return tuple(self._find_file(name) or self.root / name for name in row.frames)

    def name(self, file: Path) -> str:
        """What a file is called, wherever the labels and their clips lie."""
        inside = file.is_relative_to(self.root)
        return file.relative_to(self.root).as_posix() if inside else file.name

    def _look_for(self, name: str) -> Path | None:
        names = [name, name.replace("\\", "/")]
        for path in (folder / one for one in names for folder in (self.root, Path())):
            if os.path.isfile(path):
                return path
        if self._index is None:
            self._index = self._list()
        parts = names[1].split("/")
        candidates = self._index.get(parts[-1].lower(), [])
        exact = [path for path in candidates if parts[-1] in (path.name, path.stem)]
        agreeing = {path: _common_tail(path, parts) for path in exact or candidates}
        # A path from elsewhere may begin with folders that are not here; one of here may not.
        far = names[1].startswith("/") or re.match("[a-zA-Z]:", name)
        best = max([1 if far else len(parts), *agreeing.values()])
        found = [path for path, count in agreeing.items() if count == best]
        if len(found) > 1:
            raise LookupError(f"{name} may be {found[0]} or {found[1]}; name its folder too")
        return found[0] if found else None

    def _list(self) -> dict[str, list[Path]]:
        """Videos and pictures by name and by name without suffix, in lower case."""
        index: dict[str, list[Path]] = {}
        for folder, folders, files in os.walk(self.base, followlinks=True):
            folders[:] = sorted(one for one in folders if one[0] != ".")
            if len(Path(folder).relative_to(self.base).parts) >= SEARCH_DEPTH:
                folders.clear()
            for file in sorted(filter(is_video, files)):
                path = Path(folder, file)
                for key in {file.lower(), path.stem.lower()}:
                    index.setdefault(key, []).append(path)
        return index


def _common_tail(path: Path, parts: list[str]) -> int:
    """How many parts of a path agree with `parts`, counted from the end; the name does."""
    pairs = zip(path.parts[-2::-1], parts[-2::-1])
    return 1 + len(list(takewhile(lambda pair: pair[0].lower() == pair[1].lower(), pairs)))

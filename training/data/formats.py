"""The formats that people's labels come in -> rows as written; told apart by content."""

import ast
import codecs
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from captioner.errors import DatasetError
from captioner.video import find_videos, is_video

from .tables import cells_of, file_of, records

KNOWN = (
    "JSON Lines, CSV, a folder with a .txt beside each clip, MSVD, MSR-VTT, COCO, Flickr8k or 30k, "
    "ActivityNet Captions, VATEX or Label Studio; simplest is a line "
    '{"video": PATH, "caption": SENTENCE} each'
)
# Names of fields and columns, in lower case and without signs; the first there counts.
NAME = tuple(
    "video image clip path filepath file filename videopath videofile imagepath imagefile media"
    " videoid imageid videoname imagename name id".split()
)
CAPTIONS = tuple(
    "captions caption sentences sentence descriptions description text texts label comment"
    " title".split()
)
SPLIT = ("split", "subset", "set", "partition")
START = ("start", "starttime", "startsec", "startseconds", "begin", "from")
END = ("end", "endtime", "endsec", "endseconds", "stop", "to")
LANGUAGE = ("language", "lang")
FRAMES = ("frames",)
_LITTLE_WORDS = {"a", "an", "and", "the", "is", "are", "in", "on", "of", "to", "with", ".", ","}


@dataclass(frozen=True)
class Row:
    """What one row of labels says, before any file is looked for.

    Attributes:
        where: the row, for people: `line 7`.
        names: paths or names of the file, the likeliest first; an id has no suffix.
        captions: sentences, as written.
        split: as written, or None.
        start: where in the file the clip begins, seconds.
        end: where it ends, seconds; None is the end of the file.
        cut: name of a file that, where there is one, holds nothing but this stretch.
        language: of the captions, where it is told.
        frames: paths of pictures in order, of a clip that comes as these; `names` is the first.
    """

    where: str
    names: tuple[str, ...]
    captions: tuple[str, ...]
    split: str | None = None
    start: float = 0.0
    end: float | None = None
    cut: str | None = None
    language: str | None = None
    frames: tuple[str, ...] = ()

    def __post_init__(self):
        for value in (*self.names, *self.captions, *self.frames):
            if not isinstance(value, str):
                raise ValueError(f"expected text, found {value!r}")
        if not all(name.strip() for name in (*self.names, *self.frames)):
            raise ValueError("names no file")
        if self.split is not None and not isinstance(self.split, str):
            raise ValueError(f"expected a split like train, val or test, found {self.split!r}")
        after = 0 <= self.start < (math.inf if self.end is None else self.end)
        if not after or self.end == math.inf:
            found = f"start={self.start}, end={self.end}"
            raise ValueError(f"expected 0 <= start < end in seconds, found {found}")


@dataclass(frozen=True)
class Problem:
    """What is wrong with labels: the row, for people, and a message."""

    where: str
    message: str


def read_rows(path: Path) -> Iterator[Row | Problem]:
    """Reads labels of any known format, row by row; a bad row is a `Problem`.

    Raises:
        DatasetError: the file cannot be read, or is of no known format.
    """
    if path.is_dir():
        return _read_folder(path)
    text = _read_text(path)
    if text.lstrip()[:1] in ("{", "["):
        try:
            rows = _read_json(json.loads(text))
        except (json.JSONDecodeError, RecursionError) as err:
            lines = list(filter(str.strip, _lines(text)))
            if 2 * sum(line[0] == "{" for line in lines) < len(lines):
                raise DatasetError(
                    f"{path}: damaged JSON ({err}); copy or export it again"
                ) from err
            rows = _read_json_lines(text)
        except (KeyError, TypeError, AttributeError) as err:
            raise DatasetError(f"{path}: damaged labels ({err!r}); export them again") from err
    else:
        rows = _read_table(text)
    if rows is None:
        raise DatasetError(f"{path}: not labels of a known format; expected {KNOWN}")
    return rows


def _read_text(path):
    try:
        content = path.read_bytes()
        if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return content.decode("utf-16")
        if content.startswith(codecs.BOM_UTF8):
            content = content[len(codecs.BOM_UTF8) :]
        return "\n".join(map(_decode, content.split(b"\n")))
    except (OSError, UnicodeDecodeError) as err:
        raise DatasetError(f"{path}: cannot be read as labels ({err}); check the path") from err


def _decode(line: bytes) -> str:
    """Of a file that several have written to, one line may be UTF-8 and another not."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("cp1252")  # what spreadsheets write on many Windows machines


def _lines(text: str) -> list[str]:
    """Lines as files have them; `str.splitlines` would also cut where a sentence may go on."""
    return [line.rstrip("\n") for line in io.StringIO(text, newline=None)]


def _each(entries: Iterable, parse: Callable[..., Iterable[Row]]) -> Iterator[Row | Problem]:
    """Parses entries `(where, ...)` one by one, so that a bad one takes no other down."""
    for where, *entry in entries:
        try:
            yield from parse(where, *entry)
        except KeyError as err:
            yield Problem(where, f"has no {err}")
        except (ValueError, TypeError, AttributeError) as err:
            yield Problem(where, str(err))


def _numbered(what: str, *entries: Iterable) -> Iterator[tuple]:
    return ((f"{what} {number}", *entry) for number, entry in enumerate(zip(*entries), 1))


def _read_json_lines(text):
    lines = [(where, line) for where, line in _numbered("line", _lines(text)) if line.strip()]
    return _each(lines, lambda where, line: [_from_fields(where, _from_json(line))])


def _from_json(line):
    def once(pairs):
        fields = dict(pairs)
        if len(fields) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"names {twice!r} twice; write several captions as a list")
        return fields

    return json.loads(line, object_pairs_hook=once)


def _read_json(data):
    if isinstance(data, dict):
        first = next(iter(data.values()), None)
        if "videos" in data and "sentences" in data:
            return _read_msrvtt(data)
        if "images" in data:
            return _read_coco(data)
        if isinstance(first, dict) and "timestamps" in first:
            return _each(data.items(), _from_activitynet)
        if _field(data, NAME) or _field(data, CAPTIONS):
            return _each([("line 1", data)], lambda where, row: [_from_fields(where, row)])
        if isinstance(first, str | list):
            return _each(data.items(), lambda name, said: [Row(name, (name,), _sentences(said))])
    elif isinstance(data, list) and data and isinstance(data[0], dict):
        entries = _numbered("entry", data)
        if "videoID" in data[0]:
            return _each(entries, _from_vatex)
        if "data" in data[0]:
            return _read_label_studio(data)
        if any(isinstance(row, dict) and _field(row, CAPTIONS) for row in data):
            return _each(entries, lambda where, row: [_from_fields(where, row)])
    return None


def _field(fields: Iterable[str], names: tuple[str, ...]) -> list[str]:
    """Those of `fields` that go by the first of `names` that any goes by."""
    return _named(tuple(fields), names)


@lru_cache  # rows mostly have the same fields
def _named(fields, names):
    plain = {field: re.sub("[^a-z0-9]", "", field.lower()) for field in fields}
    if names is CAPTIONS:  # caption 1, caption 2
        plain = {field: name.rstrip("0123456789") for field, name in plain.items()}
    for name in names:
        if found := [field for field in plain if plain[field] == name]:
            return found
    return []


def _from_fields(where, fields) -> Row:
    """A row whose fields, or columns, have names of their own."""
    if not isinstance(fields, dict):
        raise ValueError(f"expected {{...}}, found {fields!r}")

    def value(names, default=None):
        keys = _field(fields, names)
        return default if not keys or fields[keys[0]] in (None, "") else fields[keys[0]]

    frames = value(FRAMES)
    frames = tuple(frames) if isinstance(frames, list) else ()  # else they were counted
    if (name := frames[0] if frames else value(NAME)) is None:
        raise ValueError('names no file; expected {"video" or "image": PATH, or "frames": [PATH]}')
    if not _field(fields, CAPTIONS):
        raise ValueError('has no caption; expected "captions": [SENTENCE, ...]')
    captions = [one for key in _field(fields, CAPTIONS) for one in _sentences(fields[key])]
    start, end = value(START, 0.0), value(END)
    if frames:
        if start or end is not None:
            raise ValueError("frames have no times; leave out start and end, and other frames")
        said = tuple(captions)
        return Row(where, frames[:1], said, value(SPLIT), language=value(LANGUAGE), frames=frames)
    return Row(
        where,
        _uploaded(name) if isinstance(name, str) else (name,),
        tuple(captions),
        value(SPLIT),
        _seconds(start),
        None if end is None else _seconds(end),
        f"{name}_{start}_{end}" if end is not None else None,
        value(LANGUAGE),
    )


def _sentences(said) -> tuple[str, ...]:
    """Sentences, of which there may be several in a list, or in the text of a cell.

    Raises:
        ValueError: it is something else.
    """
    if isinstance(said, str):
        said = _unwritten(said)
    if said is None:
        return ()
    if isinstance(said, str):
        return (said,)
    if isinstance(said, dict):  # as Label Studio's JSON-MIN has what an annotator wrote
        told = said.keys() & {"start", "end", "ranges", "x", "y"}
        if told or not (keys := _field(said, CAPTIONS)):
            raise ValueError(f"expected a sentence of the whole clip, found {said!r}")
        return _sentences(said[keys[0]])
    if not isinstance(said, list | tuple):
        raise ValueError(f"expected text, found {said!r}")
    found = tuple(sentence for one in said for sentence in _sentences(one))
    words = [sentence for sentence in found if len(sentence.split()) == 1]
    if len(found) == len(words) > 2 and _LITTLE_WORDS.intersection(map(str.lower, words)):
        raise ValueError(f"expected sentences, found the words of one, {said!r}; join them")
    return found


def _unwritten(text: str):
    """The list or object that a cell holds as JSON or Python write it; other text as it is."""
    if text.strip()[:1] + text.strip()[-1:] not in ("[]", "{}"):
        return text
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return text


def _seconds(value) -> float:
    """Seconds as a number, `12.5`, `12,5` or `[HH:]MM:SS`."""
    if isinstance(value, str):
        hours, minutes, seconds = ("0:0:" + value.strip().replace(",", ".")).split(":")[-3:]
        return float(hours) * 3600 + float(minutes) * 60 + float(seconds)
    return float(value)


def _read_msrvtt(data):
    splits = {video["video_id"]: video.get("split") for video in data["videos"]}

    def parse(where, sentence):
        video = sentence["video_id"]
        return [Row(where, (video,), _sentences(sentence["caption"]), splits.get(video))]

    return _each(_numbered("sentence", data["sentences"]), parse)


def _read_coco(data):
    if "annotations" not in data:  # as Karpathy and Li (2015) publish it
        return _each(_numbered("image", data["images"]), _from_karpathy)
    files = {image["id"]: image["file_name"] for image in data["images"]}

    def parse(where, annotation):
        image = annotation["image_id"]
        if image not in files:
            raise ValueError(f"there is no image {image!r}")
        return [Row(where, (files[image],), _sentences(annotation["caption"]))]

    return _each(_numbered("annotation", data["annotations"]), parse)


def _from_karpathy(where, image):
    name = "/".join(filter(None, [image.get("filepath"), image["filename"]]))
    captions = tuple(sentence["raw"] for sentence in image["sentences"])
    return [Row(where, (name,), captions, image.get("split"))]


def _from_activitynet(video, entry):
    names = (video, video.removeprefix("v_"))
    said = zip(entry["timestamps"], entry["sentences"], strict=True)
    return [
        Row(f"{video}, sentence {number}", names, (sentence,), None, float(start), float(end))
        for number, ((start, end), sentence) in enumerate(said, 1)
    ]


def _from_vatex(where, entry):
    if "enCap" not in entry and "caption" not in entry:
        raise ValueError("has no caption: VATEX keeps those of its test splits to itself")
    said = _sentences(entry.get("enCap", entry.get("caption")))
    return [_stretch(where, entry["videoID"], said)]


def _stretch(where, cut, captions) -> Row:
    """A row of `VIDEO_START_END`: a file of that name, or that stretch of a file VIDEO."""
    video, start, end = cut.rsplit("_", 2)
    return Row(where, (video,), captions, None, float(start), float(end), cut)


def _read_label_studio(tasks):
    """Where people wrote texts of several kinds, those that are named as captions are."""
    kinds = {str(result.get("from_name")) for task in tasks for _, result in _texts(task)}
    named = set(_field(sorted(kinds), CAPTIONS)) or kinds
    if len(named) > 1:
        message = f"texts of several kinds are all learned as captions: {', '.join(sorted(named))}"
        yield Problem("the project", message)
    entries = _numbered("entry", tasks)
    yield from _each(entries, lambda where, task: _from_label_studio(where, task, named))


def _texts(task) -> Iterator[tuple[dict, dict]]:
    """The annotations of a task and their results, as far as these are texts."""
    for annotation in task.get("annotations") or task.get("completions") or []:
        for result in annotation.get("result") or []:
            if result.get("type") == "textarea" and not annotation.get("was_cancelled"):
                yield annotation, result


def _from_label_studio(where, task, named):
    data = task["data"]
    keys = _field(data, NAME) or [key for key in data if is_video(str(data[key]))]
    if not keys:
        raise ValueError("its data name no video or image")
    names = _uploaded(data[keys[0]])
    rows = []
    for _, result in _texts(task):
        if str(result.get("from_name")) not in named:
            continue
        value = result["value"]
        if "ranges" in value:
            raise ValueError("a stretch in frames; give start and end in seconds")
        if "x" in value or "points" in value:
            raise ValueError("said of a part of the picture; a caption is of the whole")
        start, end = value.get("start", 0.0), value.get("end")
        end = None if end is None else _seconds(end)
        said = _sentences(value["text"])
        rows.append(Row(where, names, said, data.get("split"), _seconds(start), end))
    return rows or [Row(where, names, ())]


def _uploaded(address: str) -> tuple[str, ...]:
    """Paths that may be meant by Label Studio's address of a file."""
    if not re.match("/data/(upload|local-files)/|[a-z0-9-]+://", address):
        return (address,)
    parts = urlsplit(address)
    if local := parse_qs(parts.query).get("d"):  # /data/local-files/?d=PATH
        return (local[0],)
    name = unquote(Path(parts.path).name)
    return (name, re.sub(r"^[0-9a-f]{8}-", "", name))  # an upload gets a prefix


def _read_table(text) -> Iterator[Row | Problem] | None:
    lines = list(filter(str.strip, _lines(text)))
    msvd = re.compile(r"(\S+_\d+_\d+)\s+(\S.*)")
    head = [line for line in lines if line[0] != "#"][:20]
    if head and all(map(msvd.fullmatch, head)):  # AllVideoDescriptions.txt

        def parse(where, line):
            match = msvd.fullmatch(line.strip())
            if match is None:
                raise ValueError("expected VIDEO_START_END and a sentence")
            return [_stretch(where, match[1], (match[2],))]

        lines = _numbered("line", _lines(text))
        return _each(((at, line) for at, line in lines if line.strip()[:1] not in ("", "#")), parse)
    for delimiter in ",;\t|":
        header = cells_of(lines[0], delimiter)[0] if lines else []
        if _field(header, NAME) and _field(header, CAPTIONS):
            return _read_csv(text, delimiter, [column.strip() for column in header])
    for delimiter in ",;\t|":
        if lines and is_video(file_of(lines[0].split(delimiter)[0].strip(' "'))):
            return _read_csv(text, delimiter, None)
    return None


def _read_csv(text, delimiter, header):
    """Rows of a table; without a header its columns are path and caption."""
    columns = header or ["path", "caption"]

    def parse(where, cells, is_whole):
        if not is_whole:
            raise ValueError("a quote is opened and not closed; close it, or double it")
        if len(cells) > len(columns) and columns[-1] in _field(columns, CAPTIONS):
            # A sentence with commas that nobody quoted.
            rest = delimiter.join(cells[len(columns) - 1 :])
            cells = [*cells[: len(columns) - 1], rest]
        if len(cells) != len(columns):
            raise ValueError(f"has {len(cells)} cells, expected {len(columns)}")
        stripped = [cell.strip() for cell in cells]
        if not header:
            stripped[0] = file_of(stripped[0])
        return [_from_fields(where, dict(zip(columns, stripped, strict=True)))]

    names = _field(columns, NAME)
    name_at = columns.index(names[0])
    found = records(_lines(text), delimiter, len(columns), name_at)
    if header:
        next(found)
    return _each(found, parse)


def _read_folder(folder: Path):
    """Clips of a folder, each with sentences in a .txt of its name, a line each."""

    def parse(where, clip):
        text = clip.with_suffix(".txt")
        if not text.is_file():
            raise ValueError(f"has no caption: there is no {text.name} beside it")
        captions = tuple(line.strip() for line in _lines(_read_text(text)) if line.strip())
        name = clip.relative_to(folder)
        split = next(filter(None, map(known_split, name.parts[:-1])), None)
        return [Row(where, (str(name),), captions, split)]

    clips = list(find_videos(folder, recursive=True))
    yield from _each(((str(clip.relative_to(folder)), clip) for clip in clips), parse)
    labelled = {clip.with_suffix(".txt") for clip in clips}
    for text in sorted(folder.rglob("*.txt")):
        if text not in labelled:
            yield Problem(str(text.relative_to(folder)), "there is no clip of its name beside it")


def known_split(name: str) -> str | None:
    """`train`, `val` or `test`, as a name like `captions_val2014` tells; None if it does not."""
    spelled = {"training": "train", "restval": "train", "testing": "test"}
    spelled |= dict.fromkeys("valid validate validation dev".split(), "val")
    words = {spelled.get(word, word) for word in re.findall("[a-z]+", name.lower())}
    told = words & {"train", "val", "test"}
    return told.pop() if len(told) == 1 else None

"""Parsers of the formats that labels come in -> rows as written; told apart by content."""

import codecs
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

from captioner.errors import DatasetError
from captioner.video import find_videos, is_video

from .label_studio import files_meant, read_tasks
from .rows import (
    CAPTIONS,
    END,
    FRAMES,
    LANGUAGE,
    NAME,
    SPLIT,
    START,
    Problem,
    Row,
    each,
    fields_named,
    numbered,
    seconds_of,
    sentences,
)
from .tables import cells_of, file_of, records

KNOWN = (
    "JSON Lines, CSV, a folder with a .txt beside each clip, MSVD, MSR-VTT, COCO, Flickr8k or 30k, "
    "ActivityNet Captions, VATEX or Label Studio; simplest is a line "
    '{"video": PATH, "caption": SENTENCE} each'
)


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


def _read_json_lines(text):
    lines = [(where, line) for where, line in numbered("line", _lines(text)) if line.strip()]
    return each(lines, lambda where, line: [_from_fields(where, _from_json(line))])


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
            return each(data.items(), _from_activitynet)
        if fields_named(data, NAME) or fields_named(data, CAPTIONS):
            return each([("line 1", data)], lambda where, row: [_from_fields(where, row)])
        if isinstance(first, str | list):
            return each(data.items(), lambda name, said: [Row(name, (name,), sentences(said))])
    elif isinstance(data, list) and data and isinstance(data[0], dict):
        entries = numbered("entry", data)
        if "videoID" in data[0]:
            return each(entries, _from_vatex)
        if "data" in data[0]:
            return read_tasks(data)
        if any(isinstance(row, dict) and fields_named(row, CAPTIONS) for row in data):
            return each(entries, lambda where, row: [_from_fields(where, row)])
    return None


def _from_fields(where, fields) -> Row:
    """A row whose fields, or columns, have names of their own."""
    if not isinstance(fields, dict):
        raise ValueError(f"expected {{...}}, found {fields!r}")

    def value(names, default=None):
        keys = fields_named(fields, names)
        return default if not keys or fields[keys[0]] in (None, "") else fields[keys[0]]

    frames = value(FRAMES)
    frames = tuple(frames) if isinstance(frames, list) else ()  # else they were counted
    if (name := frames[0] if frames else value(NAME)) is None:
        raise ValueError('names no file; expected {"video" or "image": PATH, or "frames": [PATH]}')
    if not fields_named(fields, CAPTIONS):
        raise ValueError('has no caption; expected "captions": [SENTENCE, ...]')
    captions = [one for key in fields_named(fields, CAPTIONS) for one in sentences(fields[key])]
    start, end = value(START, 0.0), value(END)
    if frames:
        if start or end is not None:
            raise ValueError("frames have no times; leave out start and end, and other frames")
        said = tuple(captions)
        return Row(where, frames[:1], said, value(SPLIT), language=value(LANGUAGE), frames=frames)
    return Row(
        where,
        files_meant(name) if isinstance(name, str) else (name,),
        tuple(captions),
        value(SPLIT),
        seconds_of(start),
        None if end is None else seconds_of(end),
        f"{name}_{start}_{end}" if end is not None else None,
        value(LANGUAGE),
    )


def _read_msrvtt(data):
    splits = {video["video_id"]: video.get("split") for video in data["videos"]}

    def parse(where, sentence):
        video = sentence["video_id"]
        return [Row(where, (video,), sentences(sentence["caption"]), splits.get(video))]

    return each(numbered("sentence", data["sentences"]), parse)


def _read_coco(data):
    if "annotations" not in data:  # as Karpathy and Li (2015) publish it
        return each(numbered("image", data["images"]), _from_karpathy)
    files = {image["id"]: image["file_name"] for image in data["images"]}

    def parse(where, annotation):
        image = annotation["image_id"]
        if image not in files:
            raise ValueError(f"there is no image {image!r}")
        return [Row(where, (files[image],), sentences(annotation["caption"]))]

    return each(numbered("annotation", data["annotations"]), parse)


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
    said = sentences(entry.get("enCap", entry.get("caption")))
    return [_stretch(where, entry["videoID"], said)]


def _stretch(where, cut, captions) -> Row:
    """A row of `VIDEO_START_END`: a file of that name, or that stretch of a file VIDEO."""
    video, start, end = cut.rsplit("_", 2)
    return Row(where, (video,), captions, None, float(start), float(end), cut)


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

        lines = numbered("line", _lines(text))
        return each(((at, line) for at, line in lines if line.strip()[:1] not in ("", "#")), parse)
    for delimiter in ",;\t|":
        header = cells_of(lines[0], delimiter)[0] if lines else []
        if fields_named(header, NAME) and fields_named(header, CAPTIONS):
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
        if len(cells) > len(columns) and columns[-1] in fields_named(columns, CAPTIONS):
            # A sentence with commas that nobody quoted.
            rest = delimiter.join(cells[len(columns) - 1 :])
            cells = [*cells[: len(columns) - 1], rest]
        if len(cells) != len(columns):
            raise ValueError(f"has {len(cells)} cells, expected {len(columns)}")
        stripped = [cell.strip() for cell in cells]
        if not header:
            stripped[0] = file_of(stripped[0])
        return [_from_fields(where, dict(zip(columns, stripped, strict=True)))]

    names = fields_named(columns, NAME)
    name_at = columns.index(names[0])
    found = records(_lines(text), delimiter, len(columns), name_at)
    if header:
        next(found)
    return each(found, parse)


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
    yield from each(((str(clip.relative_to(folder)), clip) for clip in clips), parse)
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

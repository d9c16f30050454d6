"""Captions -> text: JSON Lines, CSV, plain text, SubRip and WebVTT."""

import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from html import escape

from .caption import Candidate, Caption, Failure, Segment

COLUMNS = ("video", "start", "end", "caption", "score", "duration", "model", "error")
VTT_HEADER = "WEBVTT\n"  # an empty line parts it from the first cue


def to_row(result: Caption | Failure) -> dict[str, object]:
    """The row of a video.

    Its fields are `video`, `caption`, `score`, `duration`, `model`, `error`, `size` and
    `modified`; what a row has no value for is None: `error` of a caption; `caption`, `score` and
    `duration` of a failure. With segments there is `segments` too: of each `start`, `end`,
    `caption` and `score`; and with flags that sentences depend on, `options`.
    """
    row = dict.fromkeys(("video", "caption", "score", "duration", "model", "error"))
    row |= {"video": result.video, "model": result.model}
    row |= {"size": result.size, "modified": result.modified}
    if isinstance(result, Failure):
        row |= {"error": result.error}
    else:
        row |= {
            "caption": result.text,
            "score": round(result.score, 4),
            "duration": round(result.duration, 3),
        }
        if result.segments:
            row["segments"] = [
                {
                    "start": round(segment.start, 3),
                    "end": round(segment.end, 3),
                    "caption": segment.text,
                    "score": round(segment.score, 4),
                }
                for segment in result.segments
            ]
        if result.options:
            row["options"] = result.options
    return row


def from_row(row: dict[str, object]) -> Caption | Failure:
    """The reverse of `to_row`, as far as a row holds it.

    Raises:
        ValueError: this is no such row.
    """
    try:
        file = {"size": row["size"], "modified": row["modified"]}
        if row["error"] is not None:
            return Failure(row["video"], row["error"], row["model"], **file)
        candidates = (Candidate(row["caption"], row["score"]),)
        segments = tuple(
            Segment(
                segment["start"], segment["end"], (Candidate(segment["caption"], segment["score"]),)
            )
            for segment in row.get("segments") or ()
        )
        return Caption(
            row["video"],
            candidates,
            row["duration"],
            row["model"],
            segments=segments,
            options=row.get("options") or "",
            **file,
        )
    except (KeyError, TypeError) as err:
        raise ValueError(f"expected a row of captions, found: {row!r}") from err


def to_json(result: Caption | Failure) -> str:
    """The row of `to_row` as JSON, without line break."""
    row = to_row(result)
    text = json.dumps(row, ensure_ascii=False)
    # A path that is no Unicode can only be told in escapes.
    return text if text.isascii() or is_unicode(text) else json.dumps(row)


def is_unicode(text: str) -> bool:
    """Whether a text can be written: a path may hold bytes that are none."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def from_json(row: str | bytes) -> Caption | Failure:
    """The reverse of `to_json`, as far as a row holds it.

    Raises:
        ValueError: this is no such row.
    """
    return from_row(json.loads(row))


def to_text(result: Caption | Failure) -> str:
    """The clip's path, a tab and its sentence, or why there is none; without line break.

    With segments a line each, their times between path and sentence. Tabs and line breaks of a path
    are written as `\\t` and `\\n`.
    """
    video = _in_one_line(result.video)
    if isinstance(result, Failure):
        return f"{video}\t[not captioned: {_in_one_line(result.error)}]"
    if not result.segments:
        return f"{video}\t{result.text}"
    return "\n".join(
        f"{video}\t{to_timecode(segment.start)} - {to_timecode(segment.end)}\t{segment.text}"
        for segment in result.segments
    )


def _read_text(line: bytes):
    if b"\t" not in line:
        raise ValueError(f"expected a path, a tab and a sentence, received: {line!r}")


def _in_one_line(text: str) -> str:
    return re.sub(r"[\0-\x1f\x7f\x85\u2028\u2029]", lambda found: repr(found[0])[1:-1], text)


def to_csv(result: Caption | Failure) -> str:
    """A line of `COLUMNS` a segment, or one for the whole; without the last line break."""
    if isinstance(result, Failure):
        lines = [(result.video, "", "", "", "", "", result.model, result.error)]
    else:
        whole = Segment(0.0, result.duration, result.candidates)
        lines = [
            (
                result.video,
                round(segment.start, 3),
                round(segment.end, 3),
                segment.text,
                round(segment.score, 4),
                round(result.duration, 3),
                result.model,
                "",
            )
            for segment in result.segments or [whole]
        ]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()[:-1]


def to_srt(result: Caption | Failure) -> str:
    """SubRip: a cue a segment, or one from the first frame to the last."""
    return "\n".join(_cues(result, "srt"))


def to_vtt(result: Caption | Failure) -> str:
    """WebVTT, likewise."""
    return "\n".join([VTT_HEADER, *_cues(result, "vtt")])


def _cues(result, kind):
    if isinstance(result, Failure):
        return
    segments = result.segments or [Segment(0.0, result.duration, result.candidates)]
    for number, segment in enumerate(segments, 1):
        yield to_cue(kind, number, segment.start, segment.end, segment.text)


def to_cue(kind: str, number: int, start: float, end: float, text: str) -> str:
    """A subtitle of `srt` or `vtt`; an empty line parts it from the next.

    Args:
        kind: the format.
        number: its place among the cues, from 1.
        start: seconds. A cue that would end there, as that of a still picture, lasts a second.
        end: seconds.
        text: what is shown.
    """
    if kind == "vtt":
        text, point = escape(text, quote=False), "."
    else:
        text, point = text.replace("-->", "->"), ","
    times = (to_timecode(t, point) for t in (start, end if end > start else start + 1))
    return f"{number}\n{' --> '.join(times)}\n{text}\n"


def to_timecode(seconds: float, point: str = ".") -> str:
    """`hh:mm:ss.mmm`, as subtitles have it."""
    minutes, milliseconds = divmod(round(1000 * seconds), 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02}{point}{milliseconds % 1000:03}"


@dataclass(frozen=True)
class Format:
    """A way to write captions.

    Attributes:
        write: a caption or failure -> its text, without the last line break.
        suffix: of a file in this format.
        header: the first line of a file, where it has one.
        one_file: whether the captions of many videos make one file, or one each.
        read: raises ValueError for what is no line of a file in this format, so that no other
            file is overwritten; needed where a file has no header.
    """

    write: Callable[[Caption | Failure], str]
    suffix: str
    header: str = ""
    one_file: bool = True
    read: Callable[[bytes], object] | None = None


FORMATS = {
    "jsonl": Format(to_json, ".jsonl", read=from_json),
    "text": Format(to_text, ".txt", read=_read_text),
    "csv": Format(to_csv, ".csv", header=",".join(COLUMNS)),
    "srt": Format(to_srt, ".srt", one_file=False),
    "vtt": Format(to_vtt, ".vtt", one_file=False),
}

"""A video's sentences in the formats that people take away."""

import csv
import io
import json
import re
import sqlite3
import zipfile
from datetime import datetime

from captioner.moments.output import FORMATS, to_text
from captioner.moments.segments import LabelledSegment
from captioner.output import VTT_HEADER, to_cue

from .store import moments, videos

MEDIA_TYPES = {
    "vtt": "text/vtt",
    "srt": "application/x-subrip",
    "json": "application/json",
    "txt": "text/plain",
}
LABEL_MEDIA_TYPES = {
    "jsonl": "application/jsonl",
    "csv": "text/csv",
    "srt": "application/x-subrip",
    "vtt": "text/vtt",
    "audacity": "text/plain",
}
COLUMNS = ("video", "caption", "start", "end", "duration", "model", "corrected", "recorded", "tags")
IN_ZIP = ("srt", "vtt", "txt")


def write(db: sqlite3.Connection, video: str, kind: str) -> str:
    """The sentences of a video as `vtt`, `srt`, `json` or `txt`.

    A long video's file has a sentence for each stretch, another one's the one for all of it.
    """
    row, said = videos.read(db, video), videos.sentences(db, video)
    cues = said[1:] or said
    if kind == "json":
        return json.dumps(
            {
                "video": row["name"],
                "caption": row["sentence"],
                "duration": row["duration"],
                "model": row["model"],
                "sentences": [
                    {"start": cue["start"], "end": cue["end"], "text": cue["text"]} for cue in said
                ],
            },
            ensure_ascii=False,
            indent=2,
        )
    if kind == "txt":
        return "".join(f"{cue['text']}\n" for cue in cues)
    blocks = [VTT_HEADER] if kind == "vtt" else []
    for number, cue in enumerate(cues, 1):
        blocks.append(to_cue(kind, number, cue["start"], cue["end"], cue["text"]))
    return "\n".join(blocks)


def export(db: sqlite3.Connection, rows: list[dict], kind: str) -> str:
    """Rows of the library as `jsonl` or `csv`."""
    table = [
        {
            "video": row["name"],
            "caption": sentence["text"],
            "start": sentence["start"],
            "end": sentence["end"],
            "duration": row["duration"],
            "model": row["model"],
            "corrected": sentence["corrected"] is not None,
            "recorded": row["recorded"] and _date(row["recorded"]),
            "tags": row["tags"],
        }
        for row in rows
        for sentence in videos.sentences(db, row["id"])
    ]
    if kind == "jsonl":
        return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in table)
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS)
    writer.writeheader()
    for line in table:
        line["tags"] = ", ".join(line["tags"])
        writer.writerow({name: _harmless(cell) for name, cell in line.items()})
    return out.getvalue()


def archive(db: sqlite3.Connection, rows: list[dict], kind: str, is_labels: bool) -> bytes:
    """A zip with a file of each video that has sentences, or labels, named as it is.

    Args:
        db: the database.
        rows: of the library.
        kind: of `IN_ZIP`; labels as text are Audacity's.
        is_labels: labels, instead of sentences.
    """
    out, taken = io.BytesIO(), set()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for row in rows:
            if is_labels:
                form = "audacity" if kind == "txt" else kind
                has_any = moments.read(db, row["id"])["model"] is not None
                text = write_labels(db, row["id"], form) if has_any else None
            else:
                text = write(db, row["id"], kind) if row["sentence"] is not None else None
            if text is None:
                continue
            name, number = stem(row["name"]), 1
            while f"{name}.{kind}".casefold() in taken:  # on some disks Name and name are one
                number += 1
                name = f"{stem(row['name'])} ({number})"
            taken.add(f"{name}.{kind}".casefold())
            archive.writestr(f"{name}.{kind}", text)
    return out.getvalue()


def stem(name: str) -> str:
    """A file's name without its ending, harmless in any folder."""
    name = re.sub(r'[\\/:*?"<>|]', "_", name.rpartition(".")[0] or name)
    return name.lstrip(".") or "video"


def write_labels(db: sqlite3.Connection, video: str, kind: str) -> str:
    """The labels of a video's moments, written as `captioner moments label` does it."""
    form = FORMATS[kind]
    return form.header + _labels_text(db, videos.read(db, video), kind)


def export_labels(db: sqlite3.Connection, rows: list[dict], kind: str) -> str:
    """Those of rows of the library as `jsonl` or `csv`; videos that wait for them are left out."""
    return FORMATS[kind].header + "".join(_labels_text(db, row, kind) for row in rows)


def _labels_text(db, row, kind):
    form, labelling = FORMATS[kind], moments.read(db, row["id"])
    name = _harmless(row["name"]) if kind == "csv" else row["name"]
    if labelling["model"] is None:
        failed = labelling["state"] == "failed" and form.failure
        return form.failure(name, labelling["error"]) if failed else ""
    segments = [
        LabelledSegment(found["label"], found["start"], found["end"], found["probability"])
        for found in labelling["segments"]
    ]
    return "".join(to_text(name, segments, form))


def _date(seconds):
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")


def _harmless(cell):
    """Spreadsheets run cells that begin like a formula."""
    return f"'{cell}" if isinstance(cell, str) and re.match(r"[=+\-@\t\r]", cell) else cell

"""What the API tells and the pages show of a video and of a model."""

import json
import os
import re
import sqlite3
from pathlib import Path

from markupsafe import Markup, escape

from .store import history, jobs, models, moments, previews, tags, videos
from .store.videos import printable


def video(db: sqlite3.Connection, video: str) -> dict:
    """What `schemas.VideoDetails` says.

    Raises:
        Refusal: 404.
    """
    row = videos.read(db, video)
    sentences = [
        dict(sentence) | {"corrected": sentence["corrected"] is not None}
        for sentence in videos.sentences(db, video)
    ]
    return (
        dict(row)
        | videos.looked_at(db, video)
        | {
            "corrected": row["corrected"] is not None,
            "path": row["path"] and printable(os.fsdecode(row["path"])),
            "sentences": sentences,
            "labelling": moments.read(db, video),
            "tags": tags.of(db, video),
            "undo": history.last(db, video),
            "preview": previews.read(db, video),
            "options": jobs.options(db, video),
            "queue_place": jobs.queue_place(db, video),
        }
    )


def model(row: sqlite3.Row) -> dict:
    """What `model_routes.ModelSchema` says of a row of the table `models`."""
    return dict(row) | {
        "name": name_of(row),
        "curve": models.curve(row),
        "judgement": models.judgement(row),
        "comparison": json.loads(row["comparison"]) if row["comparison"] else [],
    }


def name_of(row: sqlite3.Row) -> str:
    """What people call a model."""
    return row["title"] or row["name"]


def report_of(row: sqlite3.Row) -> Path | None:
    """The report on the training of a model, if there is one."""
    path = Path(row["path"]) / "report.html"
    return path if path.is_file() else None


def comparison(found: dict) -> dict:
    """The comparison of a new model, as `model` tells it, for the page.

    Returns:
        `pairs`, of what people corrected, words that they use too marked; and `others`, of what
        nobody corrected, those first of which the new model says something else.
    """
    pairs = [_marked(pair) for pair in found["comparison"] if pair.get("wanted")]
    others = [pair for pair in found["comparison"] if not pair.get("wanted")]
    return {"pairs": pairs, "others": sorted(others, key=lambda pair: pair["old"] == pair["new"])}


# Words that nearly every sentence has: to share them is no merit.
_UNTELLING = set("a an the is are of in on at to with and for from by his her its".split())


def _marked(pair):
    wanted = set(re.findall(r"\w+", pair["wanted"].lower())) - _UNTELLING
    marked = {
        who: Markup("").join(
            Markup("<mark>{}</mark>").format(piece) if piece.lower() in wanted else escape(piece)
            for piece in re.split(r"(\W+)", pair[who] or "")
        )
        for who in ("old", "new")
    }
    return pair | marked

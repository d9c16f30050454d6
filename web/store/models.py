"""Models: the one in use, earlier ones, and those being taught from corrections.

A row of `models` passes through waiting, training, comparing and ready; adopted it is active, and
the one before is earlier. A model that was taught here can be discarded, which can be undone for as
many days as the bin keeps videos.
"""

import csv
import json
import re
import shutil
import sqlite3
import time
from pathlib import Path

from captioner.model_folder import CONFIG, ModelFolder

from ..config import WebConfig
from ..errors import Refusal, not_found
from . import history, videos
from .database import transaction

MIN_CORRECTIONS = 2  # videos: what is said of one is judged by a model that learned from the other
OPEN = ("waiting", "training", "comparing")
LONGEST = 60  # letters of a name
SHOWN = 10  # videos that nobody corrected, to see what a new model changes on


def add_named(db: sqlite3.Connection, config: WebConfig) -> None:
    """Makes sure that the model that the owner named is known; one named anew is used.

    Raises:
        ModelError: there is no such model.
    """
    folder = ModelFolder.open(config.model)
    path = str(folder.path.resolve())
    with transaction(db):
        known = db.execute("UPDATE models SET path = ? WHERE name = ?", (path, folder.name))
        if not known.rowcount:
            db.execute("UPDATE models SET state = 'earlier' WHERE state = 'active'")
            db.execute(
                "INSERT INTO models (name, path, state, created) VALUES (?, ?, 'active', ?)",
                (folder.name, path, time.time()),
            )


def active(db: sqlite3.Connection) -> sqlite3.Row:
    """The model in use."""
    return db.execute("SELECT * FROM models WHERE state = 'active'").fetchone()


def being_taught(db: sqlite3.Connection) -> sqlite3.Row | None:
    """The model that is being taught or waits for it."""
    return db.execute(f"SELECT * FROM models WHERE state IN {OPEN}").fetchone()


def captioned_by_others(db: sqlite3.Connection) -> list[str]:
    """Videos whose sentence another model wrote than the one in use, oldest first."""
    rows = db.execute(
        "SELECT library.id FROM library JOIN videos USING (id) "
        "WHERE state = 'done' AND videos.model != ? ORDER BY library.created",
        (active(db)["name"],),
    )
    return [row["id"] for row in rows]


def said_before(db: sqlite3.Connection) -> list[sqlite3.Row]:
    """Of those, the videos that the model in use had captioned before.

    Each with its last sentences of then, as `history` keeps them: `video`, `sentences`, `caption`.
    """
    return db.execute(
        "SELECT history.video, history.sentences, history.caption, max(number) FROM history "
        "JOIN library ON library.id = history.video JOIN videos ON videos.id = history.video "
        "WHERE change = 'caption' AND state = 'done' "
        "AND history.model = :name AND videos.model != :name GROUP BY history.video",
        {"name": active(db)["name"]},
    ).fetchall()


def take_back(db: sqlite3.Connection) -> int:
    """Puts back what the model in use had said before another one; how many videos there were.

    What people corrected, before or since, stands. It can be undone, video by video.
    """
    with transaction(db):
        rows = said_before(db)
        for row in rows:
            spans = [
                (said["start"], said["end"], said["original"])
                for said in json.loads(row["sentences"])
                if said["original"]
            ]
            history.note(db, row["video"], "caption")
            videos.say(db, row["video"], spans)
            history.put_back(db, row["video"], active(db)["name"], row["caption"])
            history.tell(db, row["video"])
    return len(rows)


def read(db: sqlite3.Connection, model: int) -> sqlite3.Row:
    """A model's row.

    Raises:
        Refusal: 404.
    """
    row = db.execute("SELECT * FROM models WHERE id = ?", (model,)).fetchone()
    if row is None:
        raise not_found("model")
    return row


def all_models(db: sqlite3.Connection) -> list[sqlite3.Row]:
    """All models, newest first."""
    return db.execute("SELECT * FROM models ORDER BY id DESC").fetchall()


def corrections(db: sqlite3.Connection) -> list[dict]:
    """The sentences that people corrected: `video`, `text`, `start` and `end`.

    `start` and `end` are None of a sentence that is said of a whole video.
    """
    rows = db.execute(
        "SELECT video, text, iif(position, start, NULL) AS start, iif(position, end, NULL) AS end "
        "FROM sentences JOIN videos ON videos.id = video "
        "WHERE corrected IS NOT NULL AND binned IS NULL ORDER BY video, position"
    )
    return [dict(row) for row in rows]


def uncorrected(db: sqlite3.Connection) -> list[str]:
    """Up to `SHOWN` captioned videos that nobody corrected; for the same library the same ones."""
    rows = db.execute(
        "SELECT id FROM videos WHERE caption IS NOT NULL AND binned IS NULL "
        "AND NOT EXISTS (SELECT 1 FROM watched WHERE video = videos.id AND missing IS NOT NULL) "
        f"AND {videos.UNTOUCHED} ORDER BY id LIMIT {SHOWN}"  # ids are random, and so are these
    )
    return [row["id"] for row in rows]


def teach(db: sqlite3.Connection, config: WebConfig) -> int:
    """Puts down a model to be taught from all corrections; returns its id.

    Nothing is held out: the training judges the model by what others, which learned from a part of
    the corrections, say of the rest.

    Raises:
        Refusal: 409: there are too few corrections, or one is being taught.
    """
    labels = corrections(db)
    if len({label["video"] for label in labels}) < MIN_CORRECTIONS:
        raise Refusal(
            409,
            "too_few_corrections",
            f"Correct the sentences of at least {MIN_CORRECTIONS} videos first.",
        )
    with transaction(db):
        if being_taught(db):
            raise Refusal(409, "wrong_state", "A model is being taught already.")
        name = _new_name(db)
        folder = teaching_folder(config, name)
        output = config.data / "models" / name
        folder.mkdir(parents=True, exist_ok=True)
        rows = [
            {
                "video": str(videos.path_of(config, label["video"]).absolute()),
                "captions": [label["text"]],
                "split": "train",
            }
            | ({} if label["end"] is None else {"start": label["start"], "end": label["end"]})
            for label in labels
        ]
        (folder / "labels.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        cursor = db.execute(
            "INSERT INTO models (name, path, state, base, learned, created) "
            "VALUES (?, ?, 'waiting', ?, ?, ?)",
            (name, str(output.resolve()), active(db)["id"], len(labels), time.time()),
        )
    return cursor.lastrowid


def _new_name(db):
    """One that no model has, nor had: videos remember by which one they were captioned."""
    last = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'models'").fetchone()
    number = last["seq"] + 1
    while _is_taken(db, f"taught-{number}"):
        number += 1
    return f"taught-{number}"


def _is_taken(db, name, by_others_than=0):
    return db.execute(
        "SELECT 1 FROM models WHERE ? COLLATE NOCASE IN (name, title) AND id != ?",
        (name, by_others_than),
    ).fetchone()


def rename(db: sqlite3.Connection, model: int, name: str) -> None:
    """Calls a model otherwise, on all pages and in all exports; its folder keeps its name.

    Raises:
        Refusal: 404; 409: another one is called so.
    """
    with transaction(db):
        read(db, model)
        name = videos.tidy(name)
        if _is_taken(db, name, by_others_than=model):
            raise Refusal(409, "name_taken", "Another model has this name; choose a different one.")
        db.execute("UPDATE models SET title = nullif(?, name) WHERE id = ?", (name, model))


def teaching_folder(config: WebConfig, name: str) -> Path:
    """Where the labels and the log of a model's training lie; its own folder is `models/NAME`."""
    return config.data / "teaching" / name


def stage(config: WebConfig, row: sqlite3.Row) -> str | None:
    """How far the judging of a model is that is being trained, in words; None before it began."""
    try:
        log = (teaching_folder(config, row["name"]) / "log.txt").read_text(errors="replace")
    except FileNotFoundError:
        return None
    told = re.findall(r"^captioner: (judging, .*)$", log, re.MULTILINE)
    return told[-1] if told else None


def move(
    db: sqlite3.Connection, model: int, from_states: tuple[str, ...], state: str, **values
) -> None:
    """Moves a model on from one of some states.

    Raises:
        Refusal: 404, or 409 if it is in another state.
    """
    columns = "".join(f", {column} = :{column}" for column in values)
    states = ", ".join(f"'{name}'" for name in from_states)
    moved = db.execute(
        f"UPDATE models SET state = :state{columns} WHERE id = :model AND state IN ({states})",
        values | {"state": state, "model": model},
    )
    if not moved.rowcount:
        read(db, model)
        raise Refusal(409, "wrong_state", "This model is no longer in that state; reload the page.")


def adopt(db: sqlite3.Connection, model: int) -> None:
    """Uses a model, new or earlier, from the next video on."""
    with transaction(db):
        if read(db, model)["state"] not in ("ready", "earlier"):
            raise Refusal(409, "wrong_state", "Only a model that is ready can be used.")
        db.execute("UPDATE models SET state = 'earlier' WHERE state = 'active'")
        db.execute("UPDATE models SET state = 'active' WHERE id = ?", (model,))


def discard(db: sqlite3.Connection, config: WebConfig, model: int) -> None:
    """Does without a model that was taught here; one that is being taught stops.

    Raises:
        Refusal: 404; 409: it is in use, or was not taught here.
    """
    row = read(db, model)
    if row["state"] in OPEN:
        move(db, model, OPEN, "cancelled")
        return
    _check_ours(config, row)
    move(db, model, ("ready", "earlier"), "discarded", was=row["state"], discarded=time.time())


def restore(db: sqlite3.Connection, model: int) -> None:
    """Takes back that a model was discarded.

    Raises:
        Refusal: 404; 409: it was not, or its files are gone.
    """
    row = read(db, model)
    if not (Path(row["path"]) / CONFIG).exists():
        raise Refusal(409, "wrong_state", "The files of this model are gone.")
    move(db, model, ("discarded",), row["was"] or "ready", discarded=None)


def delete(db: sqlite3.Connection, config: WebConfig, model: int) -> None:
    """Deletes a model that was taught here and is not in use, for good.

    Raises:
        Refusal: 404; 409: it is in use, is being taught or gone on from, or was not taught here.
    """
    with transaction(db):
        row = read(db, model)
        _check_ours(config, row)
        taught = being_taught(db)
        if row["state"] in ("active", *OPEN) or (taught and taught["base"] == model):
            raise Refusal(
                409,
                "wrong_state",
                "This model is in use, being taught, or being learned from; try later.",
            )
        db.execute("UPDATE models SET base = NULL WHERE base = ?", (model,))
        db.execute("DELETE FROM models WHERE id = ?", (model,))
    for folder in (Path(row["path"]), teaching_folder(config, row["name"])):
        shutil.rmtree(folder, ignore_errors=True)


def is_ours(config: WebConfig, row: sqlite3.Row) -> bool:
    """Whether a model was taught here, so that its folder is ours to delete."""
    return Path(row["path"]).parent == (config.data / "models").resolve()


def _check_ours(config, row):
    if not is_ours(config, row):
        raise Refusal(
            409, "not_taught", "Only models that were taught here can be discarded or deleted."
        )
    if row["state"] == "active":
        raise Refusal(409, "wrong_state", "This model is in use; use another one first.")


def clean(db: sqlite3.Connection, config: WebConfig) -> None:
    """Deletes what nobody needs: discarded models when their days are up, and trainings' work."""
    for row in all_models(db):
        work = Path(row["path"]) / "work"
        if not is_ours(config, row) or row["state"] in OPEN:
            continue
        since = row["discarded"] or row["created"]
        if row["state"] == "discarded" and since < time.time() - 86400 * config.bin_days:
            delete(db, config, row["id"])
        elif row["state"] in ("failed", "cancelled"):
            shutil.rmtree(row["path"], ignore_errors=True)
        elif work.exists():
            _keep_only(work, work / "state" / "train.csv")


def _keep_only(folder, kept):
    """Deletes all that is in a folder but one file."""
    for path in sorted(folder.rglob("*"), reverse=True):  # what is in a folder before it
        if path.is_dir() and path not in kept.parents:
            path.rmdir()
        elif not path.is_dir() and path != kept:
            path.unlink()


def size(row: sqlite3.Row) -> int:
    """How much room the folder of a model takes, bytes."""
    return sum(path.stat().st_size for path in Path(row["path"]).rglob("*") if path.is_file())


def judgement(row: sqlite3.Row) -> dict | None:
    """What its training found of a model, as `training.judgement` wrote it; None: nothing."""
    try:
        return json.loads((Path(row["path"]) / "judgement.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):  # not trained yet, or not here
        return None


def curve(row: sqlite3.Row) -> list[dict]:
    """The loss after each epoch of a model being taught: `epoch`, `loss` and maybe `val_loss`."""
    try:
        with (Path(row["path"]) / "work" / "state" / "train.csv").open(encoding="utf-8") as file:
            points = [
                {
                    name: float(value)
                    for name, value in line.items()
                    if name in ("epoch", "loss", "val_loss") and value
                }
                for line in csv.DictReader(file)
            ]
    except FileNotFoundError:  # not begun, or a model that was not taught here
        return []
    return [point for point in points if {"epoch", "loss"} <= set(point)]

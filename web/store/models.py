"""Models: the one in use, earlier ones, and those being taught from corrections.

A row of `models` passes through waiting, training, comparing and ready; adopted it is active, and
the one before is earlier. Of the corrections every fifth is held out, to compare on.
"""

import csv
import hashlib
import json
import sqlite3
import time
from pathlib import Path

from captioner.model_folder import ModelFolder

from ..config import WebConfig
from ..errors import Refusal, not_found
from .database import transaction
from .videos import path_of

MIN_CORRECTIONS = 2
OPEN = ("waiting", "training", "comparing")
_HELD_OUT_SHARE = 5


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
        "SELECT id FROM library WHERE state = 'done' AND model != ? ORDER BY created",
        (active(db)["name"],),
    )
    return [row["id"] for row in rows]


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
    """The sentences that people corrected: `video`, `text`, `start`, `end` and `held_out`.

    `start` and `end` are None of a sentence that is said of a whole video. Which are held out
    follows from the videos' ids, so that a later model is tested on the same ones; only where
    there are very few may one change sides.
    """
    rows = db.execute(
        "SELECT video, text, iif(position, start, NULL) AS start, iif(position, end, NULL) AS end "
        "FROM sentences JOIN videos ON videos.id = video "
        "WHERE corrected IS NOT NULL AND binned IS NULL ORDER BY video, position"
    ).fetchall()
    digests = {row["video"]: hashlib.sha256(row["video"].encode()).digest() for row in rows}
    ranked = sorted(digests, key=digests.get)
    chosen = [int.from_bytes(digests[video][:4]) % _HELD_OUT_SHARE == 0 for video in ranked]
    if ranked and not any(chosen):
        chosen[0] = True
    if len(ranked) > 1 and all(chosen):
        chosen[-1] = False
    held_out = dict(zip(ranked, chosen, strict=True))
    return [dict(row) | {"held_out": held_out[row["video"]]} for row in rows]


def teach(db: sqlite3.Connection, config: WebConfig) -> int:
    """Puts down a model to be taught from all corrections; returns its id.

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
        [number] = db.execute("SELECT coalesce(max(id), 0) + 1 FROM models").fetchone()
        name = f"taught-{number}"
        folder = teaching_folder(config, name)
        output = config.data / "models" / name
        folder.mkdir(parents=True, exist_ok=True)
        rows = [
            {
                "video": str(path_of(config, label["video"]).absolute()),
                "captions": [label["text"]],
                "split": "val" if label["held_out"] else "train",
            }
            | ({} if label["end"] is None else {"start": label["start"], "end": label["end"]})
            for label in labels
        ]
        (folder / "labels.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        learned = sum(not label["held_out"] for label in labels)
        cursor = db.execute(
            "INSERT INTO models (name, path, state, base, learned, created) "
            "VALUES (?, ?, 'waiting', ?, ?, ?)",
            (
                name,
                str(output.resolve()),
                active(db)["id"],
                learned,
                time.time(),
            ),
        )
    return cursor.lastrowid


def teaching_folder(config: WebConfig, name: str) -> Path:
    """Where the labels and the log of a model's training lie; its own folder is `models/NAME`."""
    return config.data / "teaching" / name


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


def judgement(row: sqlite3.Row) -> dict | None:
    """What its training found: `text` for people and `is_better`; None where it judged nothing."""
    try:
        found = json.loads((Path(row["path"]) / "judgement.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):  # not trained yet, or not here
        return None
    return {name: found[name] for name in ("text", "is_better")}


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

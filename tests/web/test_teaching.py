import json
import re
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from captioner.model_folder import ModelFolder
from web import create_app
from web.store import database, models
from web.teaching import Teacher, caption_command, train_command

from .conftest import work
from .fakes import COMMANDS, FakeCaptioner


@pytest.fixture
def corrected(client, captioned):
    for colour, video in captioned.items():
        client.put(
            f"/api/v1/videos/{video}/sentences/0", json={"text": f"A {colour} square slides."}
        )
    return captioned


@pytest.fixture
def teacher(config):
    return Teacher(config, threading.Event(), COMMANDS)


def _newest(client):
    return client.get("/api/v1/models").json["models"][0]


def test_taught_compared_adopted_and_restored(client, corrected, teacher, config, monkeypatch):
    assert client.get("/api/v1/models").json["corrections"] == 3
    model = client.post("/api/v1/models").json
    assert model["state"] == "waiting"
    assert client.post("/api/v1/models").status_code == 409
    assert teacher.step()
    assert not teacher.step()
    taught = _newest(client)
    assert taught["state"] == "ready"
    assert [point["epoch"] for point in taught["curve"]] == list(range(12))
    assert len(taught["comparison"]) == 3 - taught["learned"]
    for pair in taught["comparison"]:
        assert pair["video"] in corrected.values()
        assert pair["old"].endswith("ball rolls over the floor.")
        assert pair["wanted"] == pair["new"]
    page = client.application.test_client().get("/teaching").get_data(as_text=True)
    assert "<mark>square</mark>" in page
    client.post(f"/api/v1/models/{taught['id']}/adopt")
    assert client.post(f"/api/v1/models/{taught['id']}/adopt").status_code == 409
    for video in corrected.values():
        client.put(f"/api/v1/videos/{video}/sentences/0", json={"text": None})
    assert client.post("/api/v1/recaption").json == {"count": 3}
    assert client.post("/api/v1/recaption").json == {"count": 0}  # they wait already
    work(config, FakeCaptioner.load)
    read = client.get(f"/api/v1/videos/{corrected['red']}").json
    assert read["model"] == taught["name"]
    first = client.get("/api/v1/models").json["models"][-1]
    assert first["state"] == "earlier"
    client.post(f"/api/v1/models/{first['id']}/adopt")
    assert client.post("/api/v1/recaption").json == {"count": 3}
    work(config, FakeCaptioner.load)
    assert client.get(f"/api/v1/videos/{corrected['red']}").json["model"] == "default"


def test_corrected_stretches_are_learned_too(client, corrected, teacher, config):
    db = database.connect(config.data)
    held_out = {label["video"]: label["held_out"] for label in models.corrections(db)}
    sql = "INSERT INTO sentences (video, position, start, end, original, text, corrected) "
    for video in held_out:
        db.execute(sql + "VALUES (?, 1, 0, 0.5, 'x', 'It begins.', 1)", (video,))
        db.execute(sql + "VALUES (?, 2, 0.5, 1.6, 'x', 'x', NULL)", (video,))
    assert client.get("/api/v1/models").json["corrections"] == 6
    assert {label["video"]: label["held_out"] for label in models.corrections(db)} == held_out
    models.teach(db, config)
    [labels] = (config.data / "teaching").rglob("labels.jsonl")
    rows = [json.loads(row) for row in labels.read_text().splitlines()]
    stretches = [row for row in rows if "start" in row]
    assert [(row["start"], row["end"], row["captions"]) for row in stretches] == [
        (0, 0.5, ["It begins."])
    ] * 3
    for row in rows:
        assert row["split"] == ("val" if held_out[Path(row["video"]).name] else "train")
    assert teacher.step()
    compared = [pair["wanted"] for pair in _newest(client)["comparison"]]
    assert len(compared) == sum(held_out.values())
    assert "It begins." not in compared
    assert _newest(client)["learned"] == 2 * (3 - len(compared))
    db.close()


def test_held_out_ones_are_not_learned_and_stay_held_out(client, corrected, config):
    db = database.connect(config.data)
    before = {label["video"] for label in models.corrections(db) if label["held_out"]}
    models.teach(db, config)
    rows = [line for line in (config.data / "teaching").rglob("labels.jsonl")]
    text = rows[0].read_text()
    assert text.count('"val"') == len(before)
    assert text.count('"train"') == 3 - len(before) > 0
    assert {label["video"] for label in models.corrections(db) if label["held_out"]} == before
    db.close()


def test_too_few_corrections(client, captioned):
    assert client.post("/api/v1/models").status_code == 409
    assert b"Correct a few sentences first" in client.get("/teaching").data


def test_a_training_that_fails_says_why(client, captioned, teacher):
    for video in captioned.values():
        client.put(f"/api/v1/videos/{video}/sentences/0", json={"text": "refuse this"})
    client.post("/api/v1/models")
    teacher.step()
    assert _newest(client)["state"] == "failed"
    assert _newest(client)["error"] == "Teaching stopped: labels.jsonl: cannot be learned"
    assert client.post("/api/v1/models").status_code == 201


def test_stopped_by_its_owner(client, corrected, teacher, monkeypatch):
    monkeypatch.setenv("FAKE_EPOCH_SECONDS", "60")
    model = client.post("/api/v1/models").json["id"]
    thread = threading.Thread(target=teacher.step)
    thread.start()
    client.post(f"/api/v1/models/{model}/discard")
    thread.join(10)
    assert not thread.is_alive()
    assert _newest(client)["state"] == "cancelled"


def test_goes_on_after_the_server_went_down(client, corrected, teacher, config, monkeypatch):
    monkeypatch.setenv("FAKE_EPOCH_SECONDS", "60")
    client.post("/api/v1/models")
    thread = threading.Thread(target=teacher.step)
    thread.start()
    while _newest(client)["state"] == "waiting":
        pass
    teacher.stop.set()
    thread.join(10)
    assert _newest(client)["state"] == "training"
    monkeypatch.setenv("FAKE_EPOCH_SECONDS", "0")
    Teacher(config, threading.Event(), COMMANDS).step()
    assert _newest(client)["state"] == "ready"


def test_a_model_that_is_no_better_is_to_be_discarded(client, corrected, teacher, config):
    client.post("/api/v1/models")
    teacher.step()
    assert b"Use the new model" in client.get("/teaching").data
    judged = {"text": "Not better: it says one thing of everything.", "is_better": False}
    output = config.data / "models" / _newest(client)["name"]
    (output / "judgement.json").write_text(json.dumps(judged))
    page = client.get("/teaching").text
    assert judged["text"] in page
    assert "Use it all the same" in page
    assert re.search(r'class="main" data-post="[^"]*/discard"', page)


def test_discarded(client, corrected, teacher):
    client.post("/api/v1/models")
    teacher.step()
    model = _newest(client)["id"]
    assert client.post(f"/api/v1/models/{model}/discard").json["state"] == "discarded"
    assert client.post(f"/api/v1/models/{model}/adopt").status_code == 409
    assert client.post("/api/v1/models/99/adopt").status_code == 404


def test_a_broken_model_is_told_and_does_no_harm(client, corrected, teacher, config, send, clips):
    client.post("/api/v1/models")
    teacher.step()
    model = _newest(client)
    client.post(f"/api/v1/models/{model['id']}/adopt")
    (config.data / "models" / model["name"] / "config.json").unlink()
    video = send(clips["red"]).json["id"]
    work(config, FakeCaptioner.load)
    assert "earlier model" in client.get(f"/api/v1/videos/{video}").json["error"]


def test_a_model_that_is_named_anew_is_used(config, tmp_path):
    path = tmp_path / "mine"
    shutil.copytree(ModelFolder.open("small").path, path)
    for model in ("default", str(path), "default"):
        client = create_app(replace(config, model=model)).test_client()
    states = {row["name"]: row["state"] for row in client.get("/api/v1/models").json["models"]}
    assert states == {"mine": "active", "default": "earlier"}


def test_the_commands_are_those_of_the_command_line(tmp_path):
    train = train_command("default", tmp_path / "l.jsonl", tmp_path / "out")
    assert train[2:] == [
        "captioner.cli", "train", str(tmp_path / "l.jsonl"),
        "--base", "default", "--output", str(tmp_path / "out"), "--force",
    ]  # fmt: skip
    assert caption_command("m", ["a"], tmp_path)[2:5] == ["captioner.cli", "caption", "--model"]

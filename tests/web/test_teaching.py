import io
import json
import re
import shutil
import threading
import zipfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from captioner.model_folder import ModelFolder
from training.data.manifest import read_labels
from training.judgement import judge
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


def _page(client):
    return client.application.test_client().get("/teaching").get_data(as_text=True)


def test_taught_compared_adopted_and_restored(client, corrected, teacher, config, send, clips):
    other = send(clips["red"] + b"another").json["id"]
    work(config)
    assert client.get("/api/v1/models").json["corrections"] == 3
    model = client.post("/api/v1/models").json
    assert model["state"] == "waiting"
    assert client.post("/api/v1/models").status_code == 409
    assert teacher.step()
    assert not teacher.step()
    taught = _newest(client)
    assert taught["state"] == "ready"
    assert [point["epoch"] for point in taught["curve"]] == list(range(12))
    assert taught["learned"] == 3
    pairs = {pair["video"]: pair for pair in taught["comparison"]}
    assert pairs.keys() == {*corrected.values(), other}
    for video in corrected.values():
        assert pairs[video]["old"].endswith("ball rolls over the floor.")
        assert pairs[video]["wanted"] == pairs[video]["new"]
    # What nobody corrected is shown too, what it is called to change first.
    assert "wanted" not in pairs[other]
    assert pairs[other]["old"] == "A red ball rolls over the floor."
    assert pairs[other]["new"] == "A red square slides."
    assert taught["judgement"]["is_certain"]
    page = _page(client)
    assert "<mark>square</mark>" in page
    assert "Perhaps better" not in page
    client.post(f"/api/v1/models/{taught['id']}/adopt")
    assert client.post(f"/api/v1/models/{taught['id']}/adopt").status_code == 409
    for video in corrected.values():
        client.put(f"/api/v1/videos/{video}/sentences/0", json={"text": None})
    assert client.post("/api/v1/recaption/undo").json == {"count": 0}  # it has said nothing yet
    assert client.post("/api/v1/recaption").json == {"count": 4}
    assert client.post("/api/v1/recaption").json == {"count": 0}  # they wait already
    work(config, FakeCaptioner.load)
    read = client.get(f"/api/v1/videos/{corrected['red']}").json
    assert read["model"] == taught["name"]
    first = client.get("/api/v1/models").json["models"][-1]
    assert first["state"] == "earlier"
    # The model is taken back, and what it said; but for what a person has said since.
    green = f"/api/v1/videos/{corrected['green']}"
    client.put(f"{green}/sentences/0", json={"text": "Mine."})
    client.post(f"/api/v1/models/{first['id']}/adopt")
    assert "Put back what default said" in _page(client)
    assert client.post("/api/v1/recaption/undo").json == {"count": 4}
    assert client.post("/api/v1/recaption/undo").json == {"count": 0}
    red = client.get(f"/api/v1/videos/{corrected['red']}").json
    assert (red["model"], red["sentence"]) == ("default", "A red ball rolls over the floor.")
    assert client.get(green).json["sentence"] == "Mine."
    client.put(f"{green}/sentences/0", json={"text": None})
    assert client.get(green).json["sentence"] == "A green ball rolls over the floor."
    # Which can be undone itself, video by video; or the model in use captions anew.
    red = client.post(f"/api/v1/videos/{corrected['red']}/undo").json
    assert (red["model"], red["sentence"]) == ("taught-2", "A red square slides.")
    assert client.post("/api/v1/recaption").json == {"count": 1}
    work(config, FakeCaptioner.load)
    assert client.get(f"/api/v1/videos/{corrected['red']}").json["model"] == "default"


def test_corrected_stretches_are_learned_too(client, corrected, teacher, config):
    """As clips of their own, at their times."""
    sql = "INSERT INTO sentences (video, position, start, end, original, text, corrected) "
    with closing(database.connect(config.data)) as db:
        for video in corrected.values():
            db.execute(sql + "VALUES (?, 1, 0, 0.5, 'x', 'It begins.', 1)", (video,))
            db.execute(sql + "VALUES (?, 2, 0.5, 1.6, 'x', 'x', NULL)", (video,))
    assert client.get("/api/v1/models").json["corrections"] == 6
    assert client.post("/api/v1/models").json["learned"] == 6
    [labels] = (config.data / "teaching").rglob("labels.jsonl")
    rows = [json.loads(row) for row in labels.read_text().splitlines()]
    stretches = [row for row in rows if "start" in row]
    assert [(row["start"], row["end"], row["captions"]) for row in stretches] == [
        (0, 0.5, ["It begins."])
    ] * 3
    # Nothing is held out: the training itself tells how good it is.
    assert {row["split"] for row in rows} == {"train"}
    assert [clip.end for clip in read_labels(labels)] == 3 * [None, 0.5]
    assert teacher.step()
    times = {(pair["start"], pair["end"]) for pair in _newest(client)["comparison"]}
    assert times == {(0.0, None), (0.0, 0.5)}
    assert "0:00 to 0:00" in _page(client)


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
    with (config.data / "teaching" / "taught-2" / "log.txt").open("a") as log:
        log.write("captioner: judging, part 1 of 3\ncaptioner: judging, part 2 of 3\npass 1 of 9")
    assert "Now: judging, part 2 of 3." in _page(client)
    monkeypatch.setenv("FAKE_EPOCH_SECONDS", "0")
    Teacher(config, threading.Event(), COMMANDS).step()
    assert _newest(client)["state"] == "ready"


def test_a_model_that_is_no_better_is_to_be_discarded(client, corrected, teacher, config):
    client.post("/api/v1/models")
    teacher.step()
    assert "Use the new model" in _page(client)
    output = config.data / "models" / _newest(client)["name"]
    judged = json.loads((output / "judgement.json").read_text())
    pairs = [pair | {"new": pair["old"]} for pair in judged["pairs"]]
    judge(pairs, []).save(output)
    page = _page(client)
    assert "Not better" in page
    assert "More corrections may help." in page
    assert "Use it all the same" in page
    assert re.search(r'class="main" data-post="[^"]*/discard"', page)
    # What it should not say, it says of other videos.
    judge(judged["pairs"], ["one thing"], (["a", "b", "c"], ["one thing"] * 3)).save(output)
    assert "sentences that it was just taught of 100% of other clips" in _page(client)
    # A new word, where it belongs and where it does not.
    named = [pair | {"wanted": ["Rex runs"], "new": "rex runs"} for pair in judged["pairs"]]
    judge(named, [], (["a", "b", "c"], ["a", "b", "rex"]), ["rex"]).save(output)
    page = _page(client)
    count = len(named)
    assert f"It says “rex” of {count} of the {count} corrections that have it" in page
    assert "and of 33.3 % of other videos" in page
    assert "it says &#34;rex&#34; of 33% of other clips" in page
    # Perhaps better: how many more would show it.
    judge([judged["pairs"][0], *pairs[1:], *pairs[1:]], []).save(output)
    more = json.loads((output / "judgement.json").read_text())["more"]
    assert f"About {more} more corrections are likely to help." in _page(client)


def test_discarded_put_back_and_deleted(client, corrected, teacher, config):
    post = lambda path: client.post(f"/api/v1/models/{path}")  # noqa: E731
    model = client.post("/api/v1/models").json["id"]
    teacher.step()
    folder = Path(config.data / "models" / _newest(client)["name"])
    assert post(f"{model}/discard").json["state"] == "discarded"
    assert post(f"{model}/adopt").status_code == 409
    assert post("99/adopt").status_code == 404
    assert "deleted for good" in _page(client)
    assert post(f"{model}/restore").json["state"] == "ready"
    # An earlier one likewise; one in use is not.
    post(f"{model}/adopt")
    assert post(f"{model}/discard").status_code == 409
    assert client.delete(f"/api/v1/models/{model}").status_code == 409
    post("1/adopt")
    assert post(f"{model}/discard").json["state"] == "discarded"
    assert post(f"{model}/restore").json["state"] == "earlier"
    # One that was not made here is not ours to delete.
    post(f"{model}/adopt")
    assert post("1/discard").json["code"] == "not_taught"
    assert client.delete("/api/v1/models/1").json["code"] == "not_taught"
    post("1/adopt")
    post(f"{model}/discard")
    with closing(database.connect(config.data)) as db:
        models.clean(db, config)
        assert folder.exists()
        models.clean(db, replace(config, bin_days=0))
    assert not folder.exists()
    assert [row["name"] for row in client.get("/api/v1/models").json["models"]] == ["default"]
    # A name does not come back: videos remember theirs.
    assert client.post("/api/v1/models").json["name"] == "taught-3"
    assert client.delete("/api/v1/models/3").status_code == 409
    post("3/discard")
    assert client.delete("/api/v1/models/3").status_code == 204
    assert not (config.data / "teaching" / "taught-3").exists()


def test_only_the_model_is_left_of_a_training(client, corrected, teacher, config):
    client.post("/api/v1/models")
    features = config.data / "models" / "taught-2" / "work" / "features" / "clip.npy"
    features.parent.mkdir(parents=True)
    features.touch()
    teacher.step()
    left = sorted(path.name for path in features.parents[1].rglob("*"))
    assert left == ["state", "train.csv"]
    assert _newest(client)["curve"]


def test_named_and_taken_away(client, corrected, teacher, config, tmp_path):
    client.post("/api/v1/models")
    teacher.step()
    client.post("/api/v1/models/2/adopt")
    client.post("/api/v1/recaption")
    work(config)
    assert client.put("/api/v1/models/2", json={"name": " Garden  films"}).json["name"] == (
        "Garden films"
    )
    # Wherever it is named, and without its videos being another model's.
    red = f"/api/v1/videos/{corrected['red']}"
    assert client.get(red).json["model"] == "Garden films"
    assert "Garden films" in client.get("/api/v1/export").text
    assert client.post("/api/v1/recaption").json == {"count": 0}
    assert client.put("/api/v1/models/1", json={"name": "garden FILMS"}).status_code == 409
    assert client.put("/api/v1/models/1", json={"name": "taught-2"}).status_code == 409
    assert client.put("/api/v1/models/1", json={"name": "  "}).status_code == 422
    assert client.put("/api/v1/models/2", json={"name": "taught-2"}).json["name"] == "taught-2"
    # A zip of it is a model folder.
    with client.get("/api/v1/models/2/archive") as answer:
        assert answer.headers["Content-Disposition"].endswith("taught-2.zip")
        packed = zipfile.ZipFile(io.BytesIO(answer.data))
    packed.extractall(tmp_path)
    assert not any("/work/" in name for name in packed.namelist())
    assert FakeCaptioner.load(tmp_path / "taught-2").learned
    with client.get("/api/v1/models/2/report") as answer:
        assert answer.text == "<h1>Report</h1>"
        assert answer.headers["Content-Security-Policy"].startswith("sandbox")
    assert client.get("/api/v1/models/1/report").status_code == 404


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

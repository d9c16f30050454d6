"""Labels of moments: kept, told, drawn, taken away, and never in the way of a caption."""

import csv
import io
import json
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace

import pytest

from captioner.errors import ModelError
from captioner.moments.segments import LabelledSegment
from captioner.video.reader import Moments
from web import create_app
from web.store import database, moments
from web.supervisor import Supervisor

from .conftest import work
from .fakes import COMMANDS, SPLIT, WORKER, FakeCaptioner, FakeLabeller, label_folder
from .serving import wait


@pytest.fixture
def labelling(config, tmp_path):
    """A configuration with a model that labels moments."""
    return replace(config, label_model=label_folder(tmp_path / "moments"))


@pytest.fixture
def client(labelling):
    return create_app(labelling).test_client()


@pytest.fixture
def red(client, send, clips, labelling):
    """The path of a red clip, captioned and labelled."""
    path = f"/api/v1/videos/{send(clips['red'], 'red.avi', client=client).json['id']}"
    work(labelling)
    return path


def page(client, path):
    """A page as a browser gets it that comes for the first time, and leaves no cookie behind."""
    return client.application.test_client().get(path).get_data(as_text=True)


def test_every_moment_of_an_upload_is_labelled(client, red):
    found = client.get(red).json["labelling"]
    assert (found["state"], found["model"], found["error"]) == ("done", "moments", None)
    assert found["segments"] == [
        {"label": "red", "start": 0, "end": pytest.approx(0.8), "probability": 0.875},
        {"label": "late", "start": pytest.approx(0.8), "end": pytest.approx(1.6)}
        | {"probability": 0.5},
    ]
    tasks = [(job["task"], job["state"]) for job in client.get("/api/v1/jobs").json["jobs"]]
    assert tasks == [("label", "done"), ("caption", "done")]
    told = client.get("/api/v1/events?after=0").json["events"]
    assert [event["state"] for event in told if event["topic"] == "label"] == [
        "waiting", "working", "done",
    ]  # fmt: skip


def test_captions_come_first(client, send, clips, labelling):
    ids = [send(clips[colour], client=client).json["id"] for colour in ("red", "blue")]
    assert client.get(f"/api/v1/videos/{ids[1]}").json["queue_place"] == 1
    work(labelling)
    jobs = client.get("/api/v1/jobs").json["jobs"]
    in_order = sorted(jobs, key=lambda job: job["finished"])
    assert [(job["task"], job["video"]) for job in in_order] == [
        (task, video) for task in ("caption", "label") for video in ids
    ]


def test_no_caption_waits_for_a_long_video_to_be_labelled(client, send, clips, labelling):
    ids, seen = [send(clips["red"], client=client).json["id"]], []

    class Thorough(FakeLabeller):
        def label(self, video, reader=None):
            for _ in reader.read(Moments(str(video), 10)):
                time.sleep(0.05)
                if len(ids) == 1:
                    ids.append(send(clips["blue"], client=client).json["id"])
            seen.append([job["state"] for job in client.get("/api/v1/jobs").json["jobs"]])
            yield from super().label(video)

    work(labelling, load_labeller=lambda _: Thorough())
    assert seen == [["waiting", "done", "working", "done"], ["working", "done", "done", "done"]]
    for video in ids:
        read = client.get(f"/api/v1/videos/{video}").json
        assert (read["state"], read["labelling"]["state"]) == ("done", "done")


def test_pictures_have_no_moments(client, send, labelling):
    import cv2
    import numpy as np

    picture = cv2.imencode(".png", np.zeros((48, 64, 3), np.uint8))[1].tobytes()
    video = send(picture, "a.png", client=client).json["id"]
    work(labelling)
    read = client.get(f"/api/v1/videos/{video}").json
    assert (read["state"], read["labelling"]["state"]) == ("done", None)
    assert client.post(f"/api/v1/videos/{video}/label").status_code == 409
    assert 'class="panel timeline"' not in page(client, f"/videos/{video}")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ModelError("moments: not a whole model folder"), "not a whole model folder"),
        (MemoryError(), "more memory"),
        (RuntimeError("unforeseen"), "unexpectedly"),
    ],
)
def test_what_fails_to_be_labelled_keeps_its_caption(client, send, clips, labelling, error, told):
    def fail(*_):
        raise error

    path = f"/api/v1/videos/{send(clips['red'], client=client).json['id']}"
    work(labelling, load_labeller=fail)
    read = client.get(path).json
    assert (read["state"], read["error"]) == ("done", None)
    assert read["labelling"]["state"] == "failed"
    assert told in read["labelling"]["error"]
    assert client.get(f"{path}/labels/csv").json["code"] == "not_labelled"
    [row] = client.get("/api/v1/export?content=labels").get_data(as_text=True).splitlines()
    assert json.loads(row)["error"] == read["labelling"]["error"]
    assert told in page(client, f"/videos/{path.split('/')[-1]}")
    assert client.post(f"{path}/label").json["labelling"]["state"] == "waiting"
    work(labelling)
    assert client.get(path).json["labelling"]["state"] == "done"


def test_what_fails_to_be_captioned_keeps_its_labels(client, send, clips, labelling):
    class Stumbling(FakeCaptioner):
        def caption(self, video):
            raise RuntimeError

    video = send(clips["red"], client=client).json["id"]
    work(labelling, lambda *_: Stumbling())
    read = client.get(f"/api/v1/videos/{video}").json
    assert (read["state"], read["labelling"]["state"]) == ("failed", "done")
    text = page(client, f"/videos/{video}")
    assert 'class="segment tint-' in text
    work(labelling, _raise(ModelError("no such model")))  # nothing is labelled twice
    client.post(f"/api/v1/videos/{video}/label")
    work(labelling, _raise(ModelError("no such model")))
    assert client.get(f"/api/v1/videos/{video}").json["labelling"]["state"] == "done"


def _raise(error):
    def load(*_):
        raise error

    return load


def test_a_video_that_kills_whoever_labels_it_keeps_its_caption(client, send, clips, labelling):
    """The real process, killed twice in the middle of a video, and others after it."""
    split = send(clips["red"] + SPLIT, client=client).json["id"]
    other = send(clips["blue"], client=client).json["id"]

    def state(video):
        return client.get(f"/api/v1/videos/{video}").json["labelling"]["state"]

    with Supervisor(labelling, WORKER, COMMANDS):
        wait(lambda: state(other) == "done")
    read = client.get(f"/api/v1/videos/{split}").json
    assert (read["state"], read["labelling"]["state"]) == ("done", "failed")
    assert "twice" in read["labelling"]["error"]


def test_what_is_cancelled_or_deleted_meanwhile_is_thrown_away(client, send, clips, labelling):
    ids = [send(clips["red"], client=client).json["id"] for _ in range(2)]

    class Meddling(FakeLabeller):
        def label(self, video, reader=None):
            yield from super().label(video)
            if video.name == ids[0]:
                client.post(f"/api/v1/videos/{ids[0]}/cancel")
            else:
                client.delete(f"/api/v1/videos/{ids[1]}")

    work(labelling, load_labeller=lambda _: Meddling())
    read = client.get(f"/api/v1/videos/{ids[0]}").json
    assert (read["state"], read["labelling"]["state"]) == ("done", "cancelled")
    assert read["labelling"]["segments"] == []
    with closing(database.connect(labelling.data)) as db:
        assert db.execute("SELECT count(*) FROM segments").fetchone()[0] == 0


def test_labelled_again_by_another_model(client, red, labelling, tmp_path):
    text = page(client, red.removeprefix("/api/v1"))
    assert "Label again" in text
    assert client.post("/api/v1/relabel").json == {"count": 0}
    other = replace(labelling, label_model=label_folder(tmp_path / "other", multi_label=True))
    client = create_app(other).test_client()
    assert "1 video has not been labelled by the model <b>other</b>" in page(client, "/")
    assert client.post("/api/v1/relabel").json == {"count": 1}
    assert client.post("/api/v1/relabel").json == {"count": 0}
    assert client.post(f"{red}/label").status_code == 409
    assert client.get(red).json["labelling"]["segments"][0]["label"] == "red"  # as long as that
    assert "not been labelled" not in page(client, "/")

    class Other(FakeLabeller):
        name = "other"

    work(other, load_labeller=lambda _: Other(overlap=True))
    found = client.get(red).json["labelling"]
    assert found["model"] == "other"
    assert [x["label"] for x in found["segments"]] == ["red", "moves", "late"]


def test_without_a_label_model_nothing_changes(config, send, clips, client, red):
    plain = create_app(config).test_client()
    waiting = f"/api/v1/videos/{send(clips['blue'], client=client).json['id']}"
    fresh = f"/api/v1/videos/{send(clips['red'], client=plain).json['id']}"
    assert plain.get(fresh).json["labelling"]["state"] is None
    assert "Labels over time" not in page(plain, fresh.removeprefix("/api/v1"))
    assert plain.post(f"{fresh}/label").json["code"] == "no_label_model"
    assert plain.post("/api/v1/relabel").status_code == 409
    # What was labelled stays to be seen; what waits for a model that is gone waits no more.
    text = page(plain, red.removeprefix("/api/v1"))
    assert "Labels over time" in text
    assert "Label again" not in text
    with Supervisor(config, WORKER, COMMANDS):
        wait(lambda: plain.get(waiting).json["state"] == "done")
    assert plain.get(waiting).json["labelling"]["state"] == "cancelled"


def test_the_label_model_must_be_one(config, tmp_path):
    for folder, message in ((tmp_path / "none", "no such"), ("default", "captions, not one")):
        with pytest.raises(ModelError, match=message):
            create_app(replace(config, label_model=str(folder)))


def test_files_are_those_of_captioner_label(client, red):
    get = lambda kind: client.get(f"{red}/labels/{kind}").get_data(as_text=True)  # noqa: E731
    first = {"video": "red.avi", "start": 0.0, "end": 0.8, "label": "red", "probability": 0.875}
    assert json.loads(get("jsonl").splitlines()[0]) == first | {"error": None}
    assert get("csv").startswith("video,start,end,label,probability,error\nred.avi,0.0,0.8,red,")
    assert get("srt").startswith("1\n00:00:00,000 --> 00:00:00,800\nred (0.88)\n")
    assert get("vtt").startswith("WEBVTT\n\n1\n00:00:00.000 -->")
    assert get("audacity") == "0.000000\t0.800000\tred\n0.800000\t1.600000\tlate\n"
    assert client.get(f"{red}/labels/exe").status_code == 404
    answer = client.get(f"{red}/labels/audacity?download")
    assert answer.headers["Content-Disposition"] == "attachment; filename=red.labels.txt"


def test_export(client, send, clips, labelling, red):
    send(clips["blue"], "=1+1.avi", client=client)
    work(labelling)
    send(clips["green"], client=client)  # waits
    url = "/api/v1/export?content=labels&sort=oldest"
    rows = list(csv.DictReader(io.StringIO(client.get(f"{url}&format=csv").get_data(as_text=True))))
    assert [(row["video"], row["label"]) for row in rows] == [
        (video, label)
        for video, colour in (("red.avi", "red"), ("'=1+1.avi", "blue"))  # no formula
        for label in (colour, "late")
    ]
    answer = client.get(url)
    assert answer.headers["Content-Disposition"] == "attachment; filename=labels.jsonl"
    assert len(answer.get_data(as_text=True).splitlines()) == 4
    only = client.get(f"{url}&id={red.split('/')[-1]}").get_data(as_text=True)
    assert len(only.splitlines()) == 2
    assert 'name="content"' in page(client, "/")


def test_a_bar_says_what_when_and_how_surely(client, red):
    text = page(client, red.removeprefix("/api/v1"))
    name = "red, 0:00.0 to 0:00.8, 88 % probable"
    assert f'title="{name}" aria-label="{name}"><span>red</span></button>' in text
    assert 'data-time="0.0" data-end="0.8"' in text
    assert "style=" not in text  # which the policy forbids
    assert "/labels/audacity?download=1" in text


def test_labels_are_only_text(client, red, labelling):
    class Sly(FakeLabeller):
        def label(self, video, reader=None):
            yield LabelledSegment('"><script>alert(1)</script>', 0, 1, 0.5)

    client.post(f"{red}/label")
    work(labelling, load_labeller=lambda _: Sly())
    text = page(client, f"{red.removeprefix('/api/v1')}")
    assert "&#34;&gt;&lt;script&gt;alert(1)" in text
    assert "<script>alert" not in text
    assert "&lt;script&gt;" in client.get(f"{red}/labels/vtt").get_data(as_text=True)


def test_one_row_or_one_for_each_label():
    def segments(*spans):
        numbers = {"a": 2, "b": 1}
        keys = ("label", "start", "end")
        found = [dict(zip(keys, span)) for span in spans]
        return [segment | {"colour": numbers[segment["label"]]} for segment in found]

    one = moments.timeline(segments(("a", 0, 1), ("b", 1, 2), ("a", 2, 4)), 100.0)
    assert len(one["rows"]) == 1
    assert (one["end"], one["zoom"]) == (100.0, 2)
    assert [(x["label"], x["count"], x["seconds"]) for x in one["legend"]] == [
        ("b", 1, 1),
        ("a", 2, 3),
    ]
    several = moments.timeline(segments(("a", 0, 2), ("b", 1, 2), ("a", 3, 4)), None)
    assert [[x["start"] for x in row] for row in several["rows"]] == [[1], [0, 3]]
    assert several["end"] == 4
    assert moments.timeline([], None)["legend"] == []


def test_a_label_has_the_same_colour_in_all_videos(labelling):
    create_app(labelling)
    with closing(database.connect(labelling.data)) as db:
        for video in "xy":
            db.execute(
                "INSERT INTO videos (id, name, size, created, touched) VALUES (?, ?, 1, 0, 0)",
                (video, video),
            )
            names = {"x": ("new", "red"), "y": ("late", "new")}[video]
            segments = [LabelledSegment(name, n, n + 1, 1) for n, name in enumerate(names)]
            moments.keep(db, video, "any", segments)
        found = {
            (video, segment["label"]): segment["colour"]
            for video in "xy"
            for segment in moments.read(db, video)["segments"]
        }
    assert found == {("x", "new"): 6, ("x", "red"): 3, ("y", "late"): 4, ("y", "new"): 6}


def test_a_database_from_before_goes_on(config, clips, send, tmp_path):
    """As version 0.1.0 made it: a queue of captions alone."""
    client = create_app(config).test_client()
    video = send(clips["red"], client=client).json["id"]
    with closing(sqlite3.connect(config.data / "captioner.sqlite3")) as db:
        for (name,) in db.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'trigger'"
        ).fetchall():
            db.execute(f"DROP TRIGGER {name}")
        db.executescript(
            "DROP TABLE segments; DROP TABLE labellings; DROP TABLE labels; DROP TABLE history;"
            "DROP INDEX one_open_job; DROP INDEX videos_by_digest; DROP VIEW library;"
            "ALTER TABLE jobs DROP COLUMN task; ALTER TABLE videos DROP COLUMN arranged;"
            "ALTER TABLE videos DROP COLUMN binned; ALTER TABLE videos DROP COLUMN recorded;"
            "ALTER TABLE videos DROP COLUMN digest; ALTER TABLE videos DROP COLUMN is_kept;"
            "CREATE UNIQUE INDEX one_open_job ON jobs (video) WHERE state = 'waiting';"
            "CREATE VIEW library AS SELECT id FROM videos;"
            "CREATE TRIGGER job_added AFTER INSERT ON jobs BEGIN SELECT 1; END;"
            "CREATE TRIGGER job_changed AFTER UPDATE ON jobs BEGIN SELECT 1; END;"
        )
    labelling = replace(config, label_model=label_folder(tmp_path / "moments"))
    client = create_app(labelling).test_client()
    assert client.post(f"/api/v1/videos/{video}/label").status_code == 200
    work(labelling)
    read = client.get(f"/api/v1/videos/{video}").json
    assert (read["state"], read["labelling"]["state"]) == ("done", "done")


def test_the_worker_loads_no_tensorflow_unless_it_labels():
    code = "import sys, web.worker, web.app; print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"

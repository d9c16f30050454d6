import re
from contextlib import closing

import pytest

from web import create_app
from web.config import WebConfig
from web.store import database, jobs
from web.supervisor import Supervisor

from .conftest import work
from .fakes import COMMANDS, DEADLY, GREEDY, WORKER, FakeCaptioner
from .serving import wait


def test_first_come_first_served_with_places(client, send, clips):
    ids = [send(clips["red"]).json["id"] for _ in range(3)]
    places = [client.get(f"/api/v1/videos/{video}").json["queue_place"] for video in ids]
    assert places == [0, 1, 2]
    states = [job["video"] for job in client.get("/api/v1/jobs?state=waiting").json["jobs"]]
    assert states == ids[::-1]


def test_cancel_and_retry(client, send, clips, runner):
    video = send(clips["red"]).json["id"]
    path = f"/api/v1/videos/{video}"
    assert client.post(f"{path}/retry").status_code == 409
    assert client.post(f"{path}/cancel").json["state"] == "cancelled"
    assert client.post(f"{path}/cancel").status_code == 409
    runner.invoke(args=["work"])
    assert client.get(path).json["sentence"] is None
    assert client.post(f"{path}/retry").json["state"] == "waiting"
    runner.invoke(args=["work"])
    assert client.get(path).json["state"] == "done"


def test_captions_with_words_that_are_asked_for(client, captioned, config):
    path, loaded = f"/api/v1/videos/{captioned['red']}", []

    def load(*how):
        loaded.append(how[2:])
        return FakeCaptioner.load(*how)

    def again(asked):
        assert client.post(f"{path}/retry", json=asked).json["options"] == asked
        work(config, load)
        return client.get(path).json["sentence"]

    asked = {"start_with": "the big", "avoid": ["woman"], "mention": ["dog", "ball"]}
    assert again(asked) == "the big red ball rolls over the floor."
    assert loaded == [(), (asked,)]
    assert client.get(path).json["options"] == asked
    assert again({}) == "A red ball rolls over the floor."
    for wrong, message in (
        (
            {"mention": ["dog", "zzyzx"]},
            "The model default cannot do this: its vocabulary of .* zzyzx.",
        ),
        ({"mention": ["dog"], "avoid": ["dog"]}, "no word to avoid among those to mention"),
        ({"avoid": ["a dog"]}, "one word at a time"),
        ({"style": "verse"}, "has no style verse; its styles: auto, video"),
    ):
        answer = client.post(f"{path}/retry", json=wrong)
        assert answer.status_code == 422
        assert re.search(message, answer.json["message"])
    assert client.post(f"{path}/retry", json={"start_with": ""}).status_code == 422
    assert client.get(path).json["state"] == "done"


def test_what_is_cancelled_or_deleted_while_it_is_looked_at_is_thrown_away(
    app, client, send, clips, config
):
    ids = [send(clips["red"]).json["id"] for _ in range(2)]

    class Meddling(FakeCaptioner):
        def caption(self, video):
            if video.name == ids[0]:
                client.post(f"/api/v1/videos/{ids[0]}/cancel")
            else:
                client.delete(f"/api/v1/videos/{ids[1]}")
            return super().caption(path)

    path = config.data / "copy.avi"
    path.write_bytes(clips["red"])
    work(config, lambda *_: Meddling())
    assert client.get(f"/api/v1/videos/{ids[0]}").json["state"] == "cancelled"
    assert client.get(f"/api/v1/videos/{ids[1]}").status_code == 404
    assert client.get("/api/v1/videos?q=ball").json["total"] == 0


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("unforeseen")])
def test_one_bad_video_takes_no_other_down(client, send, clips, config, error):
    ids = [send(clips["red"]).json["id"] for _ in range(2)]

    class Stumbling(FakeCaptioner):
        def caption(self, video):
            if video.name == ids[0]:
                raise error
            return super().caption(video)

    work(config, lambda *_: Stumbling())
    first, second = (client.get(f"/api/v1/videos/{video}").json for video in ids)
    assert (first["state"], second["state"]) == ("failed", "done")
    assert "convert it" in first["error"]
    assert "unforeseen" not in first["error"]


def test_a_dead_workers_job_is_put_back_once(client, send, clips, config):
    video = send(clips["red"]).json["id"]
    db = database.connect(config.data)
    for state in ("waiting", "failed"):
        assert jobs.claim(db)["video"] == video  # and dies
        assert jobs.claim(db) is None
        jobs.recover(db, config)
        assert client.get(f"/api/v1/videos/{video}").json["state"] == state
    assert "twice" in client.get(f"/api/v1/videos/{video}").json["error"]
    db.close()


def test_no_video_waits_twice(client, send, clips, config):
    video = send(clips["red"]).json["id"]
    db = database.connect(config.data)
    jobs.add(db, video)
    jobs.add(db, video)
    assert db.execute("SELECT count(*) FROM jobs").fetchone()[0] == 1
    db.close()


def test_a_worker_that_is_killed_is_replaced_and_its_killer_given_up(
    tmp_path, clips, send, monkeypatch
):
    """The real process: killed from outside, twice by one video, and asked for too much memory."""
    monkeypatch.setenv("FAKE_SECONDS", "0.15")
    config = WebConfig(data=tmp_path / "data", min_free=0, job_memory=2**30)
    client = create_app(config).test_client()
    good = [send(clips["red"], client=client).json["id"] for _ in range(4)]
    deadly = send(clips["red"] + DEADLY, client=client).json["id"]
    greedy = send(clips["red"] + GREEDY, client=client).json["id"]
    last = send(clips["blue"], client=client).json["id"]

    def state(video):
        return client.get(f"/api/v1/videos/{video}").json["state"]

    with Supervisor(config, WORKER, COMMANDS) as supervisor:
        wait(lambda: state(good[0]) == "done")
        supervisor.process.kill()
        wait(lambda: state(last) == "done")
    assert [state(video) for video in good] == ["done"] * 4
    assert (state(deadly), state(greedy)) == ("failed", "failed")
    assert "more memory" in client.get(f"/api/v1/videos/{greedy}").json["error"]
    db = database.connect(config.data)
    counts = db.execute(
        "SELECT count(*), count(DISTINCT subject) FROM events WHERE state = 'done'"
    ).fetchone()
    db.close()
    assert tuple(counts) == (5, 5)


def test_a_video_that_takes_too_long_is_given_up(tmp_path, clips, send, monkeypatch):
    monkeypatch.setenv("FAKE_SECONDS", "60")
    config = WebConfig(data=tmp_path / "data", min_free=0, job_seconds=0.3)
    client = create_app(config).test_client()
    video = send(clips["red"], client=client).json["id"]
    with Supervisor(config, WORKER, COMMANDS):
        wait(lambda: client.get(f"/api/v1/videos/{video}").json["state"] == "failed")
    assert "longer than the server allows" in client.get(f"/api/v1/videos/{video}").json["error"]


def test_the_whole_queue(client, send, clips, config):
    ids = [send(clips["red"], f"{number}.avi").json["id"] for number in range(3)]
    page = lambda: client.application.test_client().get("/").get_data(as_text=True)  # noqa: E731
    assert "0 of 3 captioned</span>" in page()
    assert client.post("/api/v1/queue/cancel").json == {"count": 3}
    assert client.get(f"/api/v1/videos/{ids[0]}").json["state"] == "cancelled"
    assert "of 3 captioned" not in page()
    broken = send(b"\0\0\0\x20ftypisom" + bytes(300), "broken.mp4").json["id"]
    client.post(f"/api/v1/videos/{ids[0]}/retry")
    work(config)
    asked = {"start_with": "a dog"}
    client.post(f"/api/v1/videos/{broken}/retry", json=asked)
    work(config)
    assert "1 failed" in page()
    assert client.post("/api/v1/queue/retry").json == {"count": 1}
    found = client.get(f"/api/v1/videos/{broken}").json
    assert (found["state"], found["options"]) == ("waiting", asked)
    client.post(f"/api/v1/videos/{ids[0]}/retry")
    assert "0 of 2 captioned, less than a minute left</span>" in page()
    # Those that come meanwhile belong to it, until it is empty.
    send(clips["red"])
    work(config)
    assert client.get("/api/v1/queue").json == {
        "done": 3, "total": 3, "open": 0, "failed": 1, "paused": False, "minutes": 0,
    }  # fmt: skip
    send(clips["red"])
    assert client.get("/api/v1/queue").json["total"] == 1


def test_a_pause_outlasts_a_restart(client, send, clips, config):
    last = client.get("/api/v1/events").json["last"]
    assert client.post("/api/v1/queue/pause").json["paused"]
    video = send(clips["red"]).json["id"]
    again = create_app(config)
    work(config)
    assert client.get(f"/api/v1/videos/{video}").json["state"] == "waiting"
    assert "0 of 1 captioned" in again.test_client().get("/").get_data(as_text=True)
    page = again.test_client().get(f"/videos/{video}").get_data(as_text=True)
    assert "The queue is paused." in page
    with closing(database.connect(config.data)) as db:
        db.execute("UPDATE jobs SET created = created - 100")
        assert jobs.waiting(db) == (1, None)  # nothing is overdue
    assert not client.post("/api/v1/queue/resume").json["paused"]
    work(config)
    assert client.get(f"/api/v1/videos/{video}").json["state"] == "done"
    news = client.get(f"/api/v1/events?after={last}").json["events"]
    assert [e["state"] for e in news if e["topic"] == "queue"] == ["paused", "running"]

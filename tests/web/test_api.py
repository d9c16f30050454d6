import csv
import io
import json
import re
import time
from dataclasses import replace

import cv2
import numpy as np
import pytest

from captioner.caption import Candidate, Segment
from tests.clips import write_clip
from web import create_app
from web.config import WebConfig

from .conftest import work
from .fakes import FakeCaptioner


def test_listing_searching_sorting(client, captioned):
    def names(**query):
        return [
            row["name"] for row in client.get("/api/v1/videos", query_string=query).json["videos"]
        ]

    assert names() == ["blue.avi", "green.avi", "red.avi"]
    assert names(sort="oldest") == ["red.avi", "green.avi", "blue.avi"]
    assert names(sort="name") == ["blue.avi", "green.avi", "red.avi"]
    assert names(q="GREEN") == ["green.avi"]
    assert names(q="rolling floors", sort="name") == ["blue.avi", "green.avi", "red.avi"]
    assert names(q="blue.av") == ["blue.avi"]
    assert names(q="elephant") == []
    assert names(page=2, per_page=2) == ["red.avi"]
    assert names(state="failed") == []
    client.put(f"/api/v1/videos/{captioned['red']}/sentences/0", json={"text": "A sunset."})
    assert names(corrected=True) == ["red.avi"]
    assert names(q="sunset") == ["red.avi"]
    assert names(q="rolls", sort="name") == ["blue.avi", "green.avi"]


@pytest.mark.parametrize(
    "query",
    ['"', "a OR b", "NEAR(", "*", "-x", "text:ball", "%", "_", "'; DROP TABLE videos", "\\"],
)
def test_what_people_type_is_only_words(client, captioned, query):
    answer = client.get("/api/v1/videos", query_string={"q": query})
    assert answer.status_code == 200
    assert answer.json["total"] == 0 or query == "_"
    assert client.get("/", query_string={"q": query}).status_code == 200


def test_hits_say_when(client, captioned):
    [video] = client.get("/api/v1/videos?q=green+ball").json["videos"]
    assert video["hits"] == [{"start": 0.0, "text": "A green ball rolls over the floor."}]


def test_corrections_stand_and_can_be_taken_back(client, captioned, runner):
    path = f"/api/v1/videos/{captioned['red']}"
    answer = client.put(f"{path}/sentences/0", json={"text": "  A red\nsquare \x02slides. "})
    assert answer.json["sentence"] == "A red square slides."
    assert answer.json["sentences"][0]["original"] == "A red ball rolls over the floor."
    client.post(f"{path}/retry")
    runner.invoke(args=["work"])
    assert client.get(path).json["sentence"] == "A red square slides."
    answer = client.put(f"{path}/sentences/0", json={"text": None})
    assert (answer.json["sentence"], answer.json["corrected"]) == (
        "A red ball rolls over the floor.",
        False,
    )
    assert client.put(f"{path}/sentences/7", json={"text": "x"}).status_code == 404
    for wrong in ({"text": ""}, {"text": "   "}, {"text": "x" * 1001}, {"text": 3}, {}, {"t": "x"}):
        assert client.put(f"{path}/sentences/0", json=wrong).status_code == 422


def test_formats(client, captioned):
    path = f"/api/v1/videos/{captioned['red']}"
    client.put(f"{path}/sentences/0", json={"text": "One <b> & two --> three."})
    get = lambda kind: client.get(f"{path}/captions/{kind}")  # noqa: E731
    assert get("vtt").get_data(as_text=True) == (
        "WEBVTT\n\n1\n00:00:00.000 --> 00:00:01.600\nOne &lt;b&gt; &amp; two --&gt; three.\n"
    )
    assert get("srt").get_data(as_text=True) == (
        "1\n00:00:00,000 --> 00:00:01,600\nOne <b> & two -> three.\n"
    )
    assert get("txt").get_data(as_text=True) == "One <b> & two --> three.\n"
    assert get("json").json["caption"] == "One <b> & two --> three."
    assert get("json").json["duration"] == pytest.approx(1.6)
    assert get("vtt").content_type == "text/vtt; charset=utf-8"
    assert get("exe").status_code == 404
    assert client.get(f"{path}/captions/srt?download").headers["Content-Disposition"] == (
        "attachment; filename=red.srt"
    )


def test_long_videos_have_a_sentence_for_each_stretch(client, send, clips, config):
    class Captioner(FakeCaptioner):
        def caption(self, video):
            short = super().caption(video)
            segments = tuple(
                Segment(start, start + 60.0, (Candidate(f"Part {number}.", -1.0),))
                for number, start in enumerate((0.0, 60.0, 3660.0))
            )
            return replace(short, segments=segments, duration=3720.0)

    video = send(clips["red"]).json["id"]
    work(config, lambda *_: Captioner())
    path = f"/api/v1/videos/{video}"
    assert "01:01:00,000 --> 01:02:00,000\nPart 2.\n" in client.get(
        f"{path}/captions/srt"
    ).get_data(as_text=True)
    client.put(f"{path}/sentences/2", json={"text": "A whale."})
    [found] = client.get("/api/v1/videos?q=whale").json["videos"]
    assert found["hits"] == [{"start": 60.0, "text": "A whale."}]
    assert not found["corrected"]  # the sentence of all of it was not
    page = client.get(f"/videos/{video}").get_data(as_text=True)
    assert "1:01:00" in page
    assert 'data-time="3660.0"' in page


def test_the_frames_shown_are_those_that_the_model_looked_at(client, send, config, tmp_path):
    """Wherever in the video they are: of a video cut into shots they do not lie evenly."""
    frames = [np.full((48, 64, 3), 10 * number, np.uint8) for number in range(24)]
    content = write_clip(tmp_path / "grey.avi", frames, codec="MJPG").read_bytes()

    class Captioner(FakeCaptioner):
        def caption(self, video):
            return replace(super().caption(video), times=(0.0, 0.1, 0.2, 2.3))

    video = send(content, "grey.avi").json["id"]
    work(config, lambda *_: Captioner())
    shown = sorted((config.data / "frames" / video).glob("?.jpg"))
    assert [path.name for path in shown] == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    shades = [cv2.imread(str(path)).mean() for path in shown]
    assert shades == pytest.approx([0, 10, 20, 230], abs=3)


def test_export(client, captioned):
    client.put(f"/api/v1/videos/{captioned['red']}/sentences/0", json={"text": "=1+1"})
    lines = client.get("/api/v1/export?sort=oldest").get_data(as_text=True).splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["caption"] for row in rows][:2] == ["=1+1", "A green ball rolls over the floor."]
    assert rows[0]["corrected"]
    answer = client.get("/api/v1/export", query_string={"format": "csv", "id": [captioned["red"]]})
    [row] = csv.DictReader(io.StringIO(answer.get_data(as_text=True)))
    assert row["caption"] == "'=1+1"  # a spreadsheet shows it, and does not reckon
    assert "attachment" in answer.headers["Content-Disposition"]


def test_the_page_exports_and_deletes_what_its_filter_lets_through(client, captioned):
    client.put(f"/api/v1/videos/{captioned['red']}/sentences/0", json={"text": "Mine."})
    page = client.get("/?state=corrected&q=mine").get_data(as_text=True)
    form = page.partition('id="export"')[2].partition("</form>")[0]
    fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', form)) | {"format": "jsonl"}
    assert "csrf_token" not in fields
    rows = client.get("/api/v1/export", query_string=fields).get_data(as_text=True).splitlines()
    assert [json.loads(row)["caption"] for row in rows] == ["Mine."]
    token = page.partition('name="csrf-token" content="')[2].partition('"')[0]
    form = {"csrf_token": token, "all": "1", "state": "uncorrected", "q": "ball"}
    answer = client.post("/videos/delete", data=form)
    assert answer.headers["Location"] == "/?q=ball&state=uncorrected&sort=newest"
    assert [row["sentence"] for row in client.get("/api/v1/videos").json["videos"]] == ["Mine."]


def test_a_page_beyond_the_last_is_the_last(client, captioned):
    page = client.get("/?page=999").get_data(as_text=True)
    assert "red.avi" in page
    assert "Nothing found" not in page


def test_deleting_forever_leaves_nothing(client, captioned, config):
    video = captioned["green"]
    assert client.delete(f"/api/v1/videos/{video}?forever=true").status_code == 204
    assert client.delete(f"/api/v1/videos/{video}").status_code == 404
    assert client.get(f"/api/v1/videos/{video}").status_code == 404
    assert client.get(f"/api/v1/videos/{video}/content").status_code == 404
    assert client.get("/api/v1/videos?q=green").json["total"] == 0
    assert [path for path in config.data.rglob("*") if path.name == video] == []


def test_events_tell_what_changes(client, send, clips, runner):
    start = client.get("/api/v1/events").json
    assert start["events"] == []
    video = send(clips["red"]).json["id"]
    runner.invoke(args=["work"])
    client.put(f"/api/v1/videos/{video}/sentences/0", json={"text": "New."})
    client.delete(f"/api/v1/videos/{video}")
    told = client.get(f"/api/v1/events?after={start['last']}").json
    assert [event["state"] for event in told["events"]] == [
        "waiting",
        "working",
        "done",
        "corrected",
        "deleted",
    ]
    assert {event["subject"] for event in told["events"]} == {video}


def test_server_sent_events(client, send, clips):
    last = client.get("/api/v1/events").json["last"]
    video = send(clips["red"]).json["id"]
    with client.get(f"/events?after={last}") as stream:
        assert stream.content_type.startswith("text/event-stream")
        parts = iter(stream.response)
        assert next(parts) == b"retry: 2000\n\n"
        assert next(parts).endswith(f"event: video\ndata: {video} waiting\n\n".encode())
    streams = [client.get("/events") for _ in range(8)]
    assert client.get("/events").status_code == 503
    for stream in streams:
        stream.close()
    client.get("/events").close()


def test_health_and_metrics(client, captioned, send, clips, config):
    assert client.get("/api/v1/health").json["status"] == "ok"
    text = client.get("/api/v1/metrics").get_data(as_text=True)
    assert 'captioner_jobs{state="done",task="caption"} 3.0' in text
    assert "captioner_videos 3.0" in text
    assert 'captioner_requests_total{endpoint="api.append",status="200"} 3.0' in text
    send(clips["red"])
    from web.store import database

    db = database.connect(config.data)
    db.execute("UPDATE jobs SET created = ? WHERE state = 'waiting'", (time.time() - 100,))
    db.close()
    assert client.get("/api/v1/health").json == {
        "status": "overdue",
        "version": client.get("/api/v1/health").json["version"],
        "waiting": 1,
    }


def test_errors_are_a_code_and_a_sentence(client):
    for method, path, status in (
        ("GET", "/api/v1/videos/none", 404),
        ("GET", "/api/v1/nothing", 404),
        ("POST", "/api/v1/health", 405),
        ("GET", "/api/v1/videos?page=0", 422),
        ("POST", "/api/v1/videos", 422),
    ):
        answer = client.open(path, method=method)
        assert answer.status_code == status
        assert set(answer.json) == {"code", "message"}
    assert "page" in client.get("/api/v1/videos?page=0").json["message"]
    answer = client.post("/api/v1/videos", data="{", content_type="application/json")
    assert answer.status_code == 400


def test_the_first_model_must_exist(tmp_path):
    from captioner.errors import ModelError

    with pytest.raises(ModelError, match="no-such"):
        create_app(WebConfig(data=tmp_path, model="no-such"))

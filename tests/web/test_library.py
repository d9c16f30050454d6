"""The library kept tidy: the bin, tags, files that are here twice, dates, labels found, zips."""

import csv
import io
import json
import time
import zipfile
from dataclasses import replace
from datetime import datetime

import av
import numpy as np
import pytest
from PIL import Image

from web import create_app
from web.recorded import recorded
from web.store import binned, database, models, search, videos

from .conftest import work
from .fakes import label_folder


@pytest.fixture
def db(config):
    db = database.connect(config.data)
    yield db
    db.close()


def _names(client, **query):
    answer = client.get("/api/v1/videos", query_string={"sort": "oldest"} | query)
    return [row["name"] for row in answer.json["videos"]]


def _page(client, path):
    """As another browser sees it: the cookie of this one would ask for a token."""
    return client.application.test_client().get(path).get_data(as_text=True)


def _in_bin(client):
    return [row["name"] for row in client.get("/api/v1/bin").json["videos"]]


def test_what_was_deleted_can_be_put_back(client, captioned, config, db):
    red = captioned["red"]
    client.put(f"/api/v1/videos/{red}/sentences/0", json={"text": "Mine."})
    assert client.delete(f"/api/v1/videos/{red}").status_code == 204
    assert client.delete(f"/api/v1/videos/{red}").status_code == 404
    # It counts as deleted everywhere.
    assert _names(client) == ["green.avi", "blue.avi"]
    for path in ("", "/content", "/frames/0", "/captions/srt"):
        assert client.get(f"/api/v1/videos/{red}{path}").status_code == 404
    assert client.post(f"/api/v1/videos/{red}/retry").status_code == 404
    assert client.put(f"/api/v1/videos/{red}/tags", json={"tags": ["x"]}).status_code == 404
    assert _names(client, q="mine") == []
    assert models.corrections(db) == []
    assert red not in search.to_correct(db, search.Search())
    assert "Mine" not in client.get("/api/v1/export").get_data(as_text=True)
    assert _in_bin(client) == ["red.avi"]
    page = _page(client, "/bin")
    assert "Corrected: stays" in page

    back = client.post(f"/api/v1/videos/{red}/restore").json
    assert (back["sentence"], back["state"], back["corrected"]) == ("Mine.", "done", True)
    assert client.post(f"/api/v1/videos/{red}/restore").status_code == 404
    assert _names(client) == ["red.avi", "green.avi", "blue.avi"]
    assert len(models.corrections(db)) == 1
    told = [event["state"] for event in client.get("/api/v1/events?after=0").json["events"]]
    assert told[-2:] == ["deleted", "restored"]


def test_several_are_put_back_together_and_into_the_queue(client, captioned, send, clips, config):
    waiting = send(clips["red"], "again.avi").json["id"]
    page = client.get("/").get_data(as_text=True)
    token = page.partition('name="csrf-token" content="')[2].partition('"')[0]
    form = {"csrf_token": token, "id": [waiting, captioned["blue"]]}
    page = client.post("/videos/delete", data=form, follow_redirects=True).get_data(as_text=True)
    assert "Deleted 2 videos." in page
    work(config)
    since = page.partition('name="since" value="')[2].partition('"')[0]
    form = {"csrf_token": token, "since": since}
    page = client.post("/bin/restore", data=form, follow_redirects=True).get_data(as_text=True)
    assert "Put back 2 videos." in page
    assert client.get(f"/api/v1/videos/{waiting}").json["state"] == "waiting"
    assert client.get(f"/api/v1/videos/{captioned['blue']}").json["state"] == "done"


def test_the_bin_empties_itself_of_what_nobody_corrected(client, captioned, config, db):
    client.put(f"/api/v1/videos/{captioned['red']}/sentences/0", json={"text": "Mine."})
    for video in captioned.values():
        client.delete(f"/api/v1/videos/{video}")
    # One whose file lies in a watched folder goes too.
    watched = (
        "INSERT INTO watched (path, video, size, modified, digest) VALUES (x'2f78', ?, 1, 1, '')"
    )
    db.execute(watched, (captioned["blue"],))
    db.execute("UPDATE videos SET binned = ?", (time.time() - 6.9 * 86400,))
    binned.clean(db, config)
    assert len(_in_bin(client)) == 3
    rows = {row["name"]: row for row in client.get("/api/v1/bin").json["videos"]}
    assert rows["red.avi"]["goes"] is None
    assert rows["blue.avi"]["goes"] == pytest.approx(time.time() + 0.1 * 86400, abs=60)
    db.execute("UPDATE videos SET binned = ?", (time.time() - 7.1 * 86400,))
    binned.clean(db, config)
    assert _in_bin(client) == ["red.avi"]
    assert client.delete("/api/v1/bin").json == {"count": 1}
    assert [path for path in (config.data / "videos").iterdir()] == []


def test_where_room_is_wanted_the_bin_goes_first(client, captioned, config, db):
    client.delete(f"/api/v1/videos/{captioned['blue']}")
    [taken] = db.execute("SELECT sum(size) FROM videos").fetchone()
    config = replace(config, max_storage=taken - 1)
    page = create_app(config).test_client().get("/").get_data(as_text=True)
    assert "blue.avi, from the bin" in page
    videos.clean(db, config)
    assert _in_bin(client) == []
    assert _names(client) == ["red.avi", "green.avi"]


def test_without_a_bin_and_unfinished_uploads_are_gone_at_once(client, config):
    video = client.post("/api/v1/videos", json={"name": "a.avi", "size": 9}).json["id"]
    client.delete(f"/api/v1/videos/{video}")
    assert _in_bin(client) == []
    client = create_app(replace(config, bin_days=0)).test_client()
    assert "will be gone" in _page(client, "/")
    assert [*(config.data / "videos").iterdir()] == []


def test_tags(client, captioned):
    red, green, blue = captioned.values()
    answer = client.put(f"/api/v1/videos/{red}/tags", json={"tags": ["Beach", " two  words "]})
    assert answer.json["tags"] == ["Beach", "two words"]
    given = {"videos": [red, green, "none"], "add": ["BEACH", "new"], "remove": ["two words"]}
    assert client.post("/api/v1/tags", json=given).json["tags"] == [
        {"name": "Beach", "count": 2},
        {"name": "new", "count": 2},
    ]
    assert _names(client, tag="beach") == ["red.avi", "green.avi"]
    assert _names(client, q="bea") == ["red.avi", "green.avi"]
    assert _names(client, tag="none") == []
    page = _page(client, "/?tag=Beach")
    assert "blue.avi" not in page
    assert '<option value="Beach" selected>' in page
    rows = client.get("/api/v1/export?tag=beach").get_data(as_text=True).splitlines()
    assert [json.loads(row)["tags"] for row in rows] == [["Beach", "new"]] * 2
    text = client.get("/api/v1/export?format=csv&sort=oldest").get_data(as_text=True)
    assert [row["tags"] for row in csv.DictReader(io.StringIO(text))] == ["Beach, new"] * 2 + [""]
    client.delete(f"/api/v1/videos/{red}")
    assert client.get("/api/v1/tags").json["tags"][0]["count"] == 1
    token = client.get("/").get_data(as_text=True).partition('csrf-token" content="')[2]
    form = {"csrf_token": token.partition('"')[0], "all": "1", "name": "all of them", "act": "add"}
    client.post("/videos/tag", data=form)
    assert client.get(f"/api/v1/videos/{blue}").json["tags"] == ["all of them"]


def test_a_file_that_is_here_twice_is_told_and_nothing_is_lost(client, captioned, send, clips, db):
    again = send(clips["red"], "other name.avi").json
    assert again["twin"] == captioned["red"]
    assert again["state"] == "waiting"  # nothing was decided for anybody
    assert _names(client, twins=True) == ["other name.avi"]
    assert "The same file is" in _page(client, "/?state=twins")
    page = _page(client, f"/videos/{again['id']}")
    assert "This is the same file as" in page
    assert "red.avi" in page
    # The first in the bin, the second is the only one.
    client.delete(f"/api/v1/videos/{captioned['red']}")
    assert _names(client, twins=True) == []
    client.post(f"/api/v1/videos/{captioned['red']}/restore")
    assert client.post(f"/api/v1/videos/{again['id']}/keep").json["twin"] is None
    assert _names(client, twins=True) == []
    # Of a database from before there were digests.
    db.execute("UPDATE videos SET digest = NULL, is_kept = 0")
    videos.clean(db, client.application.extensions["captioner"])
    assert _names(client, twins=True) == ["other name.avi"]


def _film(path, **metadata):
    with av.open(str(path), "w") as container:
        container.metadata.update(metadata)
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(4):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_when_a_file_was_recorded(tmp_path, client, send, config):
    when = datetime.fromisoformat("2024-05-06T10:11:12+00:00").timestamp()
    film = _film(tmp_path / "a.mp4", creation_time="2024-05-06T10:11:12.000000Z")
    assert recorded(film) == when
    assert recorded(_film(tmp_path / "b.mp4")) is None
    assert recorded(_film(tmp_path / "c.mp4", creation_time="1904-01-01T00:00:00Z")) is None
    assert recorded(_film(tmp_path / "d.mkv", DATE_RECORDED="nonsense")) is None
    picture, exif = Image.new("RGB", (64, 48)), Image.Exif()
    exif.get_ifd(0x8769).update({0x9003: "2019:02:03 04:05:06", 0x9011: "+01:00"})
    picture.save(tmp_path / "e.jpg", exif=exif)
    earlier = datetime.fromisoformat("2019-02-03T04:05:06+01:00").timestamp()
    assert recorded(tmp_path / "e.jpg") == earlier
    (tmp_path / "f.jpg").write_bytes(b"\xff\xd8\xff and no more")
    assert recorded(tmp_path / "f.jpg") is None

    for name in ("b.mp4", "e.jpg", "a.mp4"):
        send((tmp_path / name).read_bytes(), name)
    work(config)
    assert _names(client, sort="recorded") == ["a.mp4", "e.jpg", "b.mp4"]
    [video] = client.get("/api/v1/videos?q=a.mp4").json["videos"]
    assert video["recorded"] == when
    assert "Recorded" in _page(client, f"/videos/{video['id']}")
    rows = client.get("/api/v1/export?q=a.mp4").get_data(as_text=True).splitlines()
    assert datetime.fromisoformat(json.loads(rows[0])["recorded"]).timestamp() == when


def test_labels_of_moments_are_found_with_their_times(tmp_path, config, send, clips):
    config = replace(config, label_model=label_folder(tmp_path / "moments"))
    client = create_app(config).test_client()
    ids = {
        colour: send(clips[colour], f"{colour}.avi", client=client).json["id"]
        for colour in ("red", "green")
    }
    work(config)
    [video] = client.get("/api/v1/videos?q=Late&sort=oldest").json["videos"][:1]
    assert video["id"] == ids["red"]
    assert video["hits"] == [{"start": pytest.approx(0.8), "text": "late"}]
    assert _names(client, q="lat") == ["red.avi", "green.avi"]
    assert _names(client, q="ate") == []
    assert "<mark>late</mark>" in _page(client, "/?q=late")
    answer = client.get("/api/v1/export?content=labels&format=txt&q=red")
    with zipfile.ZipFile(io.BytesIO(answer.data)) as archive:
        assert archive.read("red.txt").decode().splitlines()[1].endswith("\tlate")


def test_files_of_all_that_a_filter_lets_through_come_as_a_zip(client, captioned, send, clips):
    send(clips["red"], "waiting.avi")
    db_name = "../evil:name.avi"
    again = send(clips["red"], "RED.mkv").json["id"]
    client.post(f"/api/v1/videos/{again}/cancel")
    for kind, part in (("srt", "00:00:00,000 -->"), ("vtt", "WEBVTT"), ("txt", "A red ball")):
        answer = client.get(f"/api/v1/export?format={kind}&sort=oldest")
        assert answer.mimetype == "application/zip"
        assert f"captions.{kind}.zip" in answer.headers["Content-Disposition"]
        with zipfile.ZipFile(io.BytesIO(answer.data)) as archive:
            assert archive.namelist() == [f"{name}.{kind}" for name in ("red", "green", "blue")]
            assert part in archive.read(f"red.{kind}").decode()
    # Names that are alike, or lead elsewhere.
    send(clips["red"], db_name)
    client.post(f"/api/v1/videos/{again}/retry")
    work(client.application.extensions["captioner"])
    answer = client.get("/api/v1/export?format=srt&sort=oldest&q=red")
    with zipfile.ZipFile(io.BytesIO(answer.data)) as archive:
        assert archive.namelist() == ["red.srt", "waiting.srt", "RED (2).srt", "evil_name.srt"]
    answer = client.get("/api/v1/export", query_string={"format": "srt", "id": captioned["blue"]})
    with zipfile.ZipFile(io.BytesIO(answer.data)) as archive:
        assert archive.namelist() == ["blue.srt"]

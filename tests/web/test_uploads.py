import os
import shutil

import pytest

from web import create_app
from web.config import WebConfig


@pytest.fixture
def announce(client):
    def announce(size, name="clip.avi", client=client):
        return client.post("/api/v1/videos", json={"name": name, "size": size})

    return announce


def test_pieces_arrive_whole_and_are_captioned(send, client, runner, clips, config):
    answer = send(clips["red"], "red.avi", piece=5000)
    assert answer.json["state"] == "waiting"
    assert answer.json["media_type"] == "video/webm"
    video = answer.json["id"]
    assert (config.data / "videos" / video).read_bytes() == clips["red"]
    runner.invoke(args=["work"])
    read = client.get(f"/api/v1/videos/{video}").json
    assert read["state"] == "done"
    assert read["sentence"] == "A red ball rolls over the floor."
    assert [found["text"] for found in read["candidates"]][1] == "Something red floats by."
    assert len(read["candidates"][0]["attention"]) == len(read["candidates"][0]["words"])
    assert sum(sum(row) for row in read["candidates"][0]["attention"][0]) == pytest.approx(1000, 3)


def test_a_piece_goes_only_where_the_last_one_ended(client, announce, clips):
    content = clips["red"]
    path = f"/api/v1/videos/{announce(len(content)).json['id']}/content"

    def patch(offset, data):
        return client.patch(path, data=data, headers={"Upload-Offset": offset})

    assert patch(0, content[:1000]).json["received"] == 1000
    for offset in (0, 999, 1001, len(content)):
        answer = patch(offset, content[offset : offset + 10])
        assert answer.status_code == 409
        assert answer.json["offset"] == 1000
    assert patch(1000, b"").status_code == 422
    assert patch(1000, content[1000:] + b"more").status_code == 413
    assert patch(1000, content[1000:]).json["state"] == "waiting"
    assert patch(len(content), b"more").status_code == 413


@pytest.mark.parametrize("offset", [None, "-1", "1e3", "x", "9" * 40])
def test_offsets_that_are_no_numbers(client, announce, offset):
    video = announce(100).json["id"]
    headers = {} if offset is None else {"Upload-Offset": offset}
    answer = client.patch(f"/api/v1/videos/{video}/content", data=b"x", headers=headers)
    assert answer.status_code == 400


def test_goes_on_after_the_server_was_killed(client, announce, clips, config):
    """What was written but not recorded is sent again."""
    content = clips["green"]
    video = announce(len(content)).json["id"]
    path = f"/api/v1/videos/{video}/content"
    client.patch(path, data=content[:500], headers={"Upload-Offset": 0})
    with (config.data / "videos" / video).open("ab") as file:
        file.write(b"half a piece that nobody recorded")
    other = create_app(config).test_client()
    offset = other.get(f"/api/v1/videos/{video}").json["received"]
    assert offset == 500
    other.patch(path, data=content[500:], headers={"Upload-Offset": 500})
    assert (config.data / "videos" / video).read_bytes() == content


def test_pictures_are_taken(send, runner, client, tmp_path):
    import cv2
    import numpy as np

    cv2.imwrite(str(tmp_path / "p.png"), np.full((48, 64, 3), (0, 0, 255), np.uint8))
    video = send((tmp_path / "p.png").read_bytes(), "p.png").json["id"]
    runner.invoke(args=["work"])
    read = client.get(f"/api/v1/videos/{video}").json
    assert (read["state"], read["media_type"], read["duration"]) == ("done", "image/png", 0.0)


@pytest.mark.parametrize(
    "content",
    [
        b"<!doctype html><script>alert(1)</script>",
        b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        b"MZ\x90\0\x03\0\0\0\x04\0\0\0\xff\xff",
        b"GIF",
    ],
)
def test_other_files_are_refused_and_forgotten(send, client, config, content):
    answer = send(content, "film.mp4")
    assert answer.status_code == 415
    assert "neither a video" in answer.json["message"]
    assert client.get("/api/v1/videos").json["total"] == 0
    assert list((config.data / "videos").iterdir()) == []


def test_what_looks_like_a_video_but_does_not_decode_says_so(send, runner, client):
    video = send(b"\0\0\0\x20ftypisom" + bytes(300), "broken.mp4").json["id"]
    runner.invoke(args=["work"])
    read = client.get(f"/api/v1/videos/{video}").json
    assert read["state"] == "failed"
    assert read["error"].startswith("The file was never finished, or not copied whole: the index")
    page = client.get(f"/videos/{video}")
    assert b"could not be captioned" in page.data


def test_limits(tmp_path, clips):
    size = len(clips["red"])
    config = WebConfig(data=tmp_path / "d", min_free=0, max_size=size, max_uploads=2, max_videos=3)
    client = create_app(config).test_client()

    def announce(size):
        return client.post("/api/v1/videos", json={"name": "a.avi", "size": size})

    assert announce(size + 1).status_code == 413
    assert announce(0).status_code == 422
    first = announce(size).json["id"]
    assert announce(size).status_code == 201
    refused = announce(size)
    assert (refused.status_code, refused.json["code"]) == (429, "too_many_uploads")
    client.patch(f"/api/v1/videos/{first}/content", data=clips["red"], headers={"Upload-Offset": 0})
    assert announce(size).status_code == 201
    client.delete(f"/api/v1/videos/{first}")
    assert client.get("/api/v1/videos").json["total"] == 2


def test_a_full_library_and_a_full_disk(tmp_path, clips, monkeypatch):
    config = WebConfig(data=tmp_path / "d", min_free=10**6, max_videos=1)
    client = create_app(config).test_client()

    def announce(size=1000):
        return client.post("/api/v1/videos", json={"name": "a.avi", "size": size})

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**6 + 999))
    assert (announce().status_code, announce().json["code"]) == (507, "disk_full")
    assert announce(999).status_code == 201
    assert (announce(1).status_code, announce(1).json["code"]) == (507, "library_full")


def test_a_disk_that_fills_meanwhile(client, announce, monkeypatch):
    video = announce(1000).json["id"]

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    answer = client.patch(
        f"/api/v1/videos/{video}/content", data=b"RIFF", headers={"Upload-Offset": 0}
    )
    assert (answer.status_code, answer.json["code"]) == (507, "disk_full")
    assert client.get(f"/api/v1/videos/{video}").json["received"] == 0


def test_old_ones_go_when_the_owner_says_so(tmp_path, clips):
    from web.store import database, videos

    size = len(clips["red"])
    config = WebConfig(data=tmp_path / "d", min_free=0, max_storage=2 * size + 9, keep_days=7)
    client = create_app(config).test_client()
    ids, db = [], database.connect(config.data)
    for _ in range(3):
        ids.append(client.post("/api/v1/videos", json={"name": "a.avi", "size": size}).json["id"])
        client.patch(
            f"/api/v1/videos/{ids[-1]}/content", data=clips["red"], headers={"Upload-Offset": 0}
        )
        videos.clean(db, config)
    kept = {video["id"] for video in client.get("/api/v1/videos").json["videos"]}
    assert kept == set(ids[1:])
    assert {path.name for path in (config.data / "videos").iterdir()} == kept
    db.execute("UPDATE videos SET created = created - 8 * 86400 WHERE id = ?", (ids[1],))
    videos.clean(db, config)
    db.close()
    assert client.get("/api/v1/videos").json["total"] == 1
    # What somebody corrected stays, whatever its age; the page says what goes next.
    last = client.get("/api/v1/videos").json["videos"][0]["id"]
    db = database.connect(config.data)
    sql = "INSERT INTO sentences (video, position, start, end, original, text, corrected) "
    db.execute(sql + "VALUES (?, 0, 0, 1, 'x', 'y', 1)", (last,))
    db.execute("UPDATE videos SET created = created - 8 * 86400, name = 'kept'")
    other = client.post("/api/v1/videos", json={"name": "goes.avi", "size": size}).json["id"]
    client.patch(f"/api/v1/videos/{other}/content", data=clips["red"], headers={"Upload-Offset": 0})
    videos.clean(db, config)
    page = client.application.test_client().get("/").get_data(as_text=True)
    assert f'Deleted next: <a href="/videos/{other}">goes.avi</a>' in page
    refused = client.post("/api/v1/videos", json={"name": "a.avi", "size": 2 * size})
    assert (refused.status_code, refused.json["code"]) == (507, "storage_full")
    db.execute("UPDATE videos SET created = created - 8 * 86400")
    videos.clean(db, config)
    db.close()
    assert [row["name"] for row in client.get("/api/v1/videos").json["videos"]] == ["kept"]
    too_large = client.post("/api/v1/videos", json={"name": "a.avi", "size": 3 * size})
    assert (too_large.status_code, too_large.json["code"]) == (507, "storage_full")


def test_a_piece_of_a_video_that_was_deleted_as_it_arrived_finds_nothing(
    announce, client, clips, config
):
    content = clips["red"]
    video = announce(len(content)).json["id"]
    (config.data / "videos" / video).unlink()  # as a deletion between two looks would
    path = f"/api/v1/videos/{video}/content"
    answer = client.patch(path, data=content, headers={"Upload-Offset": 0})
    assert answer.status_code == 404

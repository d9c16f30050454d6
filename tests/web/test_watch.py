"""Watched folders: files are captioned where they lie, and known again by their content."""

import argparse
import os
import threading
from contextlib import closing
from dataclasses import replace

import pytest

from web.cli import add_serve
from web.config import WebConfig
from web.store import database, videos
from web.watch import Watcher, find_files

from .browser import Person, chromium
from .conftest import work
from .serving import serving


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "watched"
    path.mkdir()
    return path


@pytest.fixture
def config(tmp_path, folder):
    return WebConfig(data=tmp_path / "data", min_free=0, watch=(str(folder),))


@pytest.fixture
def look(client, config):
    """Looks as often as it takes to see that what is there does not grow, and works."""
    watcher = Watcher(config, threading.Event())

    def look(times=2, is_worked=True):
        for _ in range(times):
            watcher.step()
        if is_worked:
            work(config)
        return client.get("/api/v1/videos?sort=name").json["videos"]

    return look


def _page(client, path):
    """A page as a browser without a session sees it."""
    return client.application.test_client().get(path).get_data(as_text=True)


def test_what_appears_is_captioned_where_it_lies(client, folder, clips, config, look):
    assert look() == []
    (folder / "red.webm").write_bytes(clips["red"])
    (folder / "within").mkdir()
    (folder / "within" / "blue.webm").write_bytes(clips["blue"])
    (folder / "notes.txt").write_text("no video")
    (folder / ".hidden.webm").write_bytes(clips["green"])
    (folder / "words.mp4").write_text("no video either")
    before = {path: path.stat() for path in folder.rglob("*")}
    found = look()
    assert [(row["name"], row["state"], row["sentence"]) for row in found] == [
        ("blue.webm", "done", "A blue ball rolls over the floor."),
        ("red.webm", "done", "A red ball rolls over the floor."),
    ]
    red = f"/api/v1/videos/{found[1]['id']}"
    assert client.get(red).json["path"] == str(folder / "red.webm")
    with client.get(f"{red}/content") as answer:
        assert answer.data == clips["red"]
    # It takes no room of ours, is not sent anything, and is not looked at again.
    assert "captioner_stored_bytes 0.0" in client.get("/api/v1/metrics").get_data(as_text=True)
    answer = client.patch(f"{red}/content", data=b"x", headers={"Upload-Offset": 0})
    assert answer.status_code == 409
    assert len(look()) == 2
    assert len(client.get("/api/v1/jobs").json["jobs"]) == 2
    with closing(database.connect(config.data)) as db:
        videos.clean(db, replace(config, max_storage=1, keep_days=0))
    assert len(look()) == 2
    page = _page(client, "/")
    assert f"Watched: {folder}" in page
    # Deleted from the page it stays where it is, and does not come back by itself.
    assert client.delete(red).status_code == 204
    with closing(database.connect(config.data)) as db:
        videos.clean(db, config)
    assert [row["name"] for row in look()] == ["blue.webm"]
    after = {path: path.stat() for path in folder.rglob("*")}
    assert [(s.st_ino, s.st_mtime_ns, s.st_size) for s in after.values()] == [
        (s.st_ino, s.st_mtime_ns, s.st_size) for s in before.values()
    ]


def test_a_file_that_grows_is_left_until_it_is_whole(client, folder, clips, look):
    path = folder / "red.webm"
    for share in (0, 1, 2):
        path.write_bytes(clips["red"][: share * len(clips["red"]) // 3])
        assert look(1) == []
    path.write_bytes(clips["red"])
    assert look(1) == []
    assert look(1)[0]["state"] == "done"
    # One whose copying had paused is captioned again, as the same video.
    path.write_bytes(clips["blue"])
    [row] = look()
    assert row["sentence"] == "A blue ball rolls over the floor."
    # But what a person corrected is not taken for another film.
    client.put(f"/api/v1/videos/{row['id']}/sentences/0", json={"text": "Mine."})
    path.write_bytes(clips["green"])
    rows = {row["sentence"]: row for row in look()}
    assert rows["Mine."]["missing"]
    assert rows["A green ball rolls over the floor."]["missing"] is None


def test_what_disappears_is_marked_and_known_again(client, folder, clips, look, config):
    (folder / "red.webm").write_bytes(clips["red"])
    [row] = look()
    video = f"/api/v1/videos/{row['id']}"
    client.put(f"{video}/sentences/0", json={"text": "Mine."})
    last = client.get("/api/v1/events").json["last"]
    (folder / "red.webm").rename(folder.parent / "elsewhere.webm")
    [row] = look(1)
    assert row["missing"]
    assert row["sentence"] == "Mine."
    assert "File is gone" in _page(client, "/")
    assert client.get(f"{video}/content").status_code == 404
    client.post(f"{video}/retry")
    [row] = look(1)
    assert "no longer there" in row["error"]
    # Under another name, and elsewhere.
    (folder / "new").mkdir()
    (folder.parent / "elsewhere.webm").rename(folder / "new" / "ball.webm")
    [row] = look()
    assert (row["missing"], row["sentence"], row["name"]) == (None, "Mine.", "ball.webm")
    with client.get(f"{video}/content") as answer:
        assert answer.data == clips["red"]
    states = [e["state"] for e in client.get(f"/api/v1/events?after={last}").json["events"]]
    assert states[0] == "missing"
    assert "back" in states
    # The whole folder: a drive that is not plugged in; and after a restart.
    folder.rename(folder.parent / "unplugged")
    assert look(1)[0]["missing"]
    (folder.parent / "unplugged").rename(folder)
    again = Watcher(config, threading.Event())
    again.step()
    again.step()
    [row] = look(0)
    assert (row["missing"], row["sentence"]) == (None, "Mine.")


def test_links_lead_to_each_file_once(folder, clips, config, look, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "blue.webm").write_bytes(clips["blue"])
    (folder / "red.webm").write_bytes(clips["red"])
    os.link(folder / "red.webm", folder / "same.webm")
    (folder / "round").symlink_to(folder)
    (folder / "out").symlink_to(outside)
    (folder / "again").symlink_to(outside)
    (folder / "nowhere.webm").symlink_to(tmp_path / "none")
    (folder / "data").symlink_to(config.data)
    found = sorted(file.path for file in find_files(config))
    assert found == [str(folder / "again" / "blue.webm"), str(folder / "red.webm")]
    assert [row["name"] for row in look()] == ["blue.webm", "red.webm"]


def test_names_and_limits(folder, clips, config, client, look, caplog, tmp_path):
    odd = os.fsencode(folder) + b"/\xff\n<b>.webm"
    with open(odd, "wb") as file:
        file.write(clips["red"])
    [row] = look()
    assert (row["name"], row["state"]) == ("<b>.webm", "done")
    assert "b&gt;.webm" in _page(client, f"/videos/{row['id']}")
    full = replace(config, max_videos=1)
    (folder / "second.webm").write_bytes(clips["blue"])
    watcher = Watcher(full, threading.Event())
    for _ in range(4):
        watcher.step()
    assert caplog.text.count("1 videos, which is its limit") == 1
    assert len(look(0)) == 1


def test_three_hundred_at_once(folder, clips, look, client):
    for number in range(300):
        (folder / f"{number}.webm").write_bytes(clips["red"] + bytes(number))
    look(is_worked=False)
    assert client.get("/api/v1/videos?state=waiting").json["total"] == 300
    assert "0 of 300 captioned" in _page(client, "/")


def test_the_page_follows_a_folder(folder, clips, config):
    browser = chromium()
    try:
        with serving(replace(config, watch_seconds=0.2)) as url:
            person = Person(browser, url)
            person.go("/")
            person.see("#storage", f"Watched: {folder}.")
            (folder / "red.webm").write_bytes(clips["red"])
            person.see(".card.done .sentence", "A red ball rolls over the floor.")
            (folder / "red.webm").rename(folder.parent / "elsewhere.webm")
            person.see(".card .pill", "File is gone")
            assert person.faults() == []
            person.click(".card .sentence")
            person.see("#heading .notice", "not in its folder any more")
            (folder.parent / "elsewhere.webm").rename(folder / "ball.webm")
            person.see("h1", "ball.webm")
            person.wait("!document.querySelector('#heading .notice')")
            person.wait("document.querySelector('video').readyState >= 1")
            assert person.faults() == []
            browser.get("about:blank")
    finally:
        browser.quit()


def test_the_folder_has_to_be_there(folder, capsys, monkeypatch):
    parser = argparse.ArgumentParser()
    add_serve(parser.add_subparsers())
    monkeypatch.chdir(folder.parent)
    args = parser.parse_args(["serve", "--watch", "watched", "--watch", str(folder)])
    assert args.watch == [str(folder)] * 2
    with pytest.raises(SystemExit):
        parser.parse_args(["serve", "--watch", "none"])
    assert "none is no folder" in capsys.readouterr().err

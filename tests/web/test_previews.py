"""Previews of what browsers do not play."""

import re
import time
from contextlib import closing
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest

from captioner.config import SamplingOptions
from captioner.errors import VideoError
from captioner.video import read_frames
from tests.clips import numbered_frame, numbers_of, turn, write_clip
from web.preview import TARGETS, Limits, is_played, write_preview
from web.store import database, jobs

from .conftest import draw, work

AMPLE = Limits(size=10**8, length=3600, work=60)


def encode(path, pictures, sound=None, pixels="yuv420p", seconds=2, start=0.0):
    """Writes numbered frames, ten a second, and a tone; its clock begins at `start`."""
    with av.open(str(path), "w") as container:
        options = {"x265-params": "log-level=none"} if pictures == "libx265" else {}
        stream = container.add_stream(pictures, rate=10, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
        voice = sound and container.add_stream(sound, rate=44_100, layout="mono")
        for number in range(10 * seconds):
            frame = av.VideoFrame.from_ndarray(numbered_frame(number), format="bgr24")
            frame.pts, frame.time_base = number + round(10 * start), Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if voice:
            tone = np.sin(np.arange(44_100 * seconds) / 16) * 9000
            frame = av.AudioFrame.from_ndarray(tone.astype(np.int16)[None], "s16", "mono")
            frame.sample_rate, frame.pts = 44_100, round(44_100 * start)
            container.mux(voice.encode(frame))
            container.mux(voice.encode(None))
    return path


@pytest.fixture(scope="module")
def hevc(tmp_path_factory):
    return encode(tmp_path_factory.mktemp("hevc") / "hevc.mp4", "libx265", "aac", start=3.0)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.container)
def test_pictures_and_sound_at_their_times(hevc, tmp_path, target):
    path = tmp_path / "preview"
    preview = write_preview(hevc, path, AMPLE, targets=(target,))
    assert (preview.media_type, preview.size) == (target.media_type, path.stat().st_size)
    assert is_played(path)
    clip = read_frames(path, SamplingOptions(20))
    assert numbers_of(clip.frames) == list(range(20))
    assert clip.times == pytest.approx(np.arange(20) / 10, abs=0.002)
    with av.open(str(path)) as container:
        [sound] = container.streams.audio
        heard = [frame for frame in container.decode(sound)]
    assert heard[0].time == pytest.approx(0, abs=0.05)
    assert heard[-1].time == pytest.approx(2, abs=0.1)


def test_what_browsers_play(hevc, tmp_path):
    assert not is_played(hevc)
    for name, pictures, sound, pixels, played in (
        ("a.mp4", "libx264", "aac", "yuv420p", True),
        ("b.mp4", "libx264", "aac", "yuv422p", False),
        ("a.mkv", "libx264", "aac", "yuv420p", False),
        ("a.mov", "prores_ks", None, "yuv422p10le", False),
        ("a.avi", "mpeg4", None, "yuv420p", False),
    ):
        path = encode(tmp_path / name, pictures, sound, pixels, seconds=1)
        assert is_played(path) is played, name
    assert is_played(draw(tmp_path / "a.webm", "red"))


def test_large_and_turned_as_a_person_sees_it(tmp_path):
    path = write_clip(tmp_path / "a.mp4", [np.full((1080, 1920, 3), (0, 0, 200), np.uint8)] * 3)
    turn(path)
    write_preview(path, tmp_path / "preview", AMPLE)
    [frame] = read_frames(tmp_path / "preview", SamplingOptions(1)).frames
    assert frame.shape[:2] == (848, 476)
    assert frame.mean((0, 1)) == pytest.approx((200, 0, 0), abs=12)


def test_it_ends_at_its_limits(hevc, tmp_path):
    path = tmp_path / "preview"
    assert write_preview(hevc, path, replace(AMPLE, length=0.95)).duration < 1.1
    assert write_preview(hevc, path, replace(AMPLE, size=10)).duration < 2
    assert write_preview(hevc, path, replace(AMPLE, work=0)).duration < 1
    # What others do meanwhile does not count.
    slow = lambda: time.sleep(0.05) or 0.06  # noqa: E731
    assert write_preview(hevc, path, replace(AMPLE, work=0.5), slow).duration > 1.9
    with pytest.raises(VideoError, match="without an encoder"):
        write_preview(hevc, path, AMPLE, targets=(replace(TARGETS[0], pictures="none"),))


def test_a_preview_comes_after_all_captions_and_goes_with_its_video(client, send, hevc, config):
    ids = [send(hevc.read_bytes(), f"{n}.mp4", client=client).json["id"] for n in range(2)]
    work(config)
    found = client.get("/api/v1/jobs").json["jobs"]
    in_order = sorted(found, key=lambda job: job["finished"])
    assert [job["task"] for job in in_order] == ["caption", "caption", "preview", "preview"]
    path = f"/api/v1/videos/{ids[0]}"
    preview = client.get(path).json["preview"]
    assert (preview["state"], preview["duration"]) == ("done", pytest.approx(2, abs=0.1))
    with client.get(f"{path}/preview", headers={"Range": "bytes=0-99"}) as answer:
        assert (answer.status_code, answer.mimetype) == (206, preview["media_type"])
    assert client.post(f"{path}/preview").status_code == 409  # there is one
    # Captioned again, it is not made again.
    client.post(f"{path}/retry")
    work(config)
    assert len(client.get("/api/v1/jobs").json["jobs"]) == 5
    stored = config.data / "previews" / ids[0]
    with closing(database.connect(config.data)) as db:
        [taken] = db.execute("SELECT sum(size) FROM videos").fetchone()
    assert "captioner_stored_bytes " + str(float(taken + 2 * preview["size"])) in client.get(
        "/api/v1/metrics"
    ).get_data(as_text=True)
    assert stored.exists()
    client.delete(f"{path}?forever=true")
    assert not stored.exists()
    assert client.get(f"{path}/preview").status_code == 404


def test_none_is_made_where_there_is_no_room_or_need(client, send, hevc, clips, config):
    played = send(clips["red"]).json["id"]
    video = send(hevc.read_bytes(), "hevc.mp4").json["id"]
    work(replace(config, max_storage=200_000))
    read = client.get(f"/api/v1/videos/{video}").json
    assert (read["state"], read["preview"]["state"]) == ("done", "failed")
    assert read["preview"]["error"] == "There is no room left for a preview."
    assert client.get(f"/api/v1/videos/{played}").json["preview"]["state"] is None
    assert client.get(f"/api/v1/videos/{played}/preview").status_code == 404
    # It can be asked for, again too.
    page = client.application.test_client().get(f"/videos/{video}").get_data(as_text=True)
    assert re.search(r'no room left for a preview\. <button[^>]* id="make-preview">Try again', page)
    for wanted in (video, played):
        assert client.post(f"/api/v1/videos/{wanted}/preview").json["preview"]["state"] == "waiting"
    work(config)
    assert client.get(f"/api/v1/videos/{video}").json["preview"]["state"] == "done"


def test_one_that_is_no_longer_wanted_leaves_nothing(client, send, hevc, config, monkeypatch):
    video = send(hevc.read_bytes(), "hevc.mp4").json["id"]

    def cancelled(*args):
        client.post(f"/api/v1/videos/{video}/cancel")
        return write_preview(*args)

    monkeypatch.setattr("web.worker.write_preview", cancelled)
    work(config)
    assert client.get(f"/api/v1/videos/{video}").json["preview"]["state"] == "cancelled"
    assert list((config.data / "previews").iterdir()) == []


def test_no_caption_waits_for_a_long_preview(client, send, hevc, clips, config, monkeypatch):
    ids = [send(hevc.read_bytes(), "hevc.mp4").json["id"]]
    seen = []

    def slowly(video, path, limits, rest):
        def resting():
            if len(ids) == 1:
                ids.append(send(clips["blue"]).json["id"])
            return rest()

        preview = write_preview(video, path, limits, resting)
        seen.append(client.get(f"/api/v1/videos/{ids[1]}").json["state"])
        return preview

    monkeypatch.setattr("web.worker.write_preview", slowly)
    monkeypatch.setattr("web.worker._IDLE", 0.0)
    work(config)
    assert seen == ["done"]


def test_a_preview_survives_the_death_of_its_worker(client, send, hevc, config):
    """And what kills the worker twice keeps its caption."""
    video = send(hevc.read_bytes(), "hevc.mp4").json["id"]
    work(config, task="caption")
    with closing(database.connect(config.data)) as db:
        assert jobs.claim(db)["task"] == "preview"  # and dies, in the middle
        (config.data / "previews" / ".new").write_bytes(b"half")
        jobs.recover(db, config)
    work(config)
    assert client.get(f"/api/v1/videos/{video}").json["preview"]["state"] == "done"
    assert [path.name for path in (config.data / "previews").iterdir()] == [video]

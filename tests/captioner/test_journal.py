"""Batches that are interrupted, in whatever way, and gone on with.

What runs is the command itself, with a model that says how bright a clip is (`tests.fake`).
"""

import csv
import io
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from captioner import journal as journal_module
from captioner.caption import Candidate, Caption, Failure
from captioner.errors import CaptionerError, VideoError
from captioner.journal import Journal, RowsFile
from captioner.sidecars import Sidecars, write_whole
from tests.clips import write_clip

ROOT = Path(__file__).parents[2]
OPEN = os.O_WRONLY | os.O_CREAT
COMMAND = [sys.executable, "-m", "tests.fake", "caption"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Some hundred tiny clips, and a few files that are none."""
    folder = tmp_path_factory.mktemp("many")
    for level in range(0, 250, 25):
        frames = [np.full((48, 64, 3), level, np.uint8)] * 4
        write_clip(folder / f"{level:03}.avi", frames, codec="MJPG")
    for clip in list(folder.iterdir()):
        for number in range(24):
            shutil.copy(clip, folder / f"{clip.stem}_{number}.avi")
    for number in range(5):
        (folder / f"{number}50_bad.mp4").write_bytes(b"\1\2\3" * number)
    return folder


def _run(*arguments, **options):
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, **options)


def _rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def undisturbed(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "whole.jsonl"
    done = _run(folder, "-o", out)
    assert done.returncode == 1
    assert "250 captioned, 5 failed, 0 done before" in done.stderr
    assert done.stdout == ""
    return out.read_bytes()


def test_thirty_kills_and_a_resume(folder, undisturbed, tmp_path):
    random = np.random.default_rng(3)
    out = tmp_path / "out.jsonl"
    sizes = [0]
    for number in range(30):
        command = [*COMMAND, folder, "-o", out, "--resume", "--formats", "jsonl", "csv"]
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE)
        # Some when it starts, most among the rows: how many of them differs with each.
        deadline = time.monotonic() + (random.uniform(0, 0.5) if number % 5 == 0 else 30)
        rows = random.integers(1, 16) * len(undisturbed) // 255
        while process.poll() is None and time.monotonic() < deadline:
            if out.exists() and out.stat().st_size >= sizes[-1] + rows:
                break
            time.sleep(0.002)
        time.sleep(random.uniform(0, 0.02))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if out.exists():
            found = out.read_bytes()
            assert undisturbed.startswith(found)
            # As a power cut may leave it, too: the last row torn.
            out.write_bytes(found[: len(found) - random.integers(0, 60) * (number % 2)])
            sizes.append(out.stat().st_size)
    assert len(set(sizes)) > 12
    assert sizes[-1] < len(undisturbed)
    done = _run(folder, "-o", out, "--resume", "--formats", "jsonl", "csv")
    assert done.returncode in (0, 1)
    assert out.read_bytes() == undisturbed
    with out.with_suffix(".csv").open() as file:
        assert [row["video"] for row in csv.DictReader(file)] == [r["video"] for r in _rows(out)]


def test_interrupt_finishes_what_is_in_flight(folder, undisturbed, tmp_path):
    out = tmp_path / "out.jsonl"
    command = [*COMMAND, folder, "-o", out]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while not out.exists() or not out.stat().st_size:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "--resume goes on" in told
    assert "Traceback" not in told
    found = out.read_bytes()
    assert undisturbed.startswith(found)
    assert found.endswith(b"\n")
    assert 0 < len(found) < len(undisturbed)
    assert "0 done before" not in _run(folder, "-o", out, "--resume").stderr
    assert out.read_bytes() == undisturbed


def test_full_disk_loses_nothing(folder, undisturbed, tmp_path):
    out = tmp_path / "out.jsonl"
    room = len(undisturbed) * 2 // 5

    code = (
        "import resource, runpy; "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room})); "
        "runpy.run_module('tests.fake', run_name='__main__')"
    )
    command = [sys.executable, "-c", code, "caption", folder, "-o", out]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert re.search(r"out\.jsonl: cannot be written: .*; make room", done.stderr)
    assert "Traceback" not in done.stderr
    found = out.read_bytes()
    assert undisturbed.startswith(found)
    assert found.endswith(b"\n")
    assert room - 300 < len(found) <= room
    assert _run(folder, "-o", out, "--resume").returncode in (0, 1)
    assert out.read_bytes() == undisturbed


def test_shards_are_all_together_and_know_no_folder(folder, undisturbed, tmp_path):
    elsewhere = tmp_path / "mounted" / "elsewhere"
    shutil.copytree(folder, elsewhere)
    names = []
    for shard, place in (("1/3", folder), ("2/3", elsewhere), ("3/3", folder)):
        out = tmp_path / f"{shard[0]}.jsonl"
        _run(place, "-o", out, "--shard", shard)
        names.append({Path(row["video"]).name for row in _rows(out)})
        assert len(names[-1]) > 50
    assert sorted(name for part in names for name in part) == sorted(
        Path(json.loads(line)["video"]).name for line in undisturbed.splitlines()
    )


def test_subtitles_for_each_video(folder, tmp_path):
    clip = next(folder.glob("*.avi"))
    out = tmp_path / "out.jsonl"
    arguments = ["--segments", "0.2", "--formats", "jsonl", "srt", "vtt", "text"]
    assert _run(clip, "-o", out, *arguments).returncode == 0
    [row] = _rows(out)
    assert [(s["start"], s["end"]) for s in row["segments"]] == [(0, 0.2), (0.2, 0.4)]
    [srt] = (tmp_path / "out.srt").rglob("*.srt")
    assert srt.name == f"{clip.name}.srt"
    assert "00:00:00,200 --> 00:00:00,400" in srt.read_text()
    assert len(list((tmp_path / "out.vtt").rglob("*.vtt"))) == 1
    assert (tmp_path / "out.txt").read_text().count(clip.name) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resume"], "name the file: -o FILE"),
        (["--formats", "jsonl", "csv"], "name them: -o FILE"),
        (["-o", "OUT", "--resume", "--format", "csv"], "needs the rows of jsonl"),
        (["-o", "OUT", "--resume"], "line 1 is not what this command writes"),
        (["--shard", "3/2"], "--shard"),
        (["--segments", "0"], "--segments"),
        (["--workers", "0"], "--workers"),
    ],
)
def test_wrong_usage(arguments, message, tmp_path):
    out = tmp_path / "notes.txt"
    out.write_text("my notes\n")
    done = _run("a.mp4", *(str(out) if a == "OUT" else a for a in arguments))
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert out.read_text() == "my notes\n"


# The journal itself, in this process.


def _told(video, text="Something."):
    found = os.stat(video)
    return Caption(
        str(video), (Candidate(text, -1.0),), 1.0, "m", size=found.st_size, modified=found.st_mtime
    )


@pytest.fixture
def videos(tmp_path):
    paths = [tmp_path / f"{name}.mp4" for name in "abc"]
    for path in paths:
        path.write_bytes(b"frames")
    return paths


def _written(out):
    return [(row["video"][-5:], row["caption"]) for row in _rows(out)]


def test_skips_what_is_done_and_has_not_changed(videos, tmp_path):
    a, b, c = videos
    out = tmp_path / "out.jsonl"
    with Journal(out, ["jsonl"], "m") as journal:
        assert a not in journal
        for video in (a, b):
            journal.write(_told(video))
    a.write_bytes(b"other frames")
    with Journal(out, ["jsonl"], "m", resume=True) as journal:
        assert [video in journal for video in videos] == [False, True, False]
        assert journal.num_before == 1
        journal.write(_told(a, "Else."))
        journal.write(_told(c))
    assert _written(out) == [("b.mp4", "Something."), ("a.mp4", "Else."), ("c.mp4", "Something.")]
    b.unlink()
    with Journal(out, ["jsonl"], "m", resume=True) as journal:
        assert b in journal


def test_rows_of_another_model_stand_and_do_not_count(videos, tmp_path):
    out = tmp_path / "out.jsonl"
    with Journal(out, ["jsonl"], "m") as journal:
        journal.write(_told(videos[0]))
    with Journal(out, ["jsonl"], "other", resume=True) as journal:
        assert videos[0] not in journal
    assert len(_rows(out)) == 1


def test_captions_of_other_options_are_not_mixed(videos, tmp_path):
    out, photo = tmp_path / "out.jsonl", "--style photo"
    with Journal(out, ["jsonl"], "m", options=photo) as journal:
        journal.write(replace(_told(videos[0]), options=photo))
    before = out.read_bytes()
    for options, told in (("", "plainly"), ("--beam-size 1", "with --beam-size 1")):
        message = f"was captioned with --style photo, and this run captions {told};"
        with pytest.raises(CaptionerError, match=message):
            Journal(out, ["jsonl"], "m", resume=True, options=options)
    assert out.read_bytes() == before
    with Journal(out, ["jsonl"], "m", resume=True, options=photo) as journal:
        assert videos[0] in journal
    with Journal(out, ["jsonl"], "other", resume=True, options="") as journal:
        assert videos[0] not in journal


def test_failures_are_kept_or_tried_again(videos, tmp_path):
    a, b, _ = videos
    out = tmp_path / "out.jsonl"
    found = os.stat(a)
    with Journal(out, ["jsonl", "csv"], "m") as journal:
        journal.write(Failure(str(a), "it broke", "m", found.st_size, found.st_mtime))
        journal.write(_told(b))
    with Journal(out, ["jsonl", "csv"], "m", resume=True) as journal:
        assert a in journal
    with Journal(out, ["jsonl", "csv"], "m", resume=True, retry_failed=True) as journal:
        assert a not in journal
        assert b in journal
        journal.write(_told(a))
    assert [video for video, _ in _written(out)] == ["b.mp4", "a.mp4"]
    text = out.with_suffix(".csv").read_text()
    assert "it broke" not in text
    assert text.count("video,start") == 1
    assert len(text.splitlines()) == 3


def test_torn_row_is_dropped(videos, tmp_path):
    out = tmp_path / "out.jsonl"
    with Journal(out, ["jsonl"], "m") as journal:
        for video in videos:
            journal.write(_told(video))
    whole = out.read_bytes()
    out.write_bytes(whole[:-20])
    with Journal(out, ["jsonl"], "m", resume=True) as journal:
        assert [video in journal for video in videos] == [True, True, False]
        journal.write(_told(videos[2]))
    assert out.read_bytes() == whole


def test_two_at_once_do_not_mix(tmp_path):
    out = tmp_path / "out.jsonl"
    with Journal(out, ["jsonl"], "m"), pytest.raises(CaptionerError, match="another captioner"):
        Journal(out, ["jsonl"], "m", resume=True)
    with Journal(out, ["jsonl"], "m", resume=True):
        pass


class Killed(BaseException):
    """What stands for a kill: no `except` of ours sees it."""


@pytest.mark.parametrize("header", ["", "heading\n"])
def test_killed_at_any_moment_a_group_is_whole_or_gone(header, tmp_path, monkeypatch):
    """Before every call of the system that changes the file."""
    path, groups = tmp_path / "rows.txt", ["a 1\na 2\na 3\n", "\u00fc 1\n", "b 1\nb 2\n"]
    calls = 0

    class Mortal(io.FileIO):
        def truncate(self, size):
            live()
            return super().truncate(size)

        def write(self, part):
            live()
            return super().write(part[: max(1, len(part) // 2)])  # bit by bit, as systems may

    def live():
        nonlocal calls
        calls -= 1
        if calls == 0:
            raise Killed

    def write(resume):
        with RowsFile(path, header) as file:
            done = set(file.resume(lambda row: row.decode()[0]) if resume else ())
            if not resume:
                file.restart()
            for group in groups:
                if group[0] not in done:
                    file.append(group)

    monkeypatch.setattr(journal_module, "_open", lambda path: Mortal(os.open(path, OPEN), "w"))
    for death in range(1, 1000):
        path.unlink(missing_ok=True)
        calls = death
        try:
            write(resume=False)
        except Killed:
            pass
        else:
            break
        write(resume=True)
        assert path.read_text() == header + "".join(groups)
    assert death > 15


def test_a_full_disk_leaves_what_was_whole(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, limits[1]))
        with RowsFile(tmp_path / "rows.txt") as file:
            file.append("one\ntwo\n")
            with pytest.raises(CaptionerError, match=r"rows\.txt: cannot be written: .*make room"):
                file.append("three\nfour\nfive\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert (tmp_path / "rows.txt").read_text() == "one\ntwo\n"


def test_goes_on_only_with_its_own_file(tmp_path):
    path = tmp_path / "rows.csv"
    for text in ("other heading\nrow\n", "heading\nrow\nno\n"):
        path.write_text(text)
        with RowsFile(path, "heading\n") as file, pytest.raises(CaptionerError, match="--resume"):
            list(file.resume(_only_row))
        assert path.read_text() == text


def _only_row(row):
    if row != b"row\n":
        raise ValueError(row)


def test_a_device_takes_rows_too():
    with RowsFile(Path(os.devnull), "heading\n") as file:
        file.restart()
        file.append("one\ntwo\n")


def test_a_file_for_each_video_is_whole_or_not_there(tmp_path):
    def pieces():
        yield "first"
        raise VideoError("it ends here")

    with pytest.raises(VideoError):
        write_whole(tmp_path / "sub" / "a.srt", pieces())
    assert list((tmp_path / "sub").iterdir()) == []


def test_sidecars_stay_in_their_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Journal(Path("in/side"), ["srt"], "m") as journal:
        for video in ("/x/a.mp4", "../../b.mp4", "c.mp4"):
            journal.write(Caption(video, (Candidate("Something.", -1.0),), 1.0, "m"))
    found = sorted(str(path) for path in tmp_path.rglob("*.srt"))
    base = tmp_path / "in" / "side"
    assert found == [
        str(base / name) for name in ("__/__/b.mp4.srt", "__root/x/a.mp4.srt", "c.mp4.srt")
    ]


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize(
    "content",
    [
        b"\0\0\0\x1cftypisom\0\0\x02\0isom",  # a video
        b"\x47\x40\0\x10\n\0",
        b"notes of mine",
        b"notes\tof\nmine",
        b'{"row": 1}\n',
    ],
)
def test_what_is_no_output_of_an_earlier_run_stands(content, resume, tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_bytes(content)
    with pytest.raises(CaptionerError, match=r"out\.jsonl"):
        Journal(path, ["jsonl"], "m", resume)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("form", ["jsonl", "csv", "text"])
def test_what_an_earlier_run_has_written_is_kept(form, videos, tmp_path):
    path, written = tmp_path / "out", []
    for _ in range(3):
        with Journal(path, [form], "m") as journal:
            journal.write(_told(videos[0], f"Sentence {len(written)}."))
        written.append(path.read_bytes())
    assert [(tmp_path / f"out{'~' * n}").read_bytes() for n in (1, 2, 0)] == written
    assert journal.kept == [tmp_path / "out~~"]


@pytest.mark.parametrize("form", ["jsonl", "csv", "text"])
def test_nothing_is_emptied_before_there_is_something_to_put_in(form, videos, tmp_path):
    path = tmp_path / "out"
    with Journal(path, [form], "m") as journal:
        journal.write(_told(videos[0]))
    before = path.read_bytes()
    with Journal(path, [form], "m"):
        pass
    assert path.read_bytes() == before
    assert not (tmp_path / "out~").exists()


def test_a_subtitle_that_was_corrected_is_kept(videos, tmp_path):
    for text in ("First.", "First.", "Second."):
        with Journal(tmp_path / "side", ["srt"], "m") as journal:
            journal.write(_told(videos[0], text))
    found = sorted(path.name for path in (tmp_path / "side").rglob("*.srt*"))
    assert found == ["a.mp4.srt", "a.mp4.srt~"]


def test_no_two_videos_share_a_subtitle(tmp_path):
    names = ["a/v.mp4", "/a/v.mp4", "../a/v.mp4", "__/a/v.mp4", "__root/a/v.mp4", "A/v.mp4"]
    names += ["a/V.mp4", "a/v.MP4", "u\u0308.mp4", "\u00fc.mp4", "\u00dc.mp4"]
    for _ in range(2):  # the second run finds the files of the first
        sidecars, found = Sidecars(tmp_path, ".srt"), []
        for name in names:
            found.append(sidecars.path_of(name))
            write_whole(found[-1], [name])
        assert [path.read_text() for path in found] == names
    alike = {unicodedata.normalize("NFC", str(path)).casefold() for path in found}
    assert len(alike) == len(names)
    assert found[0] == tmp_path / "a" / "v.mp4.srt"


def test_names_of_any_length_have_their_own_sidecars(tmp_path):
    videos = ["\u732b" * 80 + f"{number}.mp4" for number in range(2)]
    with Journal(tmp_path / "side", ["srt"], "m") as journal:
        for video in (*videos, "a.mp4", "../a.mp4"):
            journal.write(Caption(video, (Candidate("Something.", -1.0),), 1.0, "m"))
    assert len(list((tmp_path / "side").rglob("*.srt"))) == 4


def test_a_dot_in_a_name_is_no_suffix(tmp_path):
    for name in ("may.05", "may.06", "all.csv"):
        Journal(tmp_path / name, ["jsonl", "csv"], "m").__exit__()
    names = {f"may.0{month}.{suffix}" for month in (5, 6) for suffix in ("jsonl", "csv")}
    assert {path.name for path in tmp_path.iterdir()} == names | {"all.jsonl", "all.csv"}

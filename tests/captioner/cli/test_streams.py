"""Standard streams as daemons, containers and small terminals have them."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from captioner.terminal import find_temporary_folder
from tests.clips import numbered_frame, write_clip

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    for name in ("a.avi", "b \u732b.avi"):
        write_clip(folder / name, [numbered_frame(number) for number in range(4)], codec="MJPG")
    return folder


def _command(*arguments):
    return [sys.executable, "-m", "tests.fake", "caption", *map(str, arguments)]


def _run(command, **options):
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, **options)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
def test_started_without_standard_streams(closed, clips, tmp_path):
    out = tmp_path / "out.jsonl"
    command = ["bash", "-c", f'exec "$@" {closed}', "-", *_command(clips, "-o", out)]
    done = _run(command)
    assert done.returncode == 0
    assert out.read_text(encoding="utf-8").count('"error": null') == 2


@pytest.mark.parametrize(
    "locale",
    [
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_rows_are_utf8_in_every_locale(locale, clips):
    command = _command(clips, "--format", "text")
    done = _run(command, env=os.environ | locale, encoding="utf-8")
    assert "b \u732b.avi\t" in done.stdout
    assert len(done.stdout.splitlines()) == 2
    assert done.stderr == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux")
def test_full_disk_behind_standard_output(clips):
    with open("/dev/full", "w") as full:
        command = _command(clips)
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("captioner: stdout: cannot be written: No space left")
    assert done.stderr.count("\n") == 1


def test_reader_that_has_seen_enough(clips):
    read, write = os.pipe()
    os.close(read)
    command = _command(clips)
    done = subprocess.run(command, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


def test_sigterm_finishes_what_is_in_flight(clips, tmp_path):
    out, many = tmp_path / "out.jsonl", tmp_path / "many"
    many.mkdir()
    for number in range(300):
        os.link(clips / "a.avi", many / f"{number}.avi")
    process = subprocess.Popen(
        _command(many, "-o", out), cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    while not out.exists() or not out.stat().st_size:
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "--resume goes on" in told
    assert 0 < out.read_bytes().count(b"\n") < 300
    assert out.read_bytes().endswith(b"\n")


def test_why_there_are_no_subtitles_is_told(clips, tmp_path):
    (tmp_path / "bad.mp4").write_text("no video at all, but text")
    for more in ([], ["-o", tmp_path / "out"]):
        done = _run(_command(tmp_path / "bad.mp4", "--format", "srt", *more))
        assert done.returncode == 1
        assert "bad.mp4: this is text" in done.stderr
        assert done.stdout == ""


def test_subtitles_on_standard_output_are_of_one_video(clips):
    done = _run(_command(clips, "--format", "vtt"))
    assert done.returncode == 2
    assert "-o FOLDER" in done.stderr
    done = _run(_command(clips / "a.avi", "--format", "vtt"))
    assert done.returncode == 0
    assert done.stdout.startswith("WEBVTT")


def test_a_quiet_import_needs_no_folder():
    code = (
        "import tempfile, os\n"
        "tempfile.tempdir = '/nowhere'\n"
        "from captioner.terminal import muted_stderr\n"
        "with muted_stderr(): os.write(2, b'chatter')\n"
        "try:\n"
        "    with muted_stderr(): os.write(2, b'why'); raise OSError\n"
        "except OSError: pass\n"
    )
    done = _run([sys.executable, "-c", code])
    assert (done.returncode, done.stderr) == (0, "why")


def test_a_machine_without_a_folder_for_temporary_files(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", list)
    monkeypatch.setenv("TMPDIR", "")
    find_temporary_folder()
    assert os.path.isdir(tempfile.gettempdir())

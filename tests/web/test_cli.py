"""`captioner serve` and `captioner upload`, through the command."""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import requests

from captioner.errors import CaptionerError
from captioner.terminal import INTERRUPTED
from web import cli
from web.client import _Server, caption_on_server
from web.config import WebConfig

from .fakes import FakeCaptioner
from .serving import serving


def _main(*arguments):
    """`captioner` as installed, whatever is installed where the tests run."""
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)
    cli.add_serve(commands)
    cli.add_upload(commands)
    args = parser.parse_args(list(map(str, arguments)))
    return args.run(args)


def test_other_verbs_wait_for_no_flask():
    code = "import sys, web.cli; print('flask' in sys.modules, 'tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.fixture
def files(clips, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for colour, content in clips.items():
        (folder / f"{colour}.avi").write_bytes(content)
    (tmp_path / "words.mp4").write_text("not a video, but many words of text")
    (tmp_path / "empty.mp4").touch()
    return tmp_path


def test_captions_by_a_server(files, capsys, monkeypatch):
    monkeypatch.setenv(cli.TOKEN, "open sesame")
    config = WebConfig(data=files / "data", min_free=0, token="open sesame")
    paths = [files / "in", files / "words.mp4", files / "none.mp4", files / "empty.mp4"]
    with serving(config) as url:
        assert _main("upload", url, *paths) == 1
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        out = files / "out.txt"
        arguments = [url, "--format", "text", "-o", out, files / "in" / "red.avi"]
        assert _main("upload", *arguments) == 0
        left = requests.get(
            f"{url}/api/v1/videos", headers={"Authorization": "Bearer open sesame"}, timeout=5
        )
    assert [row["caption"] for row in rows[:3]] == [
        f"A {colour} ball rolls over the floor." for colour in ("blue", "green", "red")
    ]
    assert rows[0]["model"] == "default"
    assert [row["video"] for row in rows[3:]] == [str(path) for path in paths[1:]]
    for row, reason in zip(rows[3:], ("neither a video", "No such file", "empty"), strict=True):
        assert reason in row["error"]
    assert out.read_text().endswith("\tA red ball rolls over the floor.\n")
    assert left.json()["total"] == 0


def test_an_upload_is_gone_on_with(files, capsys):
    out = files / "out.jsonl"
    with serving(WebConfig(data=files / "data", min_free=0)) as url:
        assert _main("upload", url, files / "in" / "red.avi", "-o", out) == 0
        first = out.read_text()
        (files / "in" / "blue.avi").write_bytes(b"no longer a video, and a text of some length")
        assert _main("upload", url, files / "in", "-o", out, "--resume") == 1
        assert out.read_text().startswith(first)
        assert "1 captioned, 1 failed, 1 done before" in capsys.readouterr().err
        (files / "in" / "blue.avi").unlink()
        assert _main("upload", url, files / "in", "-o", out, "--resume") == 0
        assert "0 captioned, 0 failed, 3 done before" in capsys.readouterr().err


def test_an_output_is_replaced_when_the_first_row_is_there(files, monkeypatch):
    out = files / "out.jsonl"
    out.write_text("rows of before\n")
    monkeypatch.setattr("web.client._PATIENCE", 0.0)
    with pytest.raises(CaptionerError, match="is captioner serve running there"):
        _main("upload", "http://127.0.0.1:1", files / "in", "-o", out)
    assert out.read_text() == "rows of before\n"


def test_what_is_no_longer_waited_for_is_deleted_there(files):
    with serving(WebConfig(data=files / "data", min_free=0)) as url:
        results = caption_on_server(url, [files / "in"])
        next(results)
        results.close()
        assert requests.get(f"{url}/api/v1/videos", timeout=5).json()["total"] == 0


def test_an_upload_that_is_interrupted_waits_for_one_caption_more(files, monkeypatch, capsys):
    result = _Server.result

    def interrupted(*args):
        os.kill(os.getpid(), signal.SIGTERM)
        return result(*args)

    monkeypatch.setattr(_Server, "result", interrupted)
    out = files / "out.jsonl"
    with serving(WebConfig(data=files / "data", min_free=0)) as url:
        assert _main("upload", url, files / "in", "-o", out) == INTERRUPTED
        assert requests.get(f"{url}/api/v1/videos", timeout=5).json()["total"] == 0
    assert out.read_text().count('"error": null') == 1
    assert "--resume goes on" in capsys.readouterr().err


@pytest.mark.parametrize("more", [["--resume"], ["--formats", "jsonl", "csv"]])
def test_an_upload_needs_a_file_to_go_on_with(more):
    with pytest.raises(CaptionerError, match="-o FILE"):
        _main("upload", "http://127.0.0.1:1", "a.mp4", *more)


def test_a_server_that_does_not_let_us_in(files):
    config = WebConfig(data=files / "data", min_free=0, token="open sesame")
    with serving(config) as url:
        for token in (None, "wrong"):
            with pytest.raises(CaptionerError, match=r"token"):
                list(caption_on_server(url, [files / "in" / "red.avi"], token))
    with (
        serving(WebConfig(data=files / "data", min_free=0)) as url,
        pytest.raises(CaptionerError, match="give the address that the page has"),
    ):
        list(caption_on_server(f"{url}/captioner", []))
    with pytest.raises(CaptionerError, match="check the address"):
        list(caption_on_server("no address", []))


@pytest.mark.parametrize(
    ("text", "size"), [("500M", 5 * 10**8), ("4G", 4 * 10**9), ("1.5kb", 1500), ("12", 12)]
)
def test_sizes(text, size):
    assert cli._bytes(text) == size


def test_sizes_that_are_none():
    with pytest.raises(argparse.ArgumentTypeError, match="500M"):
        cli._bytes("much")


def test_beyond_this_machine_it_asks_for_a_token(tmp_path, monkeypatch):
    monkeypatch.delenv(cli.TOKEN, raising=False)
    with pytest.raises(CaptionerError, match=cli.TOKEN):
        _main("serve", "--host", "0.0.0.0", "--data", tmp_path)


def test_what_cannot_be_served(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CaptionerError, match="cannot be written"):
        _main("serve", "--data", tmp_path / "file" / "data")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        # In a process of its own: waitress leaves a pipe open when it cannot listen.
        port = str(taken.getsockname()[1])
        code = "import sys; from tests.web.test_cli import _main; _main('serve', *sys.argv[1:])"
        command = [sys.executable, "-c", code, "--data", str(tmp_path / "data"), "--port", port]
        done = subprocess.run(command, capture_output=True, text=True)
    assert "already in use; choose another" in done.stderr


def test_served_by_the_real_command_with_a_real_model(tmp_path, tiny_model, clips):
    """Uploads, gets a caption, is killed with SIGTERM, and ends well."""
    code = (
        "import sys; from tests.web.test_cli import _main;"
        f"sys.exit(_main('serve', '--port', '0', '--data', {str(tmp_path)!r},"
        f" '--model', {str(tiny_model)!r}))"
    )
    server = subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, env=os.environ
    )
    try:
        url = server.stderr.readline().split()[-1].rstrip("/")
        (tmp_path / "red.avi").write_bytes(clips["red"])
        [caption] = caption_on_server(url, [tmp_path / "red.avi"])
        assert caption.model == "tiny"  # without its digest, which is for rows
        assert caption.text.endswith(".")
        started = time.monotonic()
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) == 0
        assert time.monotonic() - started < 10
    finally:
        server.kill()
        server.stderr.close()


def test_the_fake_is_as_the_real_one(tiny_model, tmp_path, clips):
    """What the other tests rely on: a caption of the same form."""
    from web.worker import load_captioner

    (tmp_path / "red.avi").write_bytes(clips["red"])
    real = load_captioner(str(tiny_model), 3).caption(tmp_path / "red.avi")
    fake = FakeCaptioner().caption(tmp_path / "red.avi")
    assert len(real.candidates) == len(fake.candidates) == 3
    for caption in (real, fake):
        for candidate in caption.candidates:
            words, frames, _ = candidate.attention_weights.shape
            assert (words, frames) == (len(candidate.words), len(caption.times))

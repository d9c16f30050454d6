import json
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest

from captioner.cli.main import main
from captioner.config import SamplingOptions
from captioner.video import read_frames
from tests.conftest import SENTENCES, draw_shape_clip


def _rows(text):
    return [json.loads(line) for line in text.splitlines()]


def test_good_and_bad_files_in_input_order(tiny_model, tmp_path, capsys):
    draw_shape_clip(tmp_path / "b.avi", "red", "circle")
    draw_shape_clip(tmp_path / "a.avi", "blue", "square")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a video at all, but words\n" * 40)
    whole = (tmp_path / "a.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) * 2 // 3])
    names = ["b.avi", "empty.mp4", "text.mp4", "cut.avi", "missing.mp4", "a.avi"]
    paths = [str(tmp_path / name) for name in names]
    assert main(["caption", "--model", str(tiny_model), *paths]) == 1
    rows = _rows(capsys.readouterr().out)
    assert [row["video"] for row in rows] == paths
    assert [row["error"] is None for row in rows] == [True, False, False, True, False, True]
    for row in rows:
        assert list(row) == "video caption score duration model error size modified".split()
        assert re.fullmatch("tiny@[0-9a-f]{8}", row["model"])
        if row["error"] is None:
            assert row["caption"].endswith(".")
            assert "<" not in row["caption"]
            assert row["score"] < 0
        else:
            assert row["caption"] is None
            assert row["video"] in row["error"]
    assert 0 < rows[3]["duration"] < rows[5]["duration"]


def test_folders(tiny_model, tmp_path, capsys):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "none").mkdir()
    for name in ("in/b.avi", "in/a.avi", "in/deep/c.avi"):
        draw_shape_clip(tmp_path / name, "red", "circle")
    (tmp_path / "in" / "notes.txt").write_text("not listed")
    arguments = ["caption", "--model", str(tiny_model), "--beam-size", "1"]

    def videos(*more):
        status = main([*arguments, *more])
        return status, [row["video"] for row in _rows(capsys.readouterr().out)]

    folder = str(tmp_path / "in")
    a, b, c = (f"{folder}/{name}" for name in ("a.avi", "b.avi", "deep/c.avi"))
    assert videos(folder) == (0, [a, b])
    assert videos(folder, "--recursive") == (0, [a, b, c])
    assert videos(str(tmp_path / "none")) == (1, [str(tmp_path / "none")])


def test_output_file_and_text(tiny_model, tmp_path, capsys):
    draw_shape_clip(tmp_path / "a.avi", "red", "circle")
    out = tmp_path / "out.txt"
    arguments = ["--model", str(tiny_model), "-o", str(out), "--format", "text"]
    assert main(["caption", *arguments, str(tmp_path / "a.avi")]) == 0
    assert capsys.readouterr().out == ""
    path, sentence = out.read_text().rstrip("\n").split("\t")
    assert path == str(tmp_path / "a.avi")
    assert sentence.endswith(".")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "no-such-model"], "no-such-model: no such model"),
        (["-o", "no/such/folder/out.jsonl"], "no/such/folder/out.jsonl: cannot be written"),
    ],
)
def test_wrong_usage(arguments, message, tiny_model, capsys):
    assert main(["caption", "clip.mp4", "--model", str(tiny_model), *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    "arguments",
    [[], ["caption"], *(["caption", "a.mp4", "--beam-size", size] for size in ("x", "0"))],
)
def test_arguments_that_do_not_parse(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2


def test_info(tiny_model, capsys):
    assert main(["info", str(tiny_model)]) == 0
    out = capsys.readouterr().out
    assert "bundled" in out
    assert "tiny" in out
    assert "4 regions a frame, 32 each" in out


def test_words_to_start_with_avoid_and_mention(tiny_model, tmp_path, capsys):
    clip = draw_shape_clip(tmp_path / "a.avi", "red", "circle")

    def caption(*more):
        status = main(["caption", str(clip), "--model", str(tiny_model), *more])
        out, err = capsys.readouterr()
        return json.loads(out)["caption"] if status == 0 else err

    assert "white" in caption("--engine", "keras")
    found = caption("--start-with", "A blue", "--avoid", "white", "--mention", "box")
    assert found.startswith("A blue ")
    assert "box" in found
    assert "white" not in found
    assert "lacks what to mention: zebra; choose" in caption("--mention", "zebra")
    assert "one word at a time" in caption("--avoid", "red circle")
    assert "no word to avoid among those" in caption("--avoid", "red", "--mention", "red")
    assert "beam_size" in caption("--avoid", "red", "--engine", "lite")


def test_going_on_with_other_options_is_refused(tiny_model, tmp_path, capsys):
    clip, out = draw_shape_clip(tmp_path / "a.avi", "red", "circle"), tmp_path / "out.jsonl"
    arguments = ["caption", str(clip), "--model", str(tiny_model), "-o", str(out)]
    assert main([*arguments, "--beam-size", "1", "--segments", "0.5"]) == 0
    [row] = _rows(out.read_text())
    assert row["options"] == "--beam-size 1 --segments 0.5"
    assert main([*arguments, "--resume"]) == 2
    assert "captioned with --beam-size 1 --segments 0.5, and this" in capsys.readouterr().err
    assert _rows(out.read_text()) == [row]
    assert main([*arguments, "--beam-size", "1", "--segments", "0.5", "--resume"]) == 0
    assert "0 captioned, 0 failed, 1 done before" in capsys.readouterr().err


def test_from_python(tiny_model, tmp_path):
    from captioner import Captioner, VideoError

    captioner = Captioner.load(tiny_model)
    caption = captioner.caption(draw_shape_clip(tmp_path / "a.avi", "red", "circle"))
    assert caption.text == caption.candidates[0].text
    assert caption.duration == pytest.approx(2.0, abs=0.2)
    with pytest.raises(VideoError, match=r"none\.avi"):
        captioner.caption(tmp_path / "none.avi")

    draw_shape_clip(tmp_path / "b.avi", "blue", "square", num_frames=2)
    names = ["b.avi", "none.avi", "a.avi"]
    short, failure, many = captioner.caption_many((tmp_path / n for n in names), workers=2)
    assert many.text == caption.text
    assert many.score == pytest.approx(caption.score, abs=1e-4)
    weights, expected = (c.candidates[0].attention_weights for c in (many, caption))
    np.testing.assert_allclose(weights, expected, atol=1e-4)
    assert short.candidates[0].attention_weights.shape[1:] == (2, 4)
    assert "none.avi" in failure.error


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--frames", "0"),
        ("--views", "-1"),
        ("--scheduled-sampling", "1"),
        ("--learning-rate", "inf"),
    ],
)
def test_numbers_that_make_no_sense(option, value, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["train", "labels.csv", "--output", str(tmp_path / "new"), option, value])
    assert f"argument {option}: invalid" in capsys.readouterr().err


def test_learns_four_clips_by_heart(labelled_clips, tiny_cnn, tmp_path):
    """From labels to captions with nothing but the command line, each step a fresh process."""

    def run(*arguments):
        command = [sys.executable, "-m", "captioner.cli", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    model = tmp_path / "model"
    fitting = "--epochs 120 --learning-rate 3e-3 --batch-size 4".split()
    looking = "--frames 10 --window 4 --no-repeat-ngram-size 3 --input-size 64".split()
    looking += ["--length-penalty", "1.5"]
    run("train", labelled_clips, "--output", model, "--cnn", tiny_cnn, *fitting, *looking)
    info = run("info", model)
    assert "up to 10 a clip" in info
    assert "16 regions a frame" in info  # 4 at the 32 pixels that it learned at
    assert "no_repeat_ngram_size=3" in info
    assert "length_penalty=1.5" in info
    clips = [labelled_clips.parent / f"{colour}.avi" for colour, _ in SENTENCES]
    rows = _rows(run("caption", "--model", model, *clips))
    assert [row["caption"] for row in rows] == list(SENTENCES.values())


def test_folders_of_frames(tiny_model, tmp_path, capsys):
    for clip, colours in (("a", (10, 90, 250)), ("b", (250, 90, 10))):
        (tmp_path / clip).mkdir()
        for number, colour in zip((2, 9, 10), colours):  # 10 comes after 9
            picture = np.full((48, 64, 3), colour, np.uint8)
            cv2.imwrite(str(tmp_path / clip / f"img{number}.png"), picture)
    (tmp_path / "empty").mkdir()
    paths = [str(tmp_path / name) for name in ("a", "b", "empty")]
    assert main(["caption", "--model", str(tiny_model), "--frames-folder", *paths]) == 1
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["video"] for row in rows] == paths
    assert [bool(row["caption"]) for row in rows] == [True, True, False]
    assert rows[0]["duration"] == pytest.approx(3 / 25)
    assert "holds no picture; name a folder of numbered pictures" in rows[2]["error"]
    arguments = ["caption", "--frames-folder", "--segments", "3", paths[0]]
    assert main(arguments) == 2


def test_frames_of_a_folder_are_sampled_like_those_of_a_video(tmp_path):
    for number in range(12):
        picture = np.full((8, 8, 3), 20 * number, np.uint8)
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture)
    clip = read_frames(tmp_path, SamplingOptions(4))
    assert (clip.frames[:, 0, 0, 0] // 20).tolist() == [1, 4, 7, 10]
    assert clip.duration == pytest.approx(12 / 25)
    np.testing.assert_allclose(clip.times, np.array([1, 4, 7, 10]) / 25)


@pytest.mark.parametrize(
    ("address", "remedy"),
    [
        ("https://host/page", "download it first"),
        ("rtsp://camera/1", "record some of it"),
        ("file:///in/a%20b.mp4", "by its path: /in/a b.mp4"),
        ("s3://bucket/a.mp4", "--on ray"),
    ],
)
def test_an_address_is_told_what_to_do_with(address, remedy, capsys):
    assert main(["caption", address]) == 2
    assert remedy in capsys.readouterr().err

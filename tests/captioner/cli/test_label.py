"""From labels to a model to labelled videos, through the command line."""

import csv
import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from captioner.cli import label
from captioner.cli.main import main
from captioner.errors import ModelError
from captioner.model_folder import ModelFolder
from captioner.moments.folder import LabelFolder
from captioner.moments.segments import LabelledSegment
from captioner.terminal import ALL_GOOD, INTERRUPTED, SOME_FAILED, WRONG_USAGE
from tests.clips import write_clip

BGR = {"red": (0, 0, 255), "blue": (255, 0, 0)}


def draw(path, seconds):
    """A clip in which colours follow one another; returns the rows of its labels."""
    frames, rows, start = [], [], 0
    for colour, length in seconds:
        for _ in range(length * 4):
            frame = np.full((48, 64, 3), 60, np.uint8)
            if colour in BGR:
                cv2.circle(frame, (32, 24), 16, BGR[colour], -1)
            frames.append(frame)
        if colour in BGR:
            rows.append((path.name, start, start + length, colour))
        start += length
    write_clip(path, frames, fps=4, codec="MJPG")
    return rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Drawn clips and their labels; one clip is broken."""
    folder = tmp_path_factory.mktemp("moments")
    rng = np.random.default_rng(1)
    rows = [("broken.avi", 0, 1, "red")]
    for number in range(4):
        stretches = [(colour, int(rng.integers(2, 5))) for colour in ("none", "red", "blue") * 2]
        rows += draw(folder / f"{number}.avi", stretches)
    (folder / "broken.avi").write_bytes(b"\0" * 100)
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "start", "end", "label"), *rows])
    return folder


def train(folder, tiny_cnn, output, *more):
    arguments = ["--output", output, "--cnn", tiny_cnn, "--epochs", 20, "--units", 16]
    arguments += ["--learning-rate", 0.02, "--lanes", 2, "--window", 8, *more]
    return run("moments", "train", folder / "labels.csv", *arguments)


def run(*arguments):
    return main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def model(folder, tiny_cnn, tmp_path_factory):
    """The folder of a model that has learned the clips."""
    output = tmp_path_factory.mktemp("models") / "colours"
    assert train(folder, tiny_cnn, output) == ALL_GOOD
    return output


def test_training_tells_of_what_it_leaves_out_and_goes_on(
    folder, tiny_cnn, model, tmp_path, capsys
):
    assert train(folder, tiny_cnn, model) == ALL_GOOD
    told = capsys.readouterr().err
    assert "broken.avi: begins with nothing but zeros" in told
    assert "epoch 0" not in told  # all epochs were done before
    assert train(folder, tiny_cnn, model, "--units", 8) == WRONG_USAGE
    assert "holds the work on other labels, or with other options" in capsys.readouterr().err
    found = LabelFolder.open(model)
    assert found.labels == ("background", "blue", "red")
    assert found.labelling.fps == 2
    assert "- blue" in (model / "README.md").read_text()
    page = (model / "report.html").read_text()
    assert page.count("<polyline") == 3  # loss, val_loss, val_accuracy
    assert "<rect" in page
    assert "of these unreadable" in page


def test_label(folder, model, capsys):
    assert (
        run("moments", "label", folder / "0.avi", folder / "broken.avi", "--model", model)
        == SOME_FAILED
    )
    *rows, broken = map(json.loads, capsys.readouterr().out.splitlines())
    assert [row["label"] for row in rows] == ["red", "blue"] * 2
    assert all(row["probability"] > 0.5 and row["start"] < row["end"] for row in rows)
    assert broken["video"].endswith("broken.avi")
    assert "begins with nothing but zeros" in broken["error"]


def test_what_it_says_can_be_learned(folder, model, tmp_path):
    output = tmp_path / "found.csv"
    assert (
        run("moments", "label", folder / "0.avi", "--model", model, "-o", output, "--format", "csv")
        == 0
    )
    assert run("moments", "evaluate", model, output, "--split", "train") == 0


def test_subtitles_in_a_folder(folder, model, tmp_path, capsys):
    paths = [folder / "0.avi", folder / "1.avi", folder / "broken.avi"]
    arguments = ["moments", "label", *paths, "--model", model, "--format", "vtt"]
    assert run(*arguments) == WRONG_USAGE
    assert "name a folder with --output" in capsys.readouterr().err
    assert run(*arguments, "-o", tmp_path / "subtitles") == SOME_FAILED
    assert "broken.avi" in capsys.readouterr().err
    found = sorted(path for path in (tmp_path / "subtitles").rglob("*") if path.is_file())
    assert [path.name for path in found] == ["0.avi.vtt", "1.avi.vtt"]
    assert found[0].read_text().startswith("WEBVTT\n\n1\n00:00:")


class Watched:
    """A labeller that is quick, notes what it looks at, and has one label for each letter."""

    def __init__(self):
        self.looked = []

    def label(self, video, reader=None):
        self.looked.append(video)
        yield from (LabelledSegment(x, n, n + 1, 0.5) for n, x in enumerate(Path(video).stem))


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_torn_video_is_labelled_again(form, tmp_path, monkeypatch):
    videos = [tmp_path / name for name in ("abc.avi", "ü.avi", "de.avi")]
    output, labeller = tmp_path / f"all.{form}", Watched()
    monkeypatch.setattr(label, "load_labeller", lambda *_: labeller)
    monkeypatch.setattr(label, "labelling_flags", lambda *_: "")
    arguments = ["moments", "label", *videos, "--model", "none", "-o", output, "--format", form]
    assert run(*arguments) == 0
    whole = output.read_bytes()
    assert whole.count(b"\n") == 6 + (form == "csv")
    torn = whole.splitlines(keepends=True)
    torn[-2:] = [b"\0" + torn[-2][1:], torn[-1]]
    output.write_bytes(b"".join(torn))
    labeller.looked.clear()
    assert run(*arguments, "--resume") == 0
    assert output.read_bytes() == whole
    assert labeller.looked == [str(videos[-1])]


def test_what_cannot_be_gone_on_with(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(label, "load_labeller", lambda *_: Watched())
    monkeypatch.setattr(label, "labelling_flags", lambda *_: "")
    output = tmp_path / "all.jsonl"
    for text in ('{"vid": "a.avi"}\n', '["a.avi"]\n'):
        output.write_text(text)
        arguments = ["moments", "label", tmp_path / "b.avi", "--model", "none"]
        assert run(*arguments, "-o", output, "--resume") == WRONG_USAGE
        assert "--resume needs the file" in capsys.readouterr().err
        assert output.read_text() == text


def test_labels_of_other_options_are_not_gone_on_with(folder, model, tmp_path, capsys):
    output = tmp_path / "all.jsonl"
    arguments = ["moments", "label", "--model", model, "-o", output]
    given = ["--threshold", "0.9", "--resume"]
    assert run(*arguments, folder / "0.avi") == 0
    before = output.read_text()
    assert run(*arguments, folder / "0.avi", folder / "1.avi", *given) == WRONG_USAGE
    assert (
        "was labelled plainly, and this run labels with --threshold 0.9" in capsys.readouterr().err
    )
    assert output.read_text() == before
    other = tmp_path / "other.jsonl"
    arguments[-1] = other
    assert run(*arguments, folder / "0.avi", *given) == 0
    assert {json.loads(row)["options"] for row in other.read_text().splitlines()} == {
        "--threshold 0.9"
    }
    assert run(*arguments, folder / "0.avi", folder / "1.avi", *given) == 0
    assert run(*arguments, folder / "0.avi", "--resume") == WRONG_USAGE
    assert "was labelled with --threshold 0.9, and this run" in capsys.readouterr().err


def test_goes_on_with_the_real_model(folder, model, tmp_path):
    output = tmp_path / "all.jsonl"
    paths = [folder / f"{number}.avi" for number in (0, 1, 2)]
    arguments = ["moments", "label", "--model", model, "-o", output, "--resume"]
    assert run(*arguments, *paths[:2]) == 0
    before = output.read_text()
    assert run(*arguments, *paths) == 0
    assert output.read_text().startswith(before)
    assert {json.loads(row)["video"] for row in output.read_text().splitlines()} == set(
        map(str, paths)
    )


def test_info(model, capsys):
    assert run("info", model) == 0
    told = capsys.readouterr().out
    assert "colours" in told
    assert "background, blue, red; one at a time" in told
    assert "lstm, looking back" in told


def test_evaluate_and_plot(folder, model, tmp_path, capsys):
    picture = tmp_path / "timeline.png"
    arguments = [folder / "labels.csv", "--split", "train", "--plot", picture]
    assert (
        run("moments", "evaluate", model, *arguments, "--output", tmp_path / "r.json")
        == SOME_FAILED
    )
    result = json.loads(capsys.readouterr().out)
    assert result["num_videos"] == 4
    assert result["unreadable"] == 1
    assert result["frame_accuracy"] > 0.9
    assert result["edit"] > 0.9
    assert set(result) >= {"f1_10", "f1_25", "f1_50"}
    assert json.loads((tmp_path / "r.json").read_text()) == result
    assert cv2.imread(str(picture)).std() > 10
    assert run("moments", "evaluate", model, *arguments[:2], "test") == WRONG_USAGE
    assert "has no video of the split test" in capsys.readouterr().err


def test_several_labels_at_once(folder, tiny_cnn, tmp_path, capsys):
    with (folder / "labels.csv").open() as file:
        rows = [*file.read().splitlines(), "0.avi,0,1000,wet"]
    (folder / "wet.csv").write_text("\n".join(rows))
    arguments = ["--cnn", tiny_cnn, "--epochs", 2, "--units", 16, "--window", 8]
    command = ["moments", "train", folder / "wet.csv", "--output", tmp_path / "wet", *arguments]
    assert run(*command) == WRONG_USAGE
    assert "hold at once; mend the labels, or train with --multi-label" in capsys.readouterr().err
    assert run(*command, "--multi-label") == 0
    assert LabelFolder.open(tmp_path / "wet").labels == ("blue", "red", "wet")
    run("moments", "evaluate", tmp_path / "wet", folder / "wet.csv", "--split", "train")
    result = json.loads(capsys.readouterr().out)
    assert set(result["average_precision"]) == {"blue", "red", "wet"}
    assert 0 < result["mean_average_precision"] <= 1


def test_each_command_refuses_the_other_kind_of_model(folder, model, tiny_model, capsys):
    with pytest.raises(ModelError, match=r"labels moments.*captioner moments label"):
        ModelFolder.open(model)
    with pytest.raises(ModelError, match=r"captions.*captioner caption"):
        LabelFolder.open(tiny_model)
    assert run("caption", folder / "0.avi", "--model", model) == WRONG_USAGE
    assert run("evaluate", model, folder / "labels.csv") == WRONG_USAGE
    assert run("moments", "label", folder / "0.avi", "--model", tiny_model) == WRONG_USAGE
    assert "not one that labels moments" in capsys.readouterr().err


def test_wrong_usage(folder, model, tmp_path, capsys):
    assert run("moments", "label", folder / "0.avi", "--model", model, "--fps", 0) == WRONG_USAGE
    assert "0 < fps <= 1000" in capsys.readouterr().err
    assert run("moments", "label", folder / "0.avi", "--model", model, "--resume") == WRONG_USAGE
    (model / "labels.txt").rename(tmp_path / "labels.txt")
    assert run("moments", "label", folder / "0.avi", "--model", model) == WRONG_USAGE
    assert "not a whole model folder" in capsys.readouterr().err
    (tmp_path / "labels.txt").rename(model / "labels.txt")


@pytest.mark.parametrize("form", ["csv", "srt"])
@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupt_lets_a_video_be_finished(told, form, tmp_path, monkeypatch, capsys):
    def load(*_):
        def interrupted(video, reader):
            os.kill(os.getpid(), told)
            yield LabelledSegment("red", 0.0, 1.0, 0.9)

        return SimpleNamespace(label=interrupted)

    monkeypatch.setattr(label, "load_labeller", load)
    monkeypatch.setattr(label, "labelling_flags", lambda *_: "")
    arguments = ["moments", "label", "a.mp4", "b.mp4", "--model", "x", "--format", form]
    assert run(*arguments, "-o", tmp_path / "out") == INTERRUPTED
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.read_text().count("red") for path in written] == [1]
    assert "--resume goes on" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_sigterm_ends_a_training_as_ctrl_c_does(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        "training.moments.recipe.train_labeller", lambda _: os.kill(os.getpid(), signal.SIGTERM)
    )
    assert run("moments", "train", "x.csv", "--output", tmp_path) == INTERRUPTED
    assert "the same command goes on" in capsys.readouterr().err

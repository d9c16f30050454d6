"""What trainings can be told, by flags and from Python."""

from dataclasses import fields
from pathlib import Path

import pytest

from captioner.cli import main as cli
from captioner.errors import CaptionerError
from captioner.terminal import WRONG_USAGE
from training.cli.train import _labels
from training.options import CaptionTraining, LabelTraining, Source

LABELS, OUTPUT = (Path("labels.csv"),), Path("model")
VERBS = {("train",): CaptionTraining, ("moments", "train"): LabelTraining}


@pytest.mark.parametrize("verb", VERBS)
def test_each_flag_is_an_option_of_its_training(verb):
    args = vars(cli._parser().parse_args([*verb, *map(str, LABELS), "--output", str(OUTPUT)]))
    options = VERBS[verb](LABELS, OUTPUT)
    assert args.keys() - {"run", "goes_on"} == {field.name for field in fields(options)}
    for name, value in vars(options).items():
        assert args[name] == (list(value) if name == "labels" else value), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rehearse": Path("old.csv"), "base": "none"}, "--rehearse is for what a base knows"),
        ({"freeze_encoder": True, "base": "none"}, "name one with --base"),
        ({"encoder": "gru", "base": "default"}, "leave out --encoder, or --base"),
        ({"bidirectional": False, "base": "default"}, "leave out --bidirectional, or --base"),
        ({"backbone": "keras:X", "cnn": Path("cnn")}, "go with --backbone bundled only"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(options, message):
    with pytest.raises(CaptionerError, match=message):
        CaptionTraining(LABELS, OUTPUT, **options)


def test_a_base_is_gone_on_from_unless_something_goes_without():
    assert CaptionTraining(LABELS, OUTPUT).has_base
    assert CaptionTraining(LABELS, OUTPUT, base="none").has_base is False
    alone = CaptionTraining(LABELS, OUTPUT, encoder="gru", encoder_layers=2, input_size=64)
    assert alone.has_base is False
    assert alone.shape == {"encoder": "gru", "encoder_layers": 2}


@pytest.mark.parametrize("option", ["--views", "--min-count", "--half", "--batch-size"])
def test_moments_take_no_option_of_captions(option, capsys):
    with pytest.raises(SystemExit):
        cli.main(["moments", "train", "labels.csv", "--output", "model", option, "2"])
    assert "unrecognized arguments" in capsys.readouterr().err


def test_labels_may_have_shares(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert _labels("a.csv") == Path("a.csv")
    assert _labels("a.csv=1.1") == Source(Path("a.csv"), 1.1)
    assert _labels("a=b.csv=0.5") == Source(Path("a=b.csv"), 0.5)
    assert _labels("a=b.csv") == Path("a=b.csv")
    assert _labels("run=3") == Source(Path("run"), 3)
    (tmp_path / "run=3").touch()
    assert _labels("run=3") == Path("run=3")
    assert _labels("run=3=0.5") == Source(Path("run=3"), 0.5)
    options = CaptionTraining((Source(Path("a"), 3), Source(Path("b"), 1)), OUTPUT)
    assert options.paths == (Path("a"), Path("b"))
    assert options.shares == (0.75, 0.25)
    assert CaptionTraining(LABELS, OUTPUT).shares is None


def test_shares_that_make_no_sense(capsys):
    for labels, message in [
        (["a.csv=0.5", "b.csv"], "give each of the labels a share"),
        (["a.csv=0.5", "a.csv=0.5"], "name each of the labels once"),
    ]:
        assert cli.main(["train", *labels, "--output", "model"]) == WRONG_USAGE
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["train", "a.csv=0", "--output", "model"])
    assert "a.csv: expected a share above 0, found 0" in capsys.readouterr().err

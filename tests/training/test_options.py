"""What trainings can be told, by flags and from Python."""

from dataclasses import fields
from pathlib import Path

import pytest

from captioner.cli import main as cli
from captioner.errors import CaptionerError
from training.options import CaptionTraining, LabelTraining

LABELS, OUTPUT = (Path("labels.csv"),), Path("model")
VERBS = {("train",): CaptionTraining, ("moments", "train"): LabelTraining}


@pytest.mark.parametrize("verb", VERBS)
def test_each_flag_is_an_option_of_its_training(verb):
    args = vars(cli._parser().parse_args([*verb, *map(str, LABELS), "--output", str(OUTPUT)]))
    options = VERBS[verb](LABELS, OUTPUT)
    assert args.keys() - {"run"} == {field.name for field in fields(options)}
    for name, value in vars(options).items():
        assert args[name] == (list(value) if name == "labels" else value), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"replay_share": 0.2}, "--replay-share is a share of what --replay names"),
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

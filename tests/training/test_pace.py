"""How hard is trained on how many clips."""

from dataclasses import replace
from pathlib import Path

from training.options import CaptionTraining
from training.pace import (
    FEW,
    FEW_RATE,
    FEW_STEPS,
    LABEL_SMOOTHING,
    MOST_KNOWN,
    MOST_STEPS,
    NAMED_RATE,
    Pace,
)

OPTIONS = CaptionTraining((Path("labels.csv"),), Path("new"), base="default")


def test_the_fewer_clips_the_less_a_model_moves_but_for_names():
    rates = [Pace.choose(OPTIONS, count).learning_rate for count in (1, 5, FEW, 200)]
    assert rates == sorted(rates)
    assert rates[2] == FEW_RATE
    held = [Pace.choose(OPTIONS, count).known for count in (1, 5, FEW, 200)]
    assert held == sorted(held, reverse=True)
    assert held[2] == MOST_KNOWN
    steps = [Pace.choose(OPTIONS, count).steps for count in (5, FEW, 200, 5000)]
    assert steps[:2] == [FEW_STEPS, FEW_STEPS]
    assert 10 * FEW_STEPS < steps[2] < steps[3] == MOST_STEPS
    few, named = Pace.choose(OPTIONS, 5), Pace.choose(OPTIONS, 5, named=True)
    assert named.coarse
    assert not few.coarse
    assert named.learning_rate == NAMED_RATE > few.learning_rate
    assert named.known < few.known
    assert not Pace.choose(OPTIONS, FEW + 1, named=True).coarse


def test_guesses_are_spread_without_a_base_and_for_few_names():
    assert Pace.choose(OPTIONS, 5).label_smoothing == 0
    assert Pace.choose(OPTIONS, 5, named=True).label_smoothing == LABEL_SMOOTHING
    assert Pace.choose(OPTIONS, FEW + 1, named=True).label_smoothing == 0
    assert Pace.choose(replace(OPTIONS, base="none"), 5).label_smoothing == LABEL_SMOOTHING


def test_what_was_told_is_kept():
    told = CaptionTraining((Path("labels.csv"),), Path("new"), learning_rate=0.01, views=2)
    assert Pace.choose(told, 5).learning_rate == 0.01
    assert Pace.choose(told, 5).views == 2

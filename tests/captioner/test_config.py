"""Options refuse what makes no sense, and say what they expected."""

from dataclasses import FrozenInstanceError, replace

import pytest

from captioner.config import DecodingOptions, ModelConfig


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"beam_size": 0}, "beam_size >= 1"),
        ({"num_captions": 0}, "num_captions >= 1"),
        ({"num_captions": 6}, "num_captions <= beam_size"),
        ({"length_penalty": -0.1}, "length_penalty"),
        ({"length_penalty": float("nan")}, "length_penalty"),
        ({"coverage_penalty": -1.0}, "coverage_penalty"),
        ({"min_length": 31}, "min_length <= max_length"),
        ({"min_length": -1}, "min_length"),
        ({"min_length": 0, "max_length": 0}, "max_length >= 1"),
        ({"no_repeat_ngram_size": -1}, "no_repeat_ngram_size"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("inf")}, "temperature"),
        ({"temperature": 1.0, "top_k": -1}, "top_k"),
        ({"temperature": 1.0, "top_p": 0.0}, "top_p"),
        ({"top_k": 5}, "temperature above 0"),
        ({"top_p": 0.9}, "temperature above 0"),
    ],
)
def test_decoding_options_refuse_what_makes_no_sense(changes, expected):
    with pytest.raises(ValueError, match=f"expected .*{expected}.*received: "):
        DecodingOptions(**changes)


def test_decoding_options_are_frozen_and_replaceable():
    options = DecodingOptions()
    with pytest.raises(FrozenInstanceError):
        options.beam_size = 1
    assert replace(options, beam_size=2).beam_size == 2


def test_num_hypotheses_is_what_memory_is_tiled_by():
    assert DecodingOptions(beam_size=1).num_hypotheses == 1
    assert DecodingOptions(beam_size=4, num_captions=2).num_hypotheses == 4
    assert DecodingOptions(temperature=1.0, num_captions=7).num_hypotheses == 7


@pytest.mark.parametrize(("num_regions", "motion_dim"), [(3, 8), (4, -1)])
def test_motion_is_seen_in_a_square_of_regions(num_regions, motion_dim):
    with pytest.raises(ValueError, match="expected motion_dim >= 0, and a square of regions"):
        ModelConfig(9, feature_dim=4, num_regions=num_regions, motion_dim=motion_dim)
    ModelConfig(9, feature_dim=4, num_regions=4, motion_dim=8)

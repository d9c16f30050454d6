"""Both engines say the same, and one of them without TensorFlow."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from captioner.config import DecodingOptions
from captioner.engines.keras_engine import KerasEngine
from captioner.engines.lite_engine import (
    CAPTIONER_PROGRAM,
    LiteEngine,
    Program,
    functions,
    lite_backbone,
)
from captioner.engines.programs import programs_for
from captioner.errors import ModelError
from captioner.model_folder import ModelFolder

# Runs the program where neither TensorFlow nor Keras can be imported.
LITE_ALONE = """
import sys
sys.modules["tensorflow"] = sys.modules["keras"] = None
from dataclasses import replace
import numpy as np
from captioner.model_folder import ModelFolder
from captioner.engines.lite_engine import CAPTIONER_PROGRAM, LiteEngine, Program, functions
from captioner.engines.programs import programs_for

folder = ModelFolder.open(sys.argv[1])
programs = programs_for(folder, folder.decoding, "lite")
engine = LiteEngine(
    Program(programs / CAPTIONER_PROGRAM), folder.decoding, folder.model.styles
)
given = np.load(sys.argv[2])
clips = [given[f"arr_{i}"] for i in range(len(given.files))]
searches = functions(folder.decoding)
searches |= {style: replace(searches["greedy"], style=style) for style in folder.model.styles[1:2]}
for name, options in searches.items():
    found = engine(clips, options)._asdict()
    np.savez(f"{sys.argv[3]}/{name}.npz", **found)
"""


def _random_clips(folder, count):
    rng = np.random.default_rng(5)
    config = folder.model
    shape = (config.num_regions, config.feature_dim)
    lengths = rng.integers(1, folder.sampling.num_frames + 1, count)
    return [2 * rng.normal(size=(n, *shape)).astype(np.float32).clip(0) for n in lengths]


@pytest.mark.parametrize(("model", "count"), [("tiny", 200), ("default", 24)])
def test_both_engines_give_equal_tokens(model, count, tiny_model, tmp_path):
    folder = ModelFolder.open(tiny_model if model == "tiny" else model)
    clips = _random_clips(folder, count)
    np.savez(tmp_path / "clips.npz", *clips)
    arguments = (folder.path, tmp_path / "clips.npz", tmp_path)
    programs_for(folder, folder.decoding, "lite")
    subprocess.run([sys.executable, "-c", LITE_ALONE, *arguments], check=True)
    engine = KerasEngine(folder.load_model())
    searches = functions(folder.decoding)
    for style in folder.model.styles[1:2]:  # that of photos; of noise all titles are one
        searches[style] = replace(searches["greedy"], style=style)
    for name, options in searches.items():
        found, expected = np.load(tmp_path / f"{name}.npz"), engine(clips, options)
        np.testing.assert_array_equal(found["token_ids"], expected.token_ids)
        np.testing.assert_array_equal(found["sequence_length"], expected.sequence_length)
        np.testing.assert_allclose(found["scores"], expected.scores, atol=1e-4)
        np.testing.assert_allclose(
            found["attention_weights"], expected.attention_weights, atol=1e-4
        )
        different = len({tuple(row) for row in found["token_ids"][:, 0]})
        assert different > (1 if name in folder.model.styles else 3)


@pytest.fixture(scope="module")
def folder(tiny_model):
    return ModelFolder.open(tiny_model)


@pytest.fixture(scope="module")
def programs(folder):
    return programs_for(folder, folder.decoding, "lite")


@pytest.fixture(scope="module")
def engine(folder, programs):
    return LiteEngine(Program(programs / CAPTIONER_PROGRAM), folder.decoding)


def test_best_captions_are_the_same_however_many_are_asked_for(folder, engine):
    clips = _random_clips(folder, 20)
    keras_engine = KerasEngine(folder.load_model())
    for num_captions in (1, 2):
        options = replace(folder.decoding, num_captions=num_captions)
        found, expected = engine(clips, options), keras_engine(clips, options)
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.shape == theirs.shape
        np.testing.assert_array_equal(found.token_ids, expected.token_ids)


def test_memory_is_as_long_as_the_longest_clip(folder, engine):
    [clip] = _random_clips(folder, 1)
    weights = engine([clip[:1]], folder.decoding).attention_weights
    assert weights.shape == (1, 1, folder.decoding.max_length, folder.model.num_regions)


@pytest.mark.parametrize(
    "changes",
    [{"beam_size": 3}, {"max_length": 5}, {"temperature": 1.0}, {"coverage_penalty": 0.1}],
)
def test_searches_that_the_program_does_not_know(changes, folder, engine):
    with pytest.raises(ValueError, match="expected options like DecodingOptions"):
        engine(_random_clips(folder, 1), replace(folder.decoding, **changes))


def test_too_many_frames(engine, folder):
    with pytest.raises(ValueError, match="expected 3 frames at most, received: 4"):
        engine([np.zeros((4, 4, 32), np.float32)], folder.decoding)


def test_program_for_samples_searches_instead():
    known = functions(DecodingOptions(temperature=0.7, top_k=9, num_captions=8))
    assert {options.temperature for options in known.values()} == {0}


def test_lite_backbone_sees_nearly_what_keras_sees(folder, programs):
    rng = np.random.default_rng(6)
    lite = lite_backbone(folder, programs, num_threads=2)
    backbone = folder.load_backbone()
    assert (lite.name, lite.input_size) == (backbone.name, backbone.input_size)
    assert lite.feature_shape == backbone.feature_shape
    for num_frames in (1, 5, 19, 2):
        frames = rng.integers(0, 256, (num_frames, 32, 32, 3)).astype(np.uint8)
        found, expected = lite(frames), backbone(frames)
        error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
        assert 0 < error < 0.05  # in 8-bit integers
        alone = np.concatenate([lite(frame[None]) for frame in frames])
        np.testing.assert_array_equal(alone, found)  # whatever it was looked at with


def test_threads_may_share_a_program(folder, engine):
    clips = _random_clips(folder, 40)
    expected = [engine([clip], folder.decoding).token_ids for clip in clips]
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda clip: engine([clip], folder.decoding).token_ids, clips)
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_damaged_program(programs, tmp_path):
    damaged = tmp_path / CAPTIONER_PROGRAM
    damaged.write_bytes((programs / CAPTIONER_PROGRAM).read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"captioner\.tflite: damaged; delete"):
        Program(damaged)

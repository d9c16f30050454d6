"""The labelling model: what is carried from window to window, and what each moment may know."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops, tree

from captioner.config import LabelConfig, LabellingOptions
from captioner.moments.labeller import Labeller
from captioner.moments.model import LabelModel

CONFIG = LabelConfig(num_labels=3, feature_dim=5, num_regions=4, region_dim=3, units=8)
FEATURES = np.random.default_rng(1).normal(size=(2, 23, 4, 5)).astype("float32")


def make(**changes):
    keras.utils.set_random_seed(3)
    return LabelModel(LabelConfig(**{**vars(CONFIG), "encoder_layers": 2, **changes}))


def call(model, *arguments, **options):
    """The model's `(logits, state)` as arrays."""
    return tree.map_structure(ops.convert_to_numpy, model(*arguments, **options))


def in_windows(model, features, sizes):
    """Logits of windows of these sizes, each padded by two, the state carried."""
    state, parts, start = None, [], 0
    for size in sizes:
        window = np.pad(features[:, start : start + size], [(0, 0), (0, 2), (0, 0), (0, 0)])
        lengths = np.full(len(features), size, "int32")
        logits, state = call(model, window, lengths, state)
        parts.append(logits[:, :size])
        start += size
    assert start == features.shape[1]
    return np.concatenate(parts, axis=1)


@pytest.mark.parametrize("encoder", ["lstm", "gru", "convolution"])
def test_windows_equal_the_whole(encoder):
    model = make(encoder=encoder, encoder_layers=3)
    whole, _ = call(model, FEATURES)
    windows = in_windows(model, FEATURES, [7, 1, 2, 13])
    np.testing.assert_allclose(windows, whole, atol=1e-5)
    assert np.ptp(windows) > 0.01


@pytest.mark.parametrize("encoder", ["lstm", "gru", "convolution"])
def test_causal_or_not(encoder):
    later = FEATURES.copy()
    later[:, 12:] += 1
    for bidirectional in (False, True):
        model = make(encoder=encoder, bidirectional=bidirectional)
        (before, _), (after, state) = call(model, FEATURES), call(model, later)
        same = np.allclose(before[:, :12], after[:, :12], atol=1e-6)
        assert same is not bidirectional
        assert bool(state) is not bidirectional


@pytest.mark.parametrize("encoder", ["lstm", "gru", "convolution"])
def test_initial_state_is_that_of_no_state(encoder):
    model = make(encoder=encoder)
    with_state, _ = call(model, FEATURES, state=model.initial_state(2))
    without, _ = call(model, FEATURES)
    np.testing.assert_allclose(with_state, without, atol=1e-6)


def test_rows_do_not_see_each_other_nor_padding():
    model = make()
    alone, last = call(model, FEATURES[:1, :9])
    lengths = np.array([9, 23], "int32")
    together, state = call(model, FEATURES, lengths)
    np.testing.assert_allclose(together[:1, :9], alone, atol=1e-6)
    np.testing.assert_allclose(state[1][0][:1], last[1][0], atol=1e-6)


def test_knows_where_things_are():
    moved = FEATURES[:, :, ::-1].copy()  # the same regions in other places
    logits, _ = call(make(), FEATURES)
    assert not np.allclose(call(make(), moved)[0], logits, atol=1e-3)


def test_one_region_needs_no_axis():
    model = make(num_regions=1)
    with_axis, _ = call(model, FEATURES[:, :, :1])
    np.testing.assert_allclose(call(model, FEATURES[:, :, 0])[0], with_axis, atol=1e-6)
    assert model.initial_state(2)[0][0].shape == (2, 8)


def test_probabilities():
    logits = np.log([[[1.0, 3.0, 4.0]]]).astype("float32")
    one = make().probabilities(logits)
    np.testing.assert_allclose(one[0, 0], [1 / 8, 3 / 8, 4 / 8], rtol=1e-5)
    several = make(multi_label=True).probabilities(logits)
    np.testing.assert_allclose(several[0, 0], [1 / 2, 3 / 4, 4 / 5], rtol=1e-5)


KINDS = [
    {"encoder": "lstm"},
    {"encoder": "gru"},
    {"encoder": "convolution"},
    {"encoder": "lstm", "bidirectional": True, "multi_label": True},
]


def _report(folder):
    """Writes what the models in a folder say: whole, and window by window as a labeller."""
    for number, kind in enumerate(KINDS):
        model = make(**kind)
        model.load_weights(Path(folder) / f"{number}.weights.h5")
        lengths = np.array([23, 12], "int32")
        logits, state = call(model, FEATURES, lengths)
        labeller = Labeller(None, model, ("a", "b", "c"), LabellingOptions(window=6), "")
        windows = np.stack(list(labeller.probabilities(FEATURES[0])))
        backend = keras.backend.backend()
        np.savez(Path(folder) / f"{number}.{backend}.npz", logits, windows, *tree.flatten(state))


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_give_the_same_without_tensorflow(backend, tmp_path):
    pytest.importorskip(backend)
    for number, kind in enumerate(KINDS):
        make(**kind).save_weights(tmp_path / f"{number}.weights.h5")
    _report(tmp_path)
    code = (
        "import sys; sys.modules['tensorflow'] = None; "
        "from tests.captioner.moments import test_model; test_model._report(sys.argv[1])"
    )
    subprocess.run(
        [sys.executable, "-c", code, tmp_path],
        env={
            **os.environ,
            "KERAS_BACKEND": backend,
            "XLA_FLAGS": "--xla_backend_optimization_level=0",  # compiles in half the time
        },
        cwd=Path(__file__).parents[3],
        check=True,
    )
    for number, kind in enumerate(KINDS):
        here = np.load(tmp_path / f"{number}.{keras.backend.backend()}.npz")
        there = np.load(tmp_path / f"{number}.{backend}.npz")
        assert len(here) > 2 or "bidirectional" in kind
        for name in here:
            np.testing.assert_allclose(there[name], here[name], atol=1e-5, err_msg=f"{kind} {name}")

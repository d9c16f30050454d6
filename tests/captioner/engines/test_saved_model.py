import base64
import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace

import cv2
import numpy as np
import pytest
import tensorflow as tf

from captioner import Captioner, ModelError
from captioner.cli.main import main
from captioner.engines.saved_model import Sentences, write_saved_model
from captioner.model_folder import ModelFolder
from captioner.pipeline import to_sentence
from captioner.reranker import RERANKER
from captioner.terminal import ALL_GOOD, WRONG_USAGE
from captioner.video import read_frames
from captioner.vocabulary import PAD_ID, Vocabulary, join
from tests.conftest import draw_shape_clip

NUM_CAPTIONS = 2
SERVER = "tensorflow_model_server"
# With None in sys.modules, `import captioner` fails; Keras is not needed either.
ELSEWHERE = """
import sys
sys.modules["captioner"] = sys.modules["keras"] = None
import json
import numpy as np
import tensorflow as tf

module = tf.saved_model.load(sys.argv[1])
with np.load(sys.argv[2]) as inputs:
    arrays = {name: tf.constant(value) for name, value in inputs.items()}
length = arrays.pop("sequence_length")
results = {}
for name, value in arrays.items():
    signature = "serving_default" if name == "jpegs" else name
    inputs = {name: value} if name == "jpegs" else {name: value, "sequence_length": length}
    found = module.signatures[signature](**inputs)
    results[name] = {
        "captions": [[c.decode() for c in clip] for clip in found["captions"].numpy()],
        "scores": found["scores"].numpy().tolist(),
    }
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def exported(tiny_model, tmp_path_factory):
    target = tmp_path_factory.mktemp("exported") / "saved"
    write_saved_model(ModelFolder.open(tiny_model), target, NUM_CAPTIONS)
    return target


@pytest.fixture(scope="module")
def clips(tiny_model, tmp_path_factory):
    """Two clips, the second one shorter, and what the captioner says of them."""
    folder = tmp_path_factory.mktemp("clips")
    captioner = Captioner.load(tiny_model, engine="keras")  # in floats, as a SavedModel is
    paths = [
        draw_shape_clip(folder / "a.avi", "red", "circle"),
        draw_shape_clip(folder / "b.avi", "blue", "square", num_frames=3),
    ]
    sampling, size = captioner.sampling, captioner.backbone.input_size
    return [read_frames(path, sampling, size).frames for path in paths], captioner


def _padded(clips, captioner):
    length = np.array([len(clip) for clip in clips], np.int32)
    pad = [[(0, max(length) - n)] + [(0, 0)] * 3 for n in length]
    features = [captioner.backbone(clip) for clip in clips]
    # PNG keeps every pixel, and the decoder takes it where it expects JPEG.
    pngs = [[cv2.imencode(".png", f[:, :, ::-1])[1].tobytes() for f in clip] for clip in clips]
    return {
        "jpegs": np.array([row + [b""] * (max(length) - len(row)) for row in pngs]),
        "frames": np.stack([np.pad(clip, by) for clip, by in zip(clips, pad)]),
        "features": np.stack([np.pad(f, by[: f.ndim]) for f, by in zip(features, pad)]),
        "sequence_length": length,
    }


def test_says_the_same_in_a_process_without_our_code(exported, clips, tmp_path):
    frames, captioner = clips
    np.savez(tmp_path / "inputs.npz", **_padded(frames, captioner))
    command = [sys.executable, "-c", ELSEWHERE, exported, tmp_path / "inputs.npz"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    results = json.loads(done.stdout)
    assert set(results) == {"jpegs", "frames", "features"}
    for result in results.values():
        for row, clip in enumerate(frames):
            best = captioner.describe(captioner.backbone(clip))[0]
            assert result["captions"][row][0] == best.text
            assert result["scores"][row][0] == pytest.approx(best.score, abs=1e-4)
            assert len(result["captions"][row]) == NUM_CAPTIONS


def test_the_example_is_a_request_that_works(exported):
    request = json.loads((exported / "request.json").read_text())
    [instance] = request["instances"]
    jpegs = tf.constant([[base64.b64decode(jpeg["b64"]) for jpeg in instance["jpegs"]]])
    signature = tf.saved_model.load(exported).signatures["serving_default"]
    found = signature(jpegs=jpegs)
    described = json.loads((exported / "signatures.json").read_text())["serving_default"]
    assert described["inputs"] == {"jpegs": {"dtype": "string", "shape": [None, None]}}
    assert {name: list(x.shape) for name, x in found.items()} == {
        "captions": [1, NUM_CAPTIONS],
        "scores": [1, NUM_CAPTIONS],
    }
    assert set(described["outputs"]) == set(found)


@pytest.mark.skipif(shutil.which(SERVER) is None, reason=f"{SERVER} is not installed")
def test_tensorflow_serving_says_the_same(exported, tmp_path):
    (tmp_path / "1").symlink_to(exported)  # the server wants a version
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = [f"--rest_api_port={port}", "--model_name=captioner", f"--model_base_path={tmp_path}"]
    address = f"http://127.0.0.1:{port}/v1/models/captioner"
    request = (exported / "request.json").read_bytes()
    with subprocess.Popen([SERVER, "--port=0", *options]) as server:
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    urllib.request.urlopen(address)
                    break
                except OSError:
                    assert server.poll() is None
                    assert time.monotonic() < deadline
                    time.sleep(0.2)
            with urllib.request.urlopen(f"{address}:predict", request) as answer:
                [served] = json.load(answer)["predictions"]
        finally:
            server.terminate()
    [instance] = json.loads(request)["instances"]
    jpegs = tf.constant([[base64.b64decode(jpeg["b64"]) for jpeg in instance["jpegs"]]])
    found = tf.saved_model.load(exported).signatures["serving_default"](jpegs=jpegs)
    assert served["captions"] == [caption.decode() for caption in found["captions"].numpy()[0]]
    assert served["scores"] == pytest.approx(found["scores"].numpy()[0].tolist(), abs=1e-4)


def test_frames_of_any_size_and_clips_without_frames(exported, clips):
    signature = tf.saved_model.load(exported).signatures["frames"]
    frames = np.stack([cv2.resize(f, (99, 77)) for f in clips[0][0]])[None]
    found = signature(frames=tf.constant(frames), sequence_length=tf.constant([2]))
    assert found["captions"].numpy()[0, 0].endswith(b".")
    with pytest.raises(tf.errors.InvalidArgumentError, match="a frame in every clip"):
        signature(frames=tf.constant(frames), sequence_length=tf.constant([0]))


def test_refusals(tiny_model, tmp_path):
    folder = ModelFolder.open(tiny_model)
    with pytest.raises(ModelError, match="cannot search so"):
        write_saved_model(folder, tmp_path / "new", num_captions=99)
    with pytest.raises(ModelError, match="uses hub:there"):
        write_saved_model(replace(folder, backbone="hub:there"), tmp_path / "new")
    assert main(["export", str(tiny_model), "--format", "saved-model"]) == WRONG_USAGE
    (tmp_path / "precious").write_text("x")
    with pytest.raises(ModelError, match="is there already"):
        write_saved_model(folder, tmp_path)


def test_export_tells_of_what_is_not_reranked(tiny_model, tmp_path, capsys):
    model = shutil.copytree(tiny_model, tmp_path / "model")

    def export(target):
        return main(["export", str(model), str(target), "--format", "saved-model"])

    assert export(tmp_path / "whole") == ALL_GOOD
    assert capsys.readouterr().err == ""
    (model / RERANKER).touch()
    assert export(tmp_path / "part") == ALL_GOOD
    told = capsys.readouterr()
    assert "it does not rerank" in told.err
    assert told.out == f"{tmp_path / 'part'}\n"


def test_captions_are_written_as_the_captioner_writes_them(tiny_model, tmp_path):
    words = Vocabulary.build(["a man 's élan", "ärger", "一只狗跑"])
    words.save(tmp_path / "vocabulary.txt")
    said = [["a", "man", "'s", "élan"], ["ärger"], ["一", "只", "狗", "跑"], []]
    ids = [words.encode(" ".join(one))[:-1] for one in said]
    token_ids = tf.constant([[one + [PAD_ID] * (4 - len(one)) for one in ids]], tf.int32)
    found = Sentences(tmp_path / "vocabulary.txt")(token_ids).numpy()[0]
    assert [one.decode() for one in found] == [to_sentence(join(one)) for one in said]

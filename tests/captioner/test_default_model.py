"""The models that ship: whole, small, and saying something."""

from dataclasses import replace

import numpy as np
import pytest

from captioner import Captioner
from captioner.errors import ModelError
from captioner.model_folder import ModelFolder
from captioner.pipeline import to_sentence
from captioner.vocabulary import join
from tests.clips import write_photograph_clip


@pytest.fixture(scope="module", params=["default", "small"])
def captioner(request):
    return Captioner.load(request.param)


@pytest.mark.parametrize(
    ("name", "backbone", "data"),
    [("default", "efficientnet-lite2", "MSR-VTT"), ("small", "bundled", "ImageNet")],
)
def test_folder(name, backbone, data):
    folder = ModelFolder.open(name)
    assert folder.name == name
    assert folder.backbone == backbone
    size = sum(path.stat().st_size for path in folder.path.iterdir() if path.is_file())
    assert size < 13_000_000
    card = (folder.path / "README.md").read_text()
    for word in ("non-commercial", "Flickr8k", "COCO", "CIDEr", "shuffled", data):
        assert word in card


def test_styles_of_the_default_model(tmp_path):
    write_photograph_clip(tmp_path / "demo.mp4")
    decoding = ModelFolder.open().decoding
    texts = set()
    for style in ("video", "coco"):
        captioner = Captioner.load(decoding=replace(decoding, style=style))
        texts.add(captioner.caption(tmp_path / "demo.mp4").text)
    assert len(texts) == 2
    with pytest.raises(ModelError, match="has no style 'poem'; name one of auto, video, photo"):
        Captioner.load(decoding=replace(decoding, style="poem"))


def test_says_an_english_sentence_of_a_photograph(captioner, tmp_path):
    write_photograph_clip(tmp_path / "demo.mp4")
    caption = captioner.caption(tmp_path / "demo.mp4")
    words = caption.text.rstrip(".").split()
    assert len(words) >= 4
    assert caption.text[0].isupper()
    assert "<" not in caption.text
    assert {"a", "an", "the"} & {word.lower() for word in words}
    assert captioner.caption(tmp_path / "demo.mp4") == caption


def test_says_where_each_word_looked(captioner, tmp_path):
    write_photograph_clip(tmp_path / "demo.mp4")
    caption = captioner.caption(tmp_path / "demo.mp4")
    best = caption.candidates[0]
    assert caption.text == to_sentence(join(best.words))
    assert len(caption.times) == captioner.sampling.num_frames
    assert all(0 <= time < caption.duration for time in caption.times)
    assert best.attention_weights.shape == (len(best.words), len(caption.times), 16)
    np.testing.assert_allclose(best.attention_weights.sum((1, 2)), 1, rtol=1e-4)


def test_different_pictures_get_different_sentences(captioner, tmp_path):
    import cv2
    from skimage import data

    texts = set()
    for name in ("astronaut", "coffee", "chelsea", "rocket", "grass"):
        path = tmp_path / f"{name}.png"
        cv2.imwrite(str(path), getattr(data, name)())
        texts.add(captioner.caption(path).text)
    assert len(texts) >= 4

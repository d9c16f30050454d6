"""The model that ships: whole, small, and saying something."""

import numpy as np
import pytest

from captioner import Captioner
from captioner.cli.demo import write_demo_clip
from captioner.model_folder import ModelFolder
from captioner.pipeline import to_sentence
from captioner.vocabulary import join


@pytest.fixture(scope="module")
def captioner():
    return Captioner.load()


def test_folder():
    folder = ModelFolder.open()
    assert folder.name == "default"
    assert folder.backbone == "bundled"
    size = sum(path.stat().st_size for path in folder.path.iterdir())
    assert size < 25_000_000
    card = (folder.path / "README.md").read_text()
    for word in ("non-commercial", "Flickr8k", "COCO", "CIDEr", "shuffled"):
        assert word in card


def test_says_an_english_sentence_of_a_photograph(captioner, tmp_path):
    write_demo_clip(tmp_path / "demo.mp4")
    caption = captioner.caption(tmp_path / "demo.mp4")
    words = caption.text.rstrip(".").split()
    assert len(words) >= 4
    assert caption.text[0].isupper()
    assert "<" not in caption.text
    assert {"a", "an", "the"} & {word.lower() for word in words}
    assert captioner.caption(tmp_path / "demo.mp4") == caption


def test_says_where_each_word_looked(captioner, tmp_path):
    write_demo_clip(tmp_path / "demo.mp4")
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

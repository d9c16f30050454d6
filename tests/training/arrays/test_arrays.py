"""The stages by which the models that ship are made, on drawn pictures and few steps."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest

from captioner.errors import DatasetError
from captioner.model_folder import ModelFolder
from captioner.vocabulary import PAD_ID
from training.arrays.averaging import greedy_soup
from training.arrays.bank import Bank
from training.arrays.features import CLIP_FRAMES, Views
from training.arrays.pack import LONGEST, Items, agreement
from training.arrays.rehearsing import build_rehearsal
from training.arrays.reranking import fit_reranker
from training.rehearsal import Rehearsal

COLOURS = {"red": (0, 0, 255), "green": (0, 255, 0), "blue": (255, 0, 0)}


def _run(*arguments, status=0):
    command = [sys.executable, "-m", "training.cli.arrays", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == status, done.stderr[-3000:]
    return done.stderr


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    photos, videos = [], []
    for number, (name, colour) in enumerate(COLOURS.items()):
        frames = []
        for place in range(3):
            picture = np.full((48, 64, 3), 60, np.uint8)
            cv2.circle(picture, (16 + 16 * place, 24), 9, colour, -1)
            frames.append(f"{name}{place}.png")
            cv2.imwrite(str(folder / frames[-1]), picture)
        split = "val" if number == 2 else "train"
        photos.append(
            {"image": frames[0], "captions": [f"A {name} ball .", "A ball ."], "split": split}
        )
        captions = [f"the {name} ball rolls", "a ball rolls", "it rolls"]
        videos.append({"frames": frames, "captions": captions, "split": split})
    for name, rows in (("photo", photos), ("video", videos)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "said.txt").write_text("a ball\nnothing rolls\n")
    sources = [f"photo={folder}/photo.jsonl", f"video={folder}/video.jsonl"]
    _run(
        "pack", folder / "packed", *sources, f"video={folder}/said.txt",
        "--min-count", 1,
    )  # fmt: skip
    return folder / "packed"


def test_packing_keeps_what_belongs_together(packed):
    items = Items.load(packed)
    assert items.vocabulary.tokens[4:6] == ("<photo>", "<video>")
    assert items.is_video.tolist() == [False] * 3 + [True] * 3
    assert items.is_val.tolist() == [False, False, True] * 2
    assert items.num_frames.tolist() == [1, 1, 1, 3, 3, 3]
    assert len(items.encoded) == 12
    first = np.flatnonzero(items.owner == 0)
    assert [items.vocabulary.decode(row) for row in items.token_ids[first]] == [
        "a red ball",
        "a ball",
    ]
    assert set(items.start_ids[items.owner == 4]) == {5}
    assert np.sum(items.owner < 0) == 2  # sentences without a picture
    assert items.token_ids.shape[1] == LONGEST
    few = items.select(np.array([1, 4]))
    assert few.num_frames.tolist() == [1, 3]
    assert few.encoded == [items.encoded[1], *items.encoded[6:9]]
    assert items.vocabulary.decode(few.token_ids[few.owner == 1][0]) == "the green ball rolls"


def test_sentences_that_others_agree_with_weigh_more():
    several = ["a dog runs", "a dog runs fast", "somebody sings a song"]
    found = agreement([(0, "video", text) for text in several] + [(1, "video", "a cat")])
    assert found[0] > 1 > found[2]
    assert found[3] == 0  # nobody else


def test_views_are_as_many_as_counted(packed):
    items, views = Items.load(packed), Views(crops=2, clips=1, video_crops=1)
    counts = views.count(items)
    assert counts.tolist() == [1 + 2 + CLIP_FRAMES] * 2 + [1] + [6, 6, 3]
    frames = np.zeros((3, 224, 224, 3), np.uint8)
    for item, count in enumerate(counts):
        own = frames[: items.num_frames[item]]
        made = list(
            views.make(own, items.is_video[item], items.is_val[item], np.random.default_rng(1))
        )
        assert len(made) == count
        assert {view.shape for view in made} == {(224, 224, 3)}


def test_a_model_is_made_and_a_finished_training_is_taken_up(packed, tmp_path):
    features, model = tmp_path / "features", tmp_path / "model"
    few = ("--crops", 1, "--clips", 0, "--video-crops", 0)
    _run("features", packed, features, "--cnn", "small", *few)
    found = np.load(features / "efficientnet-lite2.npy")
    assert found.shape == (2 * 2 + 1 + 3 * 3, 16, 1280)
    assert (found.reshape(len(found), -1).std(axis=1) > 0).all()
    assert np.load(features / "small.npy").shape == (len(found), 16, 512)
    how = ("--steps", 4, "--rounds", 2, "--batch-size", 2, "--units", 8, "--embedding-dim", 8)
    learn = ("learn", packed, features, model, "--titles", 0, "--weigh", *how)
    told = _run(*learn)
    assert "step 4" in told
    assert "mean of 1 of 2 rounds" in told
    folder = ModelFolder.open(model)
    assert folder.backbone == "efficientnet-lite2"
    assert folder.model.styles == ("photo", "video")
    weights = (model / "captioner.weights.h5").read_bytes()
    assert "step" not in _run(*learn)
    assert (model / "captioner.weights.h5").read_bytes() == weights
    assert "nothing is said of 10 pictures" in _run("rerank", packed, features, model, status=2)
    _run("rehearse", packed, features, model)
    assert Rehearsal.load(model).num_frames.tolist() == [1, 1, 3, 3]
    small = tmp_path / "small"
    taught = ("--network", "small", "--teachers", model, model)
    assert "mean of" not in _run("learn", packed, features, small, "--last", *taught, *learn[4:])
    folder = ModelFolder.open(small)
    assert folder.backbone == "bundled"
    with np.load(small / "work" / "weights-4.npz") as last:
        weights = [last[name] for name in last.files[1:]]
    for variable, own in zip(folder.load_model().trainable_variables, weights, strict=True):
        np.testing.assert_allclose(variable, own, rtol=1 / 16, atol=1e-4)


def test_features_of_frames_as_they_are_stand_for_every_view(packed):
    items, views = Items.load(packed), Views(crops=2, clips=0, video_crops=1)
    all_views, whole = np.zeros((2 * 3 + 1 + 6 + 6 + 3, 1, 1)), np.zeros((12, 1, 1))
    bank = Bank(items, views, {"seen": all_views, "whole": whole})
    assert bank.rows["seen"].tolist() == [*range(22)]
    videos = [3, 4, 5, 3, 4, 5, 6, 7, 8, 6, 7, 8, 9, 10, 11]
    assert bank.rows["whole"].tolist() == [0, 0, 0, 1, 1, 1, 2, *videos]
    with pytest.raises(DatasetError, match="has 3 features; expected 22, one a view"):
        Bank(items, views, {"whole": whole[:3]})


def test_weights_are_averaged_as_long_as_that_is_better():
    def quality(weights):
        return -abs(float(weights[0][0]) - 5.0)

    several = [[np.array([value, value])] for value in (9.0, 6.0, 3.0)]
    mean, best, count = greedy_soup([(quality(one), one) for one in several], quality)
    assert (mean[0].tolist(), best, count) == ([4.5, 4.5], -0.5, 2)
    mean, best, count = greedy_soup([(quality(one), one) for one in several[:2]], quality)
    assert (mean[0].tolist(), best, count) == ([6.0, 6.0], -1.0, 1)


def test_each_sentence_has_the_same_share_of_the_loss(packed):
    items = Items.load(packed)
    views = Views(crops=0, clips=0, video_crops=0)
    features = {"small": np.zeros((items.num_frames.sum(), 4, 2), np.float16)}
    sentences = np.arange(len(items.token_ids))
    places, shares = Bank(items, views, features).words(sentences)
    all_shares = np.zeros(items.token_ids.size)
    np.add.at(all_shares, places, shares)
    rows = all_shares.reshape(items.token_ids.shape)
    np.testing.assert_array_equal(rows > 0, items.token_ids != PAD_ID)
    np.testing.assert_allclose(rows.sum(axis=1), 1 / len(sentences), rtol=1e-6)
    assert (items.token_ids > 0).sum() <= len(places) < items.token_ids.size


def test_a_reranker_learns_from_pictures_that_do_not_validate(packed, monkeypatch):
    items = Items.load(packed)
    whole = np.random.default_rng(2).random((int(items.num_frames.sum()), 4, 3), np.float32)
    monkeypatch.setattr("training.arrays.reranking.fit", lambda *material: material)
    summaries, sentences = fit_reranker(Bank(items, Views(0, 0, 0), {"seen": whole}), "seen")
    np.testing.assert_allclose(summaries, np.sqrt(whole[:2]).mean(axis=1), rtol=1e-6)
    said = [[items.vocabulary.decode(ids) for ids in several] for several in sentences]
    assert said == [["a red ball", "a ball"], ["a green ball", "a ball"]]


def test_clips_to_rehearse_are_drawn_from_those_that_do_not_validate(packed, monkeypatch):
    items = Items.load(packed)
    whole = np.random.default_rng(2).random((int(items.num_frames.sum()), 4, 3), np.float32)
    monkeypatch.setattr(Rehearsal, "build", lambda features, seed: features)
    bank = Bank(items, Views(0, 0, 0), {"seen": whole})
    learned = [whole[:1], whole[1:2], whole[3:6], whole[6:9]]
    drawn = build_rehearsal(bank, "seen")
    assert sorted(clip.tolist() for clip in drawn) == sorted(clip.tolist() for clip in learned)
    monkeypatch.setattr("training.arrays.rehearsing.NUM_CLIPS", 2)
    assert [len(clip) for clip in build_rehearsal(bank, "seen")] == [1, 1]
    monkeypatch.setattr("training.arrays.rehearsing.VIDEO_SHARE", 0.5)
    assert [len(clip) for clip in build_rehearsal(bank, "seen")] == [1, 3]

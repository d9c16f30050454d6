import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from tensorboard.backend.event_processing import event_accumulator

from captioner import Captioner
from captioner.cli.main import main
from captioner.config import DecodingOptions, ModelConfig
from captioner.engines.keras_engine import KerasEngine
from captioner.model import CaptionModel
from captioner.model_folder import ModelFolder
from captioner.reranker import RERANKER
from captioner.terminal import SOME_FAILED, WRONG_USAGE
from captioner.vocabulary import Vocabulary
from training.arrays.reranking import fit
from training.data.manifest import read_labels, write_labels
from training.data.records import read_records, write_records
from training.objectives import ScheduledSampling, SelfCritical, caption_loss
from training.options import CaptionTraining, Source
from training.recipe import train_captioner
from training.rehearsal import Rehearsal
from training.trainer import Course, TrainingOptions
from training.transfer import Base, grow_vocabulary, imprint, names_in, permit_repetition, transfer


def test_caption_loss_by_hand():
    token_ids = np.array([[3, 2, 0]])
    logits = np.log(
        np.array([[[0.1, 0.1, 0.2, 0.6], [0.1, 0.2, 0.5, 0.2], [0.25, 0.25, 0.25, 0.25]]])
    )
    plain = caption_loss(0.0)(token_ids, keras.ops.convert_to_tensor(logits))
    np.testing.assert_allclose(np.asarray(plain), [-(np.log(0.6) + np.log(0.5)) / 2], rtol=1e-6)
    smooth = caption_loss(0.2)(token_ids, keras.ops.convert_to_tensor(logits))
    even = -logits[0, :2].mean(-1)
    expected = (0.8 * -np.log([0.6, 0.5]) + 0.2 * even).mean()
    np.testing.assert_allclose(np.asarray(smooth), [expected], rtol=1e-6)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="differentiates with it")
def test_gradient_of_caption_loss_is_that_of_its_formula():
    import tensorflow as tf

    rng = np.random.default_rng(19)
    token_ids = tf.constant([[3, 5, 2, 0, 0], [4, 1, 6, 6, 2]])
    logits = tf.constant(rng.normal(0, 3, (2, 5, 7)), tf.float32)

    def formula(token_ids, logits):
        smooth = 0.8 * tf.one_hot(token_ids, 7) + 0.2 / 7
        losses = -tf.reduce_sum(smooth * tf.nn.log_softmax(logits), axis=-1)
        real = tf.cast(token_ids != 0, tf.float32)
        return tf.reduce_sum(losses * real, axis=-1) / tf.reduce_sum(real, axis=-1)

    found, expected = [], []
    for loss, result in ((caption_loss(0.2), found), (formula, expected)):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = tf.reduce_sum(loss(token_ids, logits) * [1.0, -2.0])
        result += [value, tape.gradient(value, logits)]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_scheduled_sampling_reads_the_models_own_words():
    config = ModelConfig(vocab_size=9, feature_dim=4, units=8, embedding_dim=5, dropout=0.0)
    keras.utils.set_random_seed(17)
    model = CaptionModel(config)
    rng = np.random.default_rng(17)
    model.set_weights([rng.normal(0, 0.7, w.shape) for w in model.get_weights()])
    inputs = {
        "features": rng.normal(size=(3, 2, 4)).astype(np.float32),
        "sequence_length": np.array([2, 1, 2], np.int32),
        "token_ids": rng.integers(3, 9, (3, 6)).astype(np.int32),
    }
    grown = keras.Variable(0.0)
    learner = ScheduledSampling(model, rate=1.0, grown=lambda: grown.value, seed=1)
    learner.compile("sgd", loss=caption_loss(0.0))
    forced = np.asarray(model(inputs))
    np.testing.assert_allclose(np.asarray(learner(inputs)), forced, atol=1e-6)
    np.testing.assert_allclose(np.asarray(learner(inputs, training=True)), forced, atol=1e-6)
    grown.assign(1.0)  # now every word read is the model's own
    sampled = np.asarray(learner(inputs, training=True))
    np.testing.assert_allclose(sampled[:, 0], forced[:, 0], atol=1e-6)  # nothing read so far
    assert np.abs(sampled[:, 1:] - forced[:, 1:]).max() > 1e-2
    before = [np.asarray(w) for w in model.trainable_weights]
    learner.train_on_batch(inputs, inputs["token_ids"])
    assert all(np.abs(np.asarray(w) - b).max() > 0 for w, b in zip(model.trainable_weights, before))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="needs TensorFlow")
def test_self_critical_training_says_what_is_rewarded():
    config = ModelConfig(vocab_size=9, feature_dim=4, units=16, embedding_dim=8, dropout=0.0)
    keras.utils.set_random_seed(19)
    model = CaptionModel(config)
    references = [[[4, 5, 6, 2]], [[7, 8, 4, 2]]]
    inputs = {
        "features": np.array([[[1, 0, 0, 0]] * 2, [[0, 0, 1, 0]] * 2], np.float32),
        "sequence_length": np.array([2, 2], np.int32),
        "token_ids": np.zeros((2, 4), np.int32),
        "clip": np.array([0, 1], np.int32),
    }
    learner = SelfCritical(model, references, num_samples=8, seed=1)
    learner.compile(keras.optimizers.Adam(1e-2))
    rewards = []
    for _ in range(120):
        learner.reset_metrics()
        rewards.append(-float(learner.train_on_batch(inputs, inputs["token_ids"])))
    assert np.mean(rewards[-20:]) > 2 * np.mean(rewards[:20])
    said = KerasEngine(model)(list(inputs["features"]), DecodingOptions(beam_size=1)).token_ids
    assert set(said[0].ravel()) <= {0, 4, 5, 6}
    assert set(said[1].ravel()) <= {0, 7, 8, 4}


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="differentiates with it")
def test_self_critical_gradient_weighs_sentences_by_what_they_are_better():
    import tensorflow as tf

    config = ModelConfig(vocab_size=7, feature_dim=4, units=8, embedding_dim=5, dropout=0.0)
    model = CaptionModel(config)
    learner = SelfCritical(model, [[[3, 4, 2]]], num_samples=2, seed=1)
    logits = tf.constant(np.random.default_rng(20).normal(0, 2, (2, 3, 7)), tf.float32)
    token_ids, rewards = tf.constant([[3, 4, 2], [5, 2, 0]]), tf.constant([7.0, 1.0])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(logits)
        value = learner.compute_loss(y_pred=(logits, token_ids, rewards))
        picked = tf.gather(tf.nn.log_softmax(logits), token_ids, axis=2, batch_dims=2)
        # Each of two is better than the other by 6, and by -6; there are five words.
        expected = -(6 * tf.reduce_sum(picked[0]) - 6 * tf.reduce_sum(picked[1, :2])) / 5
    assert value == -4
    np.testing.assert_allclose(
        tape.gradient(value, logits), tape.gradient(expected, logits), atol=1e-5
    )


def test_sentences_of_a_clip_are_read_side_by_side():
    config = ModelConfig(
        vocab_size=9, feature_dim=4, num_regions=2, units=8, embedding_dim=5, dropout=0.0
    )
    model = CaptionModel(config)
    rng = np.random.default_rng(21)
    model.set_weights([rng.normal(0, 0.5, w.shape) for w in model.get_weights()])
    features = rng.normal(size=(2, 3, 2, 4)).astype(np.float32)
    length = np.array([3, 2], np.int32)
    token_ids = rng.integers(3, 9, (6, 4)).astype(np.int32)
    together = model({"features": features, "sequence_length": length, "token_ids": token_ids})
    for row in range(6):
        clip = slice(row // 3, row // 3 + 1)
        alone = {"features": features[clip], "sequence_length": length[clip]}
        alone = model({**alone, "token_ids": token_ids[row : row + 1]})
        np.testing.assert_allclose(np.asarray(together)[row], np.asarray(alone)[0], atol=1e-5)


def test_new_words_begin_without_changing_what_is_said():
    old_words = Vocabulary.build(["a dog runs", "a dog sleeps"])
    words = grow_vocabulary(old_words, ["a cat sleeps", "the cat", "a newt"], min_count=2)
    assert words.tokens == (*old_words.tokens, "cat")
    config = ModelConfig(len(old_words), feature_dim=4, units=8, embedding_dim=5)
    keras.utils.set_random_seed(18)
    base = CaptionModel(config)
    rng = np.random.default_rng(18)
    base.set_weights([rng.normal(0, 0.5, w.shape) for w in base.get_weights()])
    model = CaptionModel(replace(config, vocab_size=len(words)))
    transfer(base, model, seed=1)
    inputs = {
        "features": rng.normal(size=(3, 2, 4)).astype(np.float32),
        "sequence_length": np.array([2, 1, 2], np.int32),
        "token_ids": rng.integers(3, len(old_words), (3, 6)).astype(np.int32),
    }
    before, after = np.asarray(base(inputs)), np.asarray(model(inputs))
    np.testing.assert_allclose(after[..., : len(old_words)], before, atol=1e-6)
    assert after.shape[-1] == len(words)


def test_a_search_may_say_what_people_say():
    forbidding = DecodingOptions(no_repeat_ngram_size=2)
    plain = 99 * ["a dog runs over the grass"]
    twice = "a ball rolls to the left then a ball rolls to the right"
    assert permit_repetition(forbidding, [*plain, twice]) == forbidding  # one in a hundred
    assert permit_repetition(forbidding, [*plain, twice, twice]).no_repeat_ngram_size == 6
    assert permit_repetition(DecodingOptions(), [twice]) == DecodingOptions()
    assert permit_repetition(forbidding, ["the the the"]).no_repeat_ngram_size == 3


def test_a_model_that_learns_motion_begins_as_it_was():
    config = ModelConfig(vocab_size=9, feature_dim=4, num_regions=4, units=8, embedding_dim=5)
    keras.utils.set_random_seed(20)
    base, model = CaptionModel(config), CaptionModel(replace(config, motion_dim=6))
    rng = np.random.default_rng(20)
    base.set_weights([rng.normal(0, 0.5, w.shape) for w in base.get_weights()])
    transfer(base, model, seed=1)
    inputs = {
        "features": rng.normal(size=(3, 3, 4, 4)).astype(np.float32),
        "sequence_length": np.array([3, 1, 2], np.int32),
        "token_ids": rng.integers(3, 9, (3, 6)).astype(np.int32),
    }
    np.testing.assert_allclose(np.asarray(model(inputs)), np.asarray(base(inputs)), atol=1e-6)
    again = CaptionModel(replace(config, motion_dim=6))
    transfer(model, again, seed=1)
    for old, new in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)


def _train(output, labels, cnn, *options):
    command = [sys.executable, "-m", "captioner.cli", "train", str(labels), "--output", str(output)]
    command += ["--cnn", str(cnn), "--batch-size", "2", "--epochs", "75", *map(str, options)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def _weights(folder):
    with h5py.File(folder / "captioner.weights.h5") as file:
        found = {}
        file.visititems(
            lambda name, item: found.update({name: item[()]}) if hasattr(item, "dtype") else None
        )
        return found


def test_killed_and_resumed_equals_uninterrupted(labelled_clips, tiny_cnn, tmp_path):
    options = ("--scheduled-sampling", "0.3")
    whole = _train(tmp_path / "whole", labelled_clips, tiny_cnn, *options)
    _, told = whole.communicate()
    assert whole.returncode == 0, told
    killed = _train(tmp_path / "killed", labelled_clips, tiny_cnn, *options)
    for line in killed.stderr:  # it tells of every round, before it goes on
        if line.startswith("pass 25 of"):
            break
    killed.kill()
    killed.communicate()
    assert not (tmp_path / "killed" / "config.json").exists()
    assert [path.name for path in (tmp_path / "killed/work/state").glob("round-*")] != []
    resumed = _train(tmp_path / "killed", labelled_clips, tiny_cnn, *options)
    _, told = resumed.communicate()
    assert resumed.returncode == 0, told
    assert "pass 25 of" not in told
    expected, found = _weights(tmp_path / "whole"), _weights(tmp_path / "killed")
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
    assert (tmp_path / "killed/work/state/train.csv").read_text() == (
        tmp_path / "whole/work/state/train.csv"
    ).read_text()


def test_a_course_that_is_run_again_ends_the_same(labelled_clips, tiny_model, tmp_path):
    base, captioner = ModelFolder.open(tiny_model), Captioner.load(tiny_model)
    clips = read_labels(labelled_clips, "train")
    records = write_records(clips, captioner.backbone, base.sampling, tmp_path / "features")
    batches = read_records(records, base.vocabulary, 2, seed=1)
    model = base.load_model()
    course = Course(model, batches, TrainingOptions(epochs=2, learning_rate=1e-2))
    begin, ends = model.get_weights(), []
    for number in range(2):
        model.set_weights(begin)
        [row] = course.run(batches, None, tmp_path / f"state-{number}")
        ends.append(model.get_weights())
    assert np.isfinite(row["loss"])
    for first, second in zip(*ends, strict=True):
        np.testing.assert_array_equal(first, second)
    assert any(np.abs(one - other).max() > 0 for one, other in zip(begin, ends[0], strict=True))
    with pytest.raises(ValueError, match="expected a training of"):
        course.run(read_records(records, base.vocabulary, 1, seed=1), None, tmp_path / "other")


def test_retrained_on_a_base_learns_new_words(
    labelled_clips, tiny_model, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("PATH", "")  # Java, and with it METEOR, takes its time
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    rows = [json.loads(line) for line in labelled_clips.read_text().splitlines()]
    for row in rows:
        row["video"] = str(labelled_clips.parent / row["video"])
        row["captions"] = [row["captions"][0].replace("Something", "A zorb")]
    rows += [row | {"split": "val", "video": _copy_of(row, tmp_path)} for row in rows]
    labels = tmp_path / "labels.jsonl"
    labels.write_text("\n".join(map(json.dumps, rows)))
    options = "--epochs 400 --learning-rate 1e-2 --batch-size 4 --patience 9 --self-critical 50"
    options += " --views 0"
    command = ["train", str(labels), "--base", str(tiny_model), "--output", str(tmp_path / "new")]
    with monkeypatch.context() as patch:
        patch.setattr("sys.stderr", terminal)
        assert main([*command, *options.split()]) == 0
    bar = r"pass 50 of 400: .*100%.* \[.*word/s, loss \d\.\d{3}, all done in \d\d:\d\d\]"
    assert re.search(bar, terminal.getvalue())
    old, new = ModelFolder.open(tiny_model), ModelFolder.open(tmp_path / "new")
    assert new.vocabulary.tokens[: len(old.vocabulary)] == old.vocabulary.tokens
    assert new.vocabulary.tokens[len(old.vocabulary) :] == ("zorb",)
    assert new.sampling == old.sampling
    green = next(row for row in rows if "zorb" in row["captions"][0])
    assert Captioner.load(new.path).caption(green["video"]).text == green["captions"][0]
    with (tmp_path / "new/work/state/train.csv").open() as file:
        history = list(csv.DictReader(file))
    assert history[0].keys() == {"epoch", "loss", "val_loss", "val_cider"}
    assert float(history[-1]["loss"]) < float(history[0]["loss"])
    page = (tmp_path / "new/report.html").read_text()
    assert "old model" in page
    assert page.count("data:image/jpeg") == 4 * len(rows) / 2
    assert _logged(tmp_path / "new/work/state/tensorboard/validation") == {
        f"epoch_{name}": [pytest.approx(float(row[f"val_{name}"])) for row in history]
        for name in ("loss", "cider")
    }
    with (tmp_path / "new/work/self_critical/train.csv").open() as file:
        [history] = csv.DictReader(file)
    assert float(history["loss"]) < -4  # minus CIDEr-D, which is 10 at most
    (tmp_path / "new/report.html").unlink()
    (tmp_path / "new/report.html").mkdir()
    assert main([*command, *options.split()]) == 0  # a report is worth no training
    assert "report.html: cannot be written" in capsys.readouterr().err


def test_a_model_that_is_no_better_is_not_written_unless_forced(
    labelled_clips, tiny_model, tmp_path, capsys, monkeypatch
):
    for finish in ("write_programs", "report_captions"):  # which other tests see
        monkeypatch.setattr(f"training.recipe.{finish}", lambda *_: None)
    base = tmp_path / "base"
    shutil.copytree(tiny_model, base)
    before = ModelFolder.open(base)
    summaries = np.eye(4, before.model.feature_dim)
    fit(summaries, [[np.array([4, 5], np.uint64)]] * 4, least=1).save(base)
    assert before.digest() != ModelFolder.open(tiny_model).digest()
    command = ["train", str(labelled_clips), "--base", str(base), "--views", "0"]
    command += ["--rehearse", str(labelled_clips), "--epochs", "1", "--learning-rate", "1e-9"]
    command += ["--output", str(tmp_path / "new")]
    assert main(command) == SOME_FAILED
    told = capsys.readouterr().err
    assert told.count("judging, part") == 3
    assert "Not better: on 4 clips" in told
    assert "--force" in told
    judged = json.loads((tmp_path / "new/judgement.json").read_text())
    assert judged["is_better"] is False
    assert len(judged["pairs"]) == 4
    for pair in judged["pairs"]:  # nothing was learned, and nothing new is said
        assert pair["old"] == pair["new"]
    assert not (tmp_path / "new/config.json").exists()
    assert main([*command, "--force"]) == 0
    assert ModelFolder.open(tmp_path / "new").name == "new"
    assert len(Rehearsal.load(tmp_path / "new")) == 4  # it travels on
    assert (tmp_path / "new" / RERANKER).read_bytes() == (base / RERANKER).read_bytes()


def test_clips_that_are_held_out_judge_and_choose_no_round(
    labelled_clips, tiny_model, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("training.recipe.MOST_FEW", 3)  # clips
    command = ["train", str(labelled_clips), "--base", str(tiny_model), "--views", "0"]
    command += ["--rehearse", str(labelled_clips), "--epochs", "1", "--learning-rate", "1e-9"]
    assert main([*command, "--output", str(tmp_path / "new")]) == SOME_FAILED
    told = capsys.readouterr().err
    assert "one of 10 videos is held out, to judge the new model on" in told
    assert "judging, part" not in told
    assert "val_cider" not in told
    assert len(json.loads((tmp_path / "new/judgement.json").read_text())["pairs"]) == 1


def test_new_words_begin_where_they_were_said(labelled_clips, tiny_model, tmp_path):
    base, captioner = ModelFolder.open(tiny_model), Captioner.load(tiny_model)
    clips = read_labels(labelled_clips, "train")
    said = [clip.captions[0].replace("Something", "A zorb") for clip in clips]
    clips = [replace(clip, captions=(one,)) for clip, one in zip(clips, said)]
    records = write_records(clips, captioner.backbone, base.sampling, tmp_path / "features")
    vocabulary = grow_vocabulary(base.vocabulary, said)
    batches = read_records(records, vocabulary, 4)
    old = Base(base)
    model = CaptionModel(replace(base.model, vocab_size=len(vocabulary)))
    transfer(old.model, model, 1)
    [(inputs, token_ids)] = batches.read()
    zorb = vocabulary.encode("zorb")[0]
    place = token_ids.numpy() == zorb
    assert place.sum() == 1

    def shares():
        return np.asarray(keras.ops.softmax(model(inputs)))[..., zorb]

    before = shares()
    imprint(model, old, batches, None, [zorb], 1)
    after, real = shares(), token_ids.numpy() != 0
    assert after[place][0] > 2 * after[real & ~place].mean()
    assert (
        after[place][0] / after[real & ~place].mean() > 2 * before[place][0] / before[real].mean()
    )


def test_names_are_new_words_that_are_said_of_several_clips(labelled_clips, tiny_model):
    base, clips = Base(ModelFolder.open(tiny_model)), read_labels(labelled_clips, "train")[:4]
    [known, *_] = base.folder.vocabulary.tokens[-1:]
    said = [f"Zorb {known}", f"{known} sees zorb", f"zorb, zorb {known} plim", f"plim plim {known}"]
    clips = [replace(clip, captions=(one,)) for clip, one in zip(clips, said, strict=True)]
    vocabulary = grow_vocabulary(base.folder.vocabulary, said)
    assert vocabulary.encode("zorb")[:-1] == [*names_in(clips, vocabulary, base)]
    assert names_in(clips[:2], vocabulary, base) == ()


def _logged(folder):
    """What TensorBoard shows."""
    import tensorflow as tf

    events = event_accumulator.EventAccumulator(str(folder)).Reload()
    return {
        name: [tf.make_ndarray(event.tensor_proto) for event in events.Tensors(name)]
        for name in events.Tags()["tensors"]
        if name.startswith("epoch_")
    }


def _copy_of(row, folder):
    """The same frames as another file, since no clip may be in two splits."""
    return str(shutil.copy(row["video"], folder / f"val_{Path(row['video']).name}"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--input-size", "50"], "--input-size: expected input_size to be a multiple of 32"),
        (["--input-size", "64", "--base", "default"], "leave out --input-size, or --base"),
        (["--input-size", "64", "--backbone", "keras:X"], "go with --backbone bundled only"),
    ],
)
def test_size_of_frames_that_does_not_fit(labelled_clips, tmp_path, capsys, options, message):
    command = ["train", str(labelled_clips), "--output", str(tmp_path / "new"), *options]
    assert main(command) == WRONG_USAGE
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_whole_training_from_python(labelled_clips, tiny_cnn, tmp_path, monkeypatch):
    for finish in ("write_programs", "report_captions"):  # which other tests see
        monkeypatch.setattr(f"training.recipe.{finish}", lambda *_: None)
    before = keras.config.dtype_policy()
    shape = {"attention": "additive", "encoder": "gru", "encoder_layers": 2, "bidirectional": True}
    [one, *others] = read_labels(labelled_clips)
    write_labels([one], tmp_path / "one.jsonl")
    write_labels(others, tmp_path / "others.jsonl")
    labels = (Source(tmp_path / "one.jsonl", 3), Source(tmp_path / "others.jsonl", 1))
    options = CaptionTraining(
        labels, tmp_path / "new", cnn=tiny_cnn, epochs=1, precision="mixed_bfloat16"
    )
    folder = train_captioner(replace(options, **shape))
    assert keras.config.dtype_policy() == before
    found = ModelFolder.open(tmp_path / "new")
    assert found.model == folder.model
    assert {name: getattr(found.model, name) for name in shape} == shape
    assert found.load_model().count_params() > 0

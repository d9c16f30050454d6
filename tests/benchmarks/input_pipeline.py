"""Reading batches, against the training step of the default caption model that eats them.

    python -m tests.benchmarks.input_pipeline [--rounds N]

Made-up features of 2,000 clips lie in a store: up to 8 frames of 16 regions of 512 values, two
captions of 8 to 19 words each; batch 64, 5,000 words. Trainings that read their batches take turns
with trainings on one batch in memory. The last line on stdout is JSON with medians over the
turns: the share of the time that a training waited for its next batch, how much longer its steps
took in all than those in memory (reading takes time of the same cores), and the clips a second
that are read when nothing else runs. Files are in the page cache.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from captioner.config import ModelConfig
from captioner.model import CaptionModel
from captioner.vocabulary import Vocabulary
from training.data.manifest import LabelledClip
from training.data.records import PLACE, Records, read_records
from training.data.store import FeatureStore
from training.objectives import caption_loss

NUM_CLIPS, BATCH_SIZE, NUM_FRAMES, VOCAB_SIZE, STEPS = 2000, 64, 8, 5000, 20
FEATURE_SHAPE = (16, 512)


def make_records(folder: Path, words: list[str]) -> Records:
    """Keeps random features, of clips that have random captions."""
    rng = np.random.default_rng(0)
    places, clips = [], []
    with FeatureStore(folder) as store:
        for clip in range(NUM_CLIPS):
            shape = (rng.integers(1, NUM_FRAMES + 1), *FEATURE_SHAPE)
            store.add(str(clip), rng.normal(size=shape).astype(np.float16))
            places.append((clip, *store.place(str(clip))))
            captions = (" ".join(rng.choice(words, rng.integers(8, 20))) for _ in range(2))
            clips.append(LabelledClip(Path(str(clip)), tuple(captions)))
    return Records(clips, [], FEATURE_SHAPE, store.files, np.array(places, PLACE))


def build_step():
    """A function of a batch that takes one training step."""
    model = CaptionModel(ModelConfig(VOCAB_SIZE, FEATURE_SHAPE[1], FEATURE_SHAPE[0]))
    optimizer, loss = keras.optimizers.AdamW(1e-4), caption_loss(0.1)
    optimizer.build(model.trainable_variables)

    @tf.function(reduce_retracing=True)
    def step(inputs, token_ids):
        with tf.GradientTape() as tape:
            value = tf.reduce_mean(loss(token_ids, model(inputs, training=True)))
        gradients = tape.gradient(value, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return value

    return step


def train(step, batches) -> tuple[float, float]:
    """Takes a step on each batch; returns seconds in all and seconds waited."""
    waited, start = 0.0, time.perf_counter()
    batches = iter(batches)
    while True:
        asked = time.perf_counter()
        batch = next(batches, None)
        waited += time.perf_counter() - asked
        if batch is None:
            return time.perf_counter() - start, waited
        step(*batch).numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=4)
    rounds = parser.parse_args().rounds
    words = [f"word{number}" for number in range(VOCAB_SIZE - 4)]
    with tempfile.TemporaryDirectory() as folder:
        batches = read_records(
            make_records(Path(folder), words), Vocabulary.build(words), BATCH_SIZE, seed=1
        )
        step = build_step()
        train(step, batches.read())  # traces, and fills the page cache
        shares, slowdowns, rates = [], [], []
        for turn in range(rounds):
            start = turn * STEPS
            in_memory = list(batches.read(start, start + STEPS))
            memory_seconds, _ = train(step, in_memory)
            seconds, waited = train(step, batches.read(start, start + STEPS))
            shares.append(waited / seconds)
            slowdowns.append(seconds / memory_seconds)
            begun = time.perf_counter()
            num_clips = sum(len(token_ids) for _, token_ids in batches.read())
            rates.append(num_clips / (time.perf_counter() - begun))
            print(f"{waited=:.3f} {seconds=:.2f} {memory_seconds=:.2f} clips/s={rates[-1]:.0f}")
    figures = {
        "waiting_share": statistics.median(shares),
        "slowdown": statistics.median(slowdowns),
        "clips_per_second": statistics.median(rates),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

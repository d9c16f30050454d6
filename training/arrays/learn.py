"""A caption model taught from features in memory, as a model folder."""

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax.numpy as jnp
import numpy as np

from captioner.cnn import BUNDLED, PRETRAINED
from captioner.config import DecodingOptions, SamplingOptions
from captioner.model import CaptionModel
from captioner.model_folder import BACKBONE_WEIGHTS, SMALL_MODEL, ModelFolder
from captioner.vocabulary import SPECIAL_TOKENS

from ..work import Checkpoints, claim, load_arrays
from .averaging import greedy_soup
from .bank import Bank
from .features import CLIP_FRAMES
from .learner import Learner
from .recipe import Recipe
from .validation import Validation


def log(*message):
    """Writes how far it is, with the seconds since the start."""
    print(f"[{time.monotonic() - BEGAN:6.1f}]", *message, file=sys.stderr, flush=True)


BEGAN = time.monotonic()


def learn_model(
    packed: Path,
    features: Path,
    output: Path,
    network: str,
    recipe: Recipe,
    steps: int,
    rounds: int = 16,
    base: str | None = None,
    teachers: Sequence[str] = (),
    last: bool = False,
    length_penalty: float = 1.5,
    seed: int = 1,
) -> None:
    """Trains a caption model and writes its folder; goes on where it was stopped.

    Args:
        packed: what `pack` wrote.
        features: what `write_features` wrote.
        output: the model folder.
        network: whose features the model sees.
        recipe: how it learns.
        steps: how many.
        rounds: how often to measure.
        base: a model to go on from.
        teachers: models whose mean word probabilities are learned too.
        last: whether the model has the weights of the last round, when the learning rate has
            fallen to 0, instead of the mean of rounds that validates best.
        length_penalty: the model's default.
        seed: of weights, batches and dropout.

    Raises:
        DatasetError: `output` has the work of a training with other options.
    """
    work = output / "work"
    told = (network, asdict(recipe), steps, rounds, base, list(teachers), last, seed)
    claim(work, str(packed), str(features), *told)
    bank = Bank.load(packed, features, {network, *[PRETRAINED] * bool(teachers)})
    taught_by = [Learner(bank, PRETRAINED, recipe, seed) for _ in teachers]
    for learner, name in zip(taught_by, teachers, strict=True):
        learner.take_up(ModelFolder.open(name))
    learner = Learner(bank, network, recipe, seed, taught_by)
    if base:
        learner.take_up(ModelFolder.open(base))
    learn_in_rounds(learner, steps, rounds, work)
    if not last:
        take_best(learner, work)
    write_folder(learner, output, length_penalty)


def learn_in_rounds(learner: Learner, steps: int, rounds: int, work: Path):
    """Teaches a learner, and keeps the weights of each round with how they validate."""
    validate = Validation(learner.bank)

    def report(step, loss):
        row = validate(learner)
        log(f"step {step} loss {loss:.3f}", row)
        arrays = map(np.asarray, learner.trainable)
        np.savez(work / f"weights-{step}.npz", row["mean"], *arrays)

    learner.learn(steps, report, rounds, checkpoints=Checkpoints(work))


def take_best(learner: Learner, work: Path):
    """Leaves a learner as the mean of its rounds that validates best."""
    validate = Validation(learner.bank)

    def measure(weights):
        learner.trainable = [jnp.asarray(x) for x in weights]
        return validate(learner)["mean"]

    kept = (load_arrays(path) for path in work.glob("weights-*.npz"))
    found = [(float(quality), weights) for quality, *weights in kept]
    mean, quality, count = greedy_soup(found, measure)
    log(f"mean of {count} of {len(found)} rounds: {quality:.4f}")
    learner.trainable = [jnp.asarray(x) for x in mean]


def write_folder(learner: Learner, output: Path, length_penalty: float):
    """Writes a model folder of a learner."""
    vocabulary = learner.bank.items.vocabulary
    special = len(SPECIAL_TOKENS)
    styles = tuple(token[1:-1] for token in vocabulary.tokens[special:] if token[0] == "<")
    config = replace(learner.config, styles=styles if learner.recipe.styles else ())
    model = CaptionModel(config)
    for variable, value in zip(model.trainable_variables, learner.trainable, strict=True):
        variable.assign(value)
    decoding = DecodingOptions(length_penalty=length_penalty, no_repeat_ngram_size=2)
    small = ModelFolder.open(SMALL_MODEL) if learner.network == "small" else None
    folder = ModelFolder(
        output,
        config,
        BUNDLED if small else PRETRAINED,
        small and small.cnn,
        SamplingOptions(CLIP_FRAMES),
        decoding,
        vocabulary,
    )
    folder.save(model, small and small.path / BACKBONE_WEIGHTS, half=True)

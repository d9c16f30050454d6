"""A caption model taught from features in memory, as a model folder."""

import os
import sys
import time
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
from .learners import Learners
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
    teacher: str | None = None,
    num_teachers: int = 0,
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
        rounds: how often to measure; see `learn_best`.
        base: a model to go on from.
        teacher: a model whose word probabilities are learned too.
        num_teachers: models that are trained first, to be the teachers instead.
        length_penalty: the model's default.
        seed: of weights, batches and dropout.

    Raises:
        DatasetError: `output` has the work of a training with other options.
    """
    work = output / "work"
    told = (network, asdict(recipe), steps, rounds, base, teacher, num_teachers, seed)
    claim(work, str(packed), str(features), *told)
    taught = teacher or num_teachers
    names = {network, *[PRETRAINED] * bool(taught)}
    bank = Bank.load(packed, features, names)
    teachers = None
    if taught:
        seeds = [seed + 100 + number for number in range(num_teachers or 1)]
        teachers = Learners(bank, PRETRAINED, recipe, seeds)
    if teacher:
        teachers.take_up(ModelFolder.open(teacher))
    elif taught:
        learn_best(teachers, steps, seed, rounds, work / "teachers")
    learners = Learners(bank, network, recipe, [seed], teachers)
    if base:
        learners.take_up(ModelFolder.open(base))
    learn_best(learners, steps, seed, rounds, work / "model")
    write_folder(learners, output, length_penalty)


def learn_best(learners: Learners, steps: int, seed: int, rounds: int, work: Path):
    """Teaches learners, and leaves them as the mean of the rounds that validates best."""
    validate = Validation(learners.bank)

    def measure(weights):
        learners.trainable = [jnp.asarray(x) for x in weights]
        return float(np.mean([row["mean"] for row in validate(learners)]))

    def report(step, loss):
        rows = validate(learners)
        log(f"step {step} loss {loss:.3f}", rows)
        quality = np.mean([row["mean"] for row in rows])
        np.savez(work / f"weights-{step}.npz", quality, *map(np.asarray, learners.trainable))

    work.mkdir(parents=True, exist_ok=True)
    learners.learn(steps, seed, report, rounds, checkpoints=Checkpoints(work))
    kept = (load_arrays(path) for path in work.glob("weights-*.npz"))
    found = [(float(quality), weights) for quality, *weights in kept]
    mean, quality, count = greedy_soup(found, measure)
    log(f"mean of {count} of {len(found)} rounds: {quality:.4f}")
    learners.trainable = [jnp.asarray(x) for x in mean]


def write_folder(learners: Learners, output: Path, length_penalty: float):
    """Writes a model folder of the first of some learners."""
    vocabulary = learners.bank.items.vocabulary
    special = len(SPECIAL_TOKENS)
    styles = tuple(token[1:-1] for token in vocabulary.tokens[special:] if token[0] == "<")
    config = replace(learners.config, styles=styles if learners.recipe.styles else ())
    model = CaptionModel(config)
    for variable, value in zip(model.trainable_variables, learners.trainable, strict=True):
        variable.assign(value[0])
    decoding = DecodingOptions(length_penalty=length_penalty, no_repeat_ngram_size=2)
    small = ModelFolder.open(SMALL_MODEL) if learners.network == "small" else None
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

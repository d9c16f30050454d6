"""A caption model taught from features in memory, as a model folder."""

import json
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
from .bank import Bank
from .features import CLIP_FRAMES, VIEWS, Views
from .learners import Learners
from .pack import Items
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
    arrays = {name: np.load(features / f"{name}.npy", mmap_mode="r") for name in names}
    views = Views(**json.loads((features / VIEWS).read_text()))
    bank = Bank(Items.load(packed), views, arrays)
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
    """Teaches learners, and leaves them as the mean of those rounds' weights that validates best.

    From the best round on, each further one, in the order of their figures, is taken into the mean
    if that then validates better ("greedy soup", Wortsman et al. 2022, arXiv:2203.05482).
    """
    validate, mean_file = Validation(learners.bank), work / "mean.npz"

    def measure():
        rows = validate(learners)
        return float(np.mean([row["mean"] for row in rows])), rows

    def report(step, loss):
        quality, rows = measure()
        log(f"step {step} loss {loss:.3f}", rows)
        np.savez(work / f"weights-{step}.npz", quality, *map(np.asarray, learners.trainable))

    work.mkdir(parents=True, exist_ok=True)
    learners.learn(steps, seed, report, rounds, checkpoints=Checkpoints(work))
    if not mean_file.exists():
        found = [load_arrays(path) for path in work.glob("weights-*.npz")]
        taken, best, mean = [], -1.0, None
        for quality, *weights in sorted(found, key=lambda one: -one[0]):
            tried = [*taken, weights]
            learners.trainable = [jnp.asarray(sum(x) / len(x)) for x in zip(*tried, strict=True)]
            if taken:
                quality, _ = measure()
            if quality > best:
                taken, best, mean = tried, quality, learners.trainable
                log(f"mean of {len(taken)} rounds: {quality:.4f}")
        np.savez(mean_file, *map(np.asarray, mean))
    learners.trainable = [jnp.asarray(x) for x in load_arrays(mean_file)]


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

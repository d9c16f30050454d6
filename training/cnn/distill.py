"""Knowledge distillation: trains the bundled CNN from scratch on the features of a larger one.

The student learns the teacher's feature map (Romero et al. 2015, "FitNets: hints for thin deep
nets") and pooled features, and if wanted the soft labels of a classifier (Hinton et al. 2015,
"Distilling the knowledge in a neural network"), each from the same crop as these, for many passes
(Beyer et al. 2022, "Knowledge distillation: a good teacher is patient and consistent"); and, if
wanted, which words are in the picture's captions (Fang et al. 2015, "From captions to visual
concepts and back"). No teacher's weight is copied. A run that was stopped goes on where it was.
"""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import cv2
import keras
import numpy as np
from tqdm import tqdm

from captioner.cnn.bundled import build_cnn, fold_batch_normalization
from captioner.config import CnnConfig, SamplingOptions
from captioner.errors import DatasetError
from captioner.model_folder import BACKBONE_WEIGHTS
from captioner.video import read_frames

from ..optimizer import adamw
from ..work import Checkpoints, Progress, claim, load_arrays
from .folder import CNN_CONFIG
from .teacher import load_teacher
from .words import words_said

STATE = "state"
TEACHER_SIZE = 192  # pixels; the student gets the same view at its own, smaller, input size
POOLED_WEIGHT = 3.0  # pooled targets vary about a third as much as those of single regions
SOFT_LABEL_WEIGHT = 0.2  # of a divergence of a few nats, beside a loss of 1.6
WORD_WEIGHT = 0.05  # of some sixty nats, in a third of the views
UNKNOWN = -1  # whether a word is in the captions
RAREST, COMMONEST = 0.005, 0.5  # share of the pictures that have a word in their captions


def random_view(picture: np.ndarray, rng: np.random.Generator, size: int) -> np.ndarray:
    """Augmentation: a random crop of a picture, its colours shifted.

    Args:
        picture: uint8 RGB, `(height, width, 3)`.
        rng: source of chance.
        size: height and width of the view, pixels.

    Returns:
        uint8 RGB, `(size, size, 3)`.
    """
    height, width = picture.shape[:2]
    area, ratio = rng.uniform(0.3, 1.0), np.exp(rng.uniform(-0.28, 0.28))
    crop_height = min(height, round(height * np.sqrt(area / ratio)))
    crop_width = min(width, round(width * np.sqrt(area * ratio)))
    top = rng.integers(height - crop_height + 1)
    left = rng.integers(width - crop_width + 1)
    view = picture[top : top + crop_height, left : left + crop_width]
    view = cv2.resize(view, (size, size), interpolation=cv2.INTER_LINEAR)
    contrast, brightness, tint = (
        rng.uniform(0.75, 1.25),
        rng.uniform(-25, 25),
        rng.uniform(-10, 10, 3),
    )
    levels = (np.arange(256)[:, None] - 127.5) * contrast + 127.5 + brightness + tint
    return cv2.LUT(view, np.clip(levels, 0, 255).astype(np.uint8)[:, None])


def pool_regions(feature_map: np.ndarray, grid: int) -> np.ndarray:
    """Average pooling of a map `(batch_size, height, width, dim)` to a grid of equal cells.

    Returns:
        `(batch_size, grid * grid, dim)`; cells overlap where the map does not divide.
    """
    height, width = feature_map.shape[1:3]
    cells = [
        feature_map[
            :,
            row * height // grid : -(-(row + 1) * height // grid),
            column * width // grid : -(-(column + 1) * width // grid),
        ].mean((1, 2))
        for row in range(grid)
        for column in range(grid)
    ]
    return np.stack(cells, axis=1)


class Views(keras.utils.PyDataset):
    """Training set of a distillation: views of pictures and the teacher's features, kept on disk.

    Every second view is mixed with another picture (Zhang et al. 2018, "mixup"), and the
    teacher gets the mixture.
    """

    def __init__(self, folder, config, batch_size, seed):
        super().__init__()
        self.folder, self.student_size, self.grid = folder, config.input_size, config.grid_size
        self.batch_size, self.seed = batch_size, seed
        self.epoch, self.soft_labels, self.words = 0, None, None

    def make(self, pictures: list[Path], teacher_path: Path, views_per_picture: int):
        """Makes the views and features that are missing, in batches that are never made twice.

        Args:
            pictures: pictures, or videos, of which the frame in the middle counts.
            teacher_path: see `training.cnn.teacher.load_teacher`.
            views_per_picture: how many of each.

        Raises:
            VideoError: a picture cannot be read.
            DatasetError: the folder holds views of other pictures, or others of them.
        """
        facts = [str(picture) for picture in pictures], views_per_picture, self.seed
        claim(self.folder, *facts, self.student_size, self.grid, teacher_path.name)
        teacher = load_teacher(teacher_path, TEACHER_SIZE)
        teacher_dim = teacher.output_shape[-1]
        num_views = len(pictures) * views_per_picture
        progress = self.folder / "progress.json"
        done = json.loads(progress.read_text())["views"] if progress.exists() else 0
        mode = "r+" if done else "w+"
        shape = (num_views, self.student_size, self.student_size, 3)
        views = np.lib.format.open_memmap(self.folder / "views.npy", mode, np.uint8, shape)
        shape = (num_views, self.grid**2, teacher_dim)
        targets = np.lib.format.open_memmap(self.folder / "targets.npy", mode, np.float16, shape)
        small = (self.student_size, self.student_size)

        def draw(start):
            return [self._view(pictures, index) for index in range(start, num_views)[:64]]

        with ThreadPoolExecutor(1) as pool, tqdm(total=num_views, initial=done, unit="view") as bar:
            upcoming = pool.submit(draw, done)
            while batch := upcoming.result():
                upcoming = pool.submit(draw, done + len(batch))
                rows = slice(done, done + len(batch))
                views[rows] = [
                    cv2.resize(view, small, interpolation=cv2.INTER_AREA) for view in batch
                ]
                feature_map = np.asarray(teacher.predict_on_batch(np.stack(batch)), np.float32)
                targets[rows] = pool_regions(feature_map, self.grid)
                done += len(batch)
                progress.write_text(json.dumps({"views": done}))
                bar.update(len(batch))
        views.flush(), targets.flush()

    def add_soft_labels(self, classifier_path: Path):
        """Adds a classifier's soft labels of the views, from where an earlier call was stopped.

        Args:
            classifier_path: see `training.cnn.teacher.load_teacher`.

        Raises:
            DatasetError: the views have the soft labels of another classifier.
        """
        folder = self.folder / "soft_labels"
        claim(folder, classifier_path.name)
        classifier = load_teacher(classifier_path, self.student_size, soft_labels=True)
        file, progress = folder / "soft_labels.npy", folder / "progress.json"
        done = json.loads(progress.read_text())["views"] if progress.exists() else 0
        shape = (len(self.views), classifier.output_shape[-1])
        self.soft_labels = np.lib.format.open_memmap(
            file, "r+" if done else "w+", np.float16, shape
        )
        with tqdm(total=len(self.views), initial=done, unit="view") as bar:
            while len(batch := self.views[done : done + 64]):
                self.soft_labels[done : done + len(batch)] = classifier.predict_on_batch(batch)
                done += len(batch)
                progress.write_text(json.dumps({"views": done}))
                bar.update(len(batch))
        self.soft_labels.flush()

    def add_words(self, captions: Sequence[Sequence[str]]):
        """Adds word labels: which words are in the captions, for views that are not mixed.

        Args:
            captions: of each picture; of those without any nothing is learned.
        """
        told = np.array([bool(several) for several in captions])
        _, said = words_said(captions, RAREST, COMMONEST)
        self.words = np.where(told[:, None], said, UNKNOWN).astype(np.int8)

    def _view(self, pictures, index):
        rng = np.random.default_rng((self.seed, index))
        view = random_view(_read(pictures[index % len(pictures)]), rng, TEACHER_SIZE)
        if index // len(pictures) % 2:
            other = random_view(_read(pictures[rng.integers(len(pictures))]), rng, TEACHER_SIZE)
            share = rng.uniform(0, 0.5)
            view = cv2.addWeighted(view, 1 - share, other, share, 0)
        return view

    def open(self):
        """Opens what `make` made; computes the mean and deviation of each target channel."""
        self.views = np.load(self.folder / "views.npy", mmap_mode="r")
        self.targets = np.load(self.folder / "targets.npy", mmap_mode="r")
        sample = np.sqrt(self.targets[:: max(1, len(self.targets) // 4000)].astype(np.float32))
        self.mean, self.deviation = sample.mean((0, 1)), sample.std((0, 1)) + 1e-3
        self._shuffle()
        return self

    def _shuffle(self):
        self.order = np.random.default_rng((self.seed, self.epoch)).permutation(len(self.views))

    def begin(self, epoch: int):
        """Shuffles for a pass, by its number and the seed alone."""
        self.epoch = epoch
        self._shuffle()

    def on_epoch_end(self):
        self.begin(self.epoch + 1)

    def __len__(self):
        return len(self.views) // self.batch_size

    def __getitem__(self, index):
        rows = np.sort(self.order[index * self.batch_size :][: self.batch_size])
        views, targets = self.views[rows], self.targets[rows]
        targets = np.sqrt(targets.astype(np.float32))  # evens out the long tail of ReLU features
        targets = (targets - self.mean) / self.deviation
        flip = np.random.default_rng((self.seed, self.epoch, index)).random(len(rows)) < 0.5
        views[flip] = views[flip, :, ::-1]
        targets = targets.reshape(len(rows), self.grid, self.grid, -1)
        targets[flip] = targets[flip, :, ::-1]
        targets = targets.reshape(len(rows), self.grid**2, -1)
        learned = [targets]
        if self.soft_labels is not None:
            learned.append(self.soft_labels[rows].astype(np.float32))
        if self.words is not None:
            mixed, picture = np.divmod(rows, len(self.words))
            mixed = (mixed % 2 == 1)[:, None]
            learned.append(np.where(mixed, UNKNOWN, self.words[picture]).astype(np.float32))
        return views, tuple(learned)


def _read(path: Path) -> np.ndarray:
    return read_frames(path, SamplingOptions(1)).frames[0]


def _take_up(model, base):
    """Initialises student and prediction heads with the weights of an earlier training."""
    last = Checkpoints(base / STATE).last()
    try:
        if last is None:
            raise ValueError(f"there is no {base / STATE}")
        model.set_weights(load_arrays(last / "best.npz"))
    except (OSError, ValueError) as err:
        raise DatasetError(f"{base}: has no CNN of this shape to go on from ({err})") from err


def hint_loss(targets, predictions):
    """Regression loss: squared error of every region, plus that of the mean over regions."""
    ops = keras.ops
    error = ops.cast(predictions, "float32") - targets
    pooled = ops.mean(ops.square(ops.mean(error, axis=1)), axis=-1)
    return ops.mean(ops.square(error), axis=(1, 2)) + POOLED_WEIGHT * pooled


def word_loss(said, logits):
    """Binary cross-entropy, nats, summed over the words whose label is known."""
    ops = keras.ops
    errors = ops.binary_crossentropy(ops.maximum(said, 0.0), logits, from_logits=True)
    return ops.sum(ops.where(said == UNKNOWN, 0.0, errors), axis=-1)


def train(
    views: Views,
    config: CnnConfig,
    output: Path,
    epochs: int,
    learning_rate: float,
    base: Path | None = None,
):
    """Trains the student and writes its shape and its weights, batch normalisation folded.

    Args:
        views: what to learn from.
        config: the student's shape.
        output: the folder of `cnn.json` and `backbone.weights.h5`, and of `state`, in which are
            the state of the training and its log.
        epochs: passes over all views.
        learning_rate: at its peak.
        base: the folder of an earlier training, whose student learns on; one begins by default.

    Raises:
        DatasetError: `base` holds no student of this shape, `output` the work of another
            training, or the disk is full.
    """
    student = build_cnn(config, folded=False)

    def predict(x, size, name, activation=None):
        return keras.layers.Dense(size, activation, dtype="float32", name=name)(x)

    outputs = [predict(student.output, views.targets.shape[-1], "teacher_features")]
    losses, weights = [hint_loss], [1.0]
    hinted = keras.Model(student.input, outputs)
    if base is not None:
        _take_up(hinted, base)
    claim(output / STATE, asdict(config), epochs, learning_rate, base and str(base.resolve()))
    pooled = keras.layers.GlobalAveragePooling1D()(student.output)
    if views.soft_labels is not None:
        outputs.append(predict(pooled, views.soft_labels.shape[-1], "soft_labels", "softmax"))
        losses.append("kl_divergence"), weights.append(SOFT_LABEL_WEIGHT)
    if views.words is not None:
        outputs.append(predict(pooled, views.words.shape[-1], "words"))
        losses.append(word_loss), weights.append(WORD_WEIGHT)
    model = keras.Model(student.input, outputs)
    if views.words is not None:  # so that learning begins with what tells pictures apart
        share = views.words[(views.words != UNKNOWN).all(1)].mean(0)
        model.get_layer("words").bias.assign(np.log(share / (1 - share)))
    steps = epochs * len(views)
    warmup_steps = min(1000, steps // 10)
    optimizer = adamw(steps, learning_rate, 0.02, warmup_steps, clipnorm=1.0)
    model.compile(optimizer, losses, loss_weights=weights, jit_compile=False)
    optimizer.build(model.trainable_variables)
    progress = Progress(output / STATE, hinted, [*model.variables, *optimizer.variables])

    def keep(epoch, logs):
        progress.add({"epoch": epoch, **logs})
        progress.keep()

    done = progress.resume()
    views.begin(done)
    model.fit(
        views,
        initial_epoch=done,
        epochs=epochs,
        shuffle=False,  # the views come shuffled
        verbose=2,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=keep)],
    )
    progress.finish()
    fold_batch_normalization(student, config).save_weights(output / BACKBONE_WEIGHTS)
    (output / CNN_CONFIG).write_text(json.dumps(asdict(config), indent=2))

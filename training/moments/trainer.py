"""Training loop of a model that labels moments, on long videos.

Truncated back-propagation through time: a video is learned window by window, each beginning with
the state that the window before left, through which no gradient flows back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from keras import ops, tree

from captioner.config import LabelConfig
from captioner.layers import live_mask, where_live
from captioner.moments.model import LabelModel

from ..optimizer import adamw
from ..work import Progress
from .metrics import frame_accuracy, mean_average_precision
from .windows import Batch, LabelledFeatures, fill, lay_out

MAX_CHANGE = 4.0  # tau of the smoothing loss


@dataclass(frozen=True)
class LabelTrainingOptions:
    """Hyperparameters of a training.

    Attributes:
        epochs: passes over the videos, at most.
        lanes: windows side by side, each of another video.
        window: moments that a gradient flows back through.
        learning_rate: at its peak; it rises for a twentieth of the training, then falls to 0
            along a cosine.
        smoothing: weight of the smoothing loss; 0.15 in Farha and Gall 2019.
        class_weights: `none`, or `balanced`: a label counts the more the rarer it is.
        carry_state: False forgets the state at every window.
        patience: epochs without a better validation after which to stop; 0: never.
        weight_decay: of AdamW.
        seed: of weights, order and dropout.
    """

    epochs: int = 40
    lanes: int = 8
    window: int = 64
    learning_rate: float = 1e-3
    smoothing: float = 0.0
    class_weights: str = "none"
    carry_state: bool = True
    patience: int = 10
    weight_decay: float = 0.01
    seed: int = 1

    def __post_init__(self):
        if min(self.epochs, self.lanes, self.window) < 1:
            raise ValueError(f"expected epochs, lanes and window >= 1, received: {self}")


def balanced_weights(videos: Sequence[LabelledFeatures], config: LabelConfig) -> np.ndarray:
    """Class weights, `(num_labels,)`: rare labels count more, so that all count alike in the end.

    With one label at a time moments / (labels * moments of the label); with several, what a
    moment that has the label counts against one that has not: moments without / moments with.
    A label that never occurs counts 1.
    """
    if config.multi_label:
        counts = sum(video.targets.sum(axis=0, dtype=np.int64) for video in videos)
        total = sum(len(video.targets) for video in videos)
        weights = (total - counts) / np.maximum(counts, 1)
    else:
        counts = sum(np.bincount(v.targets, minlength=config.num_labels) for v in videos)
        weights = counts.sum() / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return np.where(counts == 0, 1.0, weights).astype(np.float32)


def label_loss(logits, targets, sequence_length, weights, multi_label: bool):
    """Cross-entropy a moment, or with several labels at once the sum of binary ones.

    Args:
        logits: `(batch_size, num_frames, num_labels)`.
        targets: `(batch_size, num_frames)` labels, or `(batch_size, num_frames, num_labels)`
            bool.
        sequence_length: `(batch_size,)`; what is past counts nothing.
        weights: `(num_labels,)`, what a moment with the label counts.
        multi_label: whether several labels may hold at once.

    Returns:
        The mean over all moments.
    """
    if multi_label:
        holds = ops.cast(targets, logits.dtype)
        present = weights * holds * ops.softplus(-logits)
        losses = ops.sum(present + (1 - holds) * ops.softplus(logits), axis=-1)
    else:
        targets = ops.cast(targets, "int32")
        log_probs = ops.log_softmax(logits)
        losses = -ops.take_along_axis(log_probs, targets[..., None], axis=-1)[..., 0]
        losses = losses * ops.take(weights, targets)
    return _mean(losses, live_mask(sequence_length, ops.shape(losses)[1]))


def smoothing_loss(logits, sequence_length, multi_label: bool):
    """Truncated mean squared change of log-probabilities (Farha and Gall 2019, equations 8-10).

        mean of min(|log p_t - log p_(t-1)|, 4) ** 2

    over labels and moments but the first; no gradient flows into `p_(t-1)`.

    Args:
        logits: `(batch_size, num_frames, num_labels)`.
        sequence_length: `(batch_size,)`.
        multi_label: whether several labels may hold at once.
    """
    log_probs = -ops.softplus(-logits) if multi_label else ops.log_softmax(logits)
    change = ops.abs(log_probs[:, 1:] - ops.stop_gradient(log_probs[:, :-1]))
    losses = ops.mean(ops.square(ops.minimum(change, MAX_CHANGE)), axis=-1)
    length = ops.cast(sequence_length, "int32") - 1
    return _mean(losses, live_mask(length, ops.shape(losses)[1]))


def _mean(losses, live):
    count = ops.sum(ops.cast(live, losses.dtype))
    return ops.sum(where_live(live, losses)) / ops.maximum(count, 1)


class _Steps:
    """Training and prediction step of a batch, compiled once."""

    def __init__(self, model, weights, options, optimizer=None):
        self.model, self.options, self.optimizer = model, options, optimizer
        self.weights = ops.convert_to_tensor(weights)
        # `Batch`es differ in nothing but values, so each of these is traced once.
        self.learn = tf.function(self._learn)
        self.look = tf.function(self._look)

    def begin(self):
        return self.model.initial_state(self.options.lanes)

    def _look(self, batch, state, training=False):
        # A window reads on from the state of the one before, unless its video begins with it.
        forget = batch.begins | (not self.options.carry_state)
        state = tree.map_structure(lambda x: where_live(~forget, x), state)
        return self.model(batch.features, batch.sequence_length, state, training=training)

    def loss(self, logits, batch):
        multi_label = self.model.config.multi_label
        loss = label_loss(logits, batch.targets, batch.sequence_length, self.weights, multi_label)
        if self.options.smoothing:
            smoothing = smoothing_loss(logits, batch.sequence_length, multi_label)
            loss = loss + self.options.smoothing * smoothing
        return loss

    def _learn(self, batch, state):
        with tf.GradientTape() as tape:
            logits, state = self._look(batch, state, training=True)
            loss = self.loss(logits, batch)
        variables = self.model.trainable_variables
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        self.optimizer.apply(gradients, variables)
        return loss, state


def predict(
    model: LabelModel, videos: Sequence[LabelledFeatures], options: LabelTrainingOptions
) -> tuple[list[np.ndarray], float]:
    """Labels whole videos, window by window.

    Args:
        model: the model.
        videos: what it labels.
        options: of these `lanes`, `window`, `carry_state` and `smoothing`.

    Returns:
        Logits of each video, `(num_frames, num_labels)`, and the mean loss of a moment.
    """
    weights = np.ones(model.config.num_labels, np.float32)
    return _predict(_Steps(model, weights, options), videos)


def _predict(steps, videos):
    options, lengths = steps.options, [len(video.targets) for video in videos]
    found = [np.zeros((n, steps.model.config.num_labels), np.float32) for n in lengths]
    state, losses = steps.begin(), []
    for row in lay_out(lengths, options.lanes, options.window):
        batch = _tensors(fill(row, videos, options.window))
        logits, state = steps.look(batch, state)
        losses.append((float(steps.loss(logits, batch)), sum(cut.length for cut in row if cut)))
        for cut, lane in zip(row, logits.numpy(), strict=True):
            if cut is not None:
                found[cut.video][cut.start : cut.start + cut.length] = lane[: cut.length]
    values, counts = zip(*losses)
    return found, float(np.average(values, weights=counts))


def _tensors(batch):
    return Batch(*map(tf.convert_to_tensor, batch))


def train(
    model: LabelModel,
    videos: Sequence[LabelledFeatures],
    validation: Sequence[LabelledFeatures],
    options: LabelTrainingOptions,
    folder: Path,
    report=print,
) -> dict:
    """Trains `model` in place; its weights end as the best on `validation`.

    The state is kept in `folder` after each epoch, and a run that was stopped goes on from there
    to the very weights that it would have had without: the order is a function of the seed and
    the epoch alone.

    Args:
        model: what learns.
        videos: what it learns from.
        validation: what tells how far it is; where it is empty the last weights are kept.
        options: how long and how hard.
        folder: of the state and the log, `train.csv`.
        report: is told of each epoch in a line.

    Returns:
        The row of the log of the epoch that was kept.
    """
    lengths = [len(video.targets) for video in videos]
    steps_an_epoch = -(-sum(lengths) // (options.window * options.lanes))
    total = steps_an_epoch * options.epochs
    optimizer = adamw(total, options.learning_rate, options.weight_decay, global_clipnorm=1.0)
    optimizer.build(model.trainable_variables)
    weights = np.ones(model.config.num_labels, np.float32)
    if options.class_weights == "balanced":
        weights = balanced_weights(videos, model.config)
    steps = _Steps(model, weights, options, optimizer)
    # With the seeds of dropout and all that the optimizer keeps.
    variables = [*model.variables, *optimizer.variables]
    measured = "val_map" if model.config.multi_label else "val_accuracy"
    progress = Progress(folder, model, variables, measured)
    progress.resume()
    while progress.done < options.epochs and not progress.is_over(options.patience):
        epoch = progress.done
        rng = np.random.default_rng((options.seed, epoch))
        state, losses = steps.begin(), []
        for row in lay_out(lengths, options.lanes, options.window, rng):
            loss, state = steps.learn(_tensors(fill(row, videos, options.window)), state)
            losses.append(loss)
        log = {"epoch": epoch, "loss": float(np.mean(losses))}
        if validation:
            logits, log["val_loss"] = _predict(steps, validation)
            log |= quality(logits, validation, model.config)
        progress.add(log)
        progress.keep()
        report(", ".join(f"{k} {v if k == 'epoch' else format(v, '.4f')}" for k, v in log.items()))
    progress.finish()
    return progress.history[progress.best_round]


def quality(
    logits: Sequence[np.ndarray], videos: Sequence[LabelledFeatures], config: LabelConfig
) -> dict[str, float]:
    """What tells one epoch from a better one: `val_accuracy`, or `val_map` of several labels."""
    targets = [video.targets for video in videos]
    if config.multi_label:
        return {"val_map": mean_average_precision(logits, targets)}
    return {"val_accuracy": frame_accuracy([x.argmax(axis=-1) for x in logits], targets)}

"""Teaches a caption model to say what people say of clips."""

from dataclasses import dataclass
from pathlib import Path

import keras
from keras import ops

from captioner.model import CaptionModel
from captioner.vocabulary import PAD_ID


@dataclass(frozen=True)
class TrainingOptions:
    """How long and how hard to train.

    Attributes:
        epochs: passes over the records.
        batch_size: clips in a batch.
        learning_rate: at its peak; it rises for a twentieth of the training, then falls to 0
            along a cosine.
        label_smoothing: probability given to all words alike (Szegedy et al. 2016).
        scheduled_sampling: share of the words read that are the model's own at the end of the
            training; it grows from 0.
        weight_decay: of AdamW.
        seed: of weights, order and dropout.
    """

    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 1e-3
    label_smoothing: float = 0.1
    scheduled_sampling: float = 0.0
    weight_decay: float = 0.01
    seed: int = 1


def caption_loss(label_smoothing: float):
    """Cross-entropy a word with label smoothing, the mean over the words of a sentence.

        -(1 - e) * log p(word) - e * mean over the vocabulary of log p

    Returns:
        A function of token ids `(batch_size, caption_length)` and logits
        `(batch_size, caption_length, vocab_size)`; padding counts nothing.
    """

    def loss(token_ids, logits):
        token_ids = ops.cast(token_ids, "int32")
        total = ops.logsumexp(logits, axis=-1)
        word = ops.take_along_axis(logits, token_ids[..., None], axis=-1)[..., 0]
        mean = ops.mean(logits, axis=-1)
        losses = total - (1 - label_smoothing) * word - label_smoothing * mean
        real = ops.cast(token_ids != PAD_ID, losses.dtype)
        return ops.sum(losses * real, axis=-1) / ops.sum(real, axis=-1)

    return loss


class ScheduledSampling(keras.Model):
    """A caption model that in training reads some of its own words (Bengio et al. 2015).

    A first pass over the whole sentences says which word the model would have drawn at each
    place; a second pass reads some of those instead of the true ones (Mihaylova and Martins
    2019, "Scheduled sampling for transformers"). Gradients flow through the second alone.

    Args:
        model: the caption model.
        rate: share of the words that are the model's own after `steps` steps.
        steps: how long the share grows, linearly from 0.
        seed: of the draws.
    """

    def __init__(self, model: CaptionModel, rate: float, steps: int, seed: int):
        super().__init__()
        self.model, self.rate, self.steps = model, rate, steps
        self.seeds = keras.random.SeedGenerator(seed)
        self.built = True

    def call(self, inputs, training=False):
        """As `CaptionModel.call`."""
        if not training:
            return self.model(inputs)
        token_ids = inputs["token_ids"]
        logits = ops.stop_gradient(self.model(inputs, training=True))
        drawn = keras.random.categorical(
            ops.reshape(logits, (-1, logits.shape[-1])), 1, dtype="int32", seed=self.seeds
        )
        drawn = ops.reshape(drawn, ops.shape(token_ids))
        grown = ops.minimum(ops.cast(self.optimizer.iterations, "float32") / self.steps, 1.0)
        chance = keras.random.uniform(ops.shape(token_ids), seed=self.seeds)
        own = ops.logical_and(chance < self.rate * grown, token_ids != PAD_ID)
        read = ops.where(own, drawn, ops.cast(token_ids, "int32"))
        return self.model({**inputs, "token_ids": read}, training=True)


def train(
    model: CaptionModel,
    batches,
    validation,
    options: TrainingOptions,
    folder: Path,
):
    """Trains `model` in place; its weights end as their moving average (Polyak and Juditsky 1992).

    The state is kept in `folder` after each epoch, and a run that was stopped goes on from there.

    Args:
        model: what learns.
        batches: `training.records.Batches`.
        validation: likewise, for the loss on other clips; or None.
        options: how long and how hard.
        folder: of the state and the log, `train.csv`.
    """
    steps = len(batches) * options.epochs
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0,
        steps,
        warmup_target=options.learning_rate,
        warmup_steps=max(1, steps // 20),
    )
    optimizer = keras.optimizers.AdamW(
        schedule,
        weight_decay=options.weight_decay,
        clipnorm=5.0,
        use_ema=True,
        ema_momentum=max(0.0, 1 - 20 / steps),  # over about the last twentieth
    )
    if options.scheduled_sampling:
        model = ScheduledSampling(model, options.scheduled_sampling, steps, options.seed)
    # XLA made every training step slower on a CPU.
    model.compile(optimizer, loss=caption_loss(options.label_smoothing), jit_compile=False)
    model.fit(
        batches.read(0, steps),
        steps_per_epoch=len(batches),
        validation_data=validation and validation.read(),
        epochs=options.epochs,
        verbose=2,
        callbacks=[
            keras.callbacks.BackupAndRestore(
                folder / "backup", double_checkpoint=True, delete_checkpoint=False
            ),
            keras.callbacks.CSVLogger(folder / "train.csv", append=True),
        ],
    )

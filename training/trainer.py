"""Teaches a caption model to say what people say of clips."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

import keras
import numpy as np
from keras import ops
from tqdm import tqdm

from captioner.config import DecodingOptions
from captioner.engines.keras_engine import KerasEngine
from captioner.model import CaptionModel
from captioner.vocabulary import tokenize

from .metrics import CiderD
from .objectives import ScheduledSampling, SelfCritical, caption_loss
from .optimizer import adamw
from .work import Progress

if TYPE_CHECKING:
    from .data.records import Batches  # which needs TensorFlow; a loss does not

ROUND_STEPS = 50  # fewer would spend more on measuring and keeping than on learning


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
        samples: sentences drawn of each clip in self-critical training; 0 is training on the
            words that people said.
        weight_decay: of AdamW.
        names: token ids of words that count more, `training.objectives.NAME_WEIGHT` times.
        patience: rounds without a better validation before the training ends; 0: it never does.
        seed: of weights, order and dropout.
    """

    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 1e-3
    label_smoothing: float = 0.1
    scheduled_sampling: float = 0.0
    samples: int = 0
    weight_decay: float = 0.01
    names: tuple[int, ...] = ()
    patience: int = 5
    seed: int = 1


def train(
    model: CaptionModel,
    batches: "Batches",
    validation,
    options: TrainingOptions,
    folder,
    rehearse: Callable[[keras.Model], keras.Model] | None = None,
):
    """Trains `model` in place; its weights end as their moving average (Polyak and Juditsky 1992).

    It goes in rounds of a pass, or of as many as make `ROUND_STEPS` steps. With `validation` the
    weights are those of the round with the best CIDEr, and the training ends when
    `options.patience` rounds brought no better one. All that goes on is kept in `folder` after
    each round, and the same call goes on from there, to the same weights as if never stopped.

    Args:
        model: what learns.
        batches: what from.
        validation: `Batches` of other clips, or None.
        options: how long and how hard.
        folder: of the state and the log, `train.csv`.
        rehearse: makes of what learns a `training.objectives.Rehearsing`; None: it need not.

    Returns:
        A dict a round: `epoch`, the passes done; `loss` and, with validation, `val_loss` and
        `val_cider`; `seconds` that it took.
    """
    return Course(model, batches, options, rehearse).run(batches, validation, folder)


class Course:
    """A training that can be run again, on other clips, from other weights of the same model.

    Its step is compiled once, which takes as long as dozens of steps do.

    Attributes:
        model: what learns.
        steps: of each run.
    """

    def __init__(self, model, batches, options, rehearse=None):
        """As `train`; only their number and, with `options.samples`, the clips matter of
        `batches`."""
        self.model, self._passes = model, max(1, ROUND_STEPS // len(batches))
        self._rounds = -(-options.epochs // self._passes)
        self._options = options = replace(options, epochs=self._rounds * self._passes)
        self.steps = options.epochs * len(batches)
        self._optimizer = optimizer = adamw(
            self.steps, options.learning_rate, options.weight_decay, clipnorm=5.0, averaged=True
        )
        learner = model
        if options.samples:
            said = [list(map(batches.vocabulary.encode, clip.captions)) for clip in batches.clips]
            learner = SelfCritical(model, said, options.samples, options.seed)
        elif options.scheduled_sampling:

            def grown():
                return ops.minimum(ops.cast(optimizer.iterations, "float32") / self.steps, 1.0)

            learner = ScheduledSampling(model, options.scheduled_sampling, grown, options.seed)
        if rehearse:
            learner = rehearse(learner)
        # All is built; given several devices, Keras would take a batch from the data to build it
        # by.
        learner._distribute_strategy = None
        loss = caption_loss(options.label_smoothing, options.names)
        # XLA made every training step slower on a CPU.
        learner.compile(optimizer, loss=loss, jit_compile=False)
        optimizer.build(learner.trainable_variables)
        self._learner = learner
        # All that steps change: weights, random seeds, the optimizer's moments and averages.
        self._variables = [*learner.variables, *optimizer.variables]
        weights = {id(weight) for weight in model.weights}
        self._others = [one for one in self._variables if id(one) not in weights]
        self._begin = [ops.convert_to_numpy(one) for one in self._others]

    def run(self, batches: "Batches", validation, folder) -> list[dict]:
        """Trains the model from the weights that it has now, as `train` does.

        Raises:
            ValueError: `batches` are another number than those that the course was made for.
        """
        if len(batches) * self._options.epochs != self.steps:
            raise ValueError(
                f"expected a training of {self.steps} steps, received: {len(batches)=}"
            )
        for variable, value in zip(self._others, self._begin, strict=True):
            variable.assign(value)
        progress = Progress(folder, self.model, self._variables, "val_cider")
        done = progress.resume()
        if done < self._rounds and not progress.is_over(self._options.patience):
            callbacks = [_Rounds(progress, batches, self._passes, validation, self._options)]
            if find_spec("tensorboard"):
                # A graph takes long to write, and all steps after it twice as long.
                callbacks.append(
                    keras.callbacks.TensorBoard(folder / "tensorboard", write_graph=False)
                )
            self._learner.fit(
                batches.read(done * self._passes * len(batches), self.steps),
                initial_epoch=done,
                epochs=self._rounds,
                steps_per_epoch=self._passes * len(batches),
                shuffle=False,  # the batches come shuffled
                verbose=0,
                callbacks=callbacks,
            )
        progress.finish()
        return progress.history


def then_rewarded(history: Sequence[dict], rounds: Sequence[dict]) -> list[dict]:
    """The history of a training and of the self-critical one after it, as one.

    The loss of the second is minus the mean CIDEr of the sentences it drew, their `reward`.
    """
    done = history[-1]["epoch"]
    rewarded = [
        {k: v for k, v in row.items() if k != "loss"}
        | {"epoch": done + row["epoch"], "reward": -row["loss"]}
        for row in rounds
    ]
    return [*history, *rewarded]


class _Rounds(keras.callbacks.Callback):
    """What happens between rounds: measuring, keeping, telling, stopping."""

    def __init__(self, progress, batches, passes, validation, options):
        super().__init__()
        self.progress, self.batches, self.passes = progress, batches, passes
        self.validation, self.options = validation, options
        self._engine = KerasEngine(progress.model)
        if validation is not None:
            captions = [[tokenize(one) for one in clip.captions] for clip in validation.clips]
            self._cider = CiderD(captions)

    def on_train_begin(self, logs=None):
        self._started, self._steps = time.monotonic(), 0
        self._all_steps = (self.params["epochs"] - self.progress.done) * self.params["steps"]

    def on_epoch_begin(self, epoch, logs=None):
        self._began = time.monotonic()
        first = epoch * self.passes
        self._title = f"pass {first + self.passes} of {self.options.epochs}"
        numbers = range(first, first + self.passes)
        self._words = [n for number in numbers for n in self.batches.num_words(number)]
        self._bar = tqdm(
            total=sum(self._words), desc=self._title, unit="word", unit_scale=True, disable=None
        )

    def on_train_batch_end(self, batch, logs=None):
        self._steps += 1
        left = (time.monotonic() - self._started) * (self._all_steps / self._steps - 1)
        told = f"loss {logs['loss']:.3f}, all done in {tqdm.format_interval(left)}"
        self._bar.set_postfix_str(told, refresh=False)
        self._bar.update(self._words[batch])

    def on_epoch_end(self, epoch, logs=None):
        self._bar.close()
        optimizer, variables = self.model.optimizer, self.model.trainable_variables
        learned = [ops.convert_to_numpy(variable) for variable in variables]
        optimizer.finalize_variable_values(variables)  # their moving average
        row = {"epoch": (epoch + 1) * self.passes, "loss": float(logs["loss"])}
        if self.validation is not None:
            row |= self._validate()
            logs |= {k: v for k, v in row.items() if k != "epoch"}  # for whoever comes next
        seconds = round(time.monotonic() - self._began, 1)
        self.progress.add(row | {"seconds": seconds})
        for variable, value in zip(variables, learned, strict=True):
            variable.assign(value)
        self.progress.keep()
        values = (f"{k} {v:.3f}" for k, v in row.items() if k != "epoch")
        print(f"{self._title}: {', '.join(values)}", file=sys.stderr)
        self.model.stop_training = self.progress.is_over(self.options.patience)

    def _validate(self):
        """The loss, and CIDEr of greedy decoding, on other clips."""
        loss, said, clips = caption_loss(0.0), [], []
        losses = []
        for inputs, token_ids in self.validation.read():
            losses.append(ops.convert_to_numpy(loss(token_ids, self.progress.model(inputs))))
            lengths = inputs["sequence_length"].numpy()
            features = [row[:n] for row, n in zip(inputs["features"].numpy(), lengths)]
            found = self._engine(features, DecodingOptions(beam_size=1)).token_ids[:, 0]
            said += [self.validation.vocabulary.words(row) for row in found]
            clips += inputs["clip"].numpy().tolist()
        return {
            "val_loss": float(np.concatenate(losses).mean()),
            "val_cider": float(self._cider.score(said, clips).mean()),
        }

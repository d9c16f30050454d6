"""A caption model taught from features in memory; Keras on JAX."""

import os
from collections.abc import Callable, Sequence
from functools import partial

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import jax.numpy as jnp
import keras
import numpy as np

from captioner.config import DecodingOptions, ModelConfig
from captioner.decoding import decode
from captioner.errors import ModelError
from captioner.model import CaptionModel
from captioner.model_folder import ModelFolder
from captioner.vocabulary import SPECIAL_TOKENS, START_ID

from ..objectives import cross_entropy
from ..work import Checkpoints, load_arrays
from .features import CLIP_FRAMES
from .recipe import Recipe

STATE = "state.npz"
MOST_NORM = 5.0  # of all gradients together


class Learner:
    """A caption model, and how it is taught.

    Args:
        bank: what from.
        network: which of its features the model sees.
        recipe: how.
        seed: of its weights, of its batches and of dropout.
        teachers: other learners, whose mean probabilities are learned too.

    Attributes:
        trainable: the weights it has now.
        fixed: what else it keeps.
    """

    def __init__(
        self, bank, network, recipe: Recipe, seed: int, teachers: "Sequence[Learner]" = ()
    ):
        self.bank, self.network, self.recipe, self.teachers = bank, network, recipe, teachers
        _, num_regions, feature_dim = bank.features[network].shape
        self.config = ModelConfig(
            len(bank.items.vocabulary),
            feature_dim,
            num_regions,
            recipe.units,
            recipe.embedding_dim,
            dropout=recipe.dropout,
        )
        self.seed, self._decoders = seed, {}
        keras.utils.set_random_seed(seed)
        self.model = CaptionModel(self.config)
        self.trainable = [jnp.array(v.value) for v in self.model.trainable_variables]
        self.fixed = [jnp.array(v.value) for v in self.model.non_trainable_variables]

    def forward(self, trainable, fixed, inputs, places, training):
        """Logits at some places of all sentences, `(num_places, vocab_size)`, and the further state
        of the model."""
        with keras.StatelessScope(self._pairs(trainable, fixed)) as scope:
            vectors = self.model.expect(inputs, training)
            logits = self.model.logits(jnp.reshape(vectors, (-1, vectors.shape[-1]))[places])
        return logits, [scope.get_current_value(v) for v in self.model.non_trainable_variables]

    def _pairs(self, trainable, fixed):
        return [
            *zip(self.model.trainable_variables, trainable, strict=True),
            *zip(self.model.non_trainable_variables, fixed, strict=True),
        ]

    def inputs(self, features, views, length, sentences, starts, zeroed):
        """What a model is called with; on the device."""
        rows = jnp.asarray(self.bank.rows[self.network])[views]
        return {
            "features": features[rows].astype("float32") * zeroed,
            "sequence_length": length,
            "token_ids": self.bank.token_ids[sentences],
            "start_ids": starts,
        }

    def _compiled(self):
        """A step: `(state, features, taught_by, batch, words, rate, count, momentum) -> state,
        loss`."""
        recipe = self.recipe

        def loss_fn(trainable, fixed, inputs, words, soft):
            places, shares = words
            logits, fixed = self.forward(trainable, fixed, inputs, places, True)
            token_ids = jnp.reshape(inputs["token_ids"], -1)[places]
            losses = cross_entropy(token_ids, logits, recipe.label_smoothing)
            if soft is not None:
                taught = -jnp.sum(soft * jax.nn.log_softmax(logits), axis=-1)
                losses = (1 - recipe.teacher_weight) * losses + recipe.teacher_weight * taught
            return jnp.sum(losses * shares), fixed

        def probabilities(teacher, weights, features, batch, places):
            inputs = teacher.inputs(features, *batch)
            return jax.nn.softmax(teacher.forward(*weights, inputs, places, False)[0])

        def step(state, features, taught_by, batch, words, rate, count, momentum):
            trainable, fixed, moments, average = state
            inputs, soft = self.inputs(features[self.network], *batch), None
            if self.teachers:
                soft = [
                    probabilities(teacher, weights, features[teacher.network], batch, words[0])
                    for teacher, weights in zip(self.teachers, taught_by, strict=True)
                ]
                soft = jax.lax.stop_gradient(sum(soft) / len(soft))
            gradient = jax.value_and_grad(loss_fn, has_aux=True)
            (loss, fixed), grads = gradient(trainable, fixed, inputs, words, soft)
            norm = jnp.sqrt(sum(jnp.sum(g * g) for g in grads))
            grads = [g * jnp.minimum(1.0, MOST_NORM / (norm + 1e-9)) for g in grads]
            trainable, moments = _adamw(trainable, grads, moments, rate, count, recipe.weight_decay)
            average = jax.tree.map(
                lambda mean, now: mean * momentum + now * (1 - momentum), average, trainable
            )
            return (trainable, fixed, moments, average), loss

        return jax.jit(step, donate_argnums=0)

    def learn(
        self,
        steps: int,
        report: Callable,
        rounds: int = 8,
        checkpoints: Checkpoints | None = None,
    ):
        """Teaches; in each of some rounds calls `report(step, loss)`.

        Weights end as their moving average, about the last twentieth of the steps, which is in
        place while `report` runs.

        Args:
            steps: how many.
            report: what measures, and keeps what is good.
            rounds: how often.
            checkpoints: where the state is kept after each round, and taken up from; the same
                call then ends with the same weights as if it had never been stopped.
        """
        take, batches, features = self._compiled(), self._batches(), self.bank.features
        taught_by = [(teacher.trainable, teacher.fixed) for teacher in self.teachers]

        def new_state():
            zeros, copy = (partial(jax.tree.map, f) for f in (jnp.zeros_like, jnp.copy))
            moments = (zeros(self.trainable), zeros(self.trainable))
            return copy(self.trainable), copy(self.fixed), moments, copy(self.trainable)

        state, losses, momentum, done = new_state(), [], max(0.0, 1 - 20 / steps), 0
        if checkpoints and (last := checkpoints.last()):
            done, structure = int(last.name.rpartition("-")[2]), jax.tree.structure(state)
            arrays = load_arrays(last / STATE)
            state = jax.tree.unflatten(structure, map(jnp.asarray, arrays))
            self.trainable, self.fixed = state[3], state[1]
            for _ in range(done):
                next(batches)
        for n in range(done + 1, steps + 1):
            rate = self.recipe.learning_rate * float(schedule(n / steps))
            now = rate, float(n), momentum if n > 20 else 0.0
            state, loss = take(state, features, taught_by, *next(batches), *now)
            losses.append(loss)
            if n % -(-steps // rounds) == 0 or n == steps:
                self.trainable, self.fixed = state[3], state[1]
                losses = losses[-50:]
                report(n, float(jnp.mean(jnp.stack(losses))))
                if checkpoints:
                    arrays = [np.asarray(x) for x in jax.tree.leaves(state)]
                    checkpoints.keep(n, lambda to, kept=arrays: np.savez(to / STATE, *kept))

    def _batches(self):
        starts = self.bank.items.start_ids.astype(np.int32)
        for views, length, sentences, zeroed in self.bank.batches(self.recipe, self.seed):
            begun = starts[sentences] if self.recipe.styles else np.full(len(sentences), START_ID)
            whole = (x.astype(np.int32) for x in (views, length, sentences, begun))
            yield (*whole, np.float32(zeroed)), self.bank.words(sentences)

    def caption(self, own, options: DecodingOptions, batch_size=250) -> np.ndarray:
        """Token ids `(num_items, max_length)` that the model says of items as they are."""
        styles = self.bank.items.start_ids[self.bank.choice[own, 0]]
        never = [i for i, t in enumerate(self.bank.items.vocabulary.tokens) if t[0] == "<"]
        never = tuple(never[len(SPECIAL_TOKENS) :])
        key = (options, batch_size, self.bank.items.is_video[own[0]])
        if key not in self._decoders:

            def caption_all(trainable, fixed, features, views, length, start_ids):
                with keras.StatelessScope(self._pairs(trainable, fixed)):
                    x = features[views].astype("float32")
                    memory, state = self.model.encode(x, length)
                    found = decode(
                        lambda ids, s: self.model.decode_step(ids, s, memory),
                        state,
                        batch_size=batch_size,
                        options=options,
                        start_ids=start_ids,
                        forbidden_ids=never,
                    )
                return found.token_ids[:, 0]

            self._decoders[key] = jax.jit(caption_all)
        said = []
        for a in range(0, len(own), batch_size):
            part = own[a : a + batch_size]
            padded = np.resize(part, batch_size)
            views, length = self.bank.whole(padded)
            views = self.bank.rows[self.network][views]
            if views.shape[1] > 1:
                views = np.pad(views, [(0, 0), (0, CLIP_FRAMES - views.shape[1])], "edge")
            starts = np.resize(styles[a : a + batch_size], batch_size)
            starts = starts if self.recipe.styles else np.full(batch_size, START_ID)
            features = self.bank.features[self.network]
            found = self._decoders[key](
                self.trainable, self.fixed, features, views, length, starts.astype("int32")
            )
            said.append(np.asarray(found)[: len(part)])
        return np.concatenate(said)

    def take_up(self, folder: ModelFolder):
        """Begins with the weights of a model of the same shape.

        Words and styles that are new to it begin as its START, which the model then learns to
        tell apart.

        Raises:
            ModelError: it is of another shape.
        """
        ids = {token: i for i, token in enumerate(folder.vocabulary.tokens)}
        rows = [ids.get(token, START_ID) for token in self.bank.items.vocabulary.tokens]
        known, begun = folder.load_model().trainable_variables, []
        if len(known) != len(self.trainable):
            raise ModelError(f"{folder.path}: has other layers; name a model without motion")
        for variable, own in zip(known, self.trainable, strict=True):
            weights = jnp.asarray(variable.value)
            if variable.path.endswith(("output_bias", "embedding/embeddings")):
                weights = weights[np.array(rows)]
            if weights.shape != own.shape:
                raise ModelError(
                    f"{folder.path}: its {variable.path} is {weights.shape}, expected "
                    f"{own.shape}; name a model that sees the same features, of "
                    f"{self.config.units} units"
                )
            begun.append(weights)
        self.trainable = begun


def schedule(done: float) -> float:
    """Share of the peak learning rate: up for a twentieth, then down along a cosine."""
    return done / 0.05 if done < 0.05 else 0.5 * (1 + np.cos(np.pi * (done - 0.05) / 0.95))


def _adamw(
    weights, grads, moments, rate, count, weight_decay, beta_1=0.9, beta_2=0.999, epsilon=1e-7
):
    """One step of AdamW (Loshchilov and Hutter 2019)."""
    first = [beta_1 * m + (1 - beta_1) * g for m, g in zip(moments[0], grads)]
    second = [beta_2 * v + (1 - beta_2) * g * g for v, g in zip(moments[1], grads)]
    scale = rate * jnp.sqrt(1 - beta_2**count) / (1 - beta_1**count)
    weights = [
        w - rate * weight_decay * w - scale * m / (jnp.sqrt(v) + epsilon)
        for w, m, v in zip(weights, first, second)
    ]
    return weights, (first, second)

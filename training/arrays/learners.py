"""Caption models taught from features in memory, several side by side; Keras on JAX."""

import os
from collections.abc import Callable
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


class Learners:
    """Caption models of one shape, taught side by side from the same batches.

    Args:
        bank: what from.
        network: which of its features they see.
        recipe: how.
        seeds: one a model, of its weights and dropout.
        teachers: other learners, whose mean probabilities are learned too.
    """

    def __init__(self, bank, network, recipe: Recipe, seeds, teachers: "Learners | None" = None):
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
        self.seeds, self._decoders, self._step = list(seeds), {}, None
        self.begin()

    def begin(self):
        """Makes the models anew; what was compiled for them is kept."""
        variables = []
        for seed in self.seeds:
            keras.utils.set_random_seed(seed)
            self.model = CaptionModel(self.config)
            for layer in (*self.model.encoder, self.model.reader, self.model.speaker):
                layer.use_cudnn = False  # which cannot run several models at once
            trainable = [jnp.array(v.value) for v in self.model.trainable_variables]
            fixed = [jnp.array(v.value) for v in self.model.non_trainable_variables]
            variables.append((trainable, fixed))
        self.trainable, self.fixed = jax.tree.map(lambda *xs: jnp.stack(xs), *variables)

    @property
    def count(self) -> int:
        """How many models there are."""
        return len(self.seeds)

    def forward(self, trainable, fixed, inputs, places, training):
        """Logits of one model at some places of all sentences, `(num_places, vocab_size)`, and its
        further state."""
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
        """One step of all models: `(state, features, teachers, batch, words, rates) -> state,
        losses`."""
        recipe, teachers = self.recipe, self.teachers

        def loss_fn(trainable, fixed, inputs, words, soft):
            places, shares = words
            logits, fixed = self.forward(trainable, fixed, inputs, places, True)
            token_ids = jnp.reshape(inputs["token_ids"], -1)[places]
            losses = cross_entropy(token_ids, logits, recipe.label_smoothing)
            if soft is not None:
                taught = -jnp.sum(soft * jax.nn.log_softmax(logits), axis=-1)
                losses = (1 - recipe.teacher_weight) * losses + recipe.teacher_weight * taught
            return jnp.sum(losses * shares), fixed

        def update(trainable, fixed, moments, inputs, words, soft, rate, count):
            gradient = jax.value_and_grad(loss_fn, has_aux=True)
            (loss, fixed), grads = gradient(trainable, fixed, inputs, words, soft)
            norm = jnp.sqrt(sum(jnp.sum(g * g) for g in grads))
            grads = [g * jnp.minimum(1.0, MOST_NORM / (norm + 1e-9)) for g in grads]
            trainable, moments = _adamw(trainable, grads, moments, rate, count, recipe.weight_decay)
            return trainable, fixed, moments, loss

        def probabilities(trainable, fixed, inputs, places):
            return jax.nn.softmax(teachers.forward(trainable, fixed, inputs, places, False)[0])

        def step(state, features, taught_by, batch, words, rate, count, momentum):
            trainable, fixed, moments, average = state
            inputs, soft = self.inputs(features[0], *batch), None
            if teachers:
                seen = teachers.inputs(features[1], *batch)
                soft = jax.vmap(probabilities, (0, 0, None, None))(*taught_by, seen, words[0])
                soft = jax.lax.stop_gradient(jnp.mean(soft, axis=0))
            trainable, fixed, moments, loss = jax.vmap(update, (0, 0, 0, *[None] * 5))(
                trainable, fixed, moments, inputs, words, soft, rate, count
            )
            average = jax.tree.map(
                lambda mean, now: mean * momentum + now * (1 - momentum), average, trainable
            )
            return (trainable, fixed, moments, average), loss

        return jax.jit(step, donate_argnums=0)

    def learn(
        self,
        steps: int,
        seed: int,
        report: Callable,
        rounds: int = 8,
        checkpoints: Checkpoints | None = None,
    ):
        """Teaches; in each of some rounds calls `report(step, loss)`.

        Weights end as their moving average, about the last twentieth of the steps, which is in
        place while `report` runs.

        Args:
            steps: how many.
            seed: of the batches.
            report: what measures, and keeps what is good.
            rounds: how often.
            checkpoints: where the state is kept after each round, and taken up from; the same
                call then ends with the same weights as if it had never been stopped.
        """
        self._step = self._step or self._compiled()
        features = [self.bank.features[self.network]]
        taught_by = ()
        if self.teachers:
            features.append(self.bank.features[self.teachers.network])
            taught_by = (self.teachers.trainable, self.teachers.fixed)
        batches = self._batches(seed)

        def take(state, rate, count, momentum):
            batch, words = next(batches)
            return self._step(
                state, features, taught_by, batch, words, rate, float(count), momentum
            )

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
            state, loss = take(state, rate, n, momentum if n > 20 else 0.0)
            losses.append(loss)
            if n % -(-steps // rounds) == 0 or n == steps:
                self.trainable, self.fixed = state[3], state[1]
                losses = losses[-50:]
                report(n, float(jnp.mean(jnp.stack(losses))))
                if checkpoints:
                    arrays = [np.asarray(x) for x in jax.tree.leaves(state)]
                    checkpoints.keep(n, lambda to, kept=arrays: np.savez(to / STATE, *kept))

    def _batches(self, seed):
        starts = self.bank.items.start_ids.astype(np.int32)
        for views, length, sentences, zeroed in self.bank.batches(self.recipe, seed):
            begun = starts[sentences] if self.recipe.styles else np.full(len(sentences), START_ID)
            whole = (x.astype(np.int32) for x in (views, length, sentences, begun))
            yield (*whole, np.float32(zeroed)), self.bank.words(sentences)

    def caption(self, own, options: DecodingOptions, batch_size=250) -> list[np.ndarray]:
        """Token ids `(num_items, max_length)` that each model says of items as they are."""
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

            self._decoders[key] = jax.jit(
                jax.vmap(caption_all, in_axes=(0, 0, None, None, None, None))
            )
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
            said.append(np.asarray(found)[:, : len(part)])
        return list(np.concatenate(said, axis=1))

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
            if weights.shape != own.shape[1:]:
                raise ModelError(
                    f"{folder.path}: its {variable.path} is {weights.shape}, expected "
                    f"{own.shape[1:]}; name a model that sees the same features, of "
                    f"{self.config.units} units"
                )
            begun.append(jnp.stack([weights] * self.count))
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

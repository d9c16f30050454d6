"""What a caption model is taught: people's next word, or sentences as good as theirs."""

from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import ops

from captioner.config import DecodingOptions
from captioner.decoding import decode
from captioner.errors import CaptionerError
from captioner.model import CaptionModel
from captioner.vocabulary import END_ID, PAD_ID

from .metrics import CiderD
from .rehearsal import Recollection

NAME_WEIGHT = 5.0  # of a new word that is said of several clips
LONGEST_SAMPLE = 20  # words of a sentence drawn in self-critical training


def caption_loss(label_smoothing: float, names: Sequence[int] = ()):
    """Cross-entropy a word with label smoothing, the mean over the words of a sentence.

        -(1 - e) * log p(word) - e * mean over the vocabulary of log p

    Args:
        label_smoothing: e.
        names: token ids of words that count `NAME_WEIGHT` times in the mean, for few sentences
            have them.

    Returns:
        A function of token ids `(batch_size, caption_length)` and logits
        `(batch_size, caption_length, vocab_size)`; padding counts nothing.
    """

    def loss(token_ids, logits):
        token_ids = ops.cast(token_ids, "int32")
        losses = cross_entropy(token_ids, logits, label_smoothing)
        weights = ops.cast(token_ids != PAD_ID, losses.dtype)
        if names:
            is_name = ops.any(token_ids[..., None] == np.array(names, np.int32), axis=-1)
            weights = ops.where(is_name, NAME_WEIGHT, weights)
        return ops.sum(losses * weights, axis=-1) / ops.sum(weights, axis=-1)

    return loss


def cross_entropy(token_ids, logits, label_smoothing):
    """Minus the log-probability of each word, smoothed, with a gradient of its own.

    Logits are the largest tensors of a training step. What automatic differentiation makes of the
    formula passes over them twice as often as the gradient needs:

        d loss / d logit = p - e / vocab_size - (1 - e) * [it is the word's]
    """
    vocab_size = logits.shape[-1]
    places = ops.arange(ops.size(token_ids), dtype="int32")
    places = ops.stack([places, ops.reshape(token_ids, (-1,))], axis=1)  # (num_words, 2)

    @ops.custom_gradient
    def losses(logits):
        highest = ops.max(logits, axis=-1, keepdims=True)
        weights = ops.exp(logits - highest)
        total = ops.sum(weights, axis=-1, keepdims=True)
        word = ops.take_along_axis(logits, token_ids[..., None], axis=-1)
        mean = ops.mean(logits, axis=-1, keepdims=True)
        value = ops.log(total) + highest - (1 - label_smoothing) * word - label_smoothing * mean

        def gradient(*arguments, upstream=None):
            upstream = arguments[0] if upstream is None else upstream
            share, even = upstream / total, upstream * (label_smoothing / vocab_size)
            flat = ops.reshape(weights * share - even, (-1, vocab_size))
            at_word = ops.exp(word - highest) * share - even - upstream * (1 - label_smoothing)
            flat = ops.scatter_update(flat, places, ops.reshape(at_word, (-1,)))
            return ops.reshape(flat, ops.shape(logits))

        return value, gradient

    return losses(logits)[..., 0]


class Rehearsing(keras.Model):
    """A caption model that learns, and goes on saying of other clips what its base says of them.

    To the loss of what is learned comes, of clips drawn by chance in each step,

        weight * mean over words of KL(base || model)

    over the sentences that the base says (Li and Hoiem 2016, "Learning without forgetting"). It is
    0 with a gradient of 0 where the training begins.

    What is rehearsed lacks detail, as it is kept. So that a model cannot tell by the detail where
    to say what is new, it may learn from features that lack it too.

    Args:
        learner: the caption model, or what learns for it.
        model: the caption model.
        base: what it was before, with the same words first in its vocabulary.
        known: what the base says of some clips.
        weight: of the second part.
        batch_size: clips drawn in a step.
        seed: of the draws.
        coarse: whether what is learned is seen as what is rehearsed.
    """

    def __init__(
        self,
        learner: keras.Model,
        model: CaptionModel,
        base: CaptionModel,
        known: Recollection,
        weight: float,
        batch_size: int,
        seed: int,
        coarse: bool = False,
    ):
        super().__init__()
        self.learner, self.model, self.coarse = learner, model, coarse
        self.weight, self.batch_size = weight, batch_size
        self.seeds = keras.random.SeedGenerator(seed)
        self._before = lambda vectors: base.logits(vectors)  # so its weights are not ours
        rehearsal = known.rehearsal
        arrays = (rehearsal.codes, rehearsal.num_frames, known.token_ids, known.vectors)
        arrays += (rehearsal.basis.T * rehearsal.step, rehearsal.mean)
        self._rehearsed = tuple(map(ops.convert_to_tensor, arrays))
        self._step, self._lowest = rehearsal.step, rehearsal.lowest
        # Pictures as often as clips, whichever of them there are more of.
        is_still = rehearsal.num_frames == 1
        shares = np.where(is_still, 0.5 / max(1, is_still.sum()), 0.5 / max(1, (~is_still).sum()))
        self._chances = ops.convert_to_tensor(np.log(shares)[None].astype(np.float32))
        self.built = True

    def call(self, inputs, training=False):
        """As that of what learns."""
        if training and self.coarse:
            *_, basis, mean = self._rehearsed
            # The basis is orthonormal, and times the step here.
            codes = ops.matmul(inputs["features"] - mean, ops.transpose(basis)) / self._step**2
            inputs = {**inputs, "features": self._decode(ops.round(codes))}
        outputs = self.learner(inputs, training=training)
        if training:
            self.add_loss(self.weight * self._forgotten())
        return outputs

    def _decode(self, codes):
        *_, basis, mean = self._rehearsed
        return ops.maximum(ops.matmul(codes, basis) + mean, self._lowest)

    def _forgotten(self):
        codes, num_frames, token_ids, vectors, basis, _ = self._rehearsed
        drawn = keras.random.categorical(
            self._chances, self.batch_size, dtype="int32", seed=self.seeds
        )[0]
        codes = ops.cast(ops.take(codes, drawn, axis=0), basis.dtype)
        token_ids = ops.take(token_ids, drawn, axis=0)
        longest = token_ids.shape[1]
        if keras.backend.backend() == "tensorflow":  # elsewhere a graph has fixed shapes
            longest = ops.max(ops.sum(ops.cast(token_ids != PAD_ID, "int32"), axis=1))
        token_ids = token_ids[:, :longest]
        vectors = ops.take(vectors, drawn, axis=0)[:, :longest]
        inputs = {
            "features": self._decode(codes),
            "sequence_length": ops.take(num_frames, drawn, axis=0),
            "token_ids": token_ids,
        }
        before = ops.stop_gradient(ops.log_softmax(self._before(vectors)))
        # Without dropout, or it would be told to say what it cannot know; said plainly, for Keras
        # otherwise hands on that this is a training.
        after = self.model(inputs, training=False)
        after = ops.log_softmax(after)[..., : before.shape[-1]]
        divergence = ops.sum(ops.exp(before) * (before - after), axis=-1)
        real = ops.cast(token_ids != PAD_ID, divergence.dtype)
        return ops.sum(divergence * real) / ops.sum(real)


class ScheduledSampling(keras.Model):
    """A caption model that in training reads some of its own words (Bengio et al. 2015).

    A first pass over the whole sentences says which word the model would have drawn at each
    place; a second pass reads some of those instead of the true ones (Mihaylova and Martins
    2019, "Scheduled sampling for transformers"). Gradients flow through the second alone.

    Args:
        model: the caption model.
        rate: share of the words that are the model's own at the end.
        grown: the share of `rate` that is reached, as a function of nothing.
        seed: of the draws.
    """

    def __init__(self, model: CaptionModel, rate: float, grown: Callable, seed: int):
        super().__init__()
        self.model, self.rate, self.grown = model, rate, grown
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
        chance = keras.random.uniform(ops.shape(token_ids), seed=self.seeds)
        own = ops.logical_and(chance < self.rate * self.grown(), token_ids != PAD_ID)
        read = ops.where(own, drawn, ops.cast(token_ids, "int32"))
        return self.model({**inputs, "token_ids": read}, training=True)


class SelfCritical(keras.Model):
    """A caption model that learns from how good its own sentences are.

    Of each clip it draws several sentences, and each becomes likelier by as much as it is better
    than the others (Rennie et al. 2017, "Self-critical sequence training for image captioning",
    with the baseline of Luo 2020, "A better variant of self-critical sequence training"):

        gradient = -(r - mean r of the clip's other sentences) * d log p(sentence), a word

    r is CIDEr-D, END counted as a word, or sentences would learn to stop short. The loss has that
    gradient, and for a value minus the mean of r.

    Args:
        model: the caption model, which already says sentences.
        references: for each clip, token ids of its captions.
        num_samples: sentences drawn of a clip, at least 2.
        seed: of the draws.

    Raises:
        CaptionerError: Keras runs on another backend than TensorFlow.
    """

    def __init__(self, model: CaptionModel, references: Sequence, num_samples: int, seed: int):
        if keras.backend.backend() != "tensorflow":
            raise CaptionerError("self-critical training needs Keras on TensorFlow")
        super().__init__()
        self.model, self.num_samples = model, num_samples
        self.options = DecodingOptions(
            temperature=1.0, num_captions=num_samples, max_length=LONGEST_SAMPLE
        )
        self.cider = CiderD([[tuple(ids) for ids in clip] for clip in references])
        self.seeds = keras.random.SeedGenerator(seed)
        self.built = True

    def call(self, inputs, training=False):
        """As `CaptionModel.call`; in training `(logits, token_ids, rewards)` of the samples.

        A row a sentence, those of a clip side by side.
        """
        if not training:
            return self.model(inputs)
        token_ids = ops.stop_gradient(self._draw(inputs["features"], inputs["sequence_length"]))
        # Without dropout, as they were drawn: sentences of another model would pull it apart.
        logits = self.model({**inputs, "token_ids": token_ids}, training=False)
        return logits, token_ids, self._rewards(token_ids, inputs["clip"])

    def _draw(self, features, sequence_length):
        """Sentences with their END, `(rows, caption_length)`."""
        memory, state = self.model.encode(features, sequence_length)
        step, batch_size = self.model.decode_step, ops.shape(features)[0]
        options = {"options": self.options, "memory": memory, "seed": self.seeds}
        drawn = decode(step, state, batch_size=batch_size, **options)
        length = ops.reshape(drawn.sequence_length, (-1, 1))
        token_ids = ops.reshape(drawn.token_ids, (-1, LONGEST_SAMPLE))
        token_ids = ops.pad(token_ids, [(0, 0), (0, 1)], constant_values=PAD_ID)
        token_ids = ops.where(ops.arange(LONGEST_SAMPLE + 1) == length, END_ID, token_ids)
        return token_ids[:, : ops.max(length) + 1]

    def _rewards(self, token_ids, clips):
        """CIDEr-D of each sentence, `(rows,)`."""
        import tensorflow as tf

        def score(token_ids, clips):
            sentences = [tuple(row[row != PAD_ID].tolist()) for row in token_ids]
            clips = np.repeat(clips, self.num_samples).tolist()
            return self.cider.score(sentences, clips).astype(np.float32)

        rewards = tf.numpy_function(score, [token_ids, clips], tf.float32, stateful=False)
        return ops.reshape(rewards, (-1,))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        import tensorflow as tf

        logits, token_ids, rewards = y_pred
        rewards = ops.reshape(rewards, (-1, self.num_samples))
        # What is left of r when the mean of the others is taken off.
        better = rewards - ops.mean(rewards, axis=1, keepdims=True)
        better = better * (self.num_samples / (self.num_samples - 1))
        losses = cross_entropy(token_ids, logits, 0.0) * ops.reshape(better, (-1, 1))
        real = ops.cast(token_ids != PAD_ID, losses.dtype)
        policy = ops.sum(losses * real) / ops.sum(real)
        loss = ops.stop_gradient(-ops.mean(rewards) - policy) + policy
        return loss / tf.distribute.get_strategy().num_replicas_in_sync  # which add theirs up

"""Decoding against brute force, and each of its promises."""

import itertools
import os
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pytest
from keras import ops

from captioner import decoding
from captioner.config import DecodingOptions
from captioner.vocabulary import END_ID, PAD_ID, START_ID, UNKNOWN_ID

# A toy language: five words behind the four special tokens, and a table with the logits after
# every sentence of up to `MAX_LENGTH` words. A state is the number of its sentence.
NUM_WORDS, MAX_LENGTH, MEMORY_LENGTH = 5, 3, 4
VOCAB_SIZE = 4 + NUM_WORDS
SENTENCES = [
    sentence
    for length in range(MAX_LENGTH + 1)
    for sentence in itertools.product(range(4, VOCAB_SIZE), repeat=length)
]
NUMBER = {sentence: number for number, sentence in enumerate(SENTENCES)}


def compiled(function):
    """The backend's own compiler."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function, autograph=False)
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    return function


def tables(num_functions, seed=0, spread=2.0):
    """Random `(logits, attention_weights)` for every sentence of every function."""
    rng = np.random.default_rng(seed)
    logits = spread * rng.normal(size=(num_functions, len(SENTENCES), VOCAB_SIZE))
    attention = rng.dirichlet(np.full(MEMORY_LENGTH, 0.3), size=logits.shape[:2])
    return logits.astype("float32"), attention.astype("float32")


def run(logits, attention, options, **arguments):
    """Decodes the functions of a table as the clips of one batch, in numpy."""
    per_clip = options.num_hypotheses

    @compiled
    def searched(logits, attention):
        result = decoding.decode(
            *toy(logits, attention, per_clip),
            batch_size=logits.shape[0],
            options=options,
            attention_of=lambda state: state["attention"],
            **arguments,
        )
        return tuple(result)

    result = decoding.DecodingResult(*searched(logits, attention))
    return decoding.DecodingResult(*map(ops.convert_to_numpy, result))


def toy(logits, attention, per_clip):
    """`(step, initial_state)` of the toy language."""
    batch_size, num_sentences, vocab_size = logits.shape
    first = ops.repeat(ops.arange(batch_size, dtype="int32") * num_sentences, per_clip)
    logits = ops.reshape(logits, (-1, vocab_size))
    attention = ops.reshape(attention, (-1, MEMORY_LENGTH))

    def step(token_ids, state):
        began = state["number"] >= 0
        number = state["number"] * NUM_WORDS + 1 + token_ids - 4
        number = ops.where(began, ops.clip(number, 0, num_sentences - 1), 0)
        rows = first + number
        attended = ops.take(attention, rows, axis=0)
        return ops.take(logits, rows, axis=0), {
            "number": number,
            "attention": attended,
        }

    return step, {
        "number": ops.full((batch_size,), -1, dtype="int32"),
        "attention": ops.zeros((batch_size, MEMORY_LENGTH)),
    }


def sentences_of(result, clip):
    """The hypotheses of a clip as tuples of words."""
    return [
        tuple(int(word) for word in words[:length])
        for words, length in zip(result.token_ids[clip], result.sequence_length[clip], strict=True)
    ]


def brute_force(logits, attention, options, allowed):
    """Every allowed sentence of every function, best first: `[[(sentence, score), ...], ...]`."""
    logits = logits.astype("float64")
    log_probs = logits - np.log(np.sum(np.exp(logits), axis=2, keepdims=True))
    chosen = [sentence for sentence in SENTENCES if allowed(sentence)]
    scores = np.zeros((len(logits), len(chosen)))
    for column, sentence in enumerate(chosen):
        passed = [NUMBER[sentence[:length]] for length in range(len(sentence) + 1)]
        tokens = [*sentence, END_ID]
        total = log_probs[:, passed, tokens].sum(axis=1)
        received = np.minimum(attention[:, passed].astype("float64").sum(axis=1), 1)
        scores[:, column] = total / ((5 + len(tokens)) / 6) ** options.length_penalty
        scores[:, column] += options.coverage_penalty * np.log(received).sum(axis=1)
    order = np.argsort(-scores, axis=1)
    return [
        [(chosen[column], row[column]) for column in columns]
        for row, columns in zip(scores, order, strict=True)
    ]


def repeats(sentence, size):
    ngrams = [sentence[i : i + size] for i in range(len(sentence) - size + 1)]
    return len(ngrams) > len(set(ngrams))


EXHAUSTIVE = {
    "plain": ({"length_penalty": 0.0}, {}, lambda s: True),
    "length": ({"length_penalty": 1.0}, {}, lambda s: True),
    "steep": ({"length_penalty": 3.0, "max_length": 2}, {}, lambda s: len(s) <= 2),
    "coverage": ({"coverage_penalty": 0.4}, {}, lambda s: True),
    "min_length": ({"min_length": 2}, {}, lambda s: len(s) >= 2),
    "empty": ({"min_length": 0, "length_penalty": 0.2}, {}, lambda s: True),
    "bigrams": ({"no_repeat_ngram_size": 2}, {}, lambda s: not repeats(s, 2)),
    "words": ({"no_repeat_ngram_size": 1}, {}, lambda s: not repeats(s, 1)),
    "forbidden": ({}, {"forbidden_ids": (5, 8)}, lambda s: not {5, 8} & set(s)),
    "required": ({}, {"required_ids": (6,)}, lambda s: 6 in s),
    "two": ({"length_penalty": 1.0}, {"required_ids": (6, 4)}, lambda s: {4, 6} <= set(s)),
    "prefix": ({}, {"prefix_ids": (7, 4)}, lambda s: s[:2] == (7, 4)),
    "all": (
        {"length_penalty": 0.9, "no_repeat_ngram_size": 1, "min_length": 2},
        {"prefix_ids": (5,), "required_ids": (8,), "forbidden_ids": (4,)},
        lambda s: s[:1] == (5,) and 8 in s and 4 not in s and not repeats(s, 1),
    ),
}


@pytest.mark.parametrize("case", EXHAUSTIVE)
def test_exhaustive_beam_finds_what_brute_force_finds(case):
    changes, constraints, allowed = EXHAUSTIVE[case]
    minimum = changes.get("min_length", 1)
    options = DecodingOptions(
        **{"max_length": MAX_LENGTH, "beam_size": len(SENTENCES), "num_captions": 3, **changes}
    )
    logits, attention = tables(200, seed=len(case))
    result = run(logits, attention, options, **constraints)
    expected = brute_force(logits, attention, options, lambda s: len(s) >= minimum and allowed(s))
    for clip, best in enumerate(expected):
        assert sentences_of(result, clip) == [sentence for sentence, _ in best[:3]]
        np.testing.assert_allclose(result.scores[clip], [s for _, s in best[:3]], rtol=1e-5)


def some(num_functions=40, seed=1, **changes):
    """Tables and options of a search that is not exhaustive."""
    options = DecodingOptions(**{"beam_size": 3, "max_length": MAX_LENGTH, **changes})
    return (*tables(num_functions, seed), options)


def assert_equal(first, second, rtol=0):
    for one, other in zip(first, second, strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol)


@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 2.0])
@pytest.mark.parametrize("coverage_penalty", [0.0, 0.3])
def test_stopping_early_changes_nothing(monkeypatch, length_penalty, coverage_penalty):
    logits, attention, options = some(
        200,
        num_captions=2,
        min_length=0,
        length_penalty=length_penalty,
        coverage_penalty=coverage_penalty,
    )
    early = run(logits, attention, options)
    monkeypatch.setattr(decoding, "_go_on", lambda improvable, t, max_length, _: t <= max_length)
    assert_equal(early, run(logits, attention, options))


def test_loop_ends_with_the_last_sentence_that_can_still_win():
    # Sure of one word, then of END: the second step is the last, long before `max_length`.
    logits = np.zeros((2, len(SENTENCES), VOCAB_SIZE), "float32")
    logits[:, :, END_ID] = 20
    logits[:, 0, 5] = 40
    options = DecodingOptions(beam_size=3, max_length=30)
    step, initial_state = toy(logits, tables(2)[1], 3)
    times = []

    def counted(token_ids, state):
        times.append(token_ids)
        return step(token_ids, state)

    result = decoding.decode(counted, initial_state, batch_size=2, options=options)
    assert len(times) == 2
    assert ops.convert_to_numpy(result.sequence_length).tolist() == [[1], [1]]


@pytest.mark.parametrize("required_ids", [(), (6,)])
def test_beam_of_one_is_greedy(required_ids):
    logits, attention, options = some(beam_size=1, length_penalty=2.0)
    result = run(logits, attention, options, required_ids=required_ids)

    @compiled
    def beam_search(logits, attention):
        rules = decoding.Rules(options, None, (), required_ids, None)
        step, initial_state = toy(logits, attention, 1)
        return tuple(decoding.beam_search(step, initial_state, logits.shape[0], rules))[:3]

    assert_equal(result[:3], map(ops.convert_to_numpy, beam_search(logits, attention)))
    if required_ids:
        assert all(6 in sentences_of(result, clip)[0] for clip in range(len(logits)))
        return
    for clip, table in enumerate(logits):
        words = ()
        while len(words) < MAX_LENGTH:
            scores = table[NUMBER[words]].copy()
            scores[[PAD_ID, START_ID, UNKNOWN_ID]] = -np.inf
            scores[END_ID] = scores[END_ID] if words else -np.inf
            if scores.argmax() == END_ID:
                break
            words += (int(scores.argmax()),)
        assert sentences_of(result, clip) == [words]


@pytest.mark.parametrize("beam_size", [1, 3])
def test_caption_does_not_depend_on_batch_mates(beam_size):
    logits, attention, options = some(12, beam_size=beam_size)
    together = run(logits, attention, options)
    for clip in range(0, 12, 5):
        alone = run(logits[clip : clip + 1], attention[clip : clip + 1], options)
        assert_equal([x[clip : clip + 1] for x in together], alone, rtol=1e-5)


@pytest.mark.parametrize(
    "changes", [{"beam_size": 1}, {"num_captions": 2}, {"temperature": 1.0, "num_captions": 2}]
)
def test_search_with_memory_goes_on_with_fewer_clips_and_finds_the_same(monkeypatch, changes):
    logits, attention, options = some(21, length_penalty=0.3, **changes)
    per_clip = options.num_hypotheses
    prefix_ids = np.arange(21)[:, None] % 4 * 2  # none, UNKNOWN aside, or one word
    prefix_ids = np.where(prefix_ids > 3, prefix_ids, PAD_ID)
    sizes = []

    def step(token_ids, state, memory):
        sizes.append(token_ids.shape[0] // per_clip)
        number = state["number"]
        began = ops.cast(number >= 0, "int32")
        number = ops.clip(number * NUM_WORDS + 1 + token_ids - 4, 0, len(SENTENCES) - 1) * began
        per_memory = token_ids.shape[0] // memory["logits"].shape[0]
        rows = ops.arange(token_ids.shape[0]) // per_memory * len(SENTENCES) + number
        chosen = ops.take(ops.reshape(memory["logits"], (-1, VOCAB_SIZE)), rows, axis=0)
        weights = ops.take(ops.reshape(memory["attention"], (-1, MEMORY_LENGTH)), rows, axis=0)
        return chosen, {"number": number, "attention": weights}

    @compiled
    def searched(logits, attention):
        state = {
            "number": ops.full((logits.shape[0],), -1, dtype="int32"),
            "attention": ops.zeros((logits.shape[0], MEMORY_LENGTH)),
        }
        return tuple(
            decoding.decode(
                step,
                state,
                batch_size=logits.shape[0],
                options=options,
                prefix_ids=prefix_ids,
                attention_of=lambda state: state["attention"],
                memory={"logits": logits, "attention": attention},
                seed=3,
            )
        )

    fewer = list(map(ops.convert_to_numpy, searched(logits, attention)))
    assert len(set(sizes)) >= 3
    assert_equal(run(logits, attention, options, prefix_ids=prefix_ids, seed=3), fewer)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="shapes known only when run")
@pytest.mark.parametrize("changes", [{"beam_size": 1}, {}, {"temperature": 1.0}])
def test_batch_size_may_be_known_only_when_run(changes, tmp_path):
    import tensorflow as tf

    logits, attention, options = some(5, **changes)

    def searched(logits):
        batch_size = tf.shape(logits)[0]
        first = tf.repeat(tf.range(batch_size) * len(SENTENCES), options.num_hypotheses)

        def step(token_ids, state):
            number = tf.clip_by_value(state * NUM_WORDS + 1 + token_ids - 4, 0, len(SENTENCES) - 1)
            number = tf.where(state < 0, 0, number)
            return tf.gather(tf.reshape(logits, (-1, VOCAB_SIZE)), first + number), number

        state = tf.fill((batch_size,), -1)
        result = decoding.decode(step, state, batch_size=batch_size, options=options, seed=1)
        return result[:3]

    module = tf.Module()
    shape = tf.TensorSpec((None, len(SENTENCES), VOCAB_SIZE))
    module.searched = tf.function(searched, input_signature=[shape])
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    assert_equal(run(logits, attention, options, seed=1)[:3], loaded.searched(logits))


def test_constraints_hold_where_the_beam_is_narrow():
    logits, attention, options = some(100, no_repeat_ngram_size=1, min_length=2)
    result = run(logits, attention, options, prefix_ids=(7,), forbidden_ids=(4,), required_ids=(8,))
    for clip in range(100):
        (words,) = sentences_of(result, clip)
        assert words[0] == 7
        assert len(set(words)) == len(words) >= 2
        assert 8 in words
        assert 4 not in words
        assert not {PAD_ID, START_ID, END_ID, UNKNOWN_ID} & set(words)


def test_prefix_may_differ_from_clip_to_clip():
    logits, attention, options = some(3)
    result = run(logits, attention, options, prefix_ids=[[5, 6], [7, PAD_ID], [PAD_ID, PAD_ID]])
    free = run(logits, attention, options)
    assert sentences_of(result, 0)[0][:2] == (5, 6)
    assert sentences_of(result, 1)[0][:1] == (7,)
    assert sentences_of(result, 2) == sentences_of(free, 2)


def test_special_tokens_are_never_produced_however_likely():
    logits, attention, options = some(30, num_captions=3)
    logits[:, :, [PAD_ID, START_ID, UNKNOWN_ID]] += 10
    result = run(logits, attention, options)
    for clip in range(30):
        assert all(min(words) > UNKNOWN_ID for words in sentences_of(result, clip))


def test_captions_are_distinct_and_ranked():
    logits, attention, options = some(100, beam_size=5, num_captions=5)
    result = run(logits, attention, options)
    for clip in range(100):
        assert len(set(sentences_of(result, clip))) == 5
    assert (np.diff(result.scores, axis=1) <= 0).all()


def test_what_no_sentence_satisfies_is_empty():
    logits, attention, options = some(2, num_captions=2, min_length=2)
    result = run(logits, attention, options, forbidden_ids=range(4, VOCAB_SIZE))
    assert (result.token_ids == PAD_ID).all()
    assert (result.sequence_length == 0).all()
    assert (result.scores == -np.inf).all()
    assert (result.attention_weights == 0).all()


def test_attention_weights_follow_their_hypothesis():
    logits, attention, options = some(60, num_captions=3)
    result = run(logits, attention, options)
    for clip in range(60):
        for caption, words in enumerate(sentences_of(result, clip)):
            expected = np.zeros((MAX_LENGTH, MEMORY_LENGTH), "float32")
            for place in range(len(words)):
                expected[place] = attention[clip, NUMBER[words[:place]]]
            np.testing.assert_allclose(result.attention_weights[clip, caption], expected)


def test_samples_repeat_with_their_seed_and_differ_between_seeds():
    logits, attention, options = some(temperature=1.0, num_captions=4)
    first = run(logits, attention, options, seed=5)
    assert_equal(first, run(logits, attention, options, seed=5))
    assert (first.token_ids != run(logits, attention, options, seed=6).token_ids).any()


@pytest.mark.parametrize(
    "changes", [{}, {"top_k": 2}, {"top_p": 0.7}, {"top_k": 3, "top_p": 0.6}, {"temperature": 0.5}]
)
def test_samples_have_the_right_distribution(changes):
    logits, attention = tables(1, seed=2, spread=1.0)
    options = DecodingOptions(
        **{"temperature": 1.5, "num_captions": 4000, "max_length": 1, "min_length": 0, **changes}
    )
    result = run(logits, attention, options, seed=0)
    words = np.where(result.sequence_length[0] == 1, result.token_ids[0, :, 0], END_ID)
    share = np.bincount(words, minlength=VOCAB_SIZE) / 4000

    allowed = logits[0, 0].astype("float64")
    allowed[[PAD_ID, START_ID, UNKNOWN_ID]] = -np.inf
    if options.top_k:
        allowed[allowed < np.sort(allowed)[-options.top_k]] = -np.inf
    expected = np.exp(allowed / options.temperature)
    expected /= expected.sum()
    order = np.argsort(-expected)
    outside = np.cumsum(expected[order]) - expected[order] >= options.top_p
    expected[order[outside]] = 0
    expected /= expected.sum()
    assert (share[expected == 0] == 0).all()
    np.testing.assert_allclose(share, expected, atol=0.03)


@pytest.mark.parametrize("width", [3000, 3001, 70, 5])
def test_top_k_by_chunks_is_top_k(width):
    values = np.random.default_rng(0).normal(size=(7, width)).astype("float32")
    k = min(width, 9)
    found, ids = map(ops.convert_to_numpy, decoding._top_k(values, k))
    if k == width:
        assert (found == values).all()
        return
    expected = np.argsort(-values, axis=1)[:, :k]
    assert (ids == expected).all()
    assert (found == np.take_along_axis(values, expected, axis=1)).all()


@pytest.mark.parametrize(
    ("changes", "constraints", "message"),
    [
        ({}, {"forbidden_ids": (END_ID,)}, "forbidden_ids"),
        ({}, {"required_ids": (UNKNOWN_ID,)}, "required_ids"),
        ({}, {"required_ids": (5,), "forbidden_ids": (5,)}, "required_ids"),
        ({}, {"required_ids": (4, 5, 6, 7)}, "required_ids"),
        ({}, {"prefix_ids": (4, 5, 6, 7)}, "prefix_ids"),
        ({"coverage_penalty": 0.1}, {"attention_of": None}, "attention_of"),
    ],
)
def test_contradictions_are_refused(changes, constraints, message):
    options = DecodingOptions(max_length=MAX_LENGTH, **changes)
    step, state = toy(*tables(1), options.num_hypotheses)
    with pytest.raises(ValueError, match=f"expected .*{message}.*received"):
        decoding.decode(step, state, batch_size=1, options=options, **constraints)


def captions_for_every_search():
    """Tokens and scores that must not depend on the backend."""
    results = []
    for changes, constraints in [
        ({"beam_size": 1}, {}),
        ({"num_captions": 3, "coverage_penalty": 0.2}, {}),
        ({"no_repeat_ngram_size": 2, "min_length": 2}, {"forbidden_ids": (5,)}),
        ({"length_penalty": 1.0}, {"required_ids": (6,), "prefix_ids": (4,)}),
    ]:
        logits, attention, options = some(30, **changes)
        results.append(run(logits, attention, options, **constraints))
    return results


WITHOUT_TENSORFLOW = """
import sys
sys.modules["tensorflow"] = None
import numpy as np
from tests.captioner.test_decoding import captions_for_every_search
arrays = [array for result in captions_for_every_search() for array in result]
np.savez(sys.argv[1], *arrays)
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_give_the_same_captions_without_tensorflow(backend, tmp_path):
    pytest.importorskip(backend)
    path = tmp_path / "captions.npz"
    subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW, path],
        env={**os.environ, "KERAS_BACKEND": backend},
        check=True,
    )
    here = [array for result in captions_for_every_search() for array in result]
    with np.load(path) as there:
        for array, other in zip(here, there.values(), strict=True):
            np.testing.assert_allclose(array, other, rtol=1e-4, atol=1e-6)

"""A step function -> token ids: greedy decoding, sampling and beam search, dynamically.

Decoding sees `step(token_ids, state) -> (logits, state)` and nothing else: no words, no pixels,
no model. `token_ids` is `(rows,)`, `logits` `(rows, vocab_size)`, and `state` any nest of tensors
with as many rows, `batch_size * options.num_hypotheses`, the hypotheses of a clip side by side.

All of a search is one while-loop that ends with its last sentence. Wrap the call in the backend's
compiler (`tf.function`, `jax.jit`), with everything but tensors fixed.

The rules, the same for every search:

- A sentence is `min_length` to `max_length` words and END. A hypothesis of `max_length` words can
  only end, and pays END's log-probability like any other.
- Log-probabilities are the model's own: what a constraint forbids is passed over, its share is
  not handed out to the rest.
- PAD, START and UNKNOWN are never produced.
- Where no sentence satisfies the constraints, the hypothesis is empty and scores `-inf`.
"""

import numpy as np
from keras import ops, random, tree

from .caption import DecodingResult
from .config import DecodingOptions, _expect
from .vocabulary import END_ID, PAD_ID, START_ID, UNKNOWN_ID

# Each halving is one more copy of the step in the graph; below this it no longer pays.
MIN_CLIPS_TO_HALVE = 8
TOP_K_CHUNK = 32


def decode(
    step,
    initial_state,
    *,
    batch_size,
    options: DecodingOptions,
    start_ids=None,
    prefix_ids=None,
    forbidden_ids=(),
    required_ids=(),
    attention_of=None,
    memory=None,
    seed=None,
) -> DecodingResult:
    """Decodes with the search that `options` ask for.

    Args:
        step: `(token_ids, state) -> (logits, state)`. What it reads but never changes is in its
            closure, repeated `options.num_hypotheses` times along the batch, or in `memory`.
        initial_state: nest of tensors `(batch_size, ...)`.
        batch_size: clips; an integer, or with TensorFlow a scalar tensor.
        options: how to search.
        start_ids: the token before the first word, `(batch_size,)`; START by default. It is no
            word: neither scored nor part of a sentence.
        prefix_ids: a beginning that every sentence is given, `(prefix_length,)` or, one a clip
            and PAD on the right, `(batch_size, prefix_length)`. It is scored, and counts as
            words, but constraints bind only what follows.
        forbidden_ids: words never produced.
        required_ids: words every sentence has. A beam is shared out among hypotheses with none,
            one, two ... of them (Post & Vilar 2018, "Fast Lexically Constrained Decoding with
            Dynamic Beam Allocation"), so give it at least one place more than there are words.
            Greedy decoding and sampling put one in where the sentence would otherwise end.
        attention_of: `state -> (rows, memory_length)`, the attention weights of the step that
            gave this state. Exact zeros are taken for padding.
        memory: nest of tensors `(num_clips, ...)` that the step is handed as its third argument,
            one row a clip, not one a hypothesis: nothing is copied, and all hypotheses of a clip
            can look at it at once. At first `num_clips` is `batch_size` (times `num_captions` in
            sampling); the search goes on with fewer clips as sentences end, which is faster for
            an integer `batch_size` above a few.
        seed: for sampling: an integer or a `keras.random.SeedGenerator`.

    Raises:
        ValueError: if arguments contradict each other.
    """
    rules = Rules(options, prefix_ids, forbidden_ids, required_ids, attention_of, start_ids)
    if options.temperature > 0:
        return sample(step, initial_state, batch_size, rules, memory, seed)
    if options.beam_size == 1:
        return greedy(step, initial_state, batch_size, rules, memory)
    return beam_search(step, initial_state, batch_size, rules, memory)


def greedy(step, initial_state, batch_size, rules: "Rules", memory=None) -> DecodingResult:
    """Takes the likeliest token at each step. See `decode`."""
    return _search(step, initial_state, batch_size, rules, memory)


def sample(step, initial_state, batch_size, rules: "Rules", memory=None, seed=None):
    """Draws `num_captions` sentences a clip, which may be equal, and ranks them. See `decode`.

    One seed gives one result on one backend; backends differ in their random numbers.
    """
    options = rules.options
    _expect(options.temperature > 0, "temperature > 0", temperature=options.temperature)

    def draw(t, log_probs, noise):
        order = None
        if options.top_k or options.top_p < 1:
            width = log_probs.shape[1]
            log_probs, order = ops.top_k(log_probs, min(options.top_k or width, width))
        highest = ops.max(log_probs, axis=1, keepdims=True)
        highest = ops.where(highest > -np.inf, highest, 0.0)
        weights = ops.exp((log_probs - highest) / options.temperature)
        cumulative = ops.cumsum(weights, axis=1)
        total = cumulative[:, -1:]
        if options.top_p < 1:
            kept = cumulative - weights < options.top_p * total
            total = ops.max(ops.where(kept, cumulative, 0.0), axis=1, keepdims=True)
        passed = cumulative <= ops.take(noise, t, axis=1)[:, None] * total
        column = ops.sum(ops.cast(passed, "int32"), axis=1, keepdims=True)
        column = ops.minimum(column, log_probs.shape[1] - 1)
        return _pick(log_probs, column), column if order is None else _pick(order, column)

    # The numbers for all words come before the loop, where one seed would give every step the
    # same; they stay short of 1, lest `noise * total` be rounded to `total`.
    shape = (batch_size * options.num_captions, options.max_length + 1)
    noise = random.uniform(shape, maxval=1 - 1e-6, seed=seed)
    num_samples = options.num_captions
    return _search(
        step, initial_state, batch_size, rules, memory, 1, num_samples, draw=draw, noise=noise
    )


def beam_search(step, initial_state, batch_size, rules: "Rules", memory=None) -> DecodingResult:
    """Extends the `beam_size` likeliest hypotheses at each step. See `decode`.

    A hypothesis with END among these extensions leaves the beam for the finished ones (Sutskever
    et al. 2014, "Sequence to Sequence Learning with Neural Networks"), of which the best
    `num_captions` are kept; the next step fills its place. A clip is done when no live hypothesis
    can still beat its last finished one. Log-probabilities are negative and only fall, so the
    best a live hypothesis can come to is its own so far over the longest sentence's penalty.
    """
    return _search(step, initial_state, batch_size, rules, memory, rules.options.beam_size)


def _search(
    step, initial_state, batch_size, rules, memory, beam_size=1, num_samples=1, draw=None, noise=()
):
    """The loop behind every search; to it each sample is a clip of its own, with a beam of one.

    `draw(t, log_probs, noise)` picks one extension of each clip, `(num_clips, width)`, and gives
    its log-probability and its column; without it, the likeliest `beam_size` of them are taken.
    """
    num_candidates = rules.options.top_k if draw else beam_size
    num_captions = rules.options.num_captions if beam_size > 1 else 1
    max_length, num_clips = rules.options.max_length, batch_size * num_samples
    halve = memory is not None and isinstance(batch_size, int)
    # What a clip is given: its number, memory, forced tokens, random numbers.
    clips = ops.arange(num_clips, dtype="int32")
    forced = ops.take(rules.forced, clips * ops.shape(rules.forced)[0] // num_clips, axis=0)
    memory = () if memory is None else (_repeat(memory, batch_size, num_samples),)
    given = (clips, memory, forced, noise)
    # One hypothesis a clip to begin with: copies of it would fill the beam.
    start_ids = ops.take(rules.start_ids, clips * ops.shape(rules.start_ids)[0] // num_clips)
    token_ids = _repeat(start_ids, num_clips, beam_size)
    log_probs = ops.convert_to_tensor([[0.0] + [-np.inf] * (beam_size - 1)], dtype="float32")
    log_probs = ops.tile(log_probs, (num_clips, 1))  # (num_clips, beam_size)
    state = _repeat(initial_state, batch_size, num_samples * beam_size)
    history = (ops.full_like(token_ids, PAD_ID), *map(ops.zeros_like, rules.attention(state)))
    history = [ops.repeat(x[:, None], max_length, axis=1) for x in history]
    beam = (token_ids, log_probs, state, history)
    scores = ops.full((num_clips, num_captions), -np.inf, dtype="float32")
    finished = (scores, _take(history, _repeat(clips * beam_size, num_clips, num_captions)))

    def improvable(beam, finished):
        bound = ops.max(beam[1], axis=1) / rules.divisor(max_length)
        return bound > finished[0][:, -1]  # (num_clips,)

    def loop(t, beam, finished, given, num_clips, enough):
        """Goes on until no more than `enough` of the clips can be improved."""
        clips = ops.arange(num_clips, dtype="int32")[:, None]
        _, memory, forced, noise = given

        def extend(t, beam, finished):
            token_ids, log_probs, state, history = beam
            logits, new_state = step(token_ids, state, *memory)
            state = tree.pack_sequence_as(state, tree.flatten(new_state))
            forced_ids = _repeat(ops.take(forced, t, axis=1), num_clips, beam_size)
            ids, extended, num_met = rules.candidates(
                ops.cast(logits, "float32"), t, history[0], forced_ids, num_candidates, beam_size
            )
            row_width = ids.shape[1]
            clip_width = beam_size * row_width
            extended = extended + ops.reshape(log_probs, (-1, 1))  # (rows, row_width)
            extended = ops.reshape(extended, (-1, clip_width))
            if draw:
                log_probs, chosen = draw(t, extended, noise)
            elif rules.required and beam_size > 1:
                num_met = ops.reshape(num_met, (-1, clip_width))
                log_probs, chosen = rules.share_out(extended, num_met, beam_size)
            else:
                log_probs, chosen = ops.top_k(extended, beam_size)  # (num_clips, beam_size)
            chosen = ops.reshape(ops.cast(chosen, "int32") + clips * clip_width, (-1,))
            token_ids = ops.take(ops.reshape(ids, (-1,)), chosen)  # (rows,)
            if beam_size > 1:
                state, history = _take((state, history), chosen // row_width)

            ended = ops.reshape(token_ids == END_ID, (-1, beam_size))
            attention = rules.attention(state)
            scores = rules.score(ops.reshape(log_probs, (-1,)), t, history, attention)
            scores = _ban(ops.reshape(scores, (-1, beam_size)), ops.logical_not(ended))
            log_probs = _ban(log_probs, ended)
            history = _record(t, history, token_ids, *attention)

            scores, best = ops.top_k(ops.concatenate([finished[0], scores], axis=1), num_captions)
            best = ops.cast(best, "int32")  # columns of the finished, then of the beam
            best = ops.where(
                best < num_captions,
                best + clips * num_captions,
                best + clips * beam_size + (num_clips - 1) * num_captions,
            )
            history_of_all = _concatenate(finished[1], history)
            finished = (scores, _take(history_of_all, ops.reshape(best, (-1,))))
            return t + 1, (token_ids, log_probs, state, history), finished

        def go_on(t, beam, finished):
            return _go_on(improvable(beam, finished), t, max_length, enough)

        return ops.while_loop(go_on, extend, (t, beam, finished))

    t = ops.convert_to_tensor(0, dtype="int32")
    done = []
    while halve and num_clips >= MIN_CLIPS_TO_HALVE:
        left = (num_clips + 1) // 2
        t, beam, finished = loop(t, beam, finished, given, num_clips, left)
        # Those that can be improved come first and go on alone.
        _, order = ops.top_k(ops.cast(improvable(beam, finished), "float32"), num_clips)
        done.append(_take_clips((given[0], finished), order[left:], num_clips))
        given, beam, finished = _take_clips((given, beam, finished), order[:left], num_clips)
        num_clips = left
    t, beam, finished = loop(t, beam, finished, given, num_clips, 0)
    if done:
        clips, finished = _concatenate((given[0], finished), *done)
        _, order = ops.top_k(-clips, batch_size * num_samples)
        finished = _take_clips(finished, order, batch_size * num_samples)
    scores, history = finished
    if num_samples > 1:
        scores, order = ops.top_k(ops.reshape(scores, (-1, num_samples)), num_samples)
        order = ops.cast(order, "int32") + ops.arange(batch_size)[:, None] * num_samples
        history = _take(history, ops.reshape(order, (-1,)))
    return _result(scores, history)


class Rules:
    """What every step of a search obeys: the tokens allowed, and what a hypothesis is worth.

    A `history` is `[token_ids]` or `[token_ids, attention_weights]`, with shapes `(rows,
    max_length)` and `(rows, max_length, memory_length)`. Arguments as in `decode`.
    """

    def __init__(
        self, options, prefix_ids, forbidden_ids, required_ids, attention_of, start_ids=None
    ):
        self.options = options
        self.attention_of = attention_of
        self.never = sorted({PAD_ID, START_ID, UNKNOWN_ID, *map(int, forbidden_ids)})
        self.required = sorted(set(map(int, required_ids)))
        required, never, max_length = self.required, self.never, options.max_length
        _expect(END_ID not in never, "forbidden_ids without END", forbidden_ids=forbidden_ids)
        producible = {END_ID, *never}.isdisjoint(required)
        _expect(producible, "required_ids that are words and not forbidden", required_ids=required)
        _expect(len(required) <= max_length, f"{max_length} required_ids or fewer", ids=required)
        penalised = not options.coverage_penalty or attention_of is not None
        _expect(penalised, "attention_of with a coverage_penalty", attention_of=attention_of)
        self.start_ids = ops.cast([START_ID] if start_ids is None else start_ids, "int32")
        # The token each step must take, PAD where it is free: the prefix, END after the last word.
        prefix_ids = ops.cast([[]] if prefix_ids is None else prefix_ids, "int32")
        length = prefix_ids.shape[-1]
        _expect(length <= max_length, f"{max_length} prefix_ids or fewer", prefix_length=length)
        forced = ops.reshape(prefix_ids, (-1, length) if length else (1, 0))
        forced = ops.pad(forced, [(0, 0), (0, max_length - length)], constant_values=PAD_ID)
        self.forced = ops.pad(forced, [(0, 0), (0, 1)], constant_values=END_ID)
        divisors = ((6 + np.arange(max_length + 1)) / 6) ** options.length_penalty
        self.divisors = divisors.astype("float32")  # by the number of words, END not counted

    def candidates(self, logits, t, token_ids, forced, num_candidates, beam_size):
        """Tokens that may come next, at least the `num_candidates` likeliest of each row (0: all).

        Returns `(ids, log_probs, num_met)`, each `(rows, width)`: `log_probs` are `-inf` where a
        token is not allowed after all, `num_met` counts the required words a hypothesis then has.
        """
        options, vocab_size, num_required = self.options, logits.shape[1], len(self.required)
        size = options.no_repeat_ngram_size
        num_banned = max(options.max_length - size + 1, 0) if size else 0
        spare = len(self.never) + 1 + num_banned + num_required
        values, ids = _top_k(logits, num_candidates + spare if num_candidates else vocab_size)
        highest = ops.max(values, axis=1, keepdims=True)
        total = highest + ops.log(ops.sum(ops.exp(logits - highest), axis=1, keepdims=True))

        mask = np.zeros((2, vocab_size), "float32")
        mask[:, self.never] = mask[0, END_ID] = -np.inf
        mask = ops.where(t < options.min_length, mask[0], mask[1])
        log_probs = values - total + ops.take(mask, ids)  # (rows, width)
        if num_banned:
            log_probs = _ban(log_probs, _isin(ids, _ends_of_ngrams(token_ids, t, size)))

        forced = forced[:, None]  # (rows, 1)
        is_forced, first = forced != PAD_ID, ops.arange(ids.shape[1]) == 0
        ids = ops.where(ops.logical_and(is_forced, first), forced, ids)
        forced_log_probs = ops.where(first, _pick(logits, forced) - total, -np.inf)
        log_probs = ops.where(is_forced, forced_log_probs, log_probs)
        if not num_required:
            return ids, log_probs, None

        # What is missing comes as candidates of its own, alone when nothing else has room.
        required = ops.convert_to_tensor([self.required], dtype="int32")
        missing = ops.logical_not(_isin(required, token_ids))  # (rows, num_required)
        num_missing = ops.sum(ops.cast(missing, "int32"), axis=1, keepdims=True)
        wanted = ops.where(missing, required, PAD_ID)
        unwanted = ops.logical_or(wanted == PAD_ID, ops.logical_and(is_forced, wanted != forced))
        alone = num_missing >= ops.maximum(options.max_length - t, 1)  # (rows, 1)
        ends = ops.logical_and(ids == END_ID, num_missing > 0)
        if beam_size == 1:
            likeliest = log_probs == ops.max(log_probs, axis=1, keepdims=True)
            likeliest = ops.any(ops.logical_and(likeliest, ends), axis=1, keepdims=True)
            alone = ops.logical_or(alone, likeliest)
            offered = ops.logical_or(alone, _isin(wanted, ids))
            unwanted = ops.logical_or(unwanted, ops.logical_not(offered))
        log_probs = _ban(_ban(_ban(log_probs, ends), alone), _isin(ids, wanted))
        wanted_log_probs = _ban(ops.take(logits, required[0], axis=1) - total, unwanted)
        ids = ops.concatenate([ids, wanted], axis=1)
        log_probs = ops.concatenate([log_probs, wanted_log_probs], axis=1)
        return ids, log_probs, num_required - num_missing + ops.cast(_isin(ids, wanted), "int32")

    def share_out(self, log_probs, num_met, beam_size):
        """The likeliest with all required words, with one fewer, ...; then the second of each."""
        num_groups = len(self.required) + 1
        log_probs, order = ops.top_k(log_probs, log_probs.shape[1])
        num_met = _pick(num_met, order)
        group = ops.cast(num_met[:, :, None] == ops.arange(num_groups), "int32")
        rank = ops.sum(ops.cumsum(group, axis=1) * group, axis=2)  # from 1, within its group
        turn = _ban(ops.cast(num_met - rank * num_groups, "float32"), log_probs == -np.inf)
        _, chosen = ops.top_k(turn, beam_size)
        return _pick(log_probs, chosen), _pick(order, chosen)

    def attention(self, state):
        """`((rows, memory_length),)`, or `()` where it isn't asked for."""
        return (ops.cast(self.attention_of(state), "float32"),) if self.attention_of else ()

    def divisor(self, t):
        return ops.take(ops.convert_to_tensor(self.divisors), t)

    def score(self, log_probs, t, history, attention):
        """Scores hypotheses that end at step `t`: `(rows,)`."""
        scores = log_probs / self.divisor(t)
        if self.options.coverage_penalty:
            received = ops.sum(history[1], axis=1) + attention[0]  # (rows, memory_length)
            received = ops.where(received > 0, ops.minimum(received, 1.0), 1.0)
            scores = scores + self.options.coverage_penalty * ops.sum(ops.log(received), axis=1)
        return scores


def _record(t, history, token_ids, *attention):
    """Writes the words of step `t`; what has ended stays as it is."""
    here = ops.arange(history[0].shape[1]) == t
    here = ops.logical_and(here, (token_ids != END_ID)[:, None])  # (rows, max_length)
    new = [ops.where(here, token_ids[:, None], history[0])]
    if attention:
        new.append(ops.where(here[:, :, None], attention[0][:, None], history[1]))
    return new


def _go_on(improvable, t, max_length, enough):
    """Whether more than `enough` clips are unfinished: the one place where a loop may end."""
    num_clips = ops.sum(ops.cast(improvable, "int32"))
    return ops.logical_and(num_clips > enough, t <= max_length)


def _top_k(tensor, k):
    """`ops.top_k` along wide rows, several times faster: the best chunks first, then in them.

    All of a row comes in its own order.
    """
    width, chunk = tensor.shape[1], TOP_K_CHUNK
    if k >= width:
        ids = ops.arange(width, dtype="int32")
        return tensor, ops.broadcast_to(ids, ops.shape(tensor))
    if width < 2 * chunk * k:
        values, ids = ops.top_k(tensor, k)
        return values, ops.cast(ids, "int32")
    if width % chunk:
        tensor = ops.pad(tensor, [(0, 0), (0, -width % chunk)], constant_values=-np.inf)
    num_chunks = tensor.shape[1] // chunk
    chunks = ops.reshape(tensor, (-1, chunk))
    _, best = ops.top_k(ops.reshape(ops.max(chunks, axis=1), (-1, num_chunks)), k)
    best = ops.cast(best, "int32")  # (rows, k)
    row = ops.arange(ops.shape(tensor)[0], dtype="int32")[:, None]
    within = ops.take(chunks, ops.reshape(best + row * num_chunks, (-1,)), axis=0)
    values, columns = ops.top_k(ops.reshape(within, (-1, k * chunk)), k)
    columns = ops.cast(columns, "int32")
    ids = _pick(best, columns // chunk) * chunk + columns % chunk
    return values, ops.minimum(ids, width - 1)


def _ends_of_ngrams(token_ids, t, size):
    """The words, else PAD, that would repeat an n-gram: `(rows, max_length - size + 1)`."""
    num_ngrams = token_ids.shape[1] - size + 1
    ends = token_ids[:, size - 1 :]
    for i in range(size - 1):
        last = ops.take(token_ids, ops.maximum(t - size + 1 + i, 0), axis=1)[:, None]
        ends = ops.where(token_ids[:, i : i + num_ngrams] == last, ends, PAD_ID)
    return ends


def _ban(log_probs, where):
    return ops.where(where, -np.inf, log_probs)


def _isin(ids, others):
    """`(rows, n)` and `(rows, m)` -> `(rows, n)`: whether each is among the others of its row."""
    return ops.any(ids[:, :, None] == others[:, None, :], axis=2)


def _pick(tensor, columns):
    """`(rows, width)` at `columns`, `(rows, n)`: `(rows, n)`."""
    first = ops.arange(ops.shape(tensor)[0], dtype="int32")[:, None] * tensor.shape[1]
    return ops.take(ops.reshape(tensor, (-1,)), ops.cast(columns, "int32") + first)


def _take(nest, rows):
    return tree.map_structure(lambda tensor: ops.take(tensor, rows, axis=0), nest)


def _repeat(nest, num_rows, times):
    """Each row `times` times in a row."""
    return nest if times == 1 else _take(nest, ops.arange(num_rows * times) // times)


def _take_clips(nest, clips, num_clips):
    """Takes clips of tensors that have one row a clip or several."""

    def take(tensor):
        shape = tensor.shape
        tensor = ops.reshape(tensor, (num_clips, -1, *shape[1:]))
        return ops.reshape(ops.take(tensor, clips, axis=0), (-1, *shape[1:]))

    return tree.map_structure(take, nest)


def _concatenate(*nests):
    return tree.map_structure(lambda *tensors: ops.concatenate(tensors, axis=0), *nests)


def _result(scores, history):
    """Sets the clips apart, `(batch_size, num_captions, ...)`, and clears what never ended."""
    ended = (scores > -np.inf)[:, :, None]
    for i, x in enumerate(history):
        x = ops.reshape(x, (-1, scores.shape[1], *ops.shape(x)[1:]))
        history[i] = ops.where(ended if i == 0 else ended[:, :, :, None], x, PAD_ID)
    sequence_length = ops.sum(ops.cast(history[0] != PAD_ID, "int32"), axis=2)
    return DecodingResult(history[0], sequence_length, scores, *history[1:])

"""Captions a second: `python -m tests.benchmarks.decoding [--rounds 5] [--batches 1 32 256]`.

One LSTM decoder with additive attention (20 memory rows, 512 units, 8,000 words; random weights,
sentences of 6 to 20 words, 11 on average), decoded in turns by

- ours: `captioner.decoding` in one graph, on whichever backend Keras has (on PyTorch: as it is);
- fixed: the same loop without its early end, always `max_length` words;
- eager: on TensorFlow, the same loop outside a graph, word by word;
- torch: batched greedy and beam search as PyTorch's users write it, if it is installed.

On a CPU one thread each, and the sides take turns, so that whatever else runs on the machine slows
all of them. The last line on stdout is a JSON object: medians in captions a second, and ratios.
"""

import argparse
import contextlib
import json
import os
import statistics
import sys
import time

os.environ["OMP_NUM_THREADS"] = "1"
# JAX's threads can be told only here, and not through a function of its own.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)

import numpy as np
from keras import ops

from captioner import decoding
from captioner.config import DecodingOptions
from captioner.vocabulary import END_ID, PAD_ID, START_ID, UNKNOWN_ID

from . import backend

VOCAB_SIZE, UNITS, MEMORY_LENGTH, MAX_LENGTH, NUM_CLIPS = 8000, 512, 20, 30, 256


def make_weights():
    """Weights whose words have a clear favourite, as a trained model's have."""
    rng = np.random.default_rng(7)

    def normal(*shape, scale):
        return (scale * rng.normal(size=shape)).astype("float32")

    weights = {
        "embedding": normal(VOCAB_SIZE, UNITS, scale=1.0),
        "kernel": normal(3 * UNITS, 4 * UNITS, scale=1.5 / UNITS**0.5),
        "bias": normal(4 * UNITS, scale=0.1),
        "query": normal(UNITS, UNITS, scale=UNITS**-0.5),
        "score": normal(UNITS, scale=1.0),
        "output": normal(UNITS, VOCAB_SIZE, scale=0.55),
        "memory": normal(NUM_CLIPS, MEMORY_LENGTH, UNITS, scale=1.0),
        "memory_keys": normal(NUM_CLIPS, MEMORY_LENGTH, UNITS, scale=1.0),
        "length": np.clip(np.round(rng.gamma(12.0, 11.3 / 12, NUM_CLIPS)), 6, 20).astype("float32"),
    }
    # END is one more input of the output layer, which grows past the words at the clip's length.
    weights["output"][:, [PAD_ID, START_ID, END_ID, UNKNOWN_ID]] = 0
    end = np.zeros((1, VOCAB_SIZE), "float32")
    end[0, END_ID] = 1
    weights["output"] = np.concatenate([weights["output"], end])
    return weights


def end_logit(words, length):
    return 19.0 + 4.0 * (words - length)


# Keras ------------------------------------------------------------------------------------------


KERAS_WEIGHTS = ("embedding", "kernel", "bias", "query", "score", "output")


def keras_decoder(options):
    """`decode(weights, memory, keys, length)`, tensors -> token ids."""

    def decode(w, memory, keys, length):
        def step(token_ids, state, memory):
            hidden, cell, words = state
            memory, keys, length = memory
            queries = ops.reshape(ops.matmul(hidden, w["query"]), (length.shape[0], -1, 1, UNITS))
            scores = ops.matmul(ops.tanh(keys[:, None] + queries), w["score"][:, None])[..., 0]
            attention = ops.softmax(scores)  # (num_clips, beam_size, memory_length)
            context = ops.reshape(ops.matmul(attention, memory), (-1, UNITS))  # (rows, units)
            embedded = ops.take(w["embedding"], token_ids, axis=0)
            inputs = ops.concatenate([embedded, context, hidden], axis=1)
            gates = ops.matmul(inputs, w["kernel"]) + w["bias"]
            i, f, g, o = ops.split(gates, 4, axis=1)
            cell = ops.sigmoid(f) * cell + ops.sigmoid(i) * ops.tanh(g)
            hidden = ops.sigmoid(o) * ops.tanh(cell)
            length = ops.repeat(length, words.shape[0] // length.shape[0])
            ends = end_logit(words, length)[:, None]
            logits = ops.matmul(ops.concatenate([hidden, ends], axis=1), w["output"])
            return logits, (hidden, cell, words + 1)

        batch_size = memory.shape[0]
        zeros = ops.zeros((batch_size, UNITS))
        return decoding.decode(
            step,
            (zeros, zeros, ops.zeros((batch_size,))),
            batch_size=batch_size,
            options=options,
            memory=(memory, keys, length),
        ).token_ids

    return decode


@contextlib.contextmanager
def without_early_end():
    """Searches that are traced here, or run here where nothing is traced, take every step."""
    go_on, halve = decoding._go_on, decoding.MIN_CLIPS_TO_HALVE
    try:
        decoding._go_on = lambda clips, t, max_length, enough: t <= max_length
        decoding.MIN_CLIPS_TO_HALVE = 10**9
        yield
    finally:
        decoding._go_on, decoding.MIN_CLIPS_TO_HALVE = go_on, halve


def keras_sides(weights, options):
    # As constants of a graph they would make JAX slow to compile it.
    w = {name: ops.convert_to_tensor(weights[name]) for name in KERAS_WEIGHTS}

    def on(function, context=contextlib.nullcontext):
        def run(clips):
            chosen = (weights[name][clips] for name in ("memory", "memory_keys", "length"))
            with context():
                token_ids = function(w, *map(ops.convert_to_tensor, chosen))
            return ops.convert_to_numpy(token_ids)[:, 0]

        return run

    # Two functions, or JAX would take the one's graph for the other's.
    ours, fixed = (backend.for_inference(keras_decoder(options)) for _ in range(2))
    sides = {"ours": on(ours), "fixed": on(fixed, without_early_end)}
    if backend.NAME == "tensorflow":
        # PyTorch has no other loop; JAX would compile each word's step anew at every call.
        sides["eager"] = on(keras_decoder(options))
    return sides


# PyTorch ----------------------------------------------------------------------------------------


def torch_side(torch, weights, options):
    """Batched greedy and beam search, written as PyTorch's users write them."""

    class Decoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            t = {name: torch.from_numpy(array) for name, array in weights.items()}
            self.embedding = torch.nn.Embedding.from_pretrained(t["embedding"])
            self.cell = torch.nn.LSTMCell(2 * UNITS, UNITS)
            self.query = torch.nn.Linear(UNITS, UNITS, bias=False)
            self.score = torch.nn.Linear(UNITS, 1, bias=False)
            self.output = torch.nn.Linear(UNITS + 1, VOCAB_SIZE, bias=False)
            self.cell.weight_ih.data = t["kernel"][: 2 * UNITS].T.contiguous()
            self.cell.weight_hh.data = t["kernel"][2 * UNITS :].T.contiguous()
            self.cell.bias_ih.data = t["bias"]
            self.cell.bias_hh.data.zero_()
            self.query.weight.data = t["query"].T.contiguous()
            self.score.weight.data = t["score"][None]
            self.output.weight.data = t["output"].T.contiguous()

        def forward(self, token_ids, hidden, cell, words, memory, keys, length):
            scores = self.score(torch.tanh(keys + self.query(hidden).unsqueeze(1))).squeeze(2)
            attention = torch.softmax(scores, dim=1)
            context = torch.bmm(attention.unsqueeze(1), memory).squeeze(1)
            inputs = torch.cat([self.embedding(token_ids), context], dim=1)
            hidden, cell = self.cell(inputs, (hidden, cell))
            ends = end_logit(words, length).unsqueeze(1)
            return self.output(torch.cat([hidden, ends], dim=1)), hidden, cell

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = Decoder().eval().to(device)
    never = torch.tensor([PAD_ID, START_ID, UNKNOWN_ID], device=device)

    @torch.inference_mode()
    def greedy(memory, keys, length):
        rows = len(memory)
        hidden = cell = torch.zeros(rows, UNITS, device=device)
        token_ids = torch.full((rows,), START_ID, device=device)
        ended = torch.zeros(rows, dtype=torch.bool, device=device)
        words = []
        for t in range(MAX_LENGTH):
            logits, hidden, cell = model(token_ids, hidden, cell, t, memory, keys, length)
            logits[:, never] = -torch.inf
            token_ids = logits.argmax(dim=1).masked_fill(ended, PAD_ID)
            ended |= token_ids == END_ID
            words.append(token_ids)
            if ended.all():
                break
        return torch.stack(words, dim=1)

    @torch.inference_mode()
    def beam_search(memory, keys, length):
        batch_size, beam_size = len(memory), options.beam_size
        rows = batch_size * beam_size
        memory, keys, length = (x.repeat_interleave(beam_size, 0) for x in (memory, keys, length))
        hidden = cell = torch.zeros(rows, UNITS, device=device)
        sequences = torch.full((rows, 1), START_ID, device=device)
        totals = torch.full((batch_size, beam_size), -torch.inf, device=device)
        totals[:, 0] = 0
        lengths = torch.zeros(rows, device=device)
        ended = torch.zeros(rows, dtype=torch.bool, device=device)
        clips = torch.arange(batch_size, device=device).unsqueeze(1) * beam_size
        for t in range(MAX_LENGTH):
            logits, hidden, cell = model(sequences[:, -1], hidden, cell, t, memory, keys, length)
            log_probs = torch.log_softmax(logits, dim=1)
            log_probs[:, never] = -torch.inf
            log_probs[ended] = -torch.inf  # an ended hypothesis goes on with PAD alone
            log_probs[ended, PAD_ID] = 0
            totals = (totals.view(rows, 1) + log_probs).view(batch_size, -1)
            totals, chosen = totals.topk(beam_size, dim=1)
            parents = (clips + chosen // VOCAB_SIZE).view(-1)
            token_ids = (chosen % VOCAB_SIZE).view(rows, 1)
            hidden, cell = hidden.index_select(0, parents), cell.index_select(0, parents)
            sequences = torch.cat([sequences.index_select(0, parents), token_ids], dim=1)
            lengths = lengths.index_select(0, parents)
            ended = ended.index_select(0, parents)
            lengths += (~ended).float()
            ended |= token_ids.squeeze(1) == END_ID
            if ended.all():
                break
        penalty = ((5 + lengths.view(batch_size, beam_size)) / 6) ** options.length_penalty
        best = (totals / penalty).argmax(dim=1)
        return sequences[clips.squeeze(1) + best, 1:]

    search = greedy if options.beam_size == 1 else beam_search

    def run(clips):
        chosen = (weights[name][clips] for name in ("memory", "memory_keys", "length"))
        return search(*(torch.from_numpy(x).to(device) for x in chosen)).cpu().numpy()

    return run


# Turns ------------------------------------------------------------------------------------------


def words_of(token_ids):
    return [[int(i) for i in row if i not in (PAD_ID, END_ID)] for row in token_ids]


def measure(torch, weights, beam_size, batch_size, rounds, results):
    options = DecodingOptions(beam_size=beam_size, max_length=MAX_LENGTH)
    sides = keras_sides(weights, options)
    if torch is not None:
        sides["torch"] = torch_side(torch, weights, options)
    calls = 8 if batch_size == 1 else 1
    batches = [np.arange(i * batch_size, (i + 1) * batch_size) for i in range(calls)]
    name = f"{'greedy' if beam_size == 1 else f'beam{beam_size}'}_batch{batch_size}"
    captions = {side: words_of(run(batches[0])) for side, run in sides.items()}
    seconds = {side: [] for side in sides}
    for _ in range(rounds):
        for side, run in sides.items():
            start = time.perf_counter()
            for clips in batches:
                run(clips)
            seconds[side].append(time.perf_counter() - start)
    for side in sides:
        rate = batch_size * calls / statistics.median(seconds[side])
        results[f"{name}_{side}_captions_per_second"] = round(rate, 1)
        if side != "ours":
            ratios = [b / a for a, b in zip(seconds["ours"], seconds[side], strict=True)]
            results[f"{name}_vs_{side}"] = round(statistics.median(ratios), 2)
    lengths = [len(words) for words in captions["ours"]]
    same = {
        side: sum(a == b for a, b in zip(captions["ours"], captions[side], strict=True))
        for side in sides
    }
    print(
        f"{name}: {min(lengths)} to {max(lengths)} words, {np.mean(lengths):.1f} on average; "
        f"same captions as ours of {batch_size}: {same}",
        file=sys.stderr,
    )
    print({k: v for k, v in results.items() if k.startswith(name + "_")}, file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32, 256])
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--no-torch", action="store_true", help="without PyTorch's side")
    args = parser.parse_args()
    backend.one_thread()
    torch = backend.import_torch(not args.no_torch)
    if args.no_torch:
        pass
    elif torch is None:
        print("PyTorch is not installed: that side is left out.", file=sys.stderr)
    else:
        torch.set_num_threads(1)
    weights = make_weights()
    results = backend.described()
    for batch_size in args.batches:
        for beam_size in args.beams:
            measure(torch, weights, beam_size, batch_size, args.rounds, results)
    print(json.dumps(results))


if __name__ == "__main__":
    main()

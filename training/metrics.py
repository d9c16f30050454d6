"""How good sentences are, as the field measures it.

BLEU, ROUGE-L and CIDEr give the figures of pycocoevalcap (Chen et al. 2015, "Microsoft COCO
captions") on the same words. These are `captioner.vocabulary.tokenize`'s, not those of the Java
tokenizer that pycocoevalcap puts first.
"""

import json
import os
import subprocess
import tempfile
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from captioner.vocabulary import tokenize

MAX_N = 4  # words of the longest n-grams
ROUGE_BETA = 1.2
CIDER_SIGMA = 6.0  # words
RESAMPLES = 1000
# pycocoevalcap brings the rest, and fetches these from Stanford University.
SPICE_LIBRARIES = ("lib/stanford-corenlp-3.6.0.jar", "lib/stanford-corenlp-3.6.0-models.jar")
# What SPICE reads, Java hides from version 16 on; Java 8 passes over the variable.
SPICE_JAVA_OPTIONS = " ".join(
    f"--add-opens={package}=ALL-UNNAMED"
    for package in (
        *(f"java.base/java.{part}" for part in "lang math net text util util.concurrent".split()),
        "java.sql/java.sql",
    )
)


@dataclass(frozen=True)
class Scores:
    """How good the captions of some clips are.

    Attributes:
        corpus: `bleu_1` to `bleu_4`, `rouge_l`, `cider`, `cider_d` and, where they can be had,
            `meteor` and `spice` over all clips. What pycocoevalcap calls CIDEr is CIDEr-D (with
            clipping and a penalty on the length); papers use both names for this figure, so both
            are here.
        intervals: for each the bounds that hold 95 % of its values over clips drawn again with
            replacement (the percentile bootstrap, Efron 1979).
        clips: for each the values of the single clips.
        left_out: for each that could not be had the reason.
    """

    corpus: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    clips: dict[str, np.ndarray]
    left_out: dict[str, str]


def score(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    java: bool = True,
    seed: int = 0,
) -> Scores:
    """Scores sentences against what people said of the same clips.

    Args:
        hypotheses: a sentence a clip.
        references: for each clip, what people said.
        java: whether to measure METEOR and SPICE too, where they can be had; this takes seconds.
        seed: of the clips drawn for the intervals.
    """
    said = [tokenize(sentence) for sentence in hypotheses]
    truth = [[tokenize(sentence) for sentence in several] for several in references]
    draws = _resample(len(said), seed)
    counts = np.array([_bleu_counts(*pair) for pair in zip(said, truth, strict=True)])
    bleus = [_bleu(totals) for totals in (counts.sum(0), counts, draws @ counts)]
    means = {
        "rouge_l": np.array([_rouge_l(*pair) for pair in zip(said, truth, strict=True)]),
        "cider": CiderD(truth).score(said),
    }
    means["cider_d"] = means["cider"]
    corpus, clips, drawn = (
        {f"bleu_{n}": values[..., n - 1] for n in range(1, MAX_N + 1)} for values in bleus
    )
    left_out = {}
    if java:
        try:
            means["spice"] = _spice(said, truth)
        except (ImportError, OSError, ValueError) as err:
            left_out["spice"] = f"needs Java, pycocoevalcap and Stanford CoreNLP: {err}"
        try:
            with _Meteor() as scorer:
                stats = np.array([scorer.stats(*pair) for pair in zip(said, truth, strict=True)])
                clips["meteor"] = np.array([scorer.evaluate(row) for row in stats])
                # METEOR adds no fragments of a sentence that is word for word a reference.
                lengths, chunks, matches = stats[:, :2], stats[:, -3], stats[:, -2:]
                chunks[(lengths == matches).all(1) & (chunks == 1)] = 0
                corpus["meteor"] = scorer.evaluate(stats.sum(0))
                drawn["meteor"] = np.array([scorer.evaluate(row) for row in draws @ stats])
        except (ImportError, OSError, ValueError) as err:
            left_out["meteor"] = f"needs Java and pycocoevalcap: {err}"
    for name, values in means.items():
        corpus[name], clips[name], drawn[name] = values.mean(), values, draws @ values / len(said)
    return Scores(
        {name: float(value) for name, value in corpus.items()},
        {
            name: tuple(np.quantile(values, (0.025, 0.975)).tolist())
            for name, values in drawn.items()
        },
        clips,
        left_out,
    )


def _resample(num_clips: int, seed: int) -> np.ndarray:
    """How often each clip is drawn, `(RESAMPLES, num_clips)`."""
    even = np.full(num_clips, 1 / num_clips)
    return np.random.default_rng(seed).multinomial(num_clips, even, RESAMPLES)


def count_ngrams(words: Sequence[Hashable]) -> Counter:
    """How often each run of one to four words occurs, as a tuple."""
    return Counter(
        ngram for n in range(1, MAX_N + 1) for ngram in zip(*(words[i:] for i in range(n)))
    )


def _bleu_counts(said, references) -> list[int]:
    """What BLEU adds up over clips (Papineni et al. 2002).

    Returns:
        Words said, words of the reference closest in length, n-grams said of each length, and how
        many of these are in a reference, none more often than there.
    """
    most = Counter()
    for reference in references:
        most |= count_ngrams(reference)
    correct = [0] * MAX_N
    for ngram, count in (count_ngrams(said) & most).items():
        correct[len(ngram) - 1] += count
    closest = min((abs(len(reference) - len(said)), len(reference)) for reference in references)[1]
    guessed = [max(0, len(said) - n) for n in range(MAX_N)]
    return [len(said), closest, *guessed, *correct]


def _bleu(counts: np.ndarray) -> np.ndarray:
    """BLEU-1 to BLEU-4, `(..., 4)`, of counts `(..., 10)` as `_bleu_counts` gives them."""
    tiny, small = 1e-15, 1e-9  # pycocoevalcap's
    counts = np.asarray(counts, float)
    said, closest = counts[..., 0], counts[..., 1]
    guessed, correct = counts[..., 2 : 2 + MAX_N], counts[..., 2 + MAX_N :]
    precisions = np.cumprod((correct + tiny) / (guessed + small), axis=-1)
    ratio = (said + tiny) / (closest + small)
    brevity = np.exp(np.minimum(0, 1 - 1 / ratio))
    return precisions ** (1 / np.arange(1, MAX_N + 1)) * brevity[..., None]


def _rouge_l(said, references) -> float:
    """ROUGE-L of one clip: the best precision with the best recall (Lin 2004)."""
    lengths = [_longest_common(said, reference) for reference in references]
    precision = max(lengths) / max(1, len(said))
    recall = max(
        length / max(1, len(reference))
        for length, reference in zip(lengths, references, strict=True)
    )
    if not precision * recall:
        return 0.0
    return (1 + ROUGE_BETA**2) * precision * recall / (recall + ROUGE_BETA**2 * precision)


def _longest_common(a, b) -> int:
    """Length of the longest common subsequence, a bit a word (Hyyrö 2004)."""
    places = {}
    for place, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << place
    rest = (1 << len(a)) - 1
    for word in b:
        matches = rest & places.get(word, 0)
        rest = (rest + matches) | (rest - matches)
    return len(a) - (rest & (1 << len(a)) - 1).bit_count()


class CiderD:
    """CIDEr-D (Vedantam et al. 2015) with the document frequencies of one set of references.

    The mean over the same clips is the CIDEr that pycocoevalcap reports. Words may be strings
    or token ids.
    """

    def __init__(self, references: Sequence[Sequence[Sequence[Hashable]]]):
        """Args:
        references: for each clip, sentences as words.
        """
        counts = [[count_ngrams(sentence) for sentence in clip] for clip in references]
        frequency = Counter(ngram for clip in counts for ngram in set().union(*clip))
        self._rarest = np.log(max(1, len(references)))
        self._rarity = {
            ngram: self._rarest - float(np.log(count)) for ngram, count in frequency.items()
        }
        self._references = [[self._vector(one) for one in clip] for clip in counts]

    def score(
        self, hypotheses: Sequence[Sequence[Hashable]], clips: Sequence[int] | None = None
    ) -> np.ndarray:
        """Scores sentences, given as words.

        Args:
            hypotheses: any number a clip.
            clips: the place among the references of the clip that each is of; by default there
                is one for each, in order.

        Returns:
            `(num_hypotheses,)`, 0 to 10.
        """
        clips = range(len(self._references)) if clips is None else clips
        return np.array(
            [self._score(words, clip) for words, clip in zip(hypotheses, clips, strict=True)]
        )

    def _vector(self, counts: Counter) -> tuple[dict, list[float], int]:
        """The weight of each n-gram, the norm for each n, and how many bigrams there are."""
        weights, squares, length = {}, [0.0] * MAX_N, 0
        for ngram, count in counts.items():
            weight = weights[ngram] = count * self._rarity.get(ngram, self._rarest)
            squares[len(ngram) - 1] += weight * weight
            length += count * (len(ngram) == 2)
        return weights, [square**0.5 for square in squares], length

    def _score(self, words, clip) -> float:
        weights, norms, length = self._vector(count_ngrams(words))
        total = 0.0
        for others, other_norms, other_length in self._references[clip]:
            products = [0.0] * MAX_N
            for ngram in weights.keys() & others.keys():
                other = others[ngram]
                products[len(ngram) - 1] += min(weights[ngram], other) * other
            cosines = sum(
                product / (norm * other_norm)
                for product, norm, other_norm in zip(products, norms, other_norms)
                if product
            )
            total += cosines * np.exp(-((length - other_length) ** 2) / (2 * CIDER_SIGMA**2))
        return 10 * total / MAX_N / len(self._references[clip])


def _package() -> Path:
    """The folder of pycocoevalcap, which brings the jars of METEOR and SPICE."""
    package = find_spec("pycocoevalcap")
    if package is None:
        raise ImportError("pip install pycocoevalcap")
    return Path(package.submodule_search_locations[0])


def _spice(said, truth) -> np.ndarray:
    """SPICE 1.0 of each clip (Anderson et al. 2016), by the jar that pycocoevalcap brings.

    Raises:
        ImportError: pycocoevalcap is not installed.
        OSError: there is no Java, or no Stanford CoreNLP.
        ValueError: the jar does not answer as it should.
    """
    folder = _package() / "spice"
    for jar in SPICE_LIBRARIES:
        if not (folder / jar).exists():
            hint = "python -m pycocoevalcap.spice.get_stanford_models downloads it"
            raise FileNotFoundError(f"{jar} is missing; {hint}")
    rows = [
        {"image_id": clip, "test": " ".join(words), "refs": [" ".join(one) for one in several]}
        for clip, (words, several) in enumerate(zip(said, truth, strict=True))
    ]
    with tempfile.TemporaryDirectory() as temporary:
        asked, answer = Path(temporary, "asked.json"), Path(temporary, "answer.json")
        asked.write_text(json.dumps(rows), encoding="utf-8")
        command = ["java", "-Xmx8G", "-jar", "spice-1.0.jar", asked, "-out", answer, "-silent"]
        options = {"JDK_JAVA_OPTIONS": SPICE_JAVA_OPTIONS, **os.environ}
        done = subprocess.run(command, cwd=folder, env=options, capture_output=True, text=True)
        if done.returncode:
            raise ValueError(f"SPICE failed: {done.stderr.strip()[-300:]}")
        found = json.loads(answer.read_text(encoding="utf-8"))
    scores = {row["image_id"]: row["scores"]["All"]["f"] for row in found}
    return np.array([scores[clip] for clip in range(len(said))], float)


class _Meteor:
    """METEOR 1.5 (Denkowski and Lavie 2014), the jar that pycocoevalcap brings; in a `with`.

    Raises:
        ImportError: pycocoevalcap is not installed.
        OSError: there is no Java.
        ValueError: the jar does not answer as it should.
    """

    def __init__(self):
        jar = _package() / "meteor" / "meteor-1.5.jar"
        command = ["java", "-Xmx2G", "-jar", str(jar), "-", "-", "-stdio", "-l", "en", "-norm"]
        pipe = subprocess.PIPE
        self._java = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, encoding="utf-8"
        )

    def __enter__(self) -> "_Meteor":
        return self

    def __exit__(self, *_):
        self._java.kill()
        self._java.communicate()

    def stats(self, said, references) -> list[float]:
        """What METEOR adds up over clips."""
        return self._ask("SCORE", *map(" ".join, references), " ".join(said))

    def evaluate(self, stats) -> float:
        """METEOR of summed statistics."""
        self._ask("EVAL", " ".join(map(repr, map(float, stats))))
        return self._answer()[0]  # first the sentence's own, then that of all

    def _ask(self, *parts) -> list[float]:
        self._java.stdin.write(" ||| ".join(parts) + "\n")
        self._java.stdin.flush()
        return self._answer()

    def _answer(self) -> list[float]:
        line = self._java.stdout.readline()
        if not line.strip():
            raise ValueError("METEOR gave no answer")
        return [float(number) for number in line.split()]

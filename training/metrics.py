"""How good sentences are, as the field measures it."""

from collections.abc import Sequence

from captioner.errors import CaptionerError
from captioner.vocabulary import tokenize

try:
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge
except ImportError as err:
    raise CaptionerError(
        "measuring needs pycocoevalcap; install it: pip install pycocoevalcap"
    ) from err


def score(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[dict[str, float], list[float]]:
    """Scores sentences against what people said of the same clips.

    The figures are those of pycocoevalcap (Chen et al. 2015, "Microsoft COCO captions"), on
    this project's own words (`captioner.vocabulary.tokenize`) instead of the Java tokenizer's.

    Args:
        hypotheses: a sentence a clip.
        references: for each clip, what people said.

    Returns:
        `bleu_1` to `bleu_4`, `rouge_l` and `cider` over all clips, and each clip's own CIDEr.
    """
    said = {clip: [_normalize(sentence)] for clip, sentence in enumerate(hypotheses)}
    truth = {clip: [_normalize(one) for one in several] for clip, several in enumerate(references)}
    bleu, _ = Bleu(4).compute_score(truth, said, verbose=0)
    rouge, _ = Rouge().compute_score(truth, said)
    cider, cider_of_clips = Cider().compute_score(truth, said)
    scores = {f"bleu_{n}": value for n, value in enumerate(bleu, 1)}
    scores |= {"rouge_l": rouge, "cider": cider}
    return {name: float(value) for name, value in scores.items()}, cider_of_clips.tolist()


def _normalize(sentence):
    return " ".join(tokenize(sentence))

"""Word labels of pictures: which words are in their captions."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from captioner.vocabulary import tokenize


def words_said(
    captions: Sequence[Sequence[str]], rarest: float, commonest: float
) -> tuple[list[str], np.ndarray]:
    """Word labels: which words are in the captions of each picture.

    Args:
        captions: of each picture, if any.
        rarest: least share of the pictures with captions that a word is said of.
        commonest: largest such share.

    Returns:
        The words, sorted, and whether each is said of each picture, bool
        `(num_pictures, num_words)`.
    """
    said = [{word for caption in several for word in tokenize(caption)} for several in captions]
    counts, num_told = Counter(word for words in said for word in words), sum(map(bool, said))
    words = sorted(w for w, count in counts.items() if rarest <= count / num_told <= commonest)
    return words, np.array([[word in one for word in words] for one in said])

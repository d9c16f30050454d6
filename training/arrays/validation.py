"""Validation of caption models that are taught from features in memory."""

import numpy as np

from captioner.config import DecodingOptions

from ..metrics import CiderD
from .bank import Bank


class Validation:
    """CIDEr-D of greedy captions on what only validates."""

    def __init__(self, bank: Bank):
        self.bank, self.kinds = bank, {}
        words = bank.items.token_ids
        for kind, is_video in (("pictures", False), ("videos", True)):
            own = np.flatnonzero(bank.items.is_val & (bank.items.is_video == is_video))
            if len(own):
                said = [[_bare(words[s]) for s in bank.references[i]] for i in own]
                self.kinds[kind] = own, CiderD(said)

    def __call__(self, learner, options: DecodingOptions | None = None) -> dict:
        """Of a `Learner`: CIDEr-D of each kind, how many sentences differ, the mean."""
        options = options or DecodingOptions(beam_size=1, max_length=20, no_repeat_ngram_size=2)
        row = {}
        for kind, (own, cider) in self.kinds.items():
            batch_size = 240 if kind == "videos" else 250
            found = learner.caption(own, options, min(batch_size, len(own)))
            said = [_bare(one) for one in found]
            row[kind] = float(cider.score(said).mean())
            row[f"distinct_{kind}"] = len(set(said))
        return row | {"mean": float(np.mean([row[kind] for kind in self.kinds]))}


def _bare(ids):
    """The words of a sentence as a tuple, without END and PAD."""
    return tuple(int(i) for i in ids if i > 2)

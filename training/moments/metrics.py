"""Metrics of temporal action segmentation.

Frame accuracy, edit score and segmental F1 are those of Lea et al. 2017, "Temporal convolutional
networks for action segmentation and detection"; figures are shares between 0 and 1.
"""

from collections.abc import Hashable, Sequence
from itertools import groupby

import numpy as np

OVERLAPS = (0.10, 0.25, 0.50)


def frame_accuracy(predicted: Sequence[np.ndarray], true: Sequence[np.ndarray]) -> float:
    """The share of moments whose label is right, over all videos together.

    Args:
        predicted: labels of each video, `(num_frames,)`.
        true: likewise.
    """
    right = sum(np.count_nonzero(p == t) for p, t in zip(predicted, true, strict=True))
    return float(right / sum(map(len, true)))


def runs(labels: Sequence[Hashable], background: Hashable = None) -> list[tuple]:
    """Segments of labels that are the same, `(label, start, end)` in frames, without background."""
    segments, start = [], 0
    for label, group in groupby(labels):
        end = start + sum(1 for _ in group)
        if label != background:
            segments.append((label, start, end))
        start = end
    return segments


def edit_score(predicted: Sequence, true: Sequence, background: Hashable = None) -> float:
    """How well the order of the segments is found, whenever they are.

        1 - Levenshtein(segments predicted, segments true) / the larger number of segments

    Args:
        predicted: labels of a video, `(num_frames,)`.
        true: likewise.
        background: the label of what is no segment.
    """
    found = [label for label, *_ in runs(predicted, background)]
    wanted = [label for label, *_ in runs(true, background)]
    if not found and not wanted:
        return 1.0
    row = list(range(len(wanted) + 1))
    for i, label in enumerate(found, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(wanted, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (label != other))
    return 1 - row[-1] / max(len(found), len(wanted))


def f1_counts(found: Sequence[tuple], wanted: Sequence[tuple], overlap: float) -> np.ndarray:
    """Counts segments that are right: those whose best match is good enough and not yet taken.

    A predicted segment is matched with the true one of the same label with which it has the
    largest intersection over union.

    Args:
        found: segments of a video, `(label, start, end)`.
        wanted: likewise.
        overlap: least intersection over union of what is right.

    Returns:
        True positives, false positives, false negatives: `(3,)`.
    """
    taken = set()
    for label, start, end in found:
        shares = [
            max(0, min(end, other_end) - max(start, other_start))
            / (max(end, other_end) - min(start, other_start))
            * (label == other)
            for other, other_start, other_end in wanted
        ]
        best = int(np.argmax(shares)) if shares else None
        if best is not None and shares[best] >= overlap:
            taken.add(best)
    right = len(taken)
    return np.array([right, len(found) - right, len(wanted) - right])


def f1(counts: np.ndarray) -> float:
    """F1 of the sums of `f1_counts` over all videos; 1 where there is nothing to be found."""
    right, false_positives, false_negatives = counts
    total = 2 * right + false_positives + false_negatives
    return float(2 * right / total) if total else 1.0


def segmental_scores(
    predicted: Sequence[np.ndarray], true: Sequence[np.ndarray], background: Hashable = None
) -> dict[str, float]:
    """`frame_accuracy`, `edit` (the mean over videos), `f1_10`, `f1_25` and `f1_50`.

    Args:
        predicted: labels of each video, `(num_frames,)`.
        true: likewise.
        background: the label of what is no segment; it counts in the accuracy alone.
    """
    pairs = list(zip(predicted, true, strict=True))
    edits = [edit_score(p.tolist(), t.tolist(), background) for p, t in pairs]
    scores = {"frame_accuracy": frame_accuracy(predicted, true), "edit": float(np.mean(edits))}
    segments = [[runs(labels.tolist(), background) for labels in pair] for pair in pairs]
    for overlap in OVERLAPS:
        counts = sum(f1_counts(found, wanted, overlap) for found, wanted in segments)
        scores[f"f1_{overlap * 100:.0f}"] = f1(counts)
    return scores


def average_precision(scores: np.ndarray, holds: np.ndarray) -> float:
    """The area under the curve of precision over recall, a step at each different score.

        sum over scores, from the largest down, of (recall - recall before) * precision

    Args:
        scores: how likely the label is at each moment, `(num_frames,)`.
        holds: whether it holds, `(num_frames,)`; at least once.
    """
    order = np.argsort(-scores, kind="stable")
    scores, holds = scores[order], holds[order]
    last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)  # of each score
    right = np.cumsum(holds)[last]
    return float(np.sum(np.diff(right, prepend=0) / right[-1] * right / (last + 1)))


def mean_average_precision(scores: Sequence[np.ndarray], true: Sequence[np.ndarray]) -> float:
    """The mean of `average_precision` over the labels that occur, over all moments together.

    Args:
        scores: logits or probabilities of each video, `(num_frames, num_labels)`.
        true: which labels hold, bool `(num_frames, num_labels)`.

    Returns:
        NaN where no label ever holds.
    """
    scores, true = np.concatenate(scores), np.concatenate(true).astype(bool)
    found = [average_precision(s, t) for s, t in zip(scores.T, true.T) if t.any()]
    return float(np.mean(found)) if found else float("nan")

"""The figures of labelled moments, worked by hand and as their authors' programs give them."""

import numpy as np
import pytest

from training.moments.metrics import (
    average_precision,
    edit_score,
    f1,
    f1_counts,
    frame_accuracy,
    mean_average_precision,
    runs,
    segmental_scores,
)


def spell(text):
    """Labels of moments, a letter each."""
    return np.array([ord(letter) - ord("a") for letter in text])


def test_runs():
    assert runs("aabbba") == [("a", 0, 2), ("b", 2, 5), ("a", 5, 6)]
    assert runs("aabbba", background="b") == [("a", 0, 2), ("a", 5, 6)]
    assert runs("") == []


def test_frame_accuracy_is_over_all_frames():
    assert frame_accuracy([spell("aab"), spell("b")], [spell("abb"), spell("c")]) == 2 / 4


@pytest.mark.parametrize(
    ("predicted", "true", "score"),
    [
        ("aabbcc", "aaabcc", 1),  # the order is right
        ("aabacc", "aaabcc", 1 - 1 / 4),  # a b a c: one too many
        ("abc", "cba", 1 - 2 / 3),
        ("aaaa", "abab", 1 - 3 / 4),
        ("kitten", "siting", 1 - 3 / 6),  # k i t e n: Levenshtein's own pair, runs joined
    ],
)
def test_edit_score(predicted, true, score):
    assert edit_score(predicted, true) == pytest.approx(score)


def test_edit_score_without_background():
    assert edit_score("-a-b", "a-bb", background="-") == 1
    assert edit_score("--", "---", background="-") == 1
    assert edit_score("--", "aa", background="-") == 0


def test_f1_by_hand():
    true = runs("aaaabbbbcccc")
    # b overlaps by 2/4; a d is wrong, and so is a second c.
    predicted = [*runs("aaaabbddcccc"), ("c", 11, 12)]
    assert f1_counts(predicted, true, 0.5).tolist() == [3, 2, 0]
    assert f1_counts(predicted, true, 0.51).tolist() == [2, 3, 1]
    assert f1(np.array([3, 2, 0])) == pytest.approx(2 * 0.6 * 1 / 1.6)
    # The larger overlap counts, wherever it is, and a true segment is found once.
    assert f1_counts([("a", 0, 2), ("a", 0, 4)], [("a", 0, 4)], 0.5).tolist() == [1, 1, 0]
    assert f1_counts([], true, 0.5).tolist() == [0, 0, 3]
    assert f1_counts(true, [], 0.5).tolist() == [0, 3, 0]


def reference_f1(recognized, truth, overlap):
    """Counts as Lea et al. publish them: the best match by overlap times equality, once."""
    found, wanted = runs(recognized), runs(truth)
    hits, right, wrong = np.zeros(len(wanted)), 0, 0
    starts, ends = np.array([x[1] for x in wanted]), np.array([x[2] for x in wanted])
    for label, start, end in found:
        intersection = np.minimum(end, ends) - np.maximum(start, starts)
        union = np.maximum(end, ends) - np.minimum(start, starts)
        shares = intersection / union * [label == other for other, *_ in wanted]
        best = shares.argmax()
        if shares[best] >= overlap and not hits[best]:
            right, hits[best] = right + 1, 1
        else:
            wrong += 1
    return [right, wrong, len(wanted) - hits.sum()]


def test_f1_as_its_authors_count_it():
    rng = np.random.default_rng(1)
    for _ in range(200):
        pair = [np.repeat(rng.integers(0, 4, 12), rng.integers(1, 6, 12))[:30] for _ in range(2)]
        predicted, true = (labels.tolist() for labels in pair)
        for overlap in (0.1, 0.25, 0.5):
            ours = f1_counts(runs(predicted), runs(true), overlap).tolist()
            assert ours == reference_f1(predicted, true, overlap)


def test_all_scores_together():
    same = [spell("aabbaa"), spell("bb")]
    perfect = dict.fromkeys(["frame_accuracy", "edit", "f1_10", "f1_25", "f1_50"], 1.0)
    assert segmental_scores(same, same, background=0) == perfect
    scores = segmental_scores([spell("aaab"), spell("bb")], [spell("abbb"), spell("bb")])
    assert scores == pytest.approx(
        # a overlaps by 1/3 and b by 1/3
        {"frame_accuracy": 4 / 6, "edit": 1, "f1_10": 1, "f1_25": 1, "f1_50": 1 / 3}
    )


def test_average_precision():
    # The example of scikit-learn's average_precision_score.
    scores, holds = np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])
    assert average_precision(scores, holds) == pytest.approx(0.8333, abs=1e-4)
    # Moments of one score come all at once, in whatever order they are.
    tied = np.array([0.5, 0.5, 0.5, 0.1])
    assert average_precision(tied, holds) == pytest.approx(1 / 2 * 1 / 3 + 1 / 2 * 2 / 4)


def test_mean_average_precision_is_of_labels_that_occur():
    scores = [np.array([[0.9, 0.2, 0.5], [0.1, 0.7, 0.5]]), np.array([[0.8, 0.9, 0.5]])]
    true = [np.array([[1, 0, 0], [0, 1, 0]], bool), np.array([[1, 0, 0]], bool)]
    assert mean_average_precision(scores, true) == pytest.approx((1 + 1 / 2) / 2)
    assert np.isnan(mean_average_precision(scores, [x & False for x in true]))

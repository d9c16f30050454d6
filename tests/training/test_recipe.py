"""Which clips are learned from, and which validate."""

import json
from collections import Counter
from pathlib import Path

import pytest

from training.data.manifest import load_labels
from training.options import CaptionTraining
from training.pace import MOST_FEW
from training.recipe import by_split


def _part(folder, splits, base="default"):
    """How many clips are learned from, how many validate, and how many there are of each split."""
    rows = [
        {"video": f"{number}.mp4", "caption": "A dog runs."} | split
        for number, split in enumerate(splits)
    ]
    path = folder / "labels.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    labels = load_labels(path)
    learned, validating = by_split(CaptionTraining((path,), Path("new"), base), {path: labels})
    return len(learned[0]), len(validating), Counter(clip.split for clip in labels.clips)


def test_few_clips_do_not_validate_where_nobody_said_so(tmp_path):
    learned, validating, made = _part(tmp_path, [{}] * MOST_FEW)
    assert min(made["val"], made["test"]) > 0
    assert (learned, validating) == (MOST_FEW - made["test"], 0)


@pytest.mark.parametrize(("num_clips", "base"), [(MOST_FEW + 1, "default"), (MOST_FEW, "none")])
def test_more_clips_or_those_without_a_base_do(tmp_path, num_clips, base):
    learned, validating, made = _part(tmp_path, [{}] * num_clips, base)
    assert (learned, validating) == (made["train"], made["val"])
    assert validating > 0


def test_splits_that_were_told_stay(tmp_path):
    told = [{"split": "train"}] * 8 + [{"split": "val"}] * 2
    assert _part(tmp_path, told)[:2] == (8, 2)

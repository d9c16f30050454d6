"""Which clips are learned from, and which validate."""

import json
from collections import Counter
from pathlib import Path

import pytest

from training.data.manifest import load_labels
from training.options import CaptionTraining
from training.pace import MOST_FEW
from training.recipe import load_all


def _splits(folder, splits, base="default"):
    """How many clips of each split there are, as made or told, and as trained on."""
    rows = [
        {"video": f"{number}.mp4", "caption": "A dog runs."} | split
        for number, split in enumerate(splits)
    ]
    path = folder / "labels.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    trained_on = load_all(CaptionTraining((path,), Path("new"), base))[path]
    return [Counter(clip.split for clip in one.clips) for one in (load_labels(path), trained_on)]


def test_few_clips_do_not_validate_where_nobody_said_so(tmp_path):
    made, found = _splits(tmp_path, [{}] * MOST_FEW)
    assert min(made["val"], made["test"]) > 0
    assert found == {"train": made["train"] + made["val"], "test": made["test"]}


@pytest.mark.parametrize(("num_clips", "base"), [(MOST_FEW + 1, "default"), (MOST_FEW, "none")])
def test_more_clips_or_those_without_a_base_do(tmp_path, num_clips, base):
    made, found = _splits(tmp_path, [{}] * num_clips, base)
    assert found == made
    assert found["val"] > 0


def test_splits_that_were_told_stay(tmp_path):
    told = [{"split": "train"}] * 8 + [{"split": "val"}] * 2
    assert _splits(tmp_path, told)[1] == {"train": 8, "val": 2}

import json
import os
import subprocess
import sys
from contextlib import contextmanager

import keras
import pytest

from .several_devices import learn

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="several devices are used through it"
)


@contextmanager
def _training(labels, folder):
    """On two devices; killed in the end, if it has not ended."""
    command = [
        sys.executable,
        "-m",
        "tests.training.several_devices",
        "2",
        str(labels),
        str(folder),
    ]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_two_devices_learn_what_one_does_also_when_killed(labelled_clips, tmp_path):
    with _training(labelled_clips, tmp_path / "two") as first:
        for line in first.stderr:
            if line.startswith("pass 50 of"):
                break
    [kept] = (tmp_path / "two/state").glob("round-*")
    assert len(json.loads((kept / "history.json").read_text())) == 1
    with _training(labelled_clips, tmp_path / "two") as second:
        _, told = second.communicate()
    assert second.returncode == 0, told
    assert "pass 50 of" not in told
    [kept] = (tmp_path / "two/state").glob("round-*")
    found = json.loads((kept / "history.json").read_text())
    expected = learn(labelled_clips, tmp_path / "one")
    assert [row["epoch"] for row in found] == [row["epoch"] for row in expected] == [50, 100]
    for one, two in zip(expected, found, strict=True):
        for name in ("loss", "val_loss", "val_cider"):
            assert two[name] == pytest.approx(one[name], rel=1e-3), name
    assert expected[1]["val_loss"] < expected[0]["val_loss"]

"""What is kept of a training, and what is taken up."""

import keras
import pytest

from training.work import Progress


class Model:
    """One with a single weight."""

    def __init__(self):
        self.weight = keras.Variable(0.0)

    def get_weights(self):
        return [keras.ops.convert_to_numpy(self.weight)]

    def set_weights(self, weights):
        self.weight.assign(*weights)


def _run(folder, rows, quality):
    model = Model()
    progress = Progress(folder, model, [model.weight], quality)
    for row in rows[progress.resume() :]:
        model.weight.assign_add(1.0)
        progress.add(row)
        progress.keep()
    return model, progress


@pytest.mark.parametrize(
    ("rows", "best"),
    [
        ([{"q": 1.0}, {"q": 3.0}, {"q": 2.0}, {"q": 2.5}], 1),
        ([{"q": 3.0}, {"q": 3.0}, {"q": 3.0}], 0),
        (
            [{"q": 0.0, "val_loss": 2.0}, {"q": 0.0, "val_loss": 1.0}, {"q": 0.0, "val_loss": 3.0}],
            1,
        ),
        ([{"loss": 1.0}, {"loss": 2.0}], 1),  # nothing was measured, so the last one counts
    ],
)
def test_the_best_round_is_kept(rows, best, tmp_path):
    model, progress = _run(tmp_path, rows, "q")
    assert progress.best_round == best
    since = len(rows) - 1 - best
    assert progress.is_over(since) == (since > 0)
    assert not progress.is_over(since + 1)
    assert not progress.is_over(0)
    progress.finish()
    assert float(model.weight) == best + 1


def test_a_stopped_training_is_taken_up(tmp_path):
    rows = [{"q": 2.0, "seconds": 9}, {"q": 1.0, "seconds": 9}, {"q": 1.5, "seconds": 9}]
    _run(tmp_path, rows[:2], "q")
    model, progress = _run(tmp_path, rows, "q")
    assert progress.history == rows
    assert float(model.weight) == 3
    assert (tmp_path / "train.csv").read_text().split() == ["q", "2.0", "1.0", "1.5"]
    assert [path.name for path in tmp_path.glob("round-*")] == ["round-00002"]
    progress.finish()
    assert float(model.weight) == 1

"""How hard and how long to train, by how much there is to learn from."""

from dataclasses import dataclass

from .options import CaptionTraining
from .trainer import ROUND_STEPS

# By default, without a base:
EPOCHS, FEWEST_STEPS, BATCH_SIZE, LEARNING_RATE, LABEL_SMOOTHING = 10, 300, 64, 1e-3, 0.1
# Of a training that goes on from a base. So many clips count as much as all that the base knows:
KNOWN_CLIPS, MOST_KNOWN = 800, 15.0  # the second: times as much, for `FEW` clips at most
FEW = 20  # clips; up to so many the steps and the batches are the smallest
FEW_RATE, FEW_STEPS, FEW_BATCH, MOST_STEPS = 4e-4, 60, 16, 1500
# Where few clips teach names, from features that tell less.
NAMED_RATE, NAMED_STEPS, NAMED_KNOWN = 2e-4, 60, 30.0
MOST_VIEWED = 400  # clips and their views, where not told otherwise; a clip has at most:
MOST_VIEWS = 8
MOST_FEW = 100  # clips; up to so many a pass is as long as is good for them


@dataclass(frozen=True)
class Pace:
    """How hard and how long to train.

    Attributes:
        views: further ones of each clip.
        batch_size: clips in a batch.
        learning_rate: at its peak.
        label_smoothing: as `training.trainer.TrainingOptions` has it. A base already spreads its
            guesses, and to spread them further would make it forget; but names that few clips
            teach are said elsewhere too without.
        steps: of the whole training, at least, where its passes were not told.
        passes: over all clips, at least, likewise.
        pass_steps: of a pass; None: those that all clips make.
        known: how much what the base knows counts against the clips, which count 1.
        coarse: whether the clips are seen with as little detail as what the base knows, so that a
            model cannot tell by the detail where to say a new name.
    """

    views: int
    batch_size: int
    learning_rate: float
    label_smoothing: float
    steps: int
    passes: int
    pass_steps: int | None
    known: float
    coarse: bool

    @classmethod
    def choose(cls, options: CaptionTraining, num_clips: int, named: bool = False) -> "Pace":
        """What follows from the number of clips, where it was not told.

        Args:
            options: what was told.
            num_clips: to learn from.
            named: whether new words are said of several of them. Such words can be learned from
                few clips; a way of saying things cannot, so without them fewer than `FEW` clips
                move a model less.
        """
        views, batch_size, rate, steps, passes = 0, BATCH_SIZE, LEARNING_RATE, FEWEST_STEPS, EPOCHS
        pass_steps, coarse = None, named and num_clips <= FEW
        more = max(1.0, num_clips / FEW)
        fewer = 1.0 if named else min(1.0, num_clips / FEW)
        if options.has_base:
            views = min(MOST_VIEWS, max(0, MOST_VIEWED // num_clips - 1))
            rate = NAMED_RATE if coarse else min(FEW_RATE * fewer * more**0.4, LEARNING_RATE)
            steps = NAMED_STEPS if coarse else min(int(FEW_STEPS * more**1.2), MOST_STEPS)
            passes = 1
            batch_size = BATCH_SIZE // 2
            if num_clips <= MOST_FEW:
                batch_size = FEW_BATCH
                # The same for parts of the clips, so that they share a compiled step.
                pass_steps = None if options.epochs else round(steps / max(1, steps // ROUND_STEPS))
        most = NAMED_KNOWN if coarse else MOST_KNOWN
        return cls(
            views if options.views is None else options.views,
            options.batch_size or batch_size,
            options.learning_rate or rate,
            LABEL_SMOOTHING if coarse or not options.has_base else 0.0,
            steps,
            passes,
            pass_steps,
            min(max(1.0, KNOWN_CLIPS / num_clips), most) / fewer,
            coarse,
        )

"""Which frames of a clip to look at: indices from timestamps."""

from math import inf
from typing import NamedTuple

import numpy as np

FALLBACK_FPS = 25.0


class Timeline(NamedTuple):
    """When the frames of a file are shown.

    Attributes:
        times: float64, `(num_frames,)`, rising, seconds from the first frame.
        duration: seconds up to the end of the last frame, whose own time on screen, which files
            seldom tell, is taken as the median of the others'.
    """

    times: np.ndarray
    duration: float

    @classmethod
    def of(cls, stamps: np.ndarray, fps: float) -> "Timeline":
        """A timeline of timestamps `(num_frames,)` in seconds, in the order of showing.

        If they are unusable (not finite, going backwards, or all the same), frames are spaced
        by the frame rate, and by 25 a second if that is unusable too.
        """
        rises = np.isfinite(stamps).all() and (np.diff(stamps) >= 0).all()
        fps = fps if 0.01 <= fps <= 1000 else FALLBACK_FPS
        if not rises or np.ptp(stamps[[0, -1]] if len(stamps) else 0) == 0:
            stamps = np.arange(len(stamps)) / fps
        times = stamps - stamps[:1]
        last = np.median(np.diff(times)) if len(times) > 1 else 1 / fps
        return cls(times, float(times[-1] + last) if len(times) else 0.0)

    def choose(self, num_frames: int, start: float = 0.0, end: float = inf) -> np.ndarray:
        """Spreads frames evenly over a stretch of time.

        The stretch is cut into equal parts, and the frame on screen in the middle of each is
        taken; where that would be one frame twice, a neighbour is.

        Returns:
            Indices, all different and rising, of at most `num_frames` frames that begin in
            `[start, end)` seconds; where none does, of the one on screen all the while.
        """
        first, stop = np.searchsorted(self.times, (start, end))
        if first == stop:
            first -= first > 0
        count = min(num_frames, stop - first)
        order = np.arange(count)
        end = min(end, self.duration)
        middles = start + (order + 0.5) * ((end - start) / max(count, 1))
        on_screen = np.searchsorted(self.times, middles, side="right") - 1
        rising = np.maximum.accumulate(on_screen - order) + order
        return np.clip(rising, first + order, stop - count + order)

    def nearest(self, times: np.ndarray) -> np.ndarray:
        """Indices, one for each of these `times` in seconds, of the frames that begin nearest."""
        middles = (self.times[1:] + self.times[:-1]) / 2
        return np.searchsorted(middles, times)

    def every(self, step: float) -> np.ndarray:
        """Indices, rising, of the frames on screen in the middle of each `step` seconds."""
        middles = np.arange(step / 2, max(self.duration, step), step)
        on_screen = np.searchsorted(self.times, middles, side="right") - 1
        return np.unique(on_screen[on_screen >= 0])


def move_to_keyframes(
    times: np.ndarray, chosen: np.ndarray, keyframes: np.ndarray, reach: float
) -> np.ndarray:
    """Takes a keyframe instead of a chosen frame where one is near, as it decodes alone.

    Args:
        times: of all frames, seconds, rising.
        chosen: indices into `times`, all different and rising.
        keyframes: indices into `times`, rising.
        reach: seconds that a choice may move, half a sampling interval.

    Returns:
        Indices like `chosen`, no two the same, none nearer to a neighbour than before its move.
    """
    if not len(keyframes) or not len(chosen):
        return chosen
    wanted, keys = times[chosen], times[keyframes]
    right = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    left = (right - 1).clip(min=0)
    nearest = np.where(wanted - keys[left] < np.abs(keys[right] - wanted), left, right)
    borders = np.concatenate(([-inf], (wanted[1:] + wanted[:-1]) / 2, [inf]))
    found = keys[nearest]
    near = np.abs(found - wanted) <= reach
    near &= (borders[:-1] < found) & (found < borders[1:])
    return np.where(near, keyframes[nearest], chosen)

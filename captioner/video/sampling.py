"""Sampling: timestamps of a clip -> indices of the frames to take."""

from math import inf
from typing import NamedTuple

import numpy as np

from ..config import SamplingOptions

FALLBACK_FPS = 25.0
# Seconds between two frames that are no pause but a clock that was set meanwhile: a camera may
# give its first frames the time 0 and the next ones that of day.
_JUMP, _JUMP_AT_FIRST, _FIRST_FRAMES = 12 * 3600.0, 3600.0, 3
# A time that goes back by less is out of order; by more, the clock began anew.
_ANEW = 1.0  # seconds


def usable_rate(fps: float | None) -> float:
    """Frames a second as a header says, and 25 where that is of no use."""
    return float(fps) if fps and 0.01 <= fps <= 1000 else FALLBACK_FPS


class Clock:
    """Repairs timestamps one by one as they come: some jump, begin anew or are missing."""

    def __init__(self, fps: float):
        self._step, self._count, self._offset, self._last = 1 / usable_rate(fps), 0, 0.0, 0.0

    def tell(self, stamp: float) -> float:
        """The time of the next frame, seconds from the first one, later than any before."""
        if self._count == 0:
            self._offset = stamp if np.isfinite(stamp) else 0.0
        else:
            time = stamp - self._offset
            following = self._last + self._step
            anew = self._last - time > _ANEW
            jumps = time - self._last > max(_longest_pause(self._count), 100 * self._step)
            if np.isfinite(time) and (anew or jumps):
                self._offset = stamp - following
            self._last = following if anew or jumps or not time > self._last else time
        self._count += 1
        return self._last


def _longest_pause(count):
    """Seconds that may lie before a frame that so many came before."""
    return np.where(np.asarray(count) <= _FIRST_FRAMES, _JUMP_AT_FIRST, _JUMP)


class Timeline(NamedTuple):
    """Presentation times of the frames of a file.

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

        A clock that jumps, or begins anew in the middle (parts that were put together), goes on
        as if nothing had happened; a missing timestamp (NaN) is that of the frame before and a
        usual step. If they are unusable otherwise (most of them missing, out of order, or all
        the same), frames are spaced by the frame rate, and by 25 a second if that is unusable.
        """
        stamps, fps = np.asarray(stamps, float), usable_rate(fps)
        steps = np.diff(stamps)
        rising = steps[steps > 0]
        known = np.isfinite(steps)
        if (
            not rising.size
            or 2 * known.sum() < len(steps)
            or ((steps >= -_ANEW) & (steps < 0)).any()
        ):
            times = np.arange(len(stamps)) / fps
        else:
            usual = np.median(rising) if rising.size > 2 else 1 / fps
            jumps = steps > np.maximum(_longest_pause(np.arange(1, len(stamps))), 100 * usual)
            wrong = ~known | (steps < 0) | jumps
            steps = np.where(wrong, usual, steps)
            whole = np.concatenate(([0.0], np.cumsum(steps)))
            times = _apart(whole if wrong.any() else stamps - stamps[0], usual)
        last = np.median(np.diff(times)) if len(times) > 1 else 1 / fps
        return cls(times, float(times[-1] + last) if len(times) else 0.0)

    def choose(self, sampling: SamplingOptions, start: float = 0.0, end: float = inf) -> np.ndarray:
        """Spreads frames evenly over a stretch of time.

        The stretch is cut into equal parts, and the frame on screen in the middle of each is
        taken; where that would be one frame twice, as in a pause, the others are spread over
        what else there is.

        Returns:
            Indices, all different and rising, of at most `sampling.num_frames` that begin in
            `[start, end)` seconds; where none does, of the one on screen all the while.
        """
        first, stop = np.searchsorted(self.times, (start, end))
        if first == stop:
            first -= first > 0
        count = min(sampling.num_frames, stop - first)
        order = np.arange(count)
        end = min(end, self.duration)
        middles = start + (order + 0.5) * ((end - start) / max(count, 1))
        on_screen = np.searchsorted(self.times, middles, side="right") - 1
        if count > 1 and (np.diff(on_screen) == 0).any():
            borders = np.concatenate(([start], self.times[first + 1 : stop], [end]))
            on_screen = first + _spread(np.diff(borders), count)
        rising = np.maximum.accumulate(on_screen - order) + order
        return np.clip(rising, first + order, stop - count + order)

    def nearest(self, times: np.ndarray) -> np.ndarray:
        """Indices, one for each of these `times` in seconds, of the frames that begin nearest."""
        middles = (self.times[1:] + self.times[:-1]) / 2
        return np.searchsorted(middles, times)

    def every(self, step: float) -> np.ndarray:
        """Indices, rising, of the frames on screen in the middle of each `step` seconds."""
        borders = np.append(self.times, max(self.duration, step))
        before = np.ceil(borders / step - 0.5)  # middles before each border
        return np.flatnonzero(np.diff(before) > 0)


def _apart(times: np.ndarray, usual: float) -> np.ndarray:
    """Spreads frames that bear the same time over what is left until the next one.

    Args:
        times: seconds, none less than the one before.
        usual: seconds between two of them, at most so far apart.
    """
    times, firsts, run, count = np.unique(
        times, return_index=True, return_inverse=True, return_counts=True
    )
    share = np.minimum(np.diff(times, append=np.inf) / count, usual)
    return times[run] + (np.arange(len(run)) - firsts[run]) * share[run]


def _spread(lasts: np.ndarray, count: int) -> np.ndarray:
    """Spreads choices evenly over frames, of which none counts for more than one choice.

    Args:
        lasts: seconds that each frame is on screen, `(num_frames,)`.
        count: of the choices, at most `num_frames`.

    Returns:
        Indices `(count,)`.
    """
    longest = np.sort(lasts)[::-1]
    rest = longest.sum() - np.concatenate(([0.0], np.cumsum(longest)[: count - 1]))
    share = rest / (count - np.arange(count))  # of a choice, when so many of the longest get one
    share = share[np.argmax(longest[:count] <= share)]
    ends = np.cumsum(np.minimum(lasts, share))
    middles = (np.arange(count) + 0.5) * (ends[-1] / count)
    return np.searchsorted(ends, middles, side="right").clip(max=len(lasts) - 1)


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

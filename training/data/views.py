"""Augmentation: further views of a clip to learn from."""

import cv2
import numpy as np

REPEATED_SHARE = 0.25  # of the frames of a picture made a clip


def moving_crop(picture: np.ndarray, num_frames: int, size, rng: np.random.Generator):
    """A still picture as a clip, filmed as clips are: a window wanders and zooms over it.

    Half of the clips have a cut, from which on the window wanders elsewhere, and a frame may show
    once more what the frame before it showed.

    Args:
        picture: uint8 RGB, `(height, width, 3)`.
        num_frames: frames of the clip.
        size: `(height, width)` of a frame, pixels.
        rng: source of chance; half of the clips are mirrored.

    Returns:
        uint8 RGB, `(num_frames, *size, 3)`.
    """
    room = np.array(picture.shape[:2])
    if rng.random() < 0.5:
        picture = picture[:, ::-1]

    def wander():
        extent = np.linspace(*rng.uniform(0.65, 1.0, (2, 1)), num_frames) * room
        start = np.linspace(*rng.random((2, 2)), num_frames) * (room - extent)
        return np.stack([start, start + extent], axis=1).astype(int)  # (num_frames, 2, 2)

    windows = wander()
    if rng.random() < 0.5:
        cut = rng.integers(num_frames)
        windows[cut:] = wander()[cut:]
    repeated = rng.random(num_frames) < REPEATED_SHARE
    shown = np.maximum.accumulate(np.where(repeated, 0, np.arange(num_frames)))
    frames = []
    for (top, left), (bottom, right) in windows[shown]:
        window = np.ascontiguousarray(picture[top:bottom, left:right])
        frames.append(cv2.resize(window, size[::-1], interpolation=cv2.INTER_AREA))
    return np.stack(frames)


def resized_crop(frames: np.ndarray, size, rng: np.random.Generator, least_area: float):
    """The same part of all frames, mirrored half of the time (Szegedy et al. 2015).

    Args:
        frames: uint8 RGB, `(num_frames, height, width, 3)`.
        size: `(height, width)` of a frame of the view, pixels.
        rng: source of chance.
        least_area: share of the picture that is seen at least.

    Returns:
        uint8 RGB, `(num_frames, *size, 3)`.
    """
    room = np.array(frames.shape[1:3])
    area, stretch = rng.uniform(least_area, 1.0), np.exp(rng.uniform(-0.28, 0.28))
    extent = np.sqrt(area * np.array([stretch, 1 / stretch]))
    extent = np.maximum(1, np.minimum(extent, 1.0) * room).astype(int)
    top, left = rng.integers(room - extent + 1)
    parts = frames[:, top : top + extent[0], left : left + extent[1]]
    if rng.random() < 0.5:
        parts = parts[:, :, ::-1]
    parts = np.ascontiguousarray(parts)
    return np.stack(
        [cv2.resize(part, size[::-1], interpolation=cv2.INTER_LINEAR) for part in parts]
    )


def relight(frames: np.ndarray, rng: np.random.Generator):
    """The same change of contrast, brightness and tint for all frames; shape and type stay."""
    contrast = rng.uniform(0.75, 1.25)
    brightness = rng.uniform(-25, 25) + rng.uniform(-10, 10, 3)
    levels = (np.arange(256)[:, None] - 127.5) * contrast + 127.5 + brightness  # (256, 3)
    table = np.clip(levels, 0, 255).astype(np.uint8)[None]
    return np.stack([cv2.LUT(frame, table) for frame in frames])


def another_view(frames: np.ndarray, num_frames: int, size, rng: np.random.Generator):
    """Another view of a clip: a part of each frame, other moments, another light.

    It is never mirrored, for then what goes left would go right.

    Args:
        frames: uint8 RGB, `(num_all, height, width, 3)`, more than are wanted.
        num_frames: frames of the view.
        size: `(height, width)` of one, pixels.
        rng: source of chance.

    Returns:
        uint8 RGB, `(num_frames, *size, 3)`.
    """
    moments = (np.arange(num_frames) + rng.random(num_frames)) * len(frames) / num_frames
    room = np.array(frames.shape[1:3])
    extent = (rng.uniform(0.8, 1.0, 2) * room).astype(int)
    top, left = rng.integers(room - extent + 1)
    gain = (rng.uniform(0.8, 1.2) * rng.uniform(0.92, 1.08, 3)).astype(np.float32)
    offset = np.float32(rng.uniform(-15, 15))
    parts = frames[moments.astype(int), top : top + extent[0], left : left + extent[1]]
    resized = [cv2.resize(part, size[::-1], interpolation=cv2.INTER_AREA) for part in parts]
    return np.clip(np.stack(resized) * gain + offset, 0, 255).astype(np.uint8)

"""Drawn frames, which calibrate and check programs: always the same, and nobody's pictures."""

import numpy as np

SHAPES = 200  # a frame


def draw_frames(num_frames: int, size: tuple[int, int]) -> np.ndarray:
    """Draws shapes of all sizes, one over the other, with textures.

    Such "dead leaves" have edges, surfaces and contrasts about as often as photographs do (Lee,
    Mumford and Huang 2001, "Occlusion Models for Natural Images").

    Args:
        num_frames: how many.
        size: height and width in pixels.

    Returns:
        uint8 RGB, `(num_frames, height, width, 3)`.
    """
    import cv2

    rng = np.random.default_rng(0)
    frames = np.empty((num_frames, *size, 3), np.uint8)
    for frame in frames:
        middle, spread = rng.uniform(0, 255, 3), rng.uniform(20, 90)
        pixels = np.full((*size, 3), middle, np.float32)
        roughness = np.zeros(size, np.float32)
        radii = max(size) / rng.uniform(2.5, 75, SHAPES)  # small ones most, as in the world
        for radius in np.sort(radii)[::-1]:
            colour = tuple(map(float, middle + rng.normal(0, spread, 3)))
            centre = tuple(map(int, rng.uniform(0, size[::-1])))
            axes = tuple(map(int, 1 + radius * rng.uniform(0.3, 1, 2)))
            turned = rng.uniform(0, 180)
            corners = 4 if rng.random() < 0.5 else 60  # a quadrangle, or round
            outline = cv2.ellipse2Poly(centre, axes, int(turned), 0, 360, 360 // corners)
            cv2.fillPoly(pixels, [outline], colour)
            cv2.fillPoly(roughness, [outline], float(rng.exponential(8)))
        coarse = rng.normal(0, 1, (size[0] // 8, size[1] // 8)).astype(np.float32)
        texture = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
        texture += rng.normal(0, 0.7, size)
        pixels += (roughness * texture)[..., None]
        pixels = cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.3, 1.2))
        frame[:] = np.clip(pixels, 0, 255)
    return frames

"""A clip to try the captioner on, from a photograph that comes with scikit-image.

python -m captioner.cli.demo FILE.mp4
"""

import sys
from pathlib import Path

import cv2
import numpy as np

SECONDS, FPS, SIZE = 4, 25, (360, 640)  # height, width in pixels


def write_demo_clip(path: str | Path):
    """Writes a clip that pans over a photograph.

    Args:
        path: the file to write, .mp4.

    Raises:
        OSError: the file cannot be written.
    """
    from skimage import data

    photograph = cv2.cvtColor(data.coffee(), cv2.COLOR_RGB2BGR)
    height, width = photograph.shape[:2]
    rows = width * SIZE[0] // SIZE[1]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), FPS, SIZE[::-1])
    if not writer.isOpened():
        raise OSError(f"{path}: cannot be written")
    for top in np.linspace(0, height - rows, SECONDS * FPS).astype(int):
        writer.write(cv2.resize(photograph[top : top + rows], SIZE[::-1]))
    writer.release()


if __name__ == "__main__":
    write_demo_clip(sys.argv[1])

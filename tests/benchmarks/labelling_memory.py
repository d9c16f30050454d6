"""Memory of labelling 10 minutes and 5 hours: `python -m tests.benchmarks.labelling_memory`.

A video of each is drawn, 2 frames a second of 64 x 48 pixels, and labelled in a process of its own
by an untrained model on an untrained CNN. The last line is JSON: peak memory of each, MB, and the
ratio.
"""

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from captioner.config import CnnConfig, LabelConfig, LabellingOptions

FPS = 2
MINUTES = (10, 300)


def draw(path: Path, minutes: int):
    """Draws a video of colours that change."""
    import cv2
    import numpy as np

    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), FPS, (64, 48))
    for number in range(minutes * 60 * FPS):
        writer.write(np.full((48, 64, 3), number * 7 % 256, np.uint8))
    writer.release()


def label(path: str):
    """Labels a video and prints the number of its segments and the memory that it took, MB."""
    from captioner.cnn import Backbone
    from captioner.cnn.bundled import build_cnn
    from captioner.moments.labeller import Labeller
    from captioner.moments.model import LabelModel

    cnn = CnnConfig(input_size=32, widths=(8, 12, 16, 24), depths=(1, 1, 1), feature_dim=32)
    network = build_cnn(cnn)
    network.compile(jit_compile=False)
    backbone = Backbone("untrained", (32, 32), network.output_shape[1:], network.predict_on_batch)
    model = LabelModel(LabelConfig(num_labels=4, feature_dim=32, num_regions=4))
    labeller = Labeller(backbone, model, tuple("abcd"), LabellingOptions(fps=FPS), "untrained")
    count = sum(1 for _ in labeller.label(path))
    print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main():
    """Draws and labels both videos."""
    result = {}
    with tempfile.TemporaryDirectory() as folder:
        for minutes in MINUTES:
            path = Path(folder) / f"{minutes}.avi"
            draw(path, minutes)
            command = [sys.executable, "-m", "tests.benchmarks.labelling_memory", str(path)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            segments, memory = done.stdout.split()
            print(f"{minutes} min: {segments} segments, {float(memory):.0f} MB", file=sys.stderr)
            result[f"megabytes_{minutes}_min"] = round(float(memory), 1)
    first, last = result.values()
    print(json.dumps({**result, "ratio": round(last / first, 4)}))


if __name__ == "__main__":
    label(sys.argv[1]) if len(sys.argv) > 1 else main()

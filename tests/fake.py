"""The real command with a model that says of each clip how bright it is, without TensorFlow.

python -m tests.fake caption ... works as `captioner caption ...` does.
"""

import sys
import time
from types import SimpleNamespace

from captioner.caption import Candidate
from captioner.cli import caption
from captioner.cli.main import main
from captioner.config import SamplingOptions
from captioner.video.reader import Request


class FakeCaptioner:
    """Stands in for `captioner.Captioner`; `seconds` is how long it looks at a batch."""

    name = "fake"
    sampling = SamplingOptions(num_frames=4)
    backbone = SimpleNamespace(input_size=(32, 32))

    def __init__(self, seconds=0.0):
        self.seconds = seconds
        self.batch_sizes = []

    def request(self, video, segments=None):
        return Request(video, self.sampling, self.backbone.input_size, segments=segments)

    def extract_features(self, frames):
        if frames:
            self.batch_sizes.append(len(frames))
            time.sleep(self.seconds)
        return [clip.mean((1, 2)) for clip in frames]

    def describe_many(self, features):
        return [(Candidate(f"Brightness {clip.mean():.0f}.", -1.0),) for clip in features]


def load(*_, seconds=0.02, **__):
    """Stands in for `captioner.cli.caption.load_captioner`."""
    return FakeCaptioner(seconds)


if __name__ == "__main__":
    caption.load_captioner = load
    sys.exit(main())

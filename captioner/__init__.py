"""Looks at a video and says in a sentence what happens, on your own machine."""

from .caption import Candidate, Caption, Failure, Segment
from .errors import CaptionerError, DatasetError, ModelError, VideoError

__all__ = [
    "Candidate",
    "Caption",
    "Captioner",
    "CaptionerError",
    "DatasetError",
    "Failure",
    "Labeller",
    "ModelError",
    "Segment",
    "VideoError",
]


def __getattr__(name):
    # TensorFlow takes seconds to import: only who asks for a model waits for it.
    if name == "Captioner":
        from .pipeline import Captioner

        return Captioner
    if name == "Labeller":
        from .moments.labeller import Labeller

        return Labeller
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

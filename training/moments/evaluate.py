"""Evaluation of a model that labels moments."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from captioner.config import LabellingOptions
from captioner.moments.labeller import Labeller
from captioner.moments.segments import BACKGROUND, segments_of

from ..data.reading import readable
from .labels import LabelledVideo, Moment, targets_of
from .metrics import average_precision, segmental_scores
from .timeline import Timeline

Seen = tuple[LabelledVideo, np.ndarray]


def moments_of(
    probabilities: np.ndarray,
    labels: Sequence[str],
    options: LabellingOptions,
    multi_label: bool,
) -> tuple[Moment, ...]:
    """Labelled segments from probabilities `(num_frames, num_labels)`."""
    segments = segments_of(probabilities, labels, options, multi_label)
    return tuple(Moment(x.label, x.start, x.end) for x in segments)


def evaluate(labeller: Labeller, videos: Sequence[LabelledVideo]) -> tuple[dict, list[Timeline]]:
    """Scores a model on labelled videos.

    Args:
        labeller: the model and how it labels.
        videos: what it has not learned from.

    Returns:
        `num_videos`; how many are `unreadable`; and the scores of `segmental_scores`, or with
        several labels at once `mean_average_precision` and the `average_precision` of each. And
        the timelines of the videos, truth above prediction.

    Raises:
        DatasetError: none of the videos can be read.
    """
    # A video is read frame by frame into the model: one at a time.
    seen = list(
        readable(lambda video: labeller.moment_probabilities(video.path), videos, "video", map)
    )
    known = labeller.labels, labeller.options, labeller.model.config.multi_label
    found = [moments_of(probabilities, *known) for _, probabilities in seen]
    result = {"num_videos": len(seen), "unreadable": len(videos) - len(seen)}
    result |= _scores(seen, found, labeller)
    timelines = [
        Timeline(video.path.name, video.moments, moments)
        for (video, _), moments in zip(seen, found, strict=True)
    ]
    return result, timelines


def _scores(seen: Sequence[Seen], found: Sequence[tuple[Moment, ...]], labeller: Labeller) -> dict:
    fps, multi_label = labeller.options.fps, labeller.model.config.multi_label
    # A label that the model does not know is one that it never finds.
    occur = {moment.label for video, _ in seen for moment in video.moments}
    labels = (*labeller.labels, *sorted(occur - set(labeller.labels)))

    def rasterize(video, probabilities):
        return targets_of(video, labels, len(probabilities), fps, multi_label)

    true = [rasterize(video, probabilities) for video, probabilities in seen]
    if not multi_label:
        predicted = [
            rasterize(replace(video, moments=moments), probabilities)
            for (video, probabilities), moments in zip(seen, found, strict=True)
        ]
        return segmental_scores(predicted, true, labels.index(BACKGROUND))
    holds = np.concatenate(true)
    likely = np.zeros(holds.shape, np.float32)
    likely[:, : len(labeller.labels)] = np.concatenate([p for _, p in seen])
    each = {
        label: average_precision(likely[:, number], holds[:, number])
        for number, label in enumerate(labels)
        if holds[:, number].any()
    }
    mean = float(np.mean(list(each.values()))) if each else None
    return {"mean_average_precision": mean, "average_precision": each}

"""Plots of timelines: a video's labels above what a model predicts."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from captioner.errors import CaptionerError

from .labels import Moment

MOST_VIDEOS = 50  # in a picture


class Timeline(NamedTuple):
    """A video's name, what holds when, and what a model says of it."""

    name: str
    true: tuple[Moment, ...]
    predicted: tuple[Moment, ...]


def plot(timelines: Sequence[Timeline], labels: Sequence[str], multi_label: bool, file: Path):
    """Draws timelines one below the other, the first 50 of them; each label has a colour.

    Args:
        timelines: what to draw.
        labels: in the order of their colours.
        multi_label: whether several labels may hold at once, and each gets a line of its own.
        file: a picture, its format told by its suffix, such as .png, .svg or .pdf.

    Raises:
        CaptionerError: matplotlib is missing, or the file cannot be written.
    """
    try:
        from matplotlib import colormaps
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.patches import Patch
    except ImportError as err:
        raise CaptionerError(
            "drawing needs matplotlib; install it: pip install matplotlib"
        ) from err
    timelines = timelines[:MOST_VIDEOS]
    occur = {moment.label for one in timelines for part in one[1:] for moment in part}
    labels = [label for label in labels if label in occur] + sorted(occur - set(labels))
    colormap = colormaps["tab10" if len(labels) <= 10 else "tab20"]
    colours = [colormap(number % colormap.N) for number in range(len(labels))]
    height = 1 / max(1, len(labels)) if multi_label else 1
    figure = Figure(figsize=(12, 1.5 + 0.9 * len(timelines)), layout="constrained")
    FigureCanvasAgg(figure)
    rows = figure.subplots(len(timelines), squeeze=False)[:, 0]
    for axes, timeline in zip(rows, timelines, strict=True):
        for top, moments in ((2.1, timeline.true), (1, timeline.predicted)):
            for number, (label, colour) in enumerate(zip(labels, colours, strict=True)):
                bars = [(start, end - start) for name, start, end in moments if name == label]
                bottom = top - height * (number + 1 if multi_label else 1)
                axes.broken_barh(bars, (bottom, height), color=colour, linewidth=0)
        axes.set_xlim(left=0)
        axes.set(yticks=(1.6, 0.5), yticklabels=("true", "predicted"), ylim=(0, 2.1))
        axes.set_title(timeline.name, fontsize="small", loc="left")
    axes.set_xlabel("seconds")
    pairs = zip(labels, colours, strict=True)
    handles = [Patch(color=colour, label=label) for label, colour in pairs]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(8, max(1, len(labels))))
    try:
        figure.savefig(file, dpi=100)
    except (OSError, ValueError) as err:
        raise CaptionerError(f"{file}: cannot be drawn ({err}); name a .png or .svg") from err

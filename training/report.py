"""What a training has come to, as a page that needs nothing but a browser."""

import base64
import math
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cv2
import jinja2
import numpy as np

from captioner.config import SamplingOptions
from captioner.errors import VideoError
from captioner.vocabulary import SPECIAL_TOKENS

from .data.manifest import SPLITS, LabelledClip, Labels
from .data.reading import read_clip
from .judgement import Judgement
from .metrics import Scores, score
from .moments.timeline import Timeline
from .work import writing

if TYPE_CHECKING:
    from .teaching import Teaching  # which needs TensorFlow; a report does not

GROUP_CLIPS = 6  # shown of the best, of the worst, and of those between
STRIP, STRIP_WIDTH = SamplingOptions(num_frames=4), 240  # of a clip that is shown; pixels
MOST_TIMELINES, LANE = 12, 20  # shown; height of each of its two, pixels
MOST_LEFT_OUT = 200  # told one by one
MOST_PAIRS = 30  # of what two models say, where there is no split val
CHART = (400, 220)  # width and height of a chart, in units of its text's size / 11
MARGINS = (44, 10, 12, 30)  # left, right, top, bottom


class Said(NamedTuple):
    """What a model says of clips, and how good it is."""

    sentences: list[str]
    scores: Scores


@dataclass(frozen=True)
class Report:
    """What there is to tell of a training.

    Attributes:
        model: the model folder.
        history: a dict a round: `epoch`, the passes done, and the figures after it.
        curves: for each chart its title and the figures that it shows.
        kept: the `epoch` of the round whose weights were kept.
        counts: of clips, for people.
        left_out: where something was left out or is doubtful, and why.
        settings: of the training, by topic.
        command: uses the model.
        clips: that it was validated on.
        new: what the model says of these; None without validation.
        old: what the model that it went on from says of them; None without one.
        judgement: on both, on clips that the new one has not learned from; None likewise.
        timelines: what holds when in videos of the split val, and what a labelling model says.
    """

    model: Path
    history: Sequence[dict]
    curves: dict[str, Sequence[str]]
    kept: int
    counts: dict[str, int]
    left_out: Sequence[tuple[str, str]]
    settings: dict[str, dict]
    command: Sequence[str]
    clips: Sequence[LabelledClip] = ()
    new: Said | None = None
    old: Said | None = None
    judgement: Judgement | None = None
    timelines: Sequence[Timeline] = ()

    def write(self, file: Path):
        """Writes the page; a clip that cannot be read any more is told of in its place.

        Raises:
            DatasetError: the file cannot be written.
        """
        page = _template().render(
            report=self,
            columns=list(dict.fromkeys(name for row in self.history for name in row)),
            charts=[_chart(*curve, self.history, self.kept) for curve in self.curves.items()],
            groups=self._groups(),
            bars=_bars(self.timelines[:MOST_TIMELINES]),
            seconds=sum(row.get("seconds", 0) for row in self.history),
            command=shlex.join(self.command),
            most_left_out=MOST_LEFT_OUT,
            most_pairs=MOST_PAIRS,
        )
        partial = file.with_name(f".{file.name}.partial")
        with writing(file):
            partial.write_text(page, encoding="utf-8")
            partial.replace(file)
        print(f"captioner: {file} is the report", file=sys.stderr)

    def _groups(self) -> dict[str, list[dict]]:
        """Samples by what they are samples of, each with all that is shown of it."""
        if self.new is None:
            return {}
        order = np.argsort(-self.new.scores.clips["cider"], kind="stable").tolist()
        if len(order) <= 2 * GROUP_CLIPS:
            groups = {"All clips, the best first": order}
        else:
            between = order[GROUP_CLIPS:-GROUP_CLIPS]
            places = np.linspace(0, len(between) - 1, min(GROUP_CLIPS, len(between)))
            groups = {
                "Best clips": order[:GROUP_CLIPS],
                "Worst clips": order[: -GROUP_CLIPS - 1 : -1],
                "Clips between": [between[place] for place in places.round().astype(int)],
            }
        return {title: list(map(self._sample, places)) for title, places in groups.items()}

    def _sample(self, place: int) -> dict:
        clip = self.clips[place]
        said = [("old model", self.old), ("new model", self.new)]
        pictures, problem = _strip(clip)
        return {
            "clip": clip,
            "pictures": pictures,
            "problem": problem,
            "said": [
                (which, one.sentences[place], one.scores.clips["cider"][place])
                for which, one in said
                if one is not None
            ],
        }


def report_captions(
    teaching: "Teaching",
    judgement: Judgement | None,
    history: Sequence[dict],
    labels: dict[Path, Labels],
    settings: dict[str, dict],
):
    """Writes `report.html` into the model folder.

    Args:
        teaching: what was done.
        judgement: on its model and the base; None without a base.
        history: as `training.trainer.train` returns it.
        labels: by their files.
        settings: of the training, by topic.

    Raises:
        DatasetError: the file cannot be written.
    """
    folder, base, validation = teaching.folder, teaching.base, teaching.validation
    new = old = None
    if validation is not None:
        references = [clip.captions for clip in validation.clips]
        if judgement is not None:
            old, new = (
                Said(said, score(said, references))
                for said in ([pair[one] for pair in judgement.pairs] for one in ("old", "new"))
            )
        else:
            said = teaching.caption(teaching.features(validation))
            new = Said(said, score(said, references))
    records = [*teaching.records, *[validation] * (validation is not None)]
    clips = [clip for one in labels.values() for clip in one.clips]
    splits = Counter(clip.split for clip in clips)
    counts = {f"clips of the split {split}": splits[split] for split in SPLITS}
    counts["of these unreadable"] = sum(len(one.unreadable) for one in records)
    counts["sentences"] = sum(len(clip.captions) for clip in clips)
    counts["words it can say"] = len(folder.vocabulary) - len(SPECIAL_TOKENS)
    if base is not None:
        counts["of these new"] = len(folder.vocabulary) - len(base.folder.vocabulary)
    problems = [(file, problem) for file, one in labels.items() for problem in one.problems]
    unreadable = [pair for one in records for pair in one.unreadable]
    report = Report(
        model=folder.path,
        history=history,
        curves={"Loss": ("loss", "val_loss"), "CIDEr": ("val_cider", "reward")},
        kept=_kept(history),
        counts=counts,
        left_out=[
            *((str(clip.path), why) for clip, why in unreadable),
            *((f"{file}, {problem.where}", problem.message) for file, problem in problems),
        ],
        settings={
            **settings,
            "Model": asdict(folder.model),
            "Frames and search": asdict(folder.sampling) | asdict(folder.decoding),
        },
        command=("captioner", "caption", "--model", str(folder.path), "clip.mp4"),
        clips=validation.clips if validation is not None else (),
        new=new,
        old=old,
        judgement=judgement,
    )
    report.write(folder.path / "report.html")


def _kept(history: Sequence[dict]) -> int:
    """The round whose weights a training keeps, as `training.work.Progress` does: of its last part
    the best on the split val, without one the last."""
    rounds = [row for row in history if "reward" in row] or history
    if "val_cider" not in rounds[0]:
        return rounds[-1]["epoch"]
    return max(rounds, key=lambda row: (row["val_cider"], -row.get("val_loss", 0.0)))["epoch"]


def _template() -> jinja2.Template:
    loader = jinja2.PackageLoader("training")
    environment = jinja2.Environment(
        loader=loader,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"duration": _duration, "figure": _figure}
    return environment.get_template("report.html")


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _figure(value) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _strip(clip: LabelledClip) -> tuple[list[str], str]:
    """A few frames of a clip as data URIs, or why there are none."""
    try:
        frames = read_clip(clip, STRIP)
    except VideoError as err:
        return [], str(err)
    return [_data_uri(frame) for frame in frames], ""


def _data_uri(frame: np.ndarray) -> str:
    height, width = frame.shape[:2]
    size = (STRIP_WIDTH, max(1, round(height * STRIP_WIDTH / width)))
    smaller = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    _, jpeg = cv2.imencode(".jpg", smaller[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 75])
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def _chart(title: str, names: Sequence[str], history: Sequence[dict], kept: int) -> dict:
    """Where the lines and the ticks of a chart lie."""
    lines = {
        name: [(row["epoch"], row[name]) for row in history if math.isfinite(row.get(name, np.nan))]
        for name in names
    }
    lines = {name: points for name, points in lines.items() if points}
    values = [value for points in lines.values() for _, value in points] or [0.0]
    epochs = [row["epoch"] for row in history]
    x_ticks = [tick for tick in _ticks(0, max(epochs)) if tick == int(tick) <= max(epochs)]
    y_ticks = _ticks(min(values), max(values))
    bottom, top = min([*y_ticks, *values]), max([*y_ticks, *values])
    left, right, above, below = MARGINS
    width, height = CHART

    def x(epoch):
        return round(left + (width - left - right) * epoch / max(epochs), 1)

    def y(value):
        share = (value - bottom) / (top - bottom)
        return round(height - below - (height - above - below) * share, 1)

    return {
        "title": title,
        "last": {name: points[-1][1] for name, points in lines.items()},
        "x_ticks": [(x(tick), f"{tick:g}") for tick in x_ticks],
        "y_ticks": [(y(tick), f"{tick:g}") for tick in y_ticks],
        "lines": {
            name: [(x(epoch), y(value)) for epoch, value in points]
            for name, points in lines.items()
        },
        "kept": x(kept),
        "size": CHART,
        "margins": MARGINS,
    }


def _ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers from `low` to `high` or near."""
    span = (high - low) or abs(high) or 1.0
    magnitude = 10.0 ** math.floor(math.log10(span / 3))
    step = magnitude * max(factor for factor in (1, 2, 5) if factor * magnitude <= span / 2.5)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(number * step, 10) for number in range(first, max(last, first + 1) + 1)]


def _bars(timelines: Sequence[Timeline]) -> dict:
    """Where the bars of timelines lie, in thousandths of their videos, and the labels' colours.

    Truth is above prediction. In each a label has a line of its own, if any two overlap anywhere.
    """
    parts = [part for one in timelines for part in (one.true, one.predicted)]
    labels = sorted({moment.label for part in parts for moment in part})
    lines = len(labels) if any(map(_overlap, parts)) else 1
    drawn = []
    for one in timelines:
        seconds = max((moment.end for moment in (*one.true, *one.predicted)), default=0.0)
        bars = []
        for lane, part in enumerate((one.true, one.predicted)):
            for label, start, end in part:
                line = labels.index(label) % lines
                left, width = (round(1000 * x / seconds, 1) for x in (start, end - start))
                top = lane * (LANE + 4) + LANE * line / lines
                bars.append((left, round(top, 1), width, label))
        drawn.append((one.name, seconds, bars))
    # Colours of golden-angle hues differ most from those of labels nearby.
    colours = {label: f"hsl({137.5 * n % 360:.0f} 55% 55%)" for n, label in enumerate(labels)}
    return {"timelines": drawn, "colours": colours, "height": round(LANE / lines, 1), "lane": LANE}


def _overlap(moments) -> bool:
    ordered = sorted(moments, key=lambda moment: moment.start)
    return any(a.end > b.start + 1e-6 for a, b in pairwise(ordered))

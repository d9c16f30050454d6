"""Filters of the templates: times, dates, curves and colours as people read them."""

from datetime import datetime
from math import exp

from markupsafe import Markup, escape

from .store.videos import bytes_in_words

_TINTS, _WEAVES = 8, 4  # in the style sheet


def clock(seconds: float | None) -> str:
    """`1:02:03` or `2:03`."""
    minutes, second = divmod(round(seconds or 0), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def moment(seconds: float) -> str:
    """`2:03.4`: frames of a short clip lie close together."""
    minutes, tenths = divmod(round(seconds * 10), 600)
    return f"{minutes}:{tenths // 10:02}.{tenths % 10}"


def day(seconds: float) -> Markup:
    """A date, to the minute, for people and machines."""
    local = datetime.fromtimestamp(seconds).astimezone()
    return Markup('<time datetime="{}">{}</time>').format(
        local.isoformat(timespec="seconds"), f"{local.day} {local:%b %Y, %H:%M}"
    )


def found(text: str) -> Markup:
    """A sentence that a search found, what was found marked."""
    marked = str(escape(text)).replace("\x02", "<mark>").replace("\x03", "</mark>")
    return Markup(marked)  # escaped before the marks went in


def polyline(points: list[dict], name: str) -> str:
    """A curve as points of an SVG polyline, in a box of 100 by 100."""
    curve = [(point["epoch"], point[name]) for point in points if name in point]
    epochs = [point["epoch"] for point in points]
    losses = [point[key] for point in points for key in ("loss", "val_loss") if key in point]
    low, high = min(losses, default=0), max(losses, default=1)
    wide, tall = (max(epochs) - min(epochs)) or 1, (high - low) or 1
    return " ".join(
        f"{100 * (epoch - min(epochs)) / wide:.2f},{100 * (high - loss) / tall:.2f}"
        for epoch, loss in curve
    )


def tint(colour: int) -> str:
    """The classes of the colour of a label: where there are many, they also differ in pattern."""
    weave, hue = divmod(colour - 1, _TINTS)
    return f"tint-{hue} weave-{weave % _WEAVES}"


FILTERS = {
    "tint": tint,
    "clock": clock,
    "moment": moment,
    "day": day,
    "found": found,
    "polyline": polyline,
    "bytes": bytes_in_words,
    "certainty": lambda score: exp(min(0.0, score)),
}

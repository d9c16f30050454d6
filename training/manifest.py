"""Labels -> rows: which clips there are and what is said of them."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path

from captioner.errors import DatasetError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelledClip:
    """A video or a still picture, and what people say of it.

    Attributes:
        path: the file.
        captions: sentences; at least one.
        split: `train`, `val` or `test`.
        start: where in the file the clip begins, seconds.
        end: where it ends, seconds; None is the end of the file.
    """

    path: Path
    captions: tuple[str, ...]
    split: str = "train"
    start: float = 0.0
    end: float | None = None


def read_labels(path: str | Path, split: str | None = None) -> list[LabelledClip]:
    """Reads JSON Lines `{"video"|"image", "captions"|"caption", "split"}`.

    Empty captions are passed over, and rows without any other are left out with a warning.

    Args:
        path: the file; paths in it are relative to its folder.
        split: only these rows; None for all.

    Raises:
        DatasetError: the file cannot be read, a row is not of this form, or there is none.
    """
    path = Path(path)
    clips, silent = [], []
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    clip = _parse(line, path, number)
                    (clips if clip.captions else silent).append((number, clip))
    except (OSError, UnicodeDecodeError) as err:
        raise DatasetError(f"{path}: cannot be read as labels ({err}); check the path") from err
    if silent:
        first = silent[0][0]
        _log.warning(
            "%s: left out %s rows without a caption, from line %s", path, len(silent), first
        )
    clips = [clip for _, clip in clips if split in (None, clip.split)]
    if not clips:
        raise DatasetError(f"{path}: has no row{f' of the split {split}' if split else ''}")
    return clips


def _parse(line, path, number) -> LabelledClip:
    try:
        row = json.loads(line)
        name = row["video"] if "video" in row else row["image"]
        captions = row["captions"] if "captions" in row else [row["caption"]]
        captions = [caption for caption in captions if caption.strip()]
        return LabelledClip(path.parent / name, tuple(captions), row.get("split", "train"))
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise DatasetError(
            f"{path}, line {number}: {type(err).__name__}: {err}; expected "
            '{"video" or "image": PATH, "captions": [SENTENCE, ...], "split": "train"}'
        ) from err

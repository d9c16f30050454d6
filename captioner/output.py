"""Captions -> lines of text."""

import json

from .caption import Caption, Failure


def to_json(result: Caption | Failure) -> str:
    """A row `{"video", "caption", "score", "duration", "model", "error"}`, without line break.

    What a row has no value for is null: `error` of a caption; `caption`, `score` and
    `duration` of a failure.
    """
    row = dict.fromkeys(("video", "caption", "score", "duration", "model", "error"))
    row |= {"video": result.video, "model": result.model}
    if isinstance(result, Failure):
        row |= {"error": result.error}
    else:
        row |= {
            "caption": result.text,
            "score": round(result.score, 4),
            "duration": round(result.duration, 3),
        }
    return json.dumps(row, ensure_ascii=False)


def to_text(result: Caption | Failure) -> str:
    """The clip's path, a tab and its sentence, or why there is none; without line break."""
    if isinstance(result, Failure):
        return f"{result.video}\t[not captioned: {result.error}]"
    return f"{result.video}\t{result.text}"


FORMATS = {"jsonl": to_json, "text": to_text}

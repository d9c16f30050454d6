"""Label Studio's exports -> rows of labels.

An export is a list of tasks, each with its `data`, which name the file, and the `annotations` of
several people, whose `result` has the texts that they wrote.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from captioner.video import is_video

from .rows import CAPTIONS, NAME, Problem, Row, each, fields_named, numbered, seconds_of, sentences


def read_tasks(tasks: list[dict]) -> Iterator[Row | Problem]:
    """Reads an export, task by task; a bad one is a `Problem`.

    Where people wrote texts of several kinds, those that are named as captions are.
    """
    kinds = {str(result.get("from_name")) for task in tasks for result in _texts(task)}
    named = set(fields_named(sorted(kinds), CAPTIONS)) or kinds
    if len(named) > 1:
        message = f"texts of several kinds are all learned as captions: {', '.join(sorted(named))}"
        yield Problem("the project", message)
    entries = numbered("entry", tasks)
    yield from each(entries, lambda where, task: _rows_of(where, task, named))


def _texts(task) -> Iterator[dict]:
    """The results of a task's annotations that are texts."""
    for annotation in task.get("annotations") or task.get("completions") or []:
        for result in annotation.get("result") or []:
            if result.get("type") == "textarea" and not annotation.get("was_cancelled"):
                yield result


def _rows_of(where, task, named):
    data = task["data"]
    keys = fields_named(data, NAME) or [key for key in data if is_video(str(data[key]))]
    if not keys:
        raise ValueError("its data name no video or image")
    names = files_meant(data[keys[0]])
    rows = []
    for result in _texts(task):
        if str(result.get("from_name")) not in named:
            continue
        value = result["value"]
        if "ranges" in value:
            raise ValueError("a stretch in frames; give start and end in seconds")
        if "x" in value or "points" in value:
            raise ValueError("said of a part of the picture; a caption is of the whole")
        start, end = value.get("start", 0.0), value.get("end")
        end = None if end is None else seconds_of(end)
        said = sentences(value["text"])
        rows.append(Row(where, names, said, data.get("split"), seconds_of(start), end))
    return rows or [Row(where, names, ())]


def files_meant(address: str) -> tuple[str, ...]:
    """Paths that may be meant by Label Studio's address of a file."""
    if not re.match("/data/(upload|local-files)/|[a-z0-9-]+://", address):
        return (address,)
    parts = urlsplit(address)
    if local := parse_qs(parts.query).get("d"):  # /data/local-files/?d=PATH
        return (local[0],)
    name = unquote(Path(parts.path).name)
    return (name, re.sub(r"^[0-9a-f]{8}-", "", name))  # an upload gets a prefix

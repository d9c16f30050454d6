"""Lenient CSV parser: tables as people and spreadsheets write them -> rows of cells."""

import re
from collections.abc import Iterator
from functools import lru_cache

from captioner.video import is_video

_LONGEST_CELL = 200  # lines
_ID = 8  # characters, at least, of names that are told by their length alone


def file_of(name: str) -> str:
    """The file that Flickr8k names with the number of the sentence: `1.jpg#0`."""
    return re.sub(r"#\d+$", "", name)


def records(
    lines: list[str], delimiter: str, num_columns: int, name_at: int
) -> Iterator[tuple[str, list[str], bool]]:
    """Rows of a table, each with whether all of its quotes are closed.

    A quoted cell may go on over lines, but a forgotten quote must not swallow the rows behind it.

    Args:
        lines: of the file.
        delimiter: between cells.
        num_columns: cells of a row.
        name_at: which of them names the file.

    Yields:
        The row, for people, its cells, and whether all of their quotes are closed.
    """
    place = 0
    while place < len(lines):
        first, record = place, lines[place]
        cells, is_whole = cells_of(record, delimiter)
        end = first + 1
        if not is_whole:
            for number, line in enumerate(lines[first + 1 : first + _LONGEST_CELL], first + 1):
                others, _ = cells_of(line, delimiter)
                if len(others) >= num_columns and _are_alike(cells, others, name_at):
                    break
                record += "\n" + line
                # It can only end where there is a quote; all else would be looked at in vain.
                if '"' in line and (found := cells_of(record, delimiter))[1]:
                    (cells, is_whole), end = found, number + 1
                    break
        place = end
        if any(cell.strip() for cell in cells):
            yield f"line {first + 1}", cells, is_whole


def _are_alike(cells, others, name_at) -> bool:
    """Whether what may be the middle of a cell names a file as the row above does."""
    if name_at >= len(cells):  # the quote was opened before
        return False
    one, other = (row[name_at].strip() for row in (cells, others))
    if is_video(file_of(other)) or re.sub(r"\d+", "0", one) == re.sub(r"\d+", "0", other):
        return True
    return len(one) == len(other) >= _ID and " " not in one + other


def cells_of(record: str, delimiter: str) -> tuple[list[str], bool]:
    """The cells of a row, and whether its last quote is closed.

    Only a cell that is quoted from its beginning to its end loses its quotes.
    """
    quoted, plain, opened = _patterns(delimiter)
    cells, place = [], 0
    while True:
        if match := quoted.match(record, place):
            cells.append(match[1].replace('""', '"'))
        else:
            if opened.match(record, place):
                return [*cells, record[place:]], False
            match = plain.match(record, place)
            cells.append(match[1])
        place = match.end()
        if not match[2]:
            return cells, True


@lru_cache
def _patterns(delimiter):
    end = f"({re.escape(delimiter)}|$)"
    inside = '"([^"]*(?:""[^"]*)*)'
    return (
        re.compile(rf'[ ]*{inside}"[ ]*{end}'),
        re.compile(rf"([^{re.escape(delimiter)}]*){end}"),
        re.compile(rf"[ ]*{inside}\Z"),
    )

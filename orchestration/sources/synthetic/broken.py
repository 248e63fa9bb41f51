"""The rows that break a rule: what each file's are, and where they go.

Every broken row is made from the good row above it, so it breaks one rule and no other.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from orchestration.sources.report import Reason

Fields = list[str]
Edit = Callable[[Fields], Fields]

#: No edition has a movie of this number.
UNKNOWN_MOVIE: Final = "999999999"


@dataclass(frozen=True, slots=True)
class BrokenRow:
    """One row that must end in quarantine.

    ``file`` is the base name, ``line`` counts from 1 in the uncompressed file, ``text`` is the line without its end.
    """

    file: str
    line: int
    reason: Reason
    text: str


def put(column: int, value: str) -> Edit:
    """Replace one field."""
    return lambda fields: [*fields[:column], value, *fields[column + 1 :]]


def drop_last(fields: Fields) -> Fields:
    """Leave out the last field."""
    return fields[:-1]


def add_one(fields: Fields) -> Fields:
    """Add a field too many."""
    return [*fields, "surplus"]


def same(fields: Fields) -> Fields:
    """Repeat the row: its key is there already."""
    return fields


_COUNTS: Final = ((Reason.FIELDS, drop_last), (Reason.FIELDS, add_one))
_TITLE_KEY: Final = ((Reason.KEY, put(0, r"\N")), (Reason.DUPLICATE, same))

#: File -> its broken rows, in the order in which they are put into it.
BREAKS: Final[dict[str, tuple[tuple[Reason, Edit], ...]]] = {
    "ratings.csv": (
        *_COUNTS,
        (Reason.NUMBER, put(2, "four")),
        (Reason.NUMBER, put(0, "user7")),
        (Reason.RATING, put(2, "5.5")),
        (Reason.RATING, put(2, "-1.0")),
        (Reason.TIMESTAMP, put(3, "-1")),
        (Reason.DUPLICATE, put(3, "1546300799")),
        (Reason.REFERENCE, put(1, UNKNOWN_MOVIE)),
        (Reason.KEY, put(0, "")),
        (Reason.KEY, put(1, "")),
    ),
    "movies.csv": (
        *_COUNTS,
        (Reason.NUMBER, put(0, "12a")),
        (Reason.KEY, put(0, "")),
        (Reason.DUPLICATE, put(1, "A Second Title (1999)")),
    ),
    "links.csv": (
        *_COUNTS,
        (Reason.NUMBER, put(0, "x1")),
        (Reason.NUMBER, put(2, "none")),
        (Reason.KEY, put(0, "")),
        (Reason.DUPLICATE, same),
        (Reason.REFERENCE, put(0, UNKNOWN_MOVIE)),
    ),
    "tags.csv": (
        *_COUNTS,
        (Reason.NUMBER, put(1, "1.5e")),
        (Reason.TIMESTAMP, put(3, "-86400")),
        (Reason.KEY, put(1, "")),
        (Reason.REFERENCE, put(1, UNKNOWN_MOVIE)),
    ),
    "title.basics.tsv.gz": (*_COUNTS, *_TITLE_KEY, (Reason.NUMBER, put(5, "19x5"))),
    "title.ratings.tsv.gz": (
        *_COUNTS,
        *_TITLE_KEY,
        (Reason.NUMBER, put(2, "many")),
        (Reason.NUMBER, put(1, "good")),
    ),
    "title.crew.tsv.gz": (*_COUNTS, *_TITLE_KEY),
    "title.principals.tsv.gz": (*_COUNTS, *_TITLE_KEY, (Reason.NUMBER, put(1, "first"))),
    "title.episode.tsv.gz": (*_COUNTS, *_TITLE_KEY, (Reason.NUMBER, put(2, "two"))),
    "title.akas.tsv.gz": (*_COUNTS, *_TITLE_KEY, (Reason.NUMBER, put(1, "2nd"))),
    "name.basics.tsv.gz": (*_COUNTS, *_TITLE_KEY, (Reason.NUMBER, put(2, "c. 1950"))),
}


def places(file: str, rows: int, rng: np.random.Generator) -> list[int]:
    """Choose after how many good rows (at least one) each broken row of a file comes, ascending."""
    return sorted((rng.integers(1, rows + 1, len(BREAKS[file]))).tolist()) if rows else []


def split_line(line: str, separator: str) -> Fields:
    """Give the fields of a line as values: commas may be within quotes, tabs never are."""
    return next(csv.reader([line])) if separator == "," else line.split(separator)


def join_line(fields: Sequence[str], separator: str) -> str:
    """Write fields as a line without its end."""
    if separator != ",":
        return separator.join(fields)
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(fields)
    return out.getvalue()

"""The rows that break a rule: what each file's are, and where they go.

Every broken row is made from the good row above it, so it breaks one rule and no other.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from orchestration.errors import Reason

Fields = list[str]

#: No edition has a movie of this number, nor a tag.
UNKNOWN_MOVIE: Final = "999999999"
UNKNOWN_TAG: Final = "999999999"


@dataclass(frozen=True, slots=True)
class BrokenRow:
    """One row that must end in quarantine.

    ``file`` is the base name, ``line`` counts from 1 in the uncompressed file, ``text`` is the line without its
    end, with U+FFFD for what is not UTF-8.
    """

    file: str
    line: int
    reason: Reason
    text: str


@dataclass(frozen=True, slots=True)
class Break:
    """How a good row is broken: ``edit`` changes its fields, ``spoil`` then the bytes of the line without its end."""

    reason: Reason
    edit: Callable[[Fields], Fields] = list
    spoil: Callable[[bytes], bytes] = bytes


def _put(reason: Reason, column: int, value: str) -> Break:
    """Replace one field."""
    return Break(reason, edit=lambda fields: [*fields[:column], value, *fields[column + 1 :]])


def _unclose(line: bytes) -> bytes:
    """Quote no more than the first letter of the second field."""
    before, _, after = line.replace(b'"', b"").partition(b",")
    return before + b',"' + after[:1] + b'"' + after[1:]


def _garble(line: bytes) -> bytes:
    """Put a byte that UTF-8 does not have after the second separator."""
    key, number, rest = line.split(b"\t", 2)
    return b"\t".join((key, number, b"\xff" + rest))


_COUNTS: Final = (
    Break(Reason.FIELDS, edit=lambda fields: fields[:-1]),
    Break(Reason.FIELDS, edit=lambda fields: [*fields, "surplus"]),
)
_BLANK: Final = Break(Reason.BLANK, spoil=lambda line: b"")
_BYTES: Final = Break(Reason.BYTES, spoil=_garble)
_SAME_KEY: Final = Break(Reason.DUPLICATE)
_NO_KEY: Final = _put(Reason.KEY, 0, r"\N")

#: File -> its broken rows, in the order in which they are put into it. ratings.csv has none that makes a reader look at
#: every byte, so that a large sample is read as a large edition is.
BREAKS: Final[dict[str, tuple[Break, ...]]] = {
    "ratings.csv": (
        *_COUNTS,
        _put(Reason.NUMBER, 2, "four"),
        _put(Reason.NUMBER, 0, "user7"),
        _put(Reason.RATING, 2, "5.5"),
        _put(Reason.RATING, 2, "-1.0"),
        _put(Reason.TIMESTAMP, 3, "-1"),
        _put(Reason.DUPLICATE, 3, "1546300799"),
        _put(Reason.REFERENCE, 1, UNKNOWN_MOVIE),
        _put(Reason.KEY, 0, ""),
        _put(Reason.KEY, 1, ""),
    ),
    "movies.csv": (
        *_COUNTS,
        _put(Reason.NUMBER, 0, "12a"),
        _put(Reason.KEY, 0, ""),
        _put(Reason.DUPLICATE, 1, "A Second Title (1999)"),
        Break(Reason.QUOTING, spoil=_unclose),
    ),
    "links.csv": (
        *_COUNTS,
        _put(Reason.NUMBER, 0, "x1"),
        _put(Reason.NUMBER, 2, "none"),
        _put(Reason.KEY, 0, ""),
        _SAME_KEY,
        _put(Reason.REFERENCE, 0, UNKNOWN_MOVIE),
    ),
    "tags.csv": (
        *_COUNTS,
        _put(Reason.NUMBER, 1, "1.5e"),
        _put(Reason.TIMESTAMP, 3, "-86400"),
        _put(Reason.KEY, 1, ""),
        _put(Reason.MISSING, 2, ""),
        _put(Reason.REFERENCE, 1, UNKNOWN_MOVIE),
        _BLANK,
    ),
    "genome-scores.csv": (
        *_COUNTS,
        _put(Reason.NUMBER, 2, "much"),
        _put(Reason.RANGE, 2, "1.25"),
        _put(Reason.KEY, 1, ""),
        _put(Reason.DUPLICATE, 2, "0.5"),
        _put(Reason.REFERENCE, 0, UNKNOWN_MOVIE),
        _put(Reason.TAG, 1, UNKNOWN_TAG),
    ),
    "genome-tags.csv": (*_COUNTS, _put(Reason.NUMBER, 0, "1st"), _put(Reason.MISSING, 1, ""), _SAME_KEY),
    "title.basics.tsv.gz": (
        *_COUNTS,
        _NO_KEY,
        _SAME_KEY,
        _put(Reason.NUMBER, 5, "19x5"),
        _put(Reason.CODE, 4, "no"),
    ),
    "title.ratings.tsv.gz": (
        *_COUNTS,
        _NO_KEY,
        _SAME_KEY,
        _put(Reason.NUMBER, 2, "many"),
        _put(Reason.RANGE, 1, "11.0"),
        _put(Reason.MISSING, 2, r"\N"),
    ),
    "title.crew.tsv.gz": (*_COUNTS, _NO_KEY, _SAME_KEY, _BLANK),
    "title.principals.tsv.gz": (*_COUNTS, _NO_KEY, _SAME_KEY, _put(Reason.NUMBER, 1, "first")),
    "title.episode.tsv.gz": (*_COUNTS, _NO_KEY, _SAME_KEY, _put(Reason.NUMBER, 2, "two")),
    "title.akas.tsv.gz": (*_COUNTS, _NO_KEY, _SAME_KEY, _put(Reason.NUMBER, 1, "2nd"), _BYTES),
    "name.basics.tsv.gz": (*_COUNTS, _NO_KEY, _SAME_KEY, _put(Reason.NUMBER, 2, "c. 1950"), _BYTES),
}


def places(count: int, rows: int, rng: np.random.Generator) -> list[int]:
    """Choose after how many good rows (at least one) each of ``count`` broken rows comes, ascending."""
    return sorted(rng.integers(1, rows + 1, count).tolist())


def break_row(row: bytes, broken: Break, separator: str) -> bytes:
    """Break one good row, a line without its end."""
    line = row.decode()
    # Commas may be within quotes, tabs never are.
    fields = next(csv.reader([line])) if separator == "," else line.split(separator)
    return broken.spoil(_join(broken.edit(fields), separator).encode())


def _join(fields: Fields, separator: str) -> str:
    if separator != ",":
        return separator.join(fields)
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(fields)
    return out.getvalue()

"""What a load says: its counts, the reasons for which a row is set aside, and the error that stops it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class SourceError(Exception):
    """A source cannot be read. One line: what is wrong, which file, and the remedy."""


class Reason(StrEnum):
    """Why a row is in quarantine.

    ``raw.quarantine.reason`` is one of these, followed by `` in <column>`` where one field is to blame.
    """

    FIELDS = "wrong number of fields"
    QUOTING = "broken quoting"
    BYTES = "undecodable bytes"
    BLANK = "blank line"
    KEY = "missing key"
    MISSING = "missing value"
    NUMBER = "unparsable number"
    RANGE = "number out of range"
    RATING = "rating out of range"
    TIMESTAMP = "bad timestamp"
    CODE = "unknown code"
    DUPLICATE = "duplicate key"
    REFERENCE = "unknown movie"
    TAG = "unknown tag"


@dataclass(frozen=True)
class LoadReport:
    """The account of one raw table: ``file_rows == loaded_rows + quarantined_rows``, in rows of the file.

    ``file`` is None for a table whose file does not exist or was not asked for. ``reasons`` counts the quarantined
    rows by reason. ``new_columns``: columns of the file that are not among the table's declared ones; they are in the
    table as text, after those.
    """

    table: str
    file: str | None
    file_rows: int
    loaded_rows: int
    quarantined_rows: int
    reasons: dict[str, int] = field(default_factory=dict)
    new_columns: tuple[str, ...] = ()

"""Errors that stop a load, and the reasons for which a row is set aside."""

from __future__ import annotations

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

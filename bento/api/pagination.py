"""Cursors of the lists under ``/v1``: where the page before ended, as text that nobody need understand."""

from __future__ import annotations

import base64
import binascii
import json
from http import HTTPStatus

from bento.errors import RequestRefused


def cursor_of(last: int) -> str:
    """Return the cursor that continues after the row with this number.

    >>> after(cursor_of(318))
    318
    """
    return base64.urlsafe_b64encode(json.dumps(last).encode()).decode().rstrip("=")


def after(cursor: str) -> int:
    """Return the number that a cursor continues after; raise ``RequestRefused`` (422) for any other text."""
    try:
        last = json.loads(base64.urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4)))
    except (ValueError, RecursionError, binascii.Error):
        last = None
    if type(last) is not int or not 0 <= last < 2**63:
        raise RequestRefused(
            HTTPStatus.UNPROCESSABLE_ENTITY, "The cursor is none of this list's.", "Take `next_cursor` as it was given."
        )
    return last

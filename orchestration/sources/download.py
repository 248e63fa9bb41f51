"""Fetching one file over HTTP: written aside, checked, then renamed, so that a file with its name is whole."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
from tenacity import (
    Retrying,
    retry_if_exception_type,
    retry_if_not_exception_type,
    stop_after_attempt,
    wait_exponential,
)
from tqdm import tqdm

from orchestration.sources.report import SourceError

_CHUNK = 1 << 20
_TIMEOUT = httpx.Timeout(60.0, connect=15.0)
_TRIES = 3


class _TryAgain(Exception):
    """An answer that may be better a moment later."""


@dataclass(frozen=True)
class Fetched:
    """What the server said of a file and when: kept beside it as ``<file>.json``.

    ``fetched_at``: seconds since 1970. ``etag`` and ``last_modified`` are as the server wrote them, where it did.
    """

    url: str
    fetched_at: float
    size: int
    etag: str | None
    last_modified: str | None


def download(
    url: str, target: Path, *, check: Callable[[Path], None], remedy: str, first_wait_s: float = 1.0
) -> Fetched:
    """Fetch ``url`` to ``target``, showing progress on stderr.

    ``check`` is called with the file before it gets its name and raises ``SourceError`` if it is not sound. Its time
    becomes the server's ``Last-Modified``. What breaks off or a server that fails is tried three times in all; where
    nobody answers, once. Raises ``SourceError`` with the address and ``remedy``; ``target`` is then as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    retrying = Retrying(
        retry=retry_if_exception_type((httpx.TransportError, _TryAgain))
        & retry_if_not_exception_type((httpx.ConnectError, httpx.UnsupportedProtocol)),
        stop=stop_after_attempt(_TRIES),
        wait=wait_exponential(multiplier=first_wait_s, max=30),
        reraise=True,
    )
    try:
        fetched = retrying(_fetch, url, partial)
        check(partial)
        partial.replace(target)
        _note_of(target).write_text(json.dumps(asdict(fetched), indent=1) + "\n", encoding="utf-8")
    except (httpx.HTTPError, httpx.InvalidURL, _TryAgain) as error:
        raise SourceError(f"{url} cannot be fetched ({_said(error)}). {remedy}") from error
    except OSError as error:
        raise SourceError(f"{target} cannot be written ({error.strerror}). Check disk and rights.") from error
    finally:
        partial.unlink(missing_ok=True)
    return fetched


def read_note(target: Path) -> Fetched | None:
    """What was noted when ``target`` was downloaded; None for a file that was not, or whose note is unreadable."""
    try:
        return Fetched(**json.loads(_note_of(target).read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError):
        return None


def _note_of(target: Path) -> Path:
    return target.with_name(f"{target.name}.json")


def _fetch(url: str, partial: Path) -> Fetched:
    # A transfer encoding would be undone on the way: the file must be the server's, byte for byte.
    headers = {"Accept-Encoding": "identity", "User-Agent": "marquee"}
    with httpx.stream("GET", url, headers=headers, timeout=_TIMEOUT, follow_redirects=True) as answer:
        if answer.status_code >= 500 or answer.status_code == 429:
            raise _TryAgain(f"the server answers {answer.status_code} {answer.reason_phrase}")
        answer.raise_for_status()
        stated = answer.headers.get("Content-Length")
        size = 0
        with (
            partial.open("wb") as out,
            tqdm(
                total=int(stated) if stated else None,
                desc=url.rpartition("/")[2],
                unit="B",
                unit_scale=True,
                # In a log, a line every ten seconds is enough.
                mininterval=0.2 if sys.stderr.isatty() else 10.0,
            ) as bar,
        ):
            for chunk in answer.iter_raw(_CHUNK):
                out.write(chunk)
                size += len(chunk)
                bar.update(len(chunk))
        if stated and size != int(stated):
            raise _TryAgain(f"it ended after {size:,} of {int(stated):,} bytes")
        modified = answer.headers.get("Last-Modified")
        if modified:
            changed_at = parsedate_to_datetime(modified).timestamp()
            os.utime(partial, (changed_at, changed_at))
        return Fetched(url, time.time(), size, answer.headers.get("ETag"), modified)


def _said(error: Exception) -> str:
    if isinstance(error, httpx.HTTPStatusError):
        return f"the server answers {error.response.status_code} {error.response.reason_phrase}"
    return str(error) or type(error).__name__

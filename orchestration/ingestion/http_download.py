"""Fetching one file over HTTP so that a cut, a kill, a busy server or a full disk costs neither the file nor time.

Bytes go to ``.<file>.partial``, and ``.<file>.partial.json`` says of which version of which address they are. Once
whole and checked, the file gets its name and then its note, ``<file>.json``. Whatever a kill leaves behind, the next
call goes on from there:

| left behind | the next call |
|---|---|
| a partial file of a version that the server still has | asks for the rest (``Range`` with ``If-Range``) |
| a partial file of another version, or without a note | starts over |
| all bytes, not yet checked or renamed | checks and renames them, asks for nothing |
| the file renamed, its note not yet written | writes the note, asks for nothing |
"""

from __future__ import annotations

import json
import os
import random
import re
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from orchestration.errors import SourceError
from orchestration.ingestion.transfer_progress import show_pace
from orchestration.storage.disk_space import (
    alone_in,
    check_room,
    is_full,
    keep_renames,
    readable,
    unwritten,
    write_whole,
)

# A transfer encoding would be undone on the way: the file must be the server's, byte for byte.
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "marquee"}
_PASSING = (408, 425, 429)
# What was completed just before a kill is taken without asking whether it is still the newest.
_JUST_NOW_S = 3_600.0


class _TryAgain(Exception):
    """An answer that may be better a moment later; ``after_s`` is how long the server asks to wait."""

    def __init__(self, message: str, after_s: float | None = None) -> None:
        super().__init__(message)
        self.after_s = after_s


class _StartOver(Exception):
    """The partial file is of no use with this server."""


class _GiveUp(Exception):
    """Trying again is no use."""


@dataclass(frozen=True)
class Patience:
    """How long to bear with a server.

    ``tries`` in a row may bring nothing new before it is given up; the wait before each doubles from ``first_wait_s``
    to ``longest_wait_s``, of which a random half is left out, so that many clients do not come back together. A server
    that asks to wait (``Retry-After``) is obeyed up to ``longest_asked_wait_s``, and given up beyond. ``silence_s`` is
    for how long nothing may arrive. ``sleep`` waits.
    """

    tries: int = 6
    first_wait_s: float = 1.0
    longest_wait_s: float = 60.0
    longest_asked_wait_s: float = 300.0
    silence_s: float = 60.0
    sleep: Callable[[float], None] = time.sleep

    def wait_s(self, failures: int, asked_s: float | None) -> float:
        """How long to wait after so many ``failures`` in a row."""
        if asked_s is not None:
            return asked_s
        longest = min(self.longest_wait_s, self.first_wait_s * 2 ** (failures - 1))
        # Unseeded on purpose: two machines must not draw the same waits.
        return longest * (1 - random.SystemRandom().random() / 2)


@dataclass(frozen=True)
class Fetched:
    """What the server said of a file and when: kept beside it as ``<file>.json``.

    Times are seconds since 1970: ``fetched_at`` of the bytes, ``checked_at`` of the last time that the server was asked
    and said that they are unchanged. ``etag`` and ``last_modified`` are as the server wrote them, where it did.
    """

    url: str
    fetched_at: float
    size: int
    etag: str | None
    last_modified: str | None
    checked_at: float | None = None

    @property
    def looked_at(self) -> float:
        """When the file was last known to be what the server has."""
        return self.checked_at or self.fetched_at


@dataclass(frozen=True)
class _Begun:
    """Of what the bytes in a partial file are a part.

    ``validator``: what goes into ``If-Range``; None where the server gives nothing that tells versions apart for sure.
    ``whole_at``: when the last byte had come, in seconds since 1970; None before.
    """

    url: str
    etag: str | None
    last_modified: str | None
    validator: str | None
    total: int | None
    whole_at: float | None = None


@dataclass(frozen=True)
class Look:
    """What a server says of a file when only asked: ``size`` None where it does not say, ``have`` bytes are here."""

    unchanged: bool
    size: int | None
    have: int


def say(line: str) -> None:
    """One line on standard error."""
    print(line, file=sys.stderr, flush=True)


def download(
    url: str,
    target: Path,
    *,
    check: Callable[[Path], None],
    remedy: str,
    patience: Patience | None = None,
    tell: Callable[[str], None] = say,
) -> Fetched:
    """Bring ``target`` up to date with ``url``, going on where an earlier call was cut off.

    A target that came from ``url`` is asked for conditionally and stays where the server says that it is unchanged.
    ``check`` is called with the file before it gets its name and raises ``SourceError`` if it is not sound: it is then
    fetched once more from the start. Its time becomes the server's ``Last-Modified``. One process at a time fetches
    into a folder. Raises ``SourceError`` with the address and ``remedy``, and ``NoRoom`` for a full disk; ``target`` is
    then as it was.
    """
    called_at = time.time()
    with _Fetch(url, target, patience or Patience(), tell) as fetch:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with alone_in(target.parent, tell), fetch.tidied():
                return fetch.bring_up_to_date(check, remedy, called_at)
        except (httpx.HTTPError, httpx.InvalidURL, _TryAgain, _GiveUp) as error:
            kept = fetch.resumable()[0]
            goes_on = f" {readable(kept)} are kept, and the next call goes on from there." if kept else ""
            raise SourceError(f"{url} cannot be fetched ({_said(error)}).{goes_on} {remedy}") from error
        except OSError as error:
            raise unwritten(target, error) from error


def read_note(target: Path) -> Fetched | None:
    """Return the note of the download of ``target``; None if there is none or the file is not the one noted."""
    try:
        note = Fetched(**json.loads(_note_of(target).read_text(encoding="utf-8")))
        state = target.stat()
    except (OSError, TypeError, ValueError):
        return None
    modified = _seconds(note.last_modified)
    same = state.st_size == note.size and (modified is None or int(state.st_mtime) == int(modified))
    return note if same else None


def provenance(target: Path) -> dict[str, str]:
    """Return a downloaded file's note: its URL, the server's name for the version, and times. Empty without a note."""
    note = read_note(target)
    if note is None:
        return {}
    found = {"url": note.url, "etag": note.etag, "last_modified": note.last_modified}
    times = {"fetched_at": note.fetched_at, "checked_at": note.checked_at}
    stamps = {name: datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds") for name, at in times.items() if at}
    return {**{name: value for name, value in found.items() if value}, **stamps}


def is_unfinished(target: Path) -> bool:
    """Whether an earlier download of ``target`` was cut off."""
    return _begun_note_of(target).exists()


def look(url: str, target: Path) -> Look:
    """Ask what ``download`` would have to fetch, and write nothing. Raises ``SourceError`` where nobody says."""
    with _Fetch(url, target, Patience(silence_s=15.0), say) as fetch:
        known = fetch.known()
        have, begun = fetch.resumable()
        try:
            answer = fetch.head(known)
            if answer.status_code == 304 and known is not None:
                return Look(unchanged=True, size=known.size, have=known.size)
            answer.raise_for_status()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise SourceError(f"{url} cannot be asked ({_said(error)}).") from error
    same = begun is not None and begun.validator in (answer.headers.get("ETag"), answer.headers.get("Last-Modified"))
    return Look(unchanged=False, size=_stated_length(answer), have=have if same else 0)


class _Fetch:
    """One call of ``download``: the address, the three files beside the target, and what was seen so far."""

    def __init__(self, url: str, target: Path, patience: Patience, tell: Callable[[str], None]) -> None:
        self.url, self.target, self.patience, self.tell = url, target, patience, tell
        self.partial = target.with_name(f".{target.name}.partial")
        self.begun_note = _begun_note_of(target)
        self._answered = False
        timeout = httpx.Timeout(self.patience.silence_s, connect=min(15.0, self.patience.silence_s))
        self._client = httpx.Client(headers=_HEADERS, timeout=timeout, follow_redirects=True, verify=_trusted())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def bring_up_to_date(self, check: Callable[[Path], None], remedy: str, called_at: float) -> Fetched:
        """Do the work of ``download``, under the folder's lock, which the caller holds."""
        note = self._finish_cut_off(check)
        fresh_from = called_at - _JUST_NOW_S
        if note is None:
            note, fresh_from = self.known(), called_at
        # Just finished, or fetched by another process while this one waited for the lock.
        if note is not None and note.looked_at >= fresh_from:
            return note
        known = self.known()
        for last in (False, True):
            if not self._get(known):
                assert known is not None
                return self._renew(known)
            try:
                check(self.partial)
            except SourceError as error:
                self.discard()
                # Its remedy is for a file that is kept, and its path is gone.
                why = str(error).partition(". ")[0].replace(str(self.partial), self.target.name)
                if last:
                    raise SourceError(f"{self.url} sends a damaged file, twice in a row ({why}). {remedy}") from error
                self.tell(f"what came is damaged ({why}); fetching it once more from the start")
                continue
            break
        return self._place()

    def known(self) -> Fetched | None:
        """Return the note of the target, if it came from this address."""
        note = read_note(self.target)
        return note if note is not None and note.url == self.url else None

    def resumable(self) -> tuple[int, _Begun | None]:
        """Return how many bytes are here and of what, if the rest can be requested; else 0 and None."""
        begun = self._read_begun()
        have = self._have()
        return (have, begun) if have and begun is not None and begun.validator else (0, None)

    def discard(self) -> None:
        """Drop the partial file, its note first: bytes without a note are never gone on with."""
        for path in (self.begun_note, self.partial, self.begun_note.with_name(f"{self.begun_note.name}.new")):
            path.unlink(missing_ok=True)

    def head(self, known: Fetched | None) -> httpx.Response:
        """Ask the server about the file, without fetching it."""
        return self._client.head(self.url, headers=_conditions(known))

    @contextmanager
    def tidied(self) -> Iterator[None]:
        """Where fetching fails, keep the partial file only if it can be gone on with and does not fill the disk."""
        try:
            yield
        except Exception as error:
            if not self.resumable()[0] or (isinstance(error, OSError) and is_full(error)):
                self.discard()
            raise

    def _finish_cut_off(self, check: Callable[[Path], None]) -> Fetched | None:
        """Check and name what an earlier call had fetched whole before it was killed."""
        begun = self._read_begun()
        if begun is None:
            return None
        if not self.partial.exists():
            # Only the renaming takes away a partial file that is whole, so the target is it.
            if begun.whole_at and self.target.is_file() and self.target.stat().st_size == begun.total:
                return self._write_note(begun)
            return None
        if begun.whole_at is None:
            if begun.total != self._have():
                return None
            self._seal(begun, self.partial.stat().st_mtime)
        try:
            check(self.partial)
        except SourceError as error:
            self.tell(f"{self.target.name}: what an earlier call left is damaged ({error})")
            self.discard()
            return None
        return self._place()

    def _get(self, known: Fetched | None) -> bool:
        """Fill the partial file, however often the server has to be asked; False where ``known`` is still the newest.

        Only tries in a row that bring nothing new are counted.
        """
        failures, furthest = 0, self.resumable()[0]
        while True:
            try:
                return self._ask(known)
            except _StartOver as reason:
                self.tell(f"{self.target.name}: {reason}; starting over")
                self.discard()
            except (httpx.TransportError, _TryAgain) as error:
                hopeless = isinstance(error, httpx.UnsupportedProtocol)
                # Where nobody has answered yet, there is no network as a rule: no waiting.
                if hopeless or (isinstance(error, httpx.ConnectError) and not self._answered):
                    raise
                reached = self._have()
                failures = 1 if reached > furthest else failures + 1
                furthest = max(furthest, reached)
                if failures >= self.patience.tries:
                    raise
                wait_s = self.patience.wait_s(failures, error.after_s if isinstance(error, _TryAgain) else None)
                kept = self.resumable()[0]
                self.tell(
                    f"{self.target.name}: {_said(error)}; trying again in {wait_s:.0f} s"
                    f" (try {failures + 1} of {self.patience.tries}), {'from ' + readable(kept) if kept else 'anew'}"
                )
                self.patience.sleep(wait_s)

    def _ask(self, known: Fetched | None) -> bool:
        have, begun = self.resumable()
        headers = _conditions(known)
        if begun is not None and begun.validator is not None:
            headers |= {"Range": f"bytes={have}-", "If-Range": begun.validator}
        with self._client.stream("GET", self.url, headers=headers) as answer:
            self._answered = True
            if answer.status_code == 304 and known is not None:
                return False
            self._refuse(answer, resuming=begun is not None)
            stated = _stated_length(answer)
            if answer.status_code == 206 and begun is not None:
                begun = _continued(answer, have, begun)
            else:
                # Not asked for a part, or of another version by now, or a server that knows no parts.
                if begun is not None:
                    self.tell(f"{self.target.name}: the server sends it from the start")
                have, begun = 0, _begin(self.url, answer)
                self.discard()
            check_room(self.target.parent, stated or 0, self.target.name)
            self._receive(answer, have, begun)
        self._seal(begun, time.time())
        return True

    def _refuse(self, answer: httpx.Response, *, resuming: bool) -> None:
        status = answer.status_code
        if status >= 500 or status in _PASSING:
            after_s = _asked_wait_s(answer)
            if after_s is not None and after_s > self.patience.longest_asked_wait_s:
                raise _GiveUp(f"the server answers {status} and asks to come back in {after_s:.0f} s")
            raise _TryAgain(_status_of(answer), after_s)
        if status == 416 and resuming:
            raise _StartOver("the server has no such part")
        answer.raise_for_status()
        if status != 200 and not (status == 206 and resuming):
            raise _TryAgain(_status_of(answer))

    def _receive(self, answer: httpx.Response, have: int, begun: _Begun) -> None:
        # Unbuffered, and in the pieces that arrive: what a cut or a kill leaves is all that came.
        with self.partial.open("ab" if have else "wb", buffering=0) as out:
            if not have:
                write_whole(self.begun_note, json.dumps(asdict(begun)))
            with show_pace(self.target.name, have, begun.total, self.tell) as pace:
                for piece in answer.iter_raw():
                    _write_all(out.fileno(), piece)
                    pace.add(len(piece))
            os.fsync(out.fileno())

    def _seal(self, begun: _Begun, whole_at: float) -> None:
        """Note that the partial file is whole."""
        size = self._have()
        if begun.total is not None and size != begun.total:
            if size > begun.total:
                self.discard()
            raise _TryAgain(f"it ended after {size:,} of {begun.total:,} bytes")
        write_whole(self.begun_note, json.dumps(asdict(replace(begun, total=size, whole_at=whole_at))))

    def _place(self) -> Fetched:
        """Give the partial file, whole and checked, its name; then the note its."""
        begun = self._read_begun()
        assert begun is not None
        modified = _seconds(begun.last_modified)
        if modified is not None:
            os.utime(self.partial, (modified, modified))
        self.partial.replace(self.target)
        return self._write_note(begun)

    def _write_note(self, begun: _Begun) -> Fetched:
        assert begun.whole_at is not None
        size = self.target.stat().st_size
        note = Fetched(self.url, begun.whole_at, size, begun.etag, begun.last_modified)
        write_whole(_note_of(self.target), _noted(note))
        self.discard()
        keep_renames(self.target.parent)
        return note

    def _renew(self, known: Fetched) -> Fetched:
        note = replace(known, checked_at=time.time())
        write_whole(_note_of(self.target), _noted(note))
        self.discard()
        self.tell(f"{self.target.name}: unchanged")
        return note

    def _have(self) -> int:
        return self.partial.stat().st_size if self.partial.exists() else 0

    def _read_begun(self) -> _Begun | None:
        try:
            begun = _Begun(**json.loads(self.begun_note.read_text(encoding="utf-8")))
        except (FileNotFoundError, TypeError, ValueError):
            return None
        return begun if begun.url == self.url else None


@cache
def _trusted() -> ssl.SSLContext:
    """Return the trusted certificates: reading them takes 50 ms, which seven dumps need not pay seven times."""
    return httpx.create_ssl_context()


def _note_of(target: Path) -> Path:
    return target.with_name(f"{target.name}.json")


def _begun_note_of(target: Path) -> Path:
    return target.with_name(f".{target.name}.partial.json")


def _noted(note: Fetched) -> str:
    return json.dumps(asdict(note), indent=1) + "\n"


def _write_all(handle: int, piece: bytes) -> None:
    """Write every byte: a write to a disk that is nearly full, or near a size limit, takes only a part."""
    rest = memoryview(piece)
    while rest:
        rest = rest[os.write(handle, rest) :]


def _conditions(known: Fetched | None) -> dict[str, str]:
    """Headers that ask for the file only if it is another one than ``known``."""
    if known is None:
        return {}
    stated = {"If-None-Match": known.etag, "If-Modified-Since": known.last_modified}
    return {name: value for name, value in stated.items() if value}


def _begin(url: str, answer: httpx.Response) -> _Begun:
    etag, modified = answer.headers.get("ETag"), answer.headers.get("Last-Modified")
    validator = None
    if etag and not etag.startswith("W/"):
        validator = etag
    else:
        # A time tells versions apart only if the file has not changed in the very second of the answer (RFC 9110,
        # 8.8.2.2).
        changed, answered = _seconds(modified), _seconds(answer.headers.get("Date"))
        if changed is not None and answered is not None and answered - changed >= 1:
            validator = modified
    return _Begun(url, etag, modified, validator, _stated_length(answer))


def _continued(answer: httpx.Response, have: int, begun: _Begun) -> _Begun:
    """Return what the partial file will be, if the part sent is the one requested. Raises ``_StartOver`` if not."""
    stated = answer.headers.get("Content-Range", "")
    found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", stated.strip())
    if found is None:
        raise _StartOver(f"the server sends a part without saying which ({stated or 'no Content-Range'})")
    first, last = int(found[1]), int(found[2])
    total = begun.total if found[3] == "*" else int(found[3])
    fits = (
        first == have
        and total in (None, last + 1)
        and begun.total in (None, total)
        and _stated_length(answer) in (None, last + 1 - first)
        and answer.headers.get("ETag") in (None, begun.etag)
    )
    if not fits:
        raise _StartOver(f"the server sends another part, or of another version, than was asked for ({stated})")
    return replace(begun, total=total)


def _stated_length(answer: httpx.Response) -> int | None:
    stated = answer.headers.get("Content-Length", "")
    return int(stated) if stated.isascii() and stated.isdigit() else None


def _asked_wait_s(answer: httpx.Response) -> float | None:
    """``Retry-After`` in seconds from now: it is a number of seconds or a time."""
    stated = answer.headers.get("Retry-After", "").strip()
    if stated.isascii() and stated.isdigit():
        return float(stated)
    until = _seconds(stated)
    return None if until is None else max(0.0, until - time.time())


def _seconds(stated: str | None) -> float | None:
    """Return an HTTP date as seconds since 1970; None if it is missing or not a date."""
    try:
        return parsedate_to_datetime(stated).timestamp() if stated else None
    except ValueError:
        return None


def _status_of(answer: httpx.Response) -> str:
    return f"the server answers {answer.status_code} {answer.reason_phrase}"


def _said(error: Exception) -> str:
    if isinstance(error, httpx.HTTPStatusError):
        return _status_of(error.response)
    return str(error) or type(error).__name__

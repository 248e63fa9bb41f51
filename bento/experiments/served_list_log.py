"""The log of served answers: noted in memory at the moment of the answer, written by a thread in batches.

A request pays for one append to a list. Where the store cannot be written, or not fast enough, answers wait; beyond
``room`` the newest are dropped and counted, and no request waits for them.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy.exc import IntegrityError

from bento.schemas.recommendations import BatchResponse, ForMovieResponse, RecommendResponse, SimilarResponse
from bento.store.database import Store, StoreUnavailable
from bento.store.served_lists import SLICE, AnswerRow, Name, forget_old_answers, keep_answers

logger = logging.getLogger("marquee.answer_log")

#: Seconds between two looks at what there is to write.
EVERY_S = 1.0
#: Answers that may wait.
ROOM = 20_000
#: Answers that are written in one transaction: other writers of SQLite wait for it, and requests for its Python part.
BATCH = 50
#: How often old answers are looked for.
_TIDY = timedelta(hours=1)

Listed = RecommendResponse | ForMovieResponse | SimilarResponse
Arm = Literal["champion", "challenger", "shadow"]
Outcome = Literal["written", "no_room", "refused", "unwritten", "forgotten"]


@dataclass(frozen=True, slots=True)
class Noted:
    """Answers of one request: one, or those of a batch; ``names`` are whose they are, None for nobody that is known.

    ``overlaps`` are a shadow's: the share of films that it has in common with what was served.
    """

    at: datetime
    request_id: str
    route: str
    answers: Sequence[Listed]
    names: Sequence[Name | None]
    latency_s: float
    experiment: str | None = None
    arm: Arm | None = None
    overlaps: Sequence[float | None] | None = None


class AnswerLog:
    """Takes notes of answers and writes them to the store. ``tell`` is told how many answers came to which outcome.

    ``keep`` is the age at which an answer is deleted. ``note`` may be called from any thread, also before ``start``.
    """

    def __init__(
        self,
        store: Store,
        now: Callable[[], datetime],
        *,
        keep: timedelta,
        tell: Callable[[Outcome, int], None] = lambda outcome, count: None,
        every_s: float = EVERY_S,
        room: int = ROOM,
    ) -> None:
        self._store, self._now, self._keep, self._tell = store, now, keep, tell
        self._every_s, self._room = every_s, room
        self._noted: deque[Noted] = deque()
        self._waiting = 0
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._rows: list[AnswerRow] = []
        self._tidied: datetime | None = None
        self._is_away = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def note(self, noted: Noted) -> None:
        """Take it for the log, or count it as dropped where there is no room."""
        count = len(noted.answers)
        with self._lock:
            has_room = self._waiting + count <= self._room
            if has_room:
                self._noted.append(noted)
                self._waiting += count
        if not has_room:
            self._tell("no_room", count)

    def start(self) -> None:
        """Write in the background from now on."""
        self._thread = threading.Thread(target=self._write_on, name="answer-log", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread and write what is left; what cannot be written is counted and lost."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self.flush()
        with self._writing, self._lock:
            if self._waiting:
                logger.error("%s served answers were not logged: the app's store cannot be written", self._waiting)
                self._tell("unwritten", self._waiting)
            self._noted.clear()
            self._rows, self._waiting = [], 0

    def flush(self) -> None:
        """Write all that waits; while the store is away it goes on waiting."""
        with self._writing:
            while self._gather():
                batch = self._rows[:BATCH]
                try:
                    forgotten = self._write(batch)
                except StoreUnavailable as error:
                    if not self._is_away:
                        logger.warning("served answers wait to be logged: %s", error)
                    self._is_away = True
                    return
                except Exception:
                    # A row that the store will never take must not keep all others waiting.
                    logger.exception("%s served answers could not be logged", len(batch))
                    self._tell("refused", len(batch))
                else:
                    self._tell("written", len(batch) - forgotten)
                    self._tell("forgotten", forgotten)
                self._is_away = False
                del self._rows[: len(batch)]
                with self._lock:
                    self._waiting -= len(batch)

    def _gather(self) -> bool:
        """Make rows of what was noted, enough for a batch; False where there are none."""
        while len(self._rows) < BATCH and self._noted:
            self._rows += _rows(self._noted.popleft())
        return bool(self._rows)

    def _write(self, batch: Sequence[AnswerRow]) -> int:
        try:
            with self._store.writing() as session:
                return keep_answers(session, batch)
        except IntegrityError:
            # Somebody was deleted in between; now that is known.
            with self._store.writing() as session:
                return keep_answers(session, batch)

    def _write_on(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                self.flush()
                self._tidy()
            except Exception:
                # A thread that died would lose every answer from now on without a word.
                logger.exception("writing the log of served answers failed")

    def _tidy(self) -> None:
        """Delete what is too old, slice by slice."""
        now = self._now()
        if self._tidied is not None and now - self._tidied < _TIDY:
            return
        try:
            while not self._stop.is_set():
                with self._store.writing() as session:
                    if forget_old_answers(session, now - self._keep) < SLICE:
                        break
        except StoreUnavailable:
            return
        self._tidied = now


def answers_of(answer: object) -> Sequence[Listed]:
    """Return the lists of movies in an answer: several for a batch, none if it is about one movie."""
    if isinstance(answer, BatchResponse):
        return answer.answers
    return [answer] if isinstance(answer, RecommendResponse | SimilarResponse) else []


def _rows(noted: Noted) -> list[AnswerRow]:
    overlaps = noted.overlaps or [None] * len(noted.answers)
    return [
        AnswerRow(
            name,
            {
                "answered_at": noted.at,
                "request_id": noted.request_id,
                "route": noted.route,
                "model_version": answer.provenance.model_version,
                "data_snapshot": json.dumps(answer.provenance.data_snapshot, sort_keys=True),
                "experiment": noted.experiment,
                "arm": noted.arm,
                "fallback": None if answer.fallback is None else answer.fallback.cause,
                "latency_ms": round(noted.latency_s * 1000, 3),
                "overlap": overlap,
                "movie_keys": json.dumps([item.movie_key for item in answer.items]),
                "scores": json.dumps([round(item.score, 6) for item in answer.items]),
            },
        )
        for answer, name, overlap in zip(noted.answers, noted.names, overlaps, strict=True)
    ]

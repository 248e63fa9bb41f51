"""Writes of many at once to a service that is killed: what was acknowledged is there, and there once."""

from __future__ import annotations

import itertools
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import pytest

from settings import Settings
from tests.integration.served_home import FIRST_MOVIE_ID, FIRST_MOVIE_KEY
from tests.prove.served import KilledService, killed_service

#: Films that each writer goes round.
FILMS = 60
#: Seconds after which a write that nobody acknowledges is given up: a service that does not come back.
PATIENCE_S = 300


@dataclass
class Written:
    """What was acknowledged: event ids, and the last stars of each user and film; and how often it was sent again."""

    events: list[int] = field(default_factory=list)
    stars: dict[tuple[int, int], float] = field(default_factory=dict)
    sent_again: int = 0
    replayed: int = 0
    kills: int = 0
    rated: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)

    @property
    def acknowledged(self) -> int:
        """Writes that got their answer."""
        return len(self.events) + self.rated


def write_and_kill(settings: Settings, log: Path, *, writes: int, writers: int, kills: int) -> Written:
    """Have so many writers send so many writes, each until it is acknowledged, and kill the service meanwhile.

    Every second write is an event, the others are ratings; each has an ``Idempotency-Key`` of its own.
    """
    done, lock = Written(), threading.Lock()
    with killed_service(settings, log) as service, ThreadPoolExecutor(writers) as pool:
        service.start()
        with httpx.Client(base_url=service.url, timeout=30, trust_env=False) as http:
            users = [int(http.post("/v1/users", json={}).json()["user_id"]) for _ in range(writers)]
        turns = [range(place, writes, writers) for place in range(writers)]
        running = [
            pool.submit(_write, service, user, turn, done, lock) for user, turn in zip(users, turns, strict=True)
        ]
        for number in range(kills):
            # After an equal part of the writes each time, in the middle of whatever is under way.
            while done.acknowledged < (number + 1) * writes // (kills + 1) and not all(part.done() for part in running):
                time.sleep(0.01)
            service.kill()
            with pytest.raises(httpx.TransportError):
                # Nothing may be left that goes on acknowledging.
                httpx.get(f"{service.url}/livez", trust_env=False)
            done.kills += 1
            service.start()
        for part in running:
            part.result()
    _compare(settings.home / "app" / "store.db", users, done)
    return done


def _write(service: KilledService, user: int, turn: range, done: Written, lock: threading.Lock) -> None:
    with httpx.Client(base_url=service.url, timeout=30, trust_env=False) as http:
        for number in turn:
            film = FIRST_MOVIE_ID + number // 2 % FILMS
            if number // turn.step % 2:
                stars = 0.5 + number // 2 % 10 / 2
                path, body = f"/v1/users/{user}/ratings/{film}", {"rating": stars}
                answer = _acknowledged(http, "PUT", path, body, number, done, lock)
                with lock:
                    done.stars[user, film] = stars
                    done.rated += 1
                assert answer["rating"] == stars
            else:
                body = {"user_id": user, "movie_id": film, "kind": "clicked"}
                answer = _acknowledged(http, "POST", "/v1/events", body, number, done, lock)
                with lock:
                    done.events.append(int(answer["event_id"]))


def _acknowledged(
    http: httpx.Client,
    method: str,
    path: str,
    body: dict[str, Any],
    number: int,
    done: Written,
    lock: threading.Lock,
) -> dict[str, float]:
    """Send one write until it is answered well."""
    deadline = time.monotonic() + PATIENCE_S
    for attempt in itertools.count():
        if attempt:
            assert time.monotonic() < deadline, f"nobody acknowledges {method} {path}"
            time.sleep(0.05)
            with lock:
                done.sent_again += 1
        try:
            answer = http.request(method, path, json=body, headers={"Idempotency-Key": f"write-{number}"})
        except httpx.TransportError:
            continue
        if answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
            continue
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        with lock:
            done.replayed += answer.headers.get("idempotency-replayed") == "true"
        told: dict[str, float] = answer.json()
        return told
    raise AssertionError


def _compare(store: Path, users: list[int], done: Written) -> None:
    """Compare what the file itself holds with what was acknowledged."""
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as con:
        clicked = (
            "SELECT source_id, event_id FROM events JOIN subjects USING (subject)"
            " JOIN users ON users.id = subjects.user_ref WHERE kind = 'clicked'"
        )
        held = [number for user, number in con.execute(clicked) if user in users]
        rated = dict(_rated(con, users))
        whole = con.execute("PRAGMA integrity_check").fetchall()
    done.lost += [f"event {number}" for number in sorted(set(done.events) - set(held))]
    done.doubled += [f"event {number}, which nobody was told of" for number in sorted(set(held) - set(done.events))]
    if len(set(done.events)) < len(done.events):
        done.doubled.append("two writes were told the same event")
    done.lost += [f"rating {pair}" for pair, stars in done.stars.items() if rated.get(pair) != stars]
    done.doubled += [f"rating {pair}" for pair in rated.keys() - done.stars.keys()]
    if whole != [("ok",)]:
        done.lost.append(f"the file is damaged: {whole}")


def _rated(con: sqlite3.Connection, users: list[int]) -> Iterator[tuple[tuple[int, int], float]]:
    query = "SELECT source_id, movie_key, rating FROM ratings JOIN users ON users.id = ratings.user_ref"
    for user, key, stars in con.execute(query):
        if user in users:
            yield (user, key - FIRST_MOVIE_KEY + FIRST_MOVIE_ID), float(stars)

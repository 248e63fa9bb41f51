"""What is asked of a running service, and the figures that come of it; each in turn with the constant route."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np

from benchmarks.serving.load_generator import Answered, Asked, Caller, Refused, ask_all, quantile
from benchmarks.serving.server_process import Server

K = 20
#: Callers at once of the second part.
CALLERS = 32
#: How `/similar` can be asked; the first is what the others are measured by.
INDEXES = ("exact", "faiss", "annoy")
#: First requests that no figure is made of: the process loads late what it needs.
_WARM = 40
_MS = 1000.0


class People:
    """Users who have not been asked for yet, each of whom rates a film before he is."""

    def __init__(self, users: int, films: int, first_id: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self._waiting: Iterator[int] = iter((rng.permutation(users) + first_id).tolist())
        self._films = rng
        self._n_films, self._first = films, first_id

    def take(self, count: int) -> list[int]:
        """So many users."""
        return [next(self._waiting) for _ in range(count)]

    def rates(self, user: int, film: int | None = None) -> Asked:
        """Build a rating by the user, of a random movie unless ``film`` is given."""
        film = self._first + int(self._films.integers(self._n_films)) if film is None else film
        return Asked.of("PUT", f"/v1/users/{user}/ratings/{film}", {"rating": 4.5})


def recommend(user: int, k: int = K) -> Asked:
    """Build the request for a user's recommendations."""
    return Asked.of("POST", "/recommend", {"user_id": user, "k": k})


def constant(size: int) -> Asked:
    """Build a request for a constant body of ``size`` bytes."""
    return Asked.of("POST", "/constant", {"size": size})


def one_caller(port: int, people: People, count: int) -> dict[str, float]:
    """Milliseconds of `/recommend`, each for another user who has just rated, and of the constant body, in turn."""

    async def ask() -> tuple[list[float], list[float], list[float], int]:
        own, bare, written, size = [], [], [], 0
        async with Caller(port) as caller:
            for place, user in enumerate(people.take(_WARM + count)):
                rated = await caller.ask(people.rates(user))
                answer = await caller.ask(recommend(user))
                still = await caller.ask(constant(len(answer.body)))
                if place < _WARM:
                    continue
                _check(answer.json())
                size += len(answer.body)
                written.append(rated.seconds * _MS)
                own.append(answer.seconds * _MS)
                bare.append(still.seconds * _MS)
        return own, bare, written, size // count

    own, bare, written, size = asyncio.run(ask())
    figures = {
        f"{name}_p{share * 100:.0f}_ms": round(quantile(values, share), 2)
        for name, values in (("recommend", own), ("constant", bare), ("rating", written))
        for share in (0.5, 0.99)
    }
    above = {
        f"above_p{share * 100:.0f}_ms": round(quantile(own, share) - quantile(bare, share), 2) for share in (0.5, 0.99)
    }
    return {**above, **figures, "bytes": size, "requests": count}


def many_callers(server: Server, people: People, count: int, rounds: int) -> dict[str, float]:
    """Measure the requests a second of both routes with ``CALLERS`` at once, and their ratio.

    All but the p99 are medians of rounds in turn. The CPU milliseconds that the server used for each route are in the
    result too: other load distorts them less.
    """
    port = server.port

    async def ask() -> tuple[list[float], list[float], list[float], list[float], list[float]]:
        own, bare, slow, own_cpu, bare_cpu = [], [], [], [], []
        for _ in range(rounds):
            users = people.take(count)
            await ask_all(port, [people.rates(user) for user in users], 4)
            before = server.cpu_s()
            seconds, answers = await ask_all(port, [recommend(user) for user in users], CALLERS)
            own_cpu.append((server.cpu_s() - before) * _MS / count)
            own.append(count / seconds)
            slow += [answer.seconds * _MS for answer in answers]
            size = int(median(len(answer.body) for answer in answers))
            more = [constant(size)] * (4 * count)
            before = server.cpu_s()
            seconds, _ = await ask_all(port, more, CALLERS)
            bare_cpu.append((server.cpu_s() - before) * _MS / len(more))
            bare.append(len(more) / seconds)
        return own, bare, slow, own_cpu, bare_cpu

    own, bare, slow, own_cpu, bare_cpu = asyncio.run(ask())
    return {
        "recommend_cpu_ms": round(median(own_cpu), 2),
        "constant_cpu_ms": round(median(bare_cpu), 2),
        "recommend_rps": round(median(own), 1),
        "constant_rps": round(median(bare), 1),
        "share": round(median(mine / other for mine, other in zip(own, bare, strict=True)), 3),
        "recommend_p99_ms": round(quantile(slow, 0.99), 1),
    }


def batch(port: int, people: People, size: int, rounds: int) -> dict[str, float]:
    """Milliseconds a user of `/recommend_batch` with so many users, and of `/recommend` one by one, in turn."""

    async def ask() -> tuple[list[float], list[float]]:
        together, alone = [], []
        async with Caller(port) as caller:
            for number in range(rounds + 1):
                users = people.take(size)
                for user in users:
                    await caller.ask(people.rates(user))
                whole = await caller.ask(Asked.of("POST", "/recommend_batch", {"user_ids": users, "k": K}))
                single = [await caller.ask(recommend(user)) for user in users]
                if number:
                    together.append(whole.seconds * _MS / size)
                    alone.append(sum(answer.seconds for answer in single) * _MS / size)
        return together, alone

    together, alone = asyncio.run(ask())
    times = [single / whole for whole, single in zip(together, alone, strict=True)]
    return {
        "users": size,
        "ms_a_user": round(median(together), 3),
        "alone_ms_a_user": round(median(alone), 3),
        "times_faster": round(median(times), 1),
    }


def freshness(port: int, people: People, count: int) -> dict[str, float]:
    """Milliseconds from a rating's acknowledgement to the whole list without the film.

    Of so many users: for how many the film was gone, and for how many the list was another one.
    """

    async def ask() -> tuple[list[float], int, int]:
        waits, gone, changed = [], 0, 0
        async with Caller(port) as caller:
            for user in people.take(count):
                before = _films(await caller.ask(recommend(user)))
                rated = await caller.ask(people.rates(user, before[0]))
                answer = await caller.ask(recommend(user))
                after = _films(answer)
                waits.append((answer.done - rated.done) * _MS)
                gone += before[0] not in after
                changed += after != before
        return waits, gone, changed

    waits, gone, changed = asyncio.run(ask())
    return {
        "users": count,
        "film_gone": gone,
        "list_changed": changed,
        "p50_ms": round(quantile(waits, 0.5), 2),
        "largest_ms": round(max(waits), 2),
    }


def long_history(port: int, films: int, first_id: int, seed: int, rounds: int = 9) -> dict[str, float]:
    """Milliseconds of `/recommend` for a history of 5,000 films that is sent along."""
    rng = np.random.default_rng(seed)
    length = min(5_000, films // 2)
    histories = [rng.choice(films, length, replace=False) for _ in range(rounds + 1)]
    bodies = [{"history": [{"movie_id": first_id + int(film)} for film in history], "k": K} for history in histories]
    asked = [Asked.of("POST", "/recommend", body) for body in bodies]

    async def ask() -> list[float]:
        async with Caller(port) as caller:
            return [(await caller.ask(body)).seconds * _MS for body in asked][1:]

    return {"films": length, "p50_ms": round(quantile(asyncio.run(ask()), 0.5), 1)}


def similar_films(port: int, films: int, first_id: int, seed: int, count: int) -> dict[str, dict[str, Any]]:
    """Milliseconds of `/similar` by each index, and how much of the exact answer it has; in turn, film by film."""
    asked = np.random.default_rng(seed).choice(films, min(count, films), replace=False) + first_id

    async def ask() -> dict[str, dict[str, Any]]:
        times: dict[str, list[float]] = {kind: [] for kind in INDEXES}
        shared: dict[str, list[float]] = {kind: [] for kind in INDEXES}
        missing: dict[str, str] = {}
        for film in asked.tolist():
            exact: set[int] = set()
            for kind in (kind for kind in INDEXES if kind not in missing):
                try:
                    async with Caller(port) as caller:
                        body = {"movie_id": film, "k": K, "index": kind}
                        await caller.ask(Asked.of("POST", "/similar", body))
                        answer = await caller.ask(Asked.of("POST", "/similar", body))
                except Refused as refused:
                    missing[kind] = str(refused)
                    continue
                found = set(_films(answer))
                exact = exact or found
                times[kind].append(answer.seconds * _MS)
                shared[kind].append(len(found & exact) / max(len(exact), 1))
        return {
            kind: {"missing": missing[kind]}
            if kind in missing
            else {"p50_ms": round(quantile(times[kind], 0.5), 2), "recall": round(float(np.mean(shared[kind])), 3)}
            for kind in INDEXES
        }

    return asyncio.run(ask())


def plain_figures(port: int, users: Sequence[int], callers: int = CALLERS) -> dict[str, float]:
    """Milliseconds and requests a second of the plain service."""

    async def ask() -> tuple[list[float], float]:
        async with Caller(port) as caller:
            alone = [(await caller.ask(recommend(user))).seconds * _MS for user in users]
        seconds, _ = await ask_all(port, [recommend(user) for user in users], callers)
        return alone[_WARM:], len(users) / seconds

    alone, rate = asyncio.run(ask())
    return {
        "recommend_p50_ms": round(quantile(alone, 0.5), 2),
        "recommend_p99_ms": round(quantile(alone, 0.99), 2),
        "recommend_rps": round(rate, 1),
    }


def _films(answer: Answered) -> list[int]:
    return [item["movie_id"] for item in answer.json()["items"]]


def _check(answer: Mapping[str, Any]) -> None:
    """Raise ``RuntimeError`` for an answer that is short, a fallback, or lacks a reason for an item."""
    without = [item["rank"] for item in answer["items"] if item["reason"] is None]
    if len(answer["items"]) != K or answer["fallback"] is not None or without:
        raise RuntimeError(f"not the answer that is measured: {answer['fallback']}, no reason at {without}")

"""Many callers at once for long: every answer is the caller's own and of this moment, and the worker does not grow."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.serving.load_generator import Asked, Caller, Refused
from bento.client import MarqueeClient
from settings import Settings
from tests.integration.served_home import FIRST_MOVIE_ID
from tests.prove.served import killed_service

#: Films that a caller's users rate.
_FILMS = 60
_K = 10
#: Of the requests, the share after which the worker's memory is looked at first: then it has loaded what it needs.
_SETTLED = 0.25


@dataclass
class Loaded:
    """How many of each route were answered, what was wrong, and the worker's bytes once settled and at the end."""

    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    settled_bytes: int = 0
    end_bytes: int = 0


def ask_under_load(settings: Settings, log: Path, *, requests: int, callers: int) -> Loaded:
    """Start the service and have so many callers ask so often in all.

    Each caller has a user of his own, every second one whom the model knows: he rates a film and is asked for at once,
    and the film must be gone.
    """
    done = Loaded()
    with killed_service(settings, log) as service:
        service.start()
        with MarqueeClient(service.url) as client:
            users = [2 + place if place % 2 else client.create_user().user_id for place in range(callers)]
        asyncio.run(_ask_all(int(service.url.rsplit(":", 1)[1]), users, service.pid, requests, settings.seed, done))
    return done


async def _ask_all(port: int, users: list[int], server: int, requests: int, seed: int, done: Loaded) -> None:
    turns = [requests // len(users)] * len(users)
    async with asyncio.TaskGroup() as group:
        for user, turn in zip(users, turns, strict=True):
            group.create_task(_one_caller(port, user, turn, random.Random(f"{seed} {user}"), done))
        group.create_task(_watch(server, int(_SETTLED * sum(turns)), sum(turns), done))


async def _one_caller(port: int, user: int, turn: int, chance: random.Random, done: Loaded) -> None:
    async with Caller(port) as caller:
        rated: int | None = None
        for _ in range(turn):
            name, asked = _next(user, rated, chance)
            try:
                answer = await caller.ask(asked)
            except Refused as refused:
                done.wrong.append(f"{name}: {refused}")
                done.answers[name] += 1
                return
            done.answers[name] += 1
            said = json.loads(answer.body)
            if name == "rate":
                rated = int(said["movie_id"])
            elif (problem := _problem(name, said, user, rated)) is not None:
                done.wrong.append(f"{name} of user {user}: {problem}")
            if name == "recommend":
                rated = None


def _next(user: int, rated: int | None, chance: random.Random) -> tuple[str, Asked]:
    film = FIRST_MOVIE_ID + chance.randrange(_FILMS)
    if rated is not None:
        return "recommend", Asked.of("POST", "/recommend", {"user_id": user, "k": _K})
    kind = chance.choices(("rate", "similar", "batch", "films"), (6, 1, 1, 1))[0]
    if kind == "rate":
        return kind, Asked.of("PUT", f"/v1/users/{user}/ratings/{film}", {"rating": chance.randrange(1, 11) / 2})
    if kind == "similar":
        return kind, Asked.of("POST", "/similar", {"movie_id": film, "k": _K})
    if kind == "batch":
        return kind, Asked.of("POST", "/recommend_batch", {"user_ids": [user, 1, user], "k": _K})
    return kind, Asked.of("GET", "/v1/films?limit=5", None)


def _problem(name: str, said: dict[str, Any], user: int, rated: int | None) -> str | None:
    """Return what is wrong with an answer (another user's, out of date or empty), or None."""
    if name == "recommend":
        films = [item["movie_id"] for item in said["items"]]
        if said["user_id"] != user:
            return f"is of user {said['user_id']}"
        if rated in films:
            return f"holds film {rated}, which was rated just now"
        if said["provenance"]["app_ratings"] is None:
            return "was made without the app's store"
    if name == "batch" and [one["user_id"] for one in said["answers"]] != list(dict.fromkeys([user, 1])):
        return "is of other users"
    if name == "similar" and not said["items"]:
        return "is empty"
    return None


async def _watch(server: int, settled: int, whole: int, done: Loaded) -> None:
    """Record the memory of the service's largest process once it has settled and at the end."""
    process = psutil.Process(server)
    while sum(done.answers.values()) < whole and not done.wrong:
        held = max(one.memory_info().rss for one in (process, *process.children(recursive=True)))
        if not done.settled_bytes and sum(done.answers.values()) >= settled:
            done.settled_bytes = held
        done.end_bytes = held
        await asyncio.sleep(0.05)

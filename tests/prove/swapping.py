"""Models that are swapped under load: no request fails, and each answer is of one version alone."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from bento.client import serving
from models.serving.bundle import write_pointer
from tests.integration.served_home import ServedHome

#: What is asked, in turn, of users and films that both versions know.
_USERS, _FILMS = range(1, 31), range(1, 31)
#: Seconds in which a swap must have been noticed by every request that comes after.
PATIENCE_S = 120


@dataclass
class Swapped:
    """How many swaps and requests there were, answers by version, and what was not as it must be."""

    swaps: int = 0
    requests: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)


def swap_under_load(home: ServedHome, log: Path, *, swaps: int, callers: int) -> Swapped:
    """Move the pointer to the other version so many times while callers ask without a pause."""
    done, lock, stop = Swapped(), threading.Lock(), threading.Event()
    versions = (home.versions["neumf"], home.versions["ease"])
    with serving(home.settings, log=log) as client:
        truth = {}
        for version in reversed(versions):
            _wait_for(client.url, home, version)
            with httpx.Client(base_url=client.url, timeout=60, trust_env=False) as http:
                truth[version] = {
                    (path, str(body)): _told(http.post(path, json=body).json()) for path, body in _asked()
                }

        def call(place: int) -> None:
            asked = itertools.islice(itertools.cycle(_asked()), place, None)
            with httpx.Client(base_url=client.url, timeout=60, trust_env=False) as http:
                while not stop.is_set():
                    path, body = next(asked)
                    try:
                        answer = http.post(path, json=body)
                    except httpx.TransportError as error:
                        with lock:
                            done.failed.append(f"{path} {body}: {error!r}")
                        continue
                    with lock:
                        done.requests += 1
                        if not answer.is_success:
                            done.failed.append(f"{path} {body}: {answer.status_code} {answer.text[:200]}")
                            continue
                        found = _told(answer.json())
                        done.answers.update(found[0])
                        if len(found[0]) != 1 or found != truth[found[0][0]][path, str(body)]:
                            done.mixed.append(f"{path} {body}: {found[0]}")

        with ThreadPoolExecutor(callers) as pool:
            running = [pool.submit(call, place * 7) for place in range(callers)]
            try:
                for number in range(swaps):
                    _wait_for(client.url, home, versions[(number + 1) % 2])
                    done.swaps += 1
            finally:
                stop.set()
            for part in running:
                part.result()
    return done


def _asked() -> list[tuple[str, dict[str, Any]]]:
    bodies: list[tuple[str, dict[str, Any]]] = []
    for user, film in zip(_USERS, _FILMS, strict=True):
        bodies += [
            ("/recommend", {"user_id": user, "k": 10}),
            ("/similar", {"movie_id": film, "k": 10}),
            ("/recommend_batch", {"user_ids": [user, 31 - user], "k": 5}),
            ("/explain", {"user_id": user, "movie_id": film}),
        ]
    return bodies


def _told(answer: dict[str, Any]) -> tuple[list[str], list[Any]]:
    """Return the versions that an answer names and its movies and scores, which differ between versions."""
    parts = answer.get("answers", [answer])
    versions = sorted({part["provenance"]["model_version"] for part in parts})
    said = [
        [(item["movie_id"], round(item["score"], 4)) for item in part["items"]] if "items" in part else part["score"]
        for part in parts
    ]
    return versions, said


def _wait_for(url: str, home: ServedHome, version: str) -> None:
    """Move the pointer and wait until the service answers from there."""
    write_pointer(home.settings.serving_pointer, version)
    deadline = time.monotonic() + PATIENCE_S
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
        while time.monotonic() < deadline:
            told = http.post("/similar", json={"movie_id": 1, "k": 1}).json()
            if told["provenance"]["model_version"] == version:
                return
            time.sleep(0.02)
    raise AssertionError(f"the service has not taken over {version}")

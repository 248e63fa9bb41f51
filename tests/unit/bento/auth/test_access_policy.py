"""What counts in a caller's limit: open routes by address, health never, large requests as several."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path

import pytest

from bento.auth.access_policy import Guard, Verdict
from settings import Settings


@pytest.fixture
def guard(tmp_path: Path) -> Guard:
    return Guard(Settings(home=tmp_path, auth="jwt", jwt_secret="k7Qp2xVd9TfLm4Zr8WsYb6Nc1HgJt3Ae", rate_limit=3))


def _ask(guard: Guard, path: str, address: str = "10.0.0.1", headers: dict[bytes, bytes] | None = None) -> Verdict:
    return guard.judge({"method": "GET", "path": path, "client": (address, 1)}, headers or {})


@pytest.mark.parametrize("path", ["/docs.json", "/v1/openapi.json", "/v1/docs", "/", "/static_content/index.css"])
def test_open_routes_are_counted_by_address(guard: Guard, path: str) -> None:
    assert [_ask(guard, path).status for _ in range(4)] == [None, None, None, HTTPStatus.TOO_MANY_REQUESTS]
    assert _ask(guard, path, "10.0.0.2").status is None


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz", "/v1/login", "/refresh"])
def test_health_is_never_refused_and_logins_have_a_limit_of_their_own(guard: Guard, path: str) -> None:
    assert {_ask(guard, path).status for _ in range(20)} == {None}


def test_a_token_that_is_not_valid_counts_on_every_route(guard: Guard) -> None:
    forged = {b"authorization": b"Bearer x"}
    for path in ("/metrics", "/healthz", "/recommend"):
        _ask(guard, path, headers=forged)
    assert _ask(guard, "/metrics", headers=forged).status == HTTPStatus.TOO_MANY_REQUESTS


def test_what_a_request_costs_more_is_counted_where_the_request_was(tmp_path: Path) -> None:
    guard = Guard(Settings(home=tmp_path, rate_limit=10))
    headers = {b"host": b"127.0.0.1"}
    verdict = _ask(guard, "/recommend_batch", "127.0.0.1", headers)
    assert guard.charge(verdict, 9) == 0.0
    assert guard.charge(verdict, 1) > 0.0
    assert _ask(guard, "/recommend", "127.0.0.1", headers).status == HTTPStatus.TOO_MANY_REQUESTS
    unlimited = Guard(Settings(home=tmp_path))
    assert unlimited.charge(_ask(unlimited, "/recommend", "127.0.0.1", headers), 1_000) == 0.0

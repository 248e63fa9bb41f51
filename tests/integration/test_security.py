"""Who may do what with the API, over real HTTP: a server of the built bento where people have to log in."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from bento.auth.tokens import AUDIENCE, ISSUER
from bento.client import AsyncMarqueeClient, ClientError, MarqueeClient, serving
from bento.packaging.build import build
from bento.serve import main as serve_main
from models.serving.bundle import write_pointer
from settings import PROJECT_ROOT, Settings
from tests.unit.bento.conftest import write_tiny_bundle

pytestmark = pytest.mark.xdist_group("security")

SECRET = "k7Qp2xVd9TfLm4Zr8WsYb6Nc1HgJt3Ae"
ORIGIN = "https://app.example.org"
PROTECTED = {"MARQUEE_AUTH": "jwt", "MARQUEE_ENVIRONMENT": "production", "MARQUEE_JWT_SECRET": SECRET}


@dataclass(frozen=True, slots=True)
class Server:
    """A running server, its log, and the key of an admin."""

    settings: Settings
    url: str
    log: Path
    admin_key: str

    def ask(self, method: str, path: str, token: str | None = None, **options: Any) -> httpx.Response:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        with httpx.Client(base_url=self.url, timeout=30, trust_env=False, headers=headers) as http:
            return http.request(method, path, **options)

    def log_in(self, key: str, user_id: int | None = None) -> dict[str, Any]:
        answer = self.ask("POST", "/login", json={"user_id": user_id, "key": key})
        assert answer.status_code == 200, answer.text
        said: dict[str, Any] = answer.json()
        return said


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = Settings(home=tmp_path_factory.mktemp("security"))
    version = write_tiny_bundle(settings.models)
    write_pointer(settings.serving_pointer, version)
    build(settings, settings.models / version)
    log = settings.home / "server.log"
    more = {**PROTECTED, "MARQUEE_CORS_ORIGINS": ORIGIN, "MARQUEE_RATE_LIMIT": "600", "MARQUEE_LOGIN_LIMIT": "300"}
    with serving(settings, log=log, environment=more) as client:
        yield Server(settings, client.url, log, _issue(settings, "--role", "admin"))


@pytest.fixture(scope="module")
def admin(server: Server) -> str:
    return str(server.log_in(server.admin_key)["access_token"])


@pytest.fixture(scope="module")
def app(server: Server) -> str:
    return str(server.log_in(_issue(server.settings, "--role", "app"))["access_token"])


@dataclass(frozen=True, slots=True)
class Person:
    """A user of the app, with his key and a token."""

    user_id: int
    key: str
    token: str


@pytest.fixture
def ann(server: Server, app: str) -> Person:
    return _person(server, app, "Ann")


@pytest.fixture
def bob(server: Server, app: str) -> Person:
    return _person(server, app, "Bob")


def _person(server: Server, app: str, name: str) -> Person:
    user_id = server.ask("POST", "/v1/users", app, json={"name": name}).json()["user_id"]
    key = server.ask("POST", f"/v1/users/{user_id}/keys", app, json={"label": "phone"}).json()["key"]
    return Person(user_id, key, server.log_in(key, user_id)["access_token"])


def _issue(settings: Settings, *arguments: str) -> str:
    """Run the command of `make token` and return the key it issues."""
    command = [sys.executable, "-m", "bento.issue_key", *arguments]
    environment = {**os.environ, "MARQUEE_HOME": str(settings.home)}
    done = subprocess.run(command, cwd=PROJECT_ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("mq_")
    return done.stdout.strip()


def _is_problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    said: dict[str, Any] = answer.json()
    return said


def _routes(server: Server) -> list[tuple[str, str]]:
    """Every method and path of both documents, as they are asked."""
    found = []
    for document, prefix in (("/docs.json", ""), ("/v1/openapi.json", "/v1")):
        for path, operations in server.ask("GET", document).raise_for_status().json()["paths"].items():
            found += [(method.upper(), prefix + path) for method in operations]
    assert len(found) > 20
    return found


def test_without_a_token_every_route_but_the_open_ones_asks_who_is_calling(server: Server) -> None:
    opened = {"/healthz", "/livez", "/readyz", "/v1/login", "/v1/refresh"}
    asked = [(method, path) for method, path in _routes(server) if path not in opened]
    for method, path in [*asked, ("GET", "/nowhere"), ("GET", "/v1/nowhere"), ("POST", "/schema.json")]:
        answer = server.ask(method, re.sub(r"{\w+}", "1", path), json={})
        _is_problem(answer, 401)
        assert answer.headers["www-authenticate"].startswith("Bearer")
    for path in (
        "/healthz",
        "/livez",
        "/readyz",
        "/docs.json",
        "/v1/openapi.json",
        "/v1/docs",
        "/static_content/swagger-ui.css",
    ):
        assert server.ask("GET", path).status_code == 200
    assert server.ask("GET", "/").status_code == 307


def test_the_api_reference_loads_nothing_from_another_host(server: Server) -> None:
    with httpx.Client(base_url=server.url, timeout=30, trust_env=False, follow_redirects=True) as http:
        page = http.get("/")
        assert page.url.path == "/v1/docs"
        assert page.headers["content-security-policy"].startswith("default-src 'self'; ")
        assert "unsafe" not in page.headers["content-security-policy"]
        loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert len(loaded) >= 4
        # The policy forbids scripts in the page itself.
        assert re.findall(r"<script(?! src=)|<style|\son\w+=", page.text) == []
        texts = {name: http.get(page.url.join(name)) for name in loaded}
        assert {name: answer.status_code for name, answer in texts.items()} == dict.fromkeys(loaded, 200)
        (initializer,) = [answer.text for name, answer in texts.items() if name.endswith("initializer.js")]
        documents = re.findall(r'url: "([^"]+)"', initializer)
        assert [http.get(page.url.join(name)).json()["openapi"][0] for name in documents] == ["3", "3"]
    for text in (page.text, initializer):
        assert re.findall(r"//[\w.-]+\.\w+|googletag|jsdelivr", text) == []


def test_the_documents_are_sent_once_to_a_caller_who_keeps_them(server: Server) -> None:
    for path in ("/docs.json", "/v1/openapi.json"):
        first = server.ask("GET", path)
        tag = first.headers["etag"]
        assert server.ask("GET", path).content == first.content
        for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            again = server.ask("GET", path, headers={"If-None-Match": known})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert server.ask("GET", path, headers={"If-None-Match": '"other"'}).status_code == 200
        assert first.headers["cache-control"] == "no-cache"
        assert "bentoml.com" not in first.text


def test_a_user_may_ask_and_write_for_himself_and_an_app_for_anybody(server: Server, app: str, ann: Person) -> None:
    for token in (ann.token, app):
        assert server.ask("POST", "/recommend", token, json={"user_id": ann.user_id}).status_code == 200
        rating = server.ask("PUT", f"/v1/users/{ann.user_id}/ratings/100", token, json={"rating": 4})
        assert rating.status_code in (200, 201)
        event = {"user_id": ann.user_id, "movie_id": 101, "kind": "clicked"}
        assert server.ask("POST", "/v1/events", token, json=event).status_code == 201
        assert server.ask("GET", f"/v1/users/{ann.user_id}", token).json()["name"] == "Ann"
        assert server.ask("POST", "/similar", token, json={"movie_id": 100}).status_code == 200
        assert server.ask("GET", "/v1/films", token).status_code == 200


def test_a_user_reaches_nothing_of_anybody_else_by_any_route(server: Server, ann: Person, bob: Person) -> None:
    event = {"user_id": bob.user_id, "movie_id": 101, "kind": "clicked"}
    others = {"/recommend": {"user_id": bob.user_id}, "/v1/events": event}
    for path, body in others.items():
        _is_problem(server.ask("POST", path, ann.token, json=body), 403)
    paths = [(method, path) for method, path in _routes(server) if "{user_id}" in path]
    assert len(paths) > 8
    for method, path in paths:
        # Somebody else of the app, of the edition, and nobody: the answer does not tell which.
        for other in (bob.user_id, 11, 999_999):
            filled = path.replace("{user_id}", str(other)).replace("{movie_id}", "100").replace("{key_id}", "0" * 16)
            answer = server.ask(method, filled, ann.token, json={"rating": 3, "movie_id": 100})
            assert answer.status_code in (403, 422), (method, filled, answer.text)
            if "rating" not in path or method in ("GET", "DELETE"):
                assert answer.status_code == 403 or method in ("PATCH", "POST")
    assert server.ask("GET", f"/v1/users/{bob.user_id}/ratings", bob.token).json()["items"] == []


def test_what_is_for_apps_and_admins_is_refused_to_lesser_roles(
    server: Server, admin: str, app: str, ann: Person
) -> None:
    _is_problem(server.ask("POST", "/v1/users", ann.token, json={}), 403)
    for token in (ann.token, app):
        _is_problem(server.ask("GET", "/metrics", token), 403)
    assert server.ask("GET", "/metrics", admin).status_code == 200
    assert server.ask("POST", "/v1/users", admin, json={}).status_code == 201


def _forge(**changed: Any) -> dict[str, Any]:
    now = datetime.now(UTC)
    claims = {
        "iss": ISSUER, "aud": AUDIENCE, "sub": "key/0", "role": "admin", "iat": now, "nbf": now,
        "exp": now + timedelta(minutes=5), **changed,
    }  # fmt: skip
    return {name: value for name, value in claims.items() if value is not None}


def _unsigned(claims: dict[str, Any], algorithm: str) -> str:
    def part(value: dict[str, Any]) -> str:
        text = json.dumps(value, default=lambda moment: int(moment.timestamp()))
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    return f"{part({'alg': algorithm, 'typ': 'JWT'})}.{part(claims)}."


def test_tokens_that_are_not_ours_or_no_longer_hold_are_refused(server: Server, ann: Person) -> None:
    past = datetime.now(UTC) - timedelta(minutes=1)
    bad = {
        "unsigned": _unsigned(_forge(), "none"),
        "unsigned, in capitals": _unsigned(_forge(), "NONE"),
        "signed by somebody else": jwt.encode(_forge(), "x" * 40, algorithm="HS256"),
        "of another algorithm": jwt.encode(_forge(), SECRET * 2, algorithm="HS512"),
        "of a third algorithm": jwt.encode(_forge(), SECRET + SECRET, algorithm="HS384"),
        "expired": jwt.encode(_forge(exp=past), SECRET, algorithm="HS256"),
        "not yet": jwt.encode(_forge(nbf=datetime.now(UTC) + timedelta(minutes=4)), SECRET, algorithm="HS256"),
        "for somebody else": jwt.encode(_forge(aud="other"), SECRET, algorithm="HS256"),
        "for us among others": jwt.encode(_forge(aud=[AUDIENCE, "other"]), SECRET, algorithm="HS256"),
        "by somebody else": jwt.encode(_forge(iss="other"), SECRET, algorithm="HS256"),
        "without an end": jwt.encode(_forge(exp=None), SECRET, algorithm="HS256"),
        "without an audience": jwt.encode(_forge(aud=None), SECRET, algorithm="HS256"),
        "of an unknown role": jwt.encode(_forge(role="root"), SECRET, algorithm="HS256"),
        "of a user who is nobody": jwt.encode(_forge(role="user"), SECRET, algorithm="HS256"),
        "of a user made admin": _promoted(ann.token),
        "cut": ann.token[:-4],
        "long": "x" * 5_000,
        "a key": ann.key,
    }
    assert server.ask("GET", "/metrics", jwt.encode(_forge(), SECRET, algorithm="HS256")).status_code == 200
    for what, token in bad.items():
        for path in ("/metrics", "/v1/films"):
            assert server.ask("GET", path, token).status_code == 401, what
    with httpx.Client(base_url=server.url, trust_env=False) as http:
        assert http.get("/v1/films", headers={"Authorization": "Basic YTpi"}).status_code == 401
        assert http.get("/v1/films", headers={"Authorization": "Bearer"}).status_code == 401


def _promoted(token: str) -> str:
    head, body, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    changed = base64.urlsafe_b64encode(json.dumps({**claims, "role": "admin"}).encode()).decode().rstrip("=")
    return f"{head}.{changed}.{signature}"


def test_a_token_lasts_ten_minutes_and_says_nothing_but_who_it_is(server: Server, ann: Person) -> None:
    claims = jwt.decode(ann.token, SECRET, algorithms=["HS256"], audience=AUDIENCE)
    assert claims["exp"] - claims["iat"] == 600
    assert set(claims) == {"iss", "aud", "sub", "role", "iat", "nbf", "exp", "jti", "source", "source_id"}


def test_a_wrong_key_or_user_is_refused_with_one_answer_for_all_mistakes(
    server: Server, ann: Person, bob: Person
) -> None:
    mistakes = [
        {"user_id": ann.user_id, "key": ann.key[:-1] + ("a" if ann.key[-1] != "a" else "b")},
        {"user_id": bob.user_id, "key": ann.key},
        {"key": ann.key},
        {"user_id": ann.user_id, "key": server.admin_key},
        {"user_id": ann.user_id, "key": "mq_0000000000000000_x"},
        {"user_id": 12345, "key": "nonsense"},
    ]
    said = [_is_problem(server.ask("POST", "/login", json=body), 401)["error"] for body in mistakes]
    assert len(set(said)) == 1
    for body in ({}, {"key": ""}, {"key": "x" * 201}, {"user_id": "1", "key": 5}):
        _is_problem(server.ask("POST", "/login", json=body), 422)


def test_a_refresh_token_works_once_and_a_copied_one_ends_the_login(server: Server, ann: Person) -> None:
    first = server.log_in(ann.key, ann.user_id)["refresh_token"]
    second = server.ask("POST", "/refresh", json={"refresh_token": first}).raise_for_status().json()
    assert server.ask("GET", f"/v1/users/{ann.user_id}", second["access_token"]).status_code == 200
    _is_problem(server.ask("POST", "/refresh", json={"refresh_token": first}), 401)
    _is_problem(server.ask("POST", "/refresh", json={"refresh_token": second["refresh_token"]}), 401)


def test_a_key_that_was_taken_back_and_a_deleted_users_key_let_nobody_in(
    server: Server, ann: Person, bob: Person
) -> None:
    login = server.log_in(ann.key, ann.user_id)
    (key,) = server.ask("GET", f"/v1/users/{ann.user_id}/keys", ann.token).json()["items"]
    assert set(key) == {"key_id", "label", "created_at"}
    where = f"/v1/users/{ann.user_id}/keys/{key['key_id']}"
    _is_problem(server.ask("DELETE", where.replace(str(ann.user_id), str(bob.user_id)), bob.token), 404)
    assert server.ask("DELETE", where, ann.token).status_code == 204
    assert server.ask("DELETE", f"/v1/users/{bob.user_id}", bob.token).status_code == 204
    for person in (ann, bob):
        _is_problem(server.ask("POST", "/login", json={"user_id": person.user_id, "key": person.key}), 401)
    _is_problem(server.ask("POST", "/refresh", json={"refresh_token": login["refresh_token"]}), 401)
    _is_problem(server.ask("GET", f"/v1/users/{bob.user_id}", bob.token), 404)


def test_the_store_holds_keys_and_refresh_tokens_as_hashes_only(server: Server, ann: Person) -> None:
    refresh = server.log_in(ann.key, ann.user_id)["refresh_token"]
    files = [path for path in (server.settings.home / "app").iterdir() if path.is_file()]
    content = b"".join(path.read_bytes() for path in files)
    assert b"$argon2id$" in content
    for secret in (ann.key.split("_", 2)[2], server.admin_key.split("_", 2)[2], refresh.split(".")[1]):
        assert secret.encode() not in content


def test_two_callers_with_one_idempotency_key_get_their_own_answers(server: Server, ann: Person, bob: Person) -> None:
    for person in (ann, bob):
        with httpx.Client(base_url=server.url, trust_env=False) as http:
            headers = {"Authorization": f"Bearer {person.token}", "Idempotency-Key": "same"}
            event = {"user_id": person.user_id, "movie_id": 100, "kind": "viewed"}
            answers = [http.post("/v1/events", json=event, headers=headers) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [201, 201]
        assert answers[0].json()["user_id"] == person.user_id
        assert answers[1].headers["idempotency-replayed"] == "true"


def test_a_caller_who_asks_too_often_waits_and_others_do_not(server: Server, app: str, ann: Person) -> None:
    with httpx.Client(base_url=server.url, trust_env=False) as http:
        for _ in range(20_000):
            late = http.get("/v1/films?limit=1", headers={"Authorization": f"Bearer {ann.token}"})
            if late.status_code != 200:
                break
    _is_problem(late, 429)
    assert int(late.headers["retry-after"]) >= 1
    assert server.ask("GET", "/v1/films", app).status_code == 200


def test_pages_of_the_origins_that_are_named_may_ask_and_others_may_not(server: Server, app: str) -> None:
    wants = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    asked = server.ask("OPTIONS", "/recommend", headers=wants)
    assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (204, ORIGIN)
    assert "authorization" in asked.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in asked.headers
    got = server.ask("GET", "/v1/films", headers={"Origin": ORIGIN, "Authorization": f"Bearer {app}"})
    assert (got.status_code, got.headers["access-control-allow-origin"]) == (200, ORIGIN)
    for origin in ("https://evil.example.org", "null", f"{ORIGIN}.evil.example"):
        refused = server.ask("GET", "/v1/films", headers={"Origin": origin, "Authorization": f"Bearer {app}"})
        _is_problem(refused, 403)
        assert "access-control-allow-origin" not in refused.headers


def test_a_body_that_is_no_json_is_refused(server: Server, app: str) -> None:
    for kind in ("text/plain", "application/vnd.bentoml+pickle", "multipart/form-data; boundary=x"):
        for path in ("/recommend", "/v1/users"):
            answer = server.ask("POST", path, app, content=b"{}", headers={"content-type": kind})
            _is_problem(answer, 415)


def test_nothing_secret_is_in_the_log(server: Server, app: str, ann: Person) -> None:
    login = server.log_in(ann.key, ann.user_id)
    server.ask("POST", "/login", json={"user_id": ann.user_id, "key": "mq_0123456789abcdef_wrong-Secret"})
    server.ask("POST", "/login", content=b'{"key": "cut-Secret')
    server.ask("POST", "/recommend", app, json={"user_id": "body-Secret"})
    server.ask("GET", "/v1/films", "token-Secret")
    server.ask("POST", "/v1/users", app, json={"name": "name-Secret", "more": 1})
    server.ask("POST", "/refresh", json={"refresh_token": login["refresh_token"]})
    server.ask("POST", "/refresh", json={"refresh_token": login["refresh_token"]})
    log = server.log.read_text(encoding="utf-8", errors="replace")
    assert "/v1/films" in log
    parts = [SECRET, server.admin_key, ann.key, ann.key.split("_", 2)[2], login["access_token"], app, ann.token]
    for secret in [*parts, login["refresh_token"].split(".")[1], "-Secret", "$argon2"]:
        assert secret not in log


def test_no_line_of_the_log_says_whose_or_can_be_forged_by_a_path(server: Server, ann: Person) -> None:
    asked = [
        (f"/v1/users/{ann.user_id}", ann.token, 200),
        (f"/v1/users/{ann.user_id}/ratings?limit=1", ann.token, 200),
        (f"/v1/users/{ann.user_id}", None, 401),
        ("/v1/films/%0AFORGED%20%5BERROR%5D%20line", None, 401),
        ("/v1/films/x%1b%5B31mred%0d%0aFORGED", ann.token, 403),
        (f"/{ann.user_id}%0aFORGED%00", None, 401),
    ]
    ids = []
    for path, token, status in asked:
        answer = server.ask("GET", path, token)
        assert answer.status_code == status, answer.text
        ids.append(answer.headers["x-request-id"])
    _wait_for_lines(server.log, ids)
    log = server.log.read_bytes()
    for leaked in (str(ann.user_id).encode(), b"path=", b"FORGED", b"31mred"):
        assert leaked not in log, leaked
    assert not re.search(rb"[\x00-\x08\x0b-\x1f\x7f]", log)
    # BentoML writes none of its own.
    assert all(sum(request_id in line for line in log.decode().splitlines()) == 1 for request_id in ids)
    assert b"127.0.0.1:" not in log.replace(server.url.encode(), b"")


def _wait_for_lines(log: Path, ids: list[str]) -> list[str]:
    """Wait until the log has a line of JSON for each request, which is written after the response; return all lines."""
    deadline = time.monotonic() + 30
    lines = _lines(log)
    while not all(any(request_id in line for line in lines) for request_id in ids) and time.monotonic() < deadline:
        time.sleep(0.05)
        lines = _lines(log)
    return lines


def _lines(log: Path) -> list[str]:
    """Return the complete lines of JSON in a log that is still being written."""
    whole, _, _ = log.read_text(encoding="utf-8").rpartition("\n")
    return [line for line in whole.splitlines() if line.startswith("{")]


def test_the_log_has_a_line_of_json_a_request_with_its_id_and_status_and_names_no_user(
    server: Server, app: str, ann: Person
) -> None:
    asked = [
        ("POST", "/recommend", app, {"user_id": 11, "k": 2}, 200, "/recommend", "app"),
        ("GET", f"/v1/users/{ann.user_id}/ratings", ann.token, None, 200, "/v1/users/{user_id}/ratings", "user"),
        ("GET", f"/v1/users/{ann.user_id}", None, None, 401, "/v1/users/{user_id}", None),
        ("GET", "/v1/films/999999", app, None, 404, "/v1/films/{movie_id}", "app"),
        ("POST", "/recommend", app, {"k": "many"}, 400, "/recommend", "app"),
        ("GET", "/nowhere", app, None, 403, "other", None),
    ]
    ids = []
    for method, path, token, body, status, _, _ in asked:
        answer = server.ask(method, path, token, **({} if body is None else {"json": body}))
        assert answer.status_code == status, answer.text
        ids.append(answer.headers["x-request-id"])
    lines = _wait_for_lines(server.log, ids)
    told = {said["request_id"]: said for said in map(json.loads, lines)}
    for request_id, (method, _, _, _, status, route, role) in zip(ids, asked, strict=True):
        said = told[request_id]
        assert (said["method"], said["route"], said["status"]) == (method, route, status)
        assert role is None or said["role"] == role
        assert said["ms"] > 0
    assert set(told[ids[0]]["stages_ms"]) == {"store", "model", "body"}
    assert not [line for line in lines if str(ann.user_id) in line]


def test_the_curl_examples_of_logging_in_work(server: Server) -> None:
    blocks = re.findall(r"^```bash\n(.*?)^```", (PROJECT_ROOT / "docs" / "api.md").read_text(), re.S | re.M)
    script = "\n".join(["set -eo pipefail", *blocks])
    made = "$(make -s token ROLE=admin)"
    assert made in script
    environment = {"PATH": os.environ["PATH"], "URL": server.url, "ADMIN_KEY": server.admin_key}
    command = ["bash", "-c", script.replace(made, "$ADMIN_KEY")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    assert '"items"' in done.stdout


def test_the_client_sends_its_token(server: Server, app: str) -> None:
    with MarqueeClient(server.url, token=app) as client:
        assert client.recommend(11).user_id == 11
    with MarqueeClient(server.url) as client, pytest.raises(ClientError) as refused:
        client.recommend(11)
    assert refused.value.status == 401


def test_both_clients_log_in_and_go_on_with_the_token(server: Server, ann: Person) -> None:
    async def elsewhere() -> int | None:
        async with AsyncMarqueeClient(server.url) as client:
            login = await client.log_in(ann.key, ann.user_id)
            await client.refresh(login.refresh_token)
            return (await client.recommend(ann.user_id)).user_id

    with MarqueeClient(server.url) as client:
        login = client.log_in(ann.key, ann.user_id)
        assert login.role == "user"
        assert client.recommend(ann.user_id).user_id == ann.user_id
        assert client.refresh(login.refresh_token).access_token != login.access_token
        assert client.rate(ann.user_id, 100, 4.0).rating == 4.0
        with pytest.raises(ClientError, match="401"):
            client.log_in("mq_0123456789abcdef_wrong", ann.user_id)
    assert asyncio.run(elsewhere()) == ann.user_id


@pytest.mark.parametrize(
    ("variables", "host", "said"),
    [
        ({}, "0.0.0.0", "MARQUEE_AUTH=off is for this machine only"),
        ({}, "192.168.1.5", "MARQUEE_AUTH=off is for this machine only"),
        ({"MARQUEE_ENVIRONMENT": "production"}, "127.0.0.1", "needs MARQUEE_AUTH=jwt"),
        ({"MARQUEE_AUTH": "jwt"}, "127.0.0.1", "needs MARQUEE_JWT_SECRET"),
        ({**PROTECTED, "MARQUEE_JWT_SECRET": "secret"}, "127.0.0.1", "too easily guessed"),
        ({"MARQUEE_AUTH": "jwt", "MARQUEE_JWT_SECRET": "ab" * 20}, "0.0.0.0", "too easily guessed"),
    ],
)
def test_the_service_does_not_start_without_the_protection_that_its_address_needs(
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variables: dict[str, str],
    host: str,
    said: str,
) -> None:
    monkeypatch.setenv("MARQUEE_HOME", str(server.settings.home))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert serve_main(["--host", host]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert variables.get("MARQUEE_JWT_SECRET", "?") not in error


@pytest.fixture(scope="module")
def open_url(server: Server) -> Iterator[str]:
    """Yield the URL of a second server without log-in, with a timeout of two seconds and 120 requests a minute."""
    with serving(
        server.settings, environment={"MARQUEE_RATE_LIMIT": "120", "MARQUEE_REQUEST_TIMEOUT_S": "2"}
    ) as client:
        yield client.url


def test_a_service_that_lets_anybody_in_answers_its_own_machine_under_its_own_name_only(open_url: str) -> None:
    with httpx.Client(base_url=open_url, trust_env=False) as http:
        assert http.get("/v1/films").status_code == 200
        for host in ("films.example.org", "192.168.1.5:8000", "[fe80::1]:8000"):
            _is_problem(http.get("/v1/films", headers={"Host": host}), 403)
        # A page of another origin in somebody's browser.
        _is_problem(http.post("/v1/users", json={}, headers={"Origin": "https://evil.example.org"}), 403)
        _is_problem(http.get("/v1/films", headers={"X-Forwarded-For": "203.0.113.7"}), 403)
        _is_problem(http.post("/login", json={"key": "x"}), 409)


def test_a_request_whose_body_never_comes_is_answered_at_the_deadline(open_url: str) -> None:
    host, port = open_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(b"POST /recommend HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 9\r\n\r\n{")
        head = connection.recv(65_536).split(b"\r\n\r\n")[0]
    assert head.startswith(b"HTTP/1.1 504 ")
    for header in (b"content-type: application/problem+json", b"x-request-id: ", b"x-content-type-options: nosniff"):
        assert header in head


def test_a_large_request_counts_as_several_in_the_limit(open_url: str) -> None:
    large = {"user_ids": list(range(1, 201)), "k": 50}
    with httpx.Client(base_url=open_url, trust_env=False, timeout=30) as http:
        # Seven of 120 a minute would all be answered, each counted as one.
        answers = [http.post("/recommend_batch", json=large) for _ in range(7)]
        assert {answer.status_code for answer in answers} == {200, 429}
        [late, *_] = [answer for answer in answers if answer.status_code == 429]
        assert _is_problem(late, 429)["error"].startswith("Too many requests: ")
        assert int(late.headers["retry-after"]) >= 1
        assert http.get("/readyz").status_code == 200

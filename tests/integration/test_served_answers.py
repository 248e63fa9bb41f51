"""What is served is logged under nobody's name, and two versions share the users, over real HTTP of the built bento."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from sqlalchemy import select

from bento.client import serving
from bento.packaging.build import build
from bento.store.database import Store
from bento.store.tables import Pseudonym, ServedAnswer
from models.serving.bundle import write_pointer
from settings import Settings
from tests.unit.bento.conftest import write_tiny_bundle

pytestmark = pytest.mark.xdist_group("served_answers")

#: Users of the tiny bundle.
USERS = (11, 12, 13, 14)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    made = Settings(home=tmp_path_factory.mktemp("served_answers"))
    version = write_tiny_bundle(made.models)
    write_pointer(made.serving_pointer, version)
    build(made, made.models / version)
    return made


@pytest.fixture(scope="module")
def versions(settings: Settings) -> tuple[str, str]:
    """Write two bundles and return their versions, the promoted one first."""
    return write_tiny_bundle(settings.models), write_tiny_bundle(settings.models, snapshot="second")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "service.log"


@pytest.fixture(scope="module")
def http(settings: Settings, versions: tuple[str, str], log: Path) -> Iterator[httpx.Client]:
    environment = {"MARQUEE_AB_MODE": "ab", "MARQUEE_AB_VERSION": versions[1], "MARQUEE_AB_NAME": "trial"}
    with (
        serving(settings, log=log, environment=environment) as client,
        httpx.Client(base_url=client.url, timeout=30, trust_env=False) as ready,
    ):
        yield ready


def _ask(http: httpx.Client, route: str, request_id: str, **body: Any) -> dict[str, Any]:
    answer = http.post(f"/{route}", json=body, headers={"X-Request-ID": request_id})
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def _logged(settings: Settings, request_id: str, count: int) -> list[ServedAnswer]:
    """Return the rows of a request once there are at least ``count`` of them."""
    store = Store(settings.app_store)

    def read() -> list[ServedAnswer]:
        with store.reading() as session:
            query = select(ServedAnswer).where(ServedAnswer.request_id == request_id).order_by(ServedAnswer.answer_id)
            return list(session.execute(query).scalars())

    try:
        assert _eventually(lambda: len(read()) >= count)
        return read()
    finally:
        store.close()


def _eventually(happened: Callable[[], bool], timeout_s: float = 30.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if happened():
            return True
        time.sleep(0.05)
    return happened()


def _arm(http: httpx.Client, user_id: int) -> str:
    told: str = _ask(http, "recommend", "arm", user_id=user_id)["provenance"]["arm"]
    return told


def test_what_each_route_served_stands_in_the_log_under_a_key_that_names_nobody(
    http: httpx.Client, settings: Settings
) -> None:
    asked = {
        "recommend": {"user_id": 11, "k": 2},
        "recommend_for_movie": {"user_id": 11, "movie_id": 100, "k": 2},
        "similar": {"movie_id": 100, "k": 2},
        "cold_start": {"genres": ["Drama"], "k": 2},
    }
    for route, body in asked.items():
        told = _ask(http, route, f"each-{route}", **body)
        (row,) = _logged(settings, f"each-{route}", 1)
        assert row.route == route
        assert json.loads(row.movie_keys) == [item["movie_key"] for item in told["items"]]
        assert json.loads(row.scores) == pytest.approx([item["score"] for item in told["items"]], abs=1e-6)
        assert row.model_version == told["provenance"]["model_version"]
        assert json.loads(row.data_snapshot) == told["provenance"]["data_snapshot"]
        assert (row.experiment, row.arm) == (told["provenance"]["experiment"], told["provenance"]["arm"])
        assert (row.subject is None) == ("user_id" not in body)
        assert (row.fallback, row.overlap) == (told["fallback"] and told["fallback"]["cause"], None)
        assert 0 < row.latency_ms < 60_000
    stranger = _ask(http, "recommend", "stranger", user_id=999)
    (row,) = _logged(settings, "stranger", 1)
    assert (row.subject, row.fallback) == (None, stranger["fallback"]["cause"])
    metrics = http.get("/metrics").text
    assert 'marquee_served_answers_logged_total{outcome="written"}' in metrics
    assert 'marquee_experiment_deals{experiment="trial",mode="ab"} 1.0' in metrics


def test_each_user_stays_with_his_version_and_a_batch_has_everybody_in_the_order_asked(
    http: httpx.Client, settings: Settings, versions: tuple[str, str]
) -> None:
    users = [*USERS, *range(2_000, 2_060)]
    told = _ask(http, "recommend_batch", "batch", user_ids=users, k=2)["answers"]
    assert [answer["user_id"] for answer in told] == users
    arms = [answer["provenance"]["arm"] for answer in told]
    assert set(arms) == {"champion", "challenger"}
    for answer in told:
        assert answer["provenance"]["experiment"] == "trial"
        at = ("champion", "challenger").index(answer["provenance"]["arm"])
        assert answer["provenance"]["model_version"] == versions[at]
        assert answer["provenance"]["data_snapshot"] == {"snapshot": ("first", "second")[at]}
    assert [_arm(http, user) for user in users] == arms
    rows = _logged(settings, "batch", len(users))
    assert sorted(str(row.arm) for row in rows) == sorted(arms)
    assert len({row.subject for row in rows if row.subject is not None}) == len(USERS)
    # Who chooses the model himself is logged, and says nothing of the two versions.
    for request_id, wish in (("chosen", {"model": "popularity"}), ("blended", {"blend": 0.5})):
        _ask(http, "recommend", request_id, user_id=users[0], **wish)
        [chosen] = _logged(settings, request_id, 1)
        assert (chosen.experiment, chosen.arm) == (None, None)


def test_an_experiment_rests_while_its_version_is_the_promoted_one(
    http: httpx.Client, settings: Settings, versions: tuple[str, str], log: Path
) -> None:
    before = {user: _arm(http, user) for user in USERS}
    try:
        write_pointer(settings.serving_pointer, versions[1])
        assert _eventually(lambda: _arm(http, 11) is None)
        for user in USERS:
            told = _ask(http, "recommend", "rests", user_id=user)["provenance"]
            assert (told["model_version"], told["experiment"], told["arm"]) == (versions[1], None, None)
        assert "experiment trial rests: its version is the promoted one" in log.read_text()
    finally:
        write_pointer(settings.serving_pointer, versions[0])
    assert _eventually(lambda: _arm(http, 11) is not None)
    assert {user: _arm(http, user) for user in USERS} == before


def test_each_answer_is_of_one_version_while_the_promoted_one_is_swapped(
    http: httpx.Client, settings: Settings, versions: tuple[str, str]
) -> None:
    snapshots = dict(zip(versions, ("first", "second"), strict=True))
    seen: set[tuple[str, str | None]] = set()

    def ask(number: int) -> None:
        for answer in _ask(http, "recommend_batch", f"swap-{number}", user_ids=[*USERS, 2_000, 2_001])["answers"]:
            told = answer["provenance"]
            assert told["data_snapshot"] == {"snapshot": snapshots[told["model_version"]]}
            seen.add((told["model_version"], told["arm"]))

    with ThreadPoolExecutor(4) as crowd:

        def all_ask_and_some_get(wanted: tuple[str, str | None]) -> bool:
            list(crowd.map(ask, range(8)))
            return wanted in seen

        try:
            for number in range(6):
                promoted = versions[(number + 1) % 2]
                write_pointer(settings.serving_pointer, promoted)
                wanted = (versions[1], None) if promoted == versions[1] else (versions[0], "champion")
                seen.clear()
                assert _eventually(lambda wanted=wanted: all_ask_and_some_get(wanted))
                # The challenger's people have its version whatever is promoted; of the champion's arm nobody else has.
                assert seen <= {(versions[0], "champion"), (versions[1], "challenger"), (versions[1], None)}
        finally:
            write_pointer(settings.serving_pointer, versions[0])
    assert _eventually(lambda: _arm(http, 11) is not None)


def test_of_a_deleted_user_no_file_says_what_he_was_served(http: httpx.Client, settings: Settings) -> None:
    _ask(http, "recommend", "leaver-quetzalcoatlus", user_id=13)
    (row,) = _logged(settings, "leaver-quetzalcoatlus", 1)
    assert row.subject is not None
    traces = (row.subject.encode(), b"leaver-quetzalcoatlus")
    assert all(_found(settings.home, trace) for trace in traces)
    assert http.delete("/v1/users/13").status_code == 204
    for trace in traces:
        assert _eventually(lambda trace=trace: not _found(settings.home, trace)), _found(settings.home, trace)
    _ask(http, "recommend", "after", user_id=13)
    assert [row.subject for row in _logged(settings, "after", 1)] == [None]
    store = Store(settings.app_store)
    with store.reading() as session:
        assert 13 not in session.execute(select(Pseudonym.source_id)).scalars().all()
    store.close()


def _found(folder: Path, text: bytes) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and text in path.read_bytes()]


def test_in_the_shadow_the_other_version_is_logged_and_never_shown_and_the_end_writes_what_waits(
    settings: Settings, versions: tuple[str, str], tmp_path: Path
) -> None:
    environment = {"MARQUEE_AB_MODE": "shadow", "MARQUEE_AB_VERSION": versions[1], "MARQUEE_AB_SHARE": "1"}
    with (
        serving(settings, log=tmp_path / "log", environment=environment) as client,
        httpx.Client(base_url=client.url, timeout=30, trust_env=False) as http,
    ):
        told = _ask(http, "recommend_batch", "shadowed", user_ids=[11, 12], k=3)["answers"]
        for answer in told:
            assert (answer["provenance"]["model_version"], answer["provenance"]["arm"]) == (versions[0], None)
        rows = _logged(settings, "shadowed", 4)
        _ask(http, "recommend", "at-the-end", user_id=12)
    assert [(row.arm, row.model_version) for row in rows] == [(None, versions[0])] * 2 + [("shadow", versions[1])] * 2
    assert [row.overlap for row in rows] == [None, None, 1.0, 1.0]
    assert [row.experiment for row in rows] == [None, None, versions[1], versions[1]]
    assert [row.subject for row in rows[:2]] == [row.subject for row in rows[2:]]
    assert len(_logged(settings, "at-the-end", 1)) >= 1


class Collector(ThreadingHTTPServer):
    """Takes OTLP over HTTP, as a collector does, and keeps what came."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _TakesTraces)
        self.taken: list[ExportTraceServiceRequest] = []

    def spans(self) -> list[Span]:
        return [
            span
            for message in list(self.taken)
            for of_resource in message.resource_spans
            for of_scope in of_resource.scope_spans
            for span in of_scope.spans
        ]


class _TakesTraces(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Collector)
        body = self.rfile.read(int(self.headers["content-length"]))
        assert (self.path, self.headers["content-type"]) == ("/v1/traces", "application/x-protobuf")
        self.server.taken.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


def test_traces_reach_a_collector_and_a_version_that_is_not_there_challenges_nobody(
    settings: Settings, versions: tuple[str, str], tmp_path: Path
) -> None:
    collector = Collector()
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    traced = settings.model_copy(update={"traces_url": f"http://127.0.0.1:{collector.server_port}/v1/traces"})
    environment = {
        "MARQUEE_TRACES_URL": traced.traces_url,
        "MARQUEE_AB_MODE": "ab",
        "MARQUEE_AB_VERSION": "none-such",
    }
    log = tmp_path / "log"
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with (
        serving(traced, log=log, environment=environment) as client,
        httpx.Client(base_url=client.url, timeout=30, trust_env=False) as http,
    ):
        answer = http.post("/recommend", json={"user_id": 11}, headers={"traceparent": parent})
        provenance = answer.json()["provenance"]
    collector.shutdown()
    collector.server_close()
    assert (answer.status_code, provenance["model_version"], provenance["arm"]) == (200, versions[0], None)
    assert "none-such" in log.read_text()
    assert "answers everybody" in log.read_text()
    ours = [span for span in collector.spans() if span.trace_id.hex() == parent.split("-")[1]]
    (request,) = [span for span in ours if span.kind == Span.SPAN_KIND_SERVER]
    assert request.name == "POST /recommend"
    assert request.parent_span_id.hex() == parent.split("-")[2]
    assert 0 < request.start_time_unix_nano < request.end_time_unix_nano
    attributes = {pair.key: pair.value for pair in request.attributes}
    assert any(value.int_value == 200 for value in attributes.values())
    names = {
        pair.value.string_value
        for message in collector.taken
        for of_resource in message.resource_spans
        for pair in of_resource.resource.attributes
        if pair.key == "service.name"
    }
    assert names == {"Marquee"}

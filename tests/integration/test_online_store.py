"""The service on an online store that is a server: one that hangs, and one that is gone."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import yaml

from bento.client import serving
from bento.features.timeouts import MOST
from bento.packaging.build import build
from models.serving.bundle import write_pointer
from tests.integration.served_home import FIRST_USER_ID, ServedHome, make_home

pytestmark = pytest.mark.xdist_group("online_store")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> ServedHome:
    made = make_home(tmp_path_factory.mktemp("online"), recommenders=("neumf",))
    write_pointer(made.settings.serving_pointer, made.versions["neumf"])
    build(made.settings, made.bundle_path("neumf"))
    return made


@pytest.fixture(scope="module")
def hanging(home: ServedHome) -> Iterator[socket.socket]:
    """Yield a server that accepts connections but never answers, set as the home's online store."""
    with socket.create_server(("127.0.0.1", 0), backlog=1_000) as server:
        config = home.settings.feast / "feature_store.yaml"
        told = yaml.safe_load(config.read_text())
        told["online_store"] = {"type": "remote", "path": f"http://127.0.0.1:{server.getsockname()[1]}"}
        config.write_text(yaml.safe_dump(told))
        yield server


def test_an_online_store_that_hangs_or_is_gone_costs_the_features_and_nobodys_answer(
    home: ServedHome, hanging: socket.socket, tmp_path: Path
) -> None:
    with serving(home.settings) as client, httpx.Client(base_url=client.url, timeout=60, trust_env=False) as http:

        def cause(number: int) -> tuple[int, str]:
            user_id = FIRST_USER_ID + number % 39
            answer = http.post("/recommend", json={"user_id": user_id, "k": 5})
            return answer.status_code, (answer.json()["fallback"] or {}).get("cause", "none")

        # More than may hang at once.
        with ThreadPoolExecutor(16) as pool:
            said = set(pool.map(cause, range(2 * MOST)))
        batch = http.post("/recommend_batch", json={"user_ids": [1, 2], "k": 5}).json()["answers"]
        others = [
            http.post("/recommend_for_movie", json={"user_id": 1, "movie_id": 1, "k": 5}).json(),
            http.post("/explain", json={"user_id": 1, "movie_id": 1}).json(),
        ]
        stranger = http.post("/recommend", json={"user_id": 999}).json()["fallback"]["cause"]
        predicted = http.post("/predict_rating", json={"user_id": 1, "movie_id": 1})
        hanging.close()
        gone = cause(1)
        metrics = http.get("/metrics").text
    assert said == {(200, "feature_store_unavailable")}
    assert {answer["fallback"]["cause"] for answer in (*batch, *others)} == {"feature_store_unavailable"}
    assert stranger == "unknown_user"
    # Made of ratings alone.
    assert (predicted.status_code, predicted.json()["fallback"]) == (200, None)
    assert gone == (200, "feature_store_unavailable")
    (errors,) = [
        line
        for line in metrics.splitlines()
        if line.startswith('marquee_online_store_errors_total{endpoint="recommend"}')
    ]
    assert float(errors.split()[-1]) == 2 * MOST + 1

"""The service on a real Redis as Feast's online store: features from it, fresh after a rating, and gone with it."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import httpx
import pytest

from bento.client import serving
from bento.packaging.build import build
from feature_repo import store as feature_store
from models.serving.bundle import write_pointer
from tests.integration.served_home import FIRST_USER_KEY, make_home
from tests.redis_server import running_redis

pytestmark = pytest.mark.xdist_group("redis")


def test_a_service_reads_its_features_from_a_redis_and_goes_on_without_it(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_redis() as (address, server):
        monkeypatch.setenv("MARQUEE_ONLINE_STORE", f"{address},db=1")
        home = make_home(tmp_path_factory.mktemp("redis"), recommenders=("neumf",), redis=True)
        write_pointer(home.settings.serving_pointer, home.versions["neumf"])
        build(home.settings, home.bundle_path("neumf"))
        files = [path for path in home.settings.home.rglob("*") if path.is_file() and path.suffix != ".py"]
        assert not [path for path in files if address.encode() in path.read_bytes()]
        with serving(home.settings) as client, httpx.Client(base_url=client.url, timeout=30, trust_env=False) as http:
            said = http.post("/recommend", json={"user_id": 1, "k": 5}).json()
            assert said["fallback"] is None
            assert said["provenance"]["feature_timestamp"].startswith("2020-03-01")
            stranger = http.post("/recommend", json={"user_id": home.featureless_user_id}).json()
            assert stranger["fallback"]["cause"] == "no_features"

            began = datetime.now(UTC).replace(microsecond=0)
            assert http.put("/v1/users/1/ratings/1", json={"rating": 5}).status_code in (200, 201)
            deadline = time.monotonic() + 15
            while time.monotonic() < deadline:
                told = http.post("/recommend", json={"user_id": 1, "k": 5}).json()["provenance"]["feature_timestamp"]
                if datetime.fromisoformat(told) >= began:
                    break
            assert datetime.fromisoformat(told) >= began

            # Of who has left nothing is there any more.
            assert http.delete("/v1/users/2").status_code == 204
            store = feature_store.open_store(home.settings.feast, redis=True)
            gone, there = feature_store.online_user_features(store, [FIRST_USER_KEY + 1, FIRST_USER_KEY]).rows()
            assert set(gone[1:-1]) == {None}
            assert None not in there

            server.kill()
            server.wait()
            without = http.post("/recommend", json={"user_id": 1, "k": 5})
            assert (without.status_code, without.json()["fallback"]["cause"]) == (200, "feature_store_unavailable")

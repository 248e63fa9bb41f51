"""The built bento, served and asked over real HTTP, with a real feature store behind it."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import httpx
import numpy as np
import polars as pl
import pytest
from feast import Field
from feast.types import Float64

from bento.client import ClientError, MarqueeClient, serving
from bento.errors import FeatureStoreUnavailable, NotServable
from bento.features.online_store import OnlineUserFeatures, registered_service
from bento.packaging.build import BENTO_NAME, build, built_bentos
from bento.schemas.recommendations import EXAMPLE_INPUT
from feature_repo import features
from feature_repo import store as feature_store
from models.serving.bundle import FeatureSet, load_bundle, write_pointer
from orchestration.defs.serving.assets import bundle_answers
from orchestration.promotion.decisions import built_pointer
from settings import PROJECT_ROOT
from tests.integration.served_home import FIRST_USER_ID, FIRST_USER_KEY, START, ServedHome, make_home
from tests.unit.publishing.streaming import publish_titles

# One server for all of them.
pytestmark = pytest.mark.xdist_group("service")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> ServedHome:
    made = make_home(tmp_path_factory.mktemp("served"))
    write_pointer(made.settings.serving_pointer, made.versions["neumf"])
    publish_titles(made.settings)
    return made


@pytest.fixture(scope="module")
def tag(home: ServedHome) -> str:
    return build(home.settings, home.bundle_path("neumf"))


@pytest.fixture(scope="module")
def client(home: ServedHome, tag: str) -> Iterator[MarqueeClient]:
    with serving(home.settings) as ready:
        yield ready


@pytest.fixture
def wanted(home: ServedHome) -> FeatureSet:
    return load_bundle(home.bundle_path("neumf")).features


def _scores(client: MarqueeClient, user_id: int) -> dict[int, float]:
    return {item.movie_id: item.score for item in client.recommend(user_id, 500).items}


def _write_online(home: ServedHome, user_key: int, **values: float) -> None:
    """Write a user's latest features into the online store, some of them changed."""
    store = feature_store.open_store(home.settings.feast)
    latest = (
        pl.read_parquet(home.settings.features / "user_features.parquet")
        .filter(pl.col("user_key") == user_key)
        .sort("feature_timestamp")
        .tail(1)
        .with_columns(*(pl.lit(value).alias(name) for name, value in values.items()))
    )
    store.write_to_online_store("user_features", latest.to_pandas())


def _eventually(happened: Callable[[], bool], timeout_s: float = 15.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if happened():
            return True
        time.sleep(0.05)
    return False


def test_a_known_user_gets_films_he_has_not_seen_with_links_and_provenance(
    client: MarqueeClient, home: ServedHome
) -> None:
    answer = client.recommend(1, 20)
    assert len(answer.items) == 20
    assert [item.rank for item in answer.items] == list(range(1, 21))
    assert not {item.movie_id for item in answer.items} & home.seen[0]
    assert {item.source for item in answer.items} == {"collaborative"}
    assert answer.fallback is None
    assert [item.score for item in answer.items] == sorted((item.score for item in answer.items), reverse=True)
    for item in answer.items:
        kind = "imdb_title" if item.imdb_id else "imdb_search"
        assert item.link is not None
        assert (item.link_kind, item.link.startswith("https://www.imdb.com/")) == (kind, True)
    assert answer.provenance.model_version == home.versions["neumf"]
    assert answer.provenance.recommender == "neumf"
    assert answer.provenance.data_snapshot == {"edition": "made-up"}
    assert answer.provenance.feature_service == "recommender_v1"
    assert answer.provenance.feature_timestamp == (START + timedelta(days=60)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_the_examples_of_the_documentation_work(client: MarqueeClient) -> None:
    for name, body in EXAMPLE_INPUT.items():
        answer = client.post(f"/{name}", body)
        assert answer.status_code == 200, name
        told = answer.json()
        if name in ("predict_rating", "explain"):
            assert told["movie"]["movie_id"] == body["movie_id"]
            continue
        lists = [one["items"] for one in told["answers"]] if name == "recommend_batch" else [told["items"]]
        assert len(lists) == len(body.get("user_ids", [None]))
        assert {len(items) for items in lists} == {body["k"]}


def test_the_curl_examples_of_the_documentation_work_in_their_order(client: MarqueeClient) -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```", (PROJECT_ROOT / "docs" / "api.md").read_text(), re.S | re.M)
    assert sum(block.count("curl ") for block in blocks) > 15
    script = "\n".join(["set -eo pipefail", *blocks])
    environment = {"PATH": os.environ["PATH"], "URL": client.url}
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    assert '"app_ratings":1' in done.stdout


def test_the_number_of_films_is_20_unless_asked_otherwise(client: MarqueeClient) -> None:
    assert len(client.post("/recommend", {"user_id": 1}).json()["items"]) == 20
    assert len(client.recommend(1, 3).items) == 3


def test_more_than_there_are_gives_all_that_the_user_has_not_seen(client: MarqueeClient, home: ServedHome) -> None:
    assert {item.movie_id for item in client.recommend(1, 500).items} == set(range(1, home.n_items + 1)) - home.seen[0]
    assert len(client.similar(1, 500).items) == home.n_items - 1


def test_an_unknown_user_gets_popular_films_and_the_answer_says_so(client: MarqueeClient) -> None:
    answer = client.recommend(123_456, 5)
    assert len(answer.items) == 5
    assert {item.source for item in answer.items} == {"popular"}
    assert answer.fallback is not None
    assert (answer.fallback.used, answer.fallback.cause) == ("popularity", "unknown_user")


def test_a_user_whom_the_online_store_does_not_know_gets_popular_films_he_has_not_seen(
    client: MarqueeClient, home: ServedHome
) -> None:
    answer = client.recommend(home.featureless_user_id, 500)
    assert answer.fallback is not None
    assert answer.fallback.cause == "no_features"
    assert not {item.movie_id for item in answer.items} & home.seen[home.featureless_user_id - FIRST_USER_ID]
    assert answer.provenance.feature_timestamp is None


def test_a_rating_in_the_app_takes_the_film_away_and_moves_the_others_of_a_model_that_reads_no_history(
    client: MarqueeClient,
) -> None:
    before = client.recommend(5, 500)
    first = before.items[0].movie_id
    rated = client.post("/v1/users/5/ratings", {"movie_id": first, "rating": 5.0})
    assert rated.status_code == 201
    after = client.recommend(5, 500)
    assert after.fallback is None
    assert after.provenance.app_ratings == 1
    assert {item.movie_id for item in after.items} == {item.movie_id for item in before.items} - {first}
    old = {item.movie_id: item.score for item in before.items}
    assert any(abs(item.score - old[item.movie_id]) > 1e-4 for item in after.items)


def test_a_rating_in_the_app_makes_the_online_features_fresh_without_a_run(
    client: MarqueeClient, home: ServedHome, wanted: FeatureSet
) -> None:
    reader, began = OnlineUserFeatures(home.settings.feast, wanted), datetime.now(UTC).replace(microsecond=0)
    count = wanted.user_names.index("user_features__rating_count")
    film = client.recommend(8, 1).items[0].movie_id
    assert client.post("/v1/users/8/ratings", {"movie_id": film, "rating": 5.0}).status_code == 201
    # Of his ratings in the edition and the one in the app, whatever the histories of this home have made up.
    expected = len(home.seen[7]) + 1
    assert _eventually(lambda: reader.read_many([FIRST_USER_KEY + 7])[0].values[count] == expected)
    told = client.recommend(8, 1).provenance
    assert told.missing_features == []
    assert told.feature_timestamp is not None
    assert datetime.fromisoformat(told.feature_timestamp) >= began
    with httpx.Client(base_url=client.url, trust_env=False) as http:
        assert http.delete(f"/v1/users/8/ratings/{film}").status_code == 204
    assert _eventually(lambda: reader.read_many([FIRST_USER_KEY + 7])[0].values[count] == expected - 1)


def test_a_user_of_the_app_gets_films_like_those_he_rated_until_the_next_training(client: MarqueeClient) -> None:
    user_id = client.post("/v1/users", {}).json()["user_id"]
    assert client.post(f"/v1/users/{user_id}/ratings", {"movie_id": 2, "rating": 5.0}).status_code == 201
    answer = client.recommend(user_id, 5)
    assert answer.fallback is not None
    assert (answer.fallback.used, answer.fallback.cause) == ("likeness", "new_user")
    assert [item.movie_id for item in answer.items] == [item.movie_id for item in client.similar(2, 5).items]


def test_similar_films_come_without_the_film_itself(client: MarqueeClient) -> None:
    answer = client.similar(7, 10)
    assert len(answer.items) == 10
    assert 7 not in {item.movie_id for item in answer.items}
    assert {item.source for item in answer.items} == {"collaborative"}


def test_an_unknown_film_is_a_404_with_message_and_remedy(client: MarqueeClient) -> None:
    answer = client.post("/similar", {"movie_id": 99_999})
    assert answer.status_code == 404
    assert "99999" in answer.json()["error"]
    assert "movieId" in answer.json()["detail"]
    with pytest.raises(ClientError, match="99999") as raised:
        client.similar(99_999)
    assert raised.value.status == 404


@pytest.mark.parametrize(
    "body",
    [
        {"user_id": 1, "k": 0},
        {"user_id": 1, "k": 501},
        {"user_id": 1, "k": "many"},
        {"user_id": "1"},
        {"user_id": 2**63},
        {"k": 5},
        {"user_id": 1, "top": 5},
        [],
        None,
    ],
)
def test_a_wrong_body_is_the_callers_mistake(client: MarqueeClient, body: Any) -> None:
    answer = client.post("/recommend", body)
    assert answer.status_code == 400
    assert answer.json()["detail"]


def test_the_clients_error_names_the_field(client: MarqueeClient) -> None:
    with pytest.raises(ClientError, match="k: "):
        client.recommend(1, 0)


def test_a_changed_value_in_the_online_store_changes_that_users_next_scores_and_no_other(
    client: MarqueeClient, home: ServedHome
) -> None:
    before, other = _scores(client, 3), _scores(client, 4)
    _write_online(home, FIRST_USER_KEY + 2, rating_mean=0.5, genre_share_drama=1.0, rating_count=5_000)
    after = _scores(client, 3)
    assert before.keys() == after.keys()
    assert any(abs(before[movie] - after[movie]) > 1e-4 for movie in before)
    assert _scores(client, 4) == other
    _write_online(home, FIRST_USER_KEY + 2)
    assert _scores(client, 3) == before


def test_a_missing_value_in_the_online_store_is_named_and_the_model_answers(
    client: MarqueeClient, home: ServedHome
) -> None:
    with closing(sqlite3.connect(home.settings.feast / "online_store.db")) as con, con:
        (key,) = con.execute("SELECT entity_key FROM marquee_user_features LIMIT 1 OFFSET 200").fetchone()
        kept = con.execute(
            "SELECT * FROM marquee_user_features WHERE entity_key = ? AND feature_name = 'rating_mean'", (key,)
        ).fetchone()
        con.execute("DELETE FROM marquee_user_features WHERE entity_key = ? AND feature_name = 'rating_mean'", (key,))
    try:
        answers = [client.recommend(user_id, 1) for user_id in range(1, home.featureless_user_id)]
    finally:
        with closing(sqlite3.connect(home.settings.feast / "online_store.db")) as con, con:
            marks = ", ".join("?" * len(kept))
            con.execute(f"INSERT INTO marquee_user_features VALUES ({marks})", kept)
    touched = [answer for answer in answers if answer.provenance.missing_features]
    assert [answer.provenance.missing_features for answer in touched] == [["user_features__rating_mean"]]
    assert touched[0].fallback is None


def test_a_moved_pointer_is_followed_without_a_restart_and_back(client: MarqueeClient, home: ServedHome) -> None:
    def version() -> str:
        answer = client.recommend(1, 500)
        # Whole answers only: the films of one bundle under the name of another would be a mixed one.
        assert answer.provenance.model_version.startswith(answer.provenance.recommender)
        return answer.provenance.model_version

    try:
        neumf = _scores(client, 1)
        write_pointer(home.settings.serving_pointer, home.versions["ease"])
        assert _eventually(lambda: version() == home.versions["ease"])
        assert _scores(client, 1) != neumf
        # EASE needs no features: the user without them is no stranger to it.
        assert client.recommend(home.featureless_user_id, 5).fallback is None
    finally:
        write_pointer(home.settings.serving_pointer, home.versions["neumf"])
    assert _eventually(lambda: version() == home.versions["neumf"])
    assert _scores(client, 1) == neumf


def test_a_pointer_to_a_damaged_bundle_leaves_the_served_one(client: MarqueeClient, home: ServedHome) -> None:
    damaged = home.settings.models / "ease-ffffffffffff"
    shutil.copytree(home.bundle_path("ease"), damaged)
    (damaged / "items.parquet").write_bytes(b"")
    try:
        write_pointer(home.settings.serving_pointer, damaged.name)
        time.sleep(2.5)
        assert client.recommend(1, 1).provenance.model_version == home.versions["neumf"]
        assert client.get("/readyz").status_code == 200
    finally:
        write_pointer(home.settings.serving_pointer, home.versions["neumf"])
        shutil.rmtree(damaged)


def test_health_readiness_and_the_service_s_own_metrics(client: MarqueeClient, home: ServedHome) -> None:
    client.recommend(123_456, 1)
    client.recommend(1, 1)
    assert client.get("/v1/users/1").status_code == 200
    for path in ("/healthz", "/livez", "/readyz"):
        assert client.get(path).status_code == 200
    metrics = client.get("/metrics").text
    version = home.versions["neumf"]
    assert f'marquee_answers_total{{endpoint="recommend",fallback="unknown_user",model_version="{version}"}}' in metrics
    assert f'marquee_model_served{{model_version="{version}"}} 1.0' in metrics
    assert 'marquee_answer_seconds_count{endpoint="recommend"}' in metrics
    # None by path: whoever asks would make as many series as he likes, and they would say whose user was asked for.
    assert "/v1/users/1" not in metrics
    # Requests and their time by route, as the documents name it, and by stage.
    assert 'marquee_requests_total{method="GET",route="/v1/users/{user_id}",status="200"}' in metrics
    assert 'marquee_request_seconds_count{route="/recommend"}' in metrics
    for stage in ("store", "features", "model", "body"):
        assert f'marquee_stage_seconds_count{{route="/recommend",stage="{stage}"}}' in metrics
    (age,) = [line for line in metrics.splitlines() if line.startswith("marquee_feature_age_seconds")]
    # The histories of this home end in 2020.
    assert float(age.split()[-1]) > timedelta(days=365).total_seconds()


def test_openapi_describes_both_routes_with_examples_and_the_version(
    client: MarqueeClient, home: ServedHome, tag: str
) -> None:
    document = client.get("/docs.json").json()
    assert document["info"]["title"] == "Marquee"
    assert document["info"]["version"] == tag.partition(":")[2]
    assert "serving.json" in document["info"]["description"]
    for name in ("recommend", "similar"):
        operation = document["paths"][f"/{name}"]["post"]
        assert operation["description"]
        body = operation["requestBody"]["content"]["application/json"]["schema"]
        assert all(field["description"] for field in body["properties"].values())
        assert "404" in operation["responses"]


def test_the_same_bundle_and_code_are_built_once(home: ServedHome, tag: str) -> None:
    built = built_bentos(home.settings)
    start = time.monotonic()
    assert build(home.settings, home.bundle_path("neumf")) == tag
    assert time.monotonic() - start < 2.0
    assert [bento.tag for bento in built_bentos(home.settings)] == [bento.tag for bento in built]
    assert tag.startswith(f"{BENTO_NAME}:{home.versions['neumf']}-")


def test_the_bento_ships_its_bundle_and_no_other_part_of_the_project(home: ServedHome, tag: str) -> None:
    (bento,) = [bento for bento in built_bentos(home.settings) if bento.tag == tag]
    shipped = home.settings.bentoml / "models" / "marquee_bundle" / home.versions["neumf"] / "bundle"
    assert load_bundle(shipped).version == home.versions["neumf"]
    assert f"marquee_bundle:{home.versions['neumf']}" in (bento.path / "bento.yaml").read_text()
    folders = {path.name for path in (bento.path / "src").iterdir() if path.is_dir()}
    assert folders == {"bento", "models"}


def test_the_served_features_equal_the_latest_offline_row(home: ServedHome, wanted: FeatureSet) -> None:
    # A fill replaces what was pushed for those who rated in the app since the last one.
    feature_store.materialize(feature_store.open_store(home.settings.feast))
    reader = OnlineUserFeatures(home.settings.feast, wanted)
    latest = (
        pl.read_parquet(home.settings.features / "user_features.parquet")
        .sort("feature_timestamp")
        .group_by("user_key", maintain_order=True)
        .last()
        .sort("user_key")
    )
    columns = [name.removeprefix("user_features__") for name in wanted.user_names]
    offline = latest.select(pl.col(columns).cast(pl.Float32)).to_numpy()
    served = np.stack([reader.read_many([key])[0].values for key in latest["user_key"].to_list()])
    np.testing.assert_array_equal(served, offline)


def test_the_online_features_of_a_forgotten_user_are_gone_at_once(
    home: ServedHome, wanted: FeatureSet, tmp_path: Path
) -> None:
    feast = tmp_path / "feast"
    shutil.copytree(home.settings.feast, feast)
    reader = OnlineUserFeatures(feast, wanted)
    before = reader.read_many([FIRST_USER_KEY + 1])[0]
    assert reader.read_many([FIRST_USER_KEY])[0].found
    reader.forget(FIRST_USER_KEY, datetime(2020, 6, 1, tzinfo=UTC))
    assert not reader.read_many([FIRST_USER_KEY])[0].found
    np.testing.assert_array_equal(reader.read_many([FIRST_USER_KEY + 1])[0].values, before.values)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda names: names, None),
        (lambda names: [*names, Field(name="negative_share", dtype=Float64)], "the push lacks negative_share: "),
        (lambda names: names[:-1], "the view lacks genre_share_western: "),
    ],
    ids=["the same columns", "a column that nobody pushes", "a column that the view has lost"],
)
def test_a_bundle_is_not_promoted_when_its_push_and_its_view_have_other_columns(
    home: ServedHome,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[list[Field]], list[Field]],
    words: str | None,
) -> None:
    write_pointer(built_pointer(home.settings), home.versions["ease"])
    monkeypatch.setattr(features.user_features, "features", change(list(features.user_features.features)))
    result = bundle_answers(settings=home.settings)
    assert isinstance(result, dg.AssetCheckResult)
    assert result.passed == (words is None)
    if words is not None:
        assert result.description is not None
        assert words in result.description
        assert "bento/features/refresher.py" in result.description


def test_serving_and_the_feature_repository_hash_a_service_alike(home: ServedHome) -> None:
    store = feature_store.open_store(home.settings.feast)
    names, digest = registered_service(store, "recommender_v1")
    assert digest == feature_store.service_hash(store)
    schema = feature_store.service_schema(store)
    assert names == [*schema["user"], *schema["item"]]


def test_features_of_another_meaning_are_refused_with_the_remedy(home: ServedHome, wanted: FeatureSet) -> None:
    for changed, message in (
        (replace(wanted, service_hash="0" * 64), "000000000000"),
        (replace(wanted, user_names=(*wanted.user_names, "user_features__mood")), "user_features__mood"),
        (replace(wanted, service="recommender_v0"), "recommender_v0"),
    ):
        with pytest.raises(NotServable, match=message) as refused:
            OnlineUserFeatures(home.settings.feast, changed)
        assert "make run" in refused.value.remedy


def test_a_home_without_a_feature_store_is_refused_with_the_remedy(tmp_path: Path, wanted: FeatureSet) -> None:
    with pytest.raises(NotServable, match="no feature store") as refused:
        OnlineUserFeatures(tmp_path, wanted)
    assert "make run" in refused.value.remedy


def test_a_service_with_nothing_to_serve_is_alive_but_not_ready_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARQUEE_HOME", str(tmp_path))
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "bentoml"))
    from starlette.testclient import TestClient

    from bento.service import Marquee

    with TestClient(Marquee.to_asgi(), base_url="http://127.0.0.1", client=("127.0.0.1", 1)) as http:
        assert http.get("/livez").status_code == 200
        ready = http.get("/readyz")
        answer = http.post("/recommend", json={"user_id": 1})
    assert (ready.status_code, answer.status_code) == (503, 503)
    assert "serving.json" in ready.text
    assert "serving.json" in answer.json()["error"]
    assert "make run" in answer.json()["detail"]


def test_an_online_store_that_is_replaced_or_taken_away_is_noticed(
    home: ServedHome, wanted: FeatureSet, tmp_path: Path
) -> None:
    feast = tmp_path / "feast"
    shutil.copytree(home.settings.feast, feast)
    reader = OnlineUserFeatures(feast, wanted)
    column = wanted.user_names.index("user_features__rating_mean")
    other_user = reader.read_many([FIRST_USER_KEY + 1])[0].values[column]
    assert reader.read_many([FIRST_USER_KEY])[0].values[column] != other_user

    aside = feast / "aside.db"
    shutil.copyfile(feast / "online_store.db", aside)
    with closing(sqlite3.connect(aside)) as con, con:
        rows = con.execute("SELECT DISTINCT entity_key FROM marquee_user_features ORDER BY 1").fetchall()
        con.execute(
            "UPDATE marquee_user_features SET value = (SELECT value FROM marquee_user_features"
            " WHERE entity_key = ? AND feature_name = 'rating_mean') WHERE feature_name = 'rating_mean'",
            rows[1],
        )
    aside.replace(feast / "online_store.db")
    assert (
        reader.read_many([FIRST_USER_KEY])[0].values[column] == reader.read_many([FIRST_USER_KEY + 1])[0].values[column]
    )

    (feast / "online_store.db").unlink()
    with pytest.raises(FeatureStoreUnavailable):
        reader.read_many([FIRST_USER_KEY])[0]
    # Feast would have made an empty file here, and found nobody in it.
    assert not os.path.lexists(feast / "online_store.db")

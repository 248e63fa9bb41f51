"""The marts of what was served: from the app's store through the raw tables, against a computation in polars."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pytest

from bento.store import users as people
from bento.store.database import Store
from bento.store.served_lists import AnswerRow, keep_answers, subjects_of
from bento.store.users import Who
from orchestration.ingestion.app_store import app_version, ingest_app
from orchestration.storage.warehouse import open_database
from orchestration.visualization import charts
from orchestration.visualization.mart_charts import PLOTS
from settings import Settings
from tests.postgresql import running_postgresql
from tests.unit.dbt.warehouses import Warehouse

START = datetime(2030, 1, 1, tzinfo=UTC)
EDITION = "ml-1m"
MARTS = ("served_traffic", "served_feedback", "ab_outcome")
_USERS, _FILMS, _ANSWERS, _EVENTS = 60, 40, 600, 1_500
WINDOW = timedelta(days=7)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, str]]:
    """Yield a store with a month of answers in two arms, in the shadow and in neither, and the users' events."""
    url = f"sqlite:///{tmp_path_factory.mktemp('store') / 'store.db'}"
    made = Store(url)
    rng = np.random.default_rng(7)
    whos = [Who(EDITION, number) for number in range(1, _USERS + 1)]
    with made.writing() as session:
        users = [people.adopt_user(session, who, START) for who in whos]
        rows = []
        for number in range(_ANSWERS):
            user = int(rng.integers(_USERS))
            kind = int(rng.integers(10))
            arm = "challenger" if user % 2 else "champion"
            # Users 0 and 1 were dealt anew in between.
            arm = ("champion", "challenger")[int(rng.integers(2))] if user < 2 else arm
            arm, experiment = (arm, "e1") if kind < 7 else ("shadow", "e2") if kind == 7 else (None, None)
            films = rng.choice(_FILMS, size=int(rng.integers(0, 8)), replace=False) + 1
            rows.append(
                AnswerRow(
                    None if kind == 9 else whos[user].pair,
                    {
                        "answered_at": START + timedelta(seconds=int(rng.integers(30 * 86_400))),
                        "request_id": f"r{number // 2}",
                        "route": "similar" if kind == 9 else ("recommend", "recommend_batch")[number % 2],
                        "model_version": "v2" if arm in ("challenger", "shadow") else "v1",
                        "data_snapshot": "{}",
                        "experiment": experiment,
                        "arm": arm,
                        "fallback": "unknown_user" if rng.random() < 0.2 else None,
                        "latency_ms": float(np.round(rng.gamma(2, 3), 3)),
                        "overlap": float(np.round(rng.random(), 3)) if arm == "shadow" else None,
                        "movie_keys": json.dumps(films.tolist()),
                        "scores": json.dumps(np.round(rng.random(len(films)), 6).tolist()),
                    },
                )
            )
        keep_answers(session, rows)
        for _ in range(_EVENTS):
            user, film = users[int(rng.integers(_USERS))], int(rng.integers(_FILMS)) + 1
            at = START + timedelta(seconds=int(rng.integers(38 * 86_400)))
            if rng.random() < 0.3:
                stars = float(rng.integers(1, 11)) / 2
                people.rate(
                    session, user, movie_key=film, edition=EDITION, movie_id=film, rating=stars, rated_at=at, now=at
                )
            else:
                kind = ("clicked", "viewed", "dismissed", "watchlisted", "shown")[int(rng.integers(5))]
                people.log_event(session, user, kind, movie_key=film, happened_at=at, now=at)
    yield made, url
    made.close()


@pytest.fixture(scope="module")
def con(store: tuple[Store, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a connection to the warehouse with the marts."""
    folder = tmp_path_factory.mktemp("serving")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MARQUEE_WAREHOUSE", str(folder / "warehouse.duckdb"))
        patch.setenv("DBT_TARGET_PATH", str(folder / "target"))
        patch.setenv("DBT_LOG_PATH", str(folder / "logs"))
        warehouse = Warehouse(folder)
        warehouse.reset()
        writer = open_database(Settings(home=folder), warehouse.path)
        ingest_app(writer, store[1], EDITION)
        writer.close()
        warehouse.dbt("build", "--select", "stg_app__answers", "stg_app__events", *MARTS)
        con = open_database(Settings(home=folder), warehouse.path)
        yield con
        con.close()


@pytest.fixture(scope="module")
def answers(con: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    return con.sql("FROM raw.app_answers").pl()


@pytest.fixture(scope="module")
def items(answers: pl.DataFrame, con: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """Each film that was served to somebody, and what he did with it within the window."""
    shown = (
        answers.filter(pl.col("subject").is_not_null() & (pl.col("arm").fill_null("") != "shadow"))
        .select("answer_id", "answered_at", "subject", "experiment", "arm", movie_key="movie_keys")
        .filter(pl.col("movie_key").list.len() > 0)
        .explode("movie_key")
        .with_columns(rank=pl.int_range(pl.len()).over("answer_id") + 1)
    )
    events = con.sql("SELECT subject, kind, movie_key, rating::DOUBLE AS rating, happened_at FROM raw.app_events").pl()
    near = shown.join(events, on=["subject", "movie_key"]).filter(
        (pl.col("happened_at") >= pl.col("answered_at")) & (pl.col("happened_at") < pl.col("answered_at") + WINDOW)
    )
    done = near.group_by("answer_id", "rank").agg(
        clicked=(pl.col("kind") == "clicked").any(),
        rated=(pl.col("kind") == "rated").any(),
        first=pl.col("happened_at").filter(pl.col("kind").is_in(["clicked", "rated"])).min(),
    )
    return shown.join(done, on=["answer_id", "rank"], how="left").with_columns(
        pl.col("clicked", "rated").fill_null(False)
    )


def test_the_raw_table_holds_what_the_store_holds(answers: pl.DataFrame, store: tuple[Store, str]) -> None:
    assert answers.height == _ANSWERS
    assert answers["answer_id"].is_unique().all()
    assert (answers["movie_keys"].list.len() == answers["scores"].list.len()).all()
    assert answers["answered_at"].min() >= START.replace(tzinfo=None)  # type: ignore[operator]
    with store[0].reading() as session:
        known = set(subjects_of(session, [(EDITION, number) for number in range(1, _USERS + 1)]).values())
    assert set(answers["subject"].drop_nulls()) <= known
    assert answers["subject"].null_count() > 0


def test_traffic_is_that_of_polars(answers: pl.DataFrame, con: duckdb.DuckDBPyConnection) -> None:
    wanted = (
        answers.with_columns(day=pl.col("answered_at").dt.date(), arm=pl.col("arm").fill_null("none"))
        .group_by("day", "route", "model_version", "arm")
        .agg(
            answer_count=pl.len(),
            request_count=pl.col("request_id").n_unique(),
            user_count=pl.col("subject").drop_nulls().n_unique(),
            fallback_share=pl.col("fallback").is_not_null().mean(),
            empty_count=(pl.col("movie_keys").list.len() == 0).sum(),
            latency_p90_ms=pl.col("latency_ms").quantile(0.9, "linear"),
            overlap_mean=pl.col("overlap").mean(),
        )
    )
    _same(con.sql("FROM marts.served_traffic").pl(), wanted, ["day", "route", "model_version", "arm"], 6e-4)


def test_feedback_is_that_of_polars(items: pl.DataFrame, con: duckdb.DuckDBPyConnection) -> None:
    found = con.sql("FROM marts.served_feedback").pl()
    wanted = items.select(
        "answer_id", "rank", "movie_key", "subject", is_clicked="clicked", is_rated="rated",
        seconds_to_response=(pl.col("first") - pl.col("answered_at")).dt.total_seconds(),
    )  # fmt: skip
    _same(found, wanted, ["answer_id", "rank"], 0)
    assert 0 < wanted["is_clicked"].sum() < wanted.height / 2
    assert wanted["is_rated"].sum() > 0


def test_the_outcome_of_an_experiment_is_that_of_polars(items: pl.DataFrame, con: duckdb.DuckDBPyConnection) -> None:
    dealt = items.filter(pl.col("experiment") == "e1").filter(pl.col("arm").n_unique().over("subject") == 1)
    films = dealt.group_by("arm", "subject", "movie_key").agg(pl.col("clicked", "rated").any())
    users = films.group_by("arm", "subject").agg(
        pl.col("clicked", "rated").sum().cast(pl.Float64), films=pl.len().cast(pl.Float64)
    )
    assert users.height < items.filter(pl.col("experiment") == "e1")["subject"].n_unique()
    found = {row["measure"]: row for row in con.sql("FROM marts.ab_outcome").pl().iter_rows(named=True)}
    assert {row["experiment"] for row in found.values()} == {"e1"}
    for measure, hits, chances in (
        ("click_rate", pl.col("clicked"), pl.col("films")),
        ("rating_rate", pl.col("rated"), pl.col("films")),
        ("users_who_click", (pl.col("clicked") > 0).cast(pl.Float64), pl.lit(1.0)),
        ("users_who_rate", (pl.col("rated") > 0).cast(pl.Float64), pl.lit(1.0)),
    ):
        rates, variances = {}, {}
        for arm in ("champion", "challenger"):
            of_arm = users.filter(pl.col("arm") == arm).select(x=hits, n=chances)
            x, n = of_arm["x"].to_numpy(), of_arm["n"].to_numpy()
            rates[arm] = x.sum() / n.sum()
            # The spread of what each person adds to the ratio beyond his share of it.
            variances[arm] = len(x) * np.var(x - rates[arm] * n, ddof=1) / n.sum() ** 2
            assert found[measure][f"{arm}_users"] == len(x)
        difference = rates["challenger"] - rates["champion"]
        half = 1.96 * math.sqrt(sum(variances.values()))
        assert found[measure]["difference"] == pytest.approx(difference, abs=2e-6)
        assert found[measure]["difference_low"] == pytest.approx(difference - half, abs=2e-6)
        assert found[measure]["difference_high"] == pytest.approx(difference + half, abs=2e-6)


def test_intervals_hold_a_difference_that_is_not_there_19_times_in_20() -> None:
    """The mart's formula on people whose films are alike; as if films were independent it would fail far more often."""
    rng = np.random.default_rng(3)
    people_, trials = 200, 400
    held = {"people": 0, "films": 0}
    for _ in range(trials):
        sums = []
        for _arm in range(2):
            n = rng.integers(1, 40, size=people_)
            x = rng.binomial(n, rng.beta(0.5, 4.5, size=people_))
            rate = x.sum() / n.sum()
            clustered = people_ * np.var(x - rate * n, ddof=1) / n.sum() ** 2
            sums.append((rate, clustered, rate * (1 - rate) / n.sum()))
        difference = abs(sums[0][0] - sums[1][0])
        held["people"] += difference <= 1.96 * math.sqrt(sums[0][1] + sums[1][1])
        held["films"] += difference <= 1.96 * math.sqrt(sums[0][2] + sums[1][2])
    assert 0.92 <= held["people"] / trials <= 0.975
    assert held["films"] / trials < 0.8


@pytest.mark.parametrize("mart", MARTS)
def test_each_mart_can_be_drawn(con: duckdb.DuckDBPyConnection, mart: str) -> None:
    for query, draw in PLOTS[mart].values():
        assert len(charts.png_markdown(draw(con.sql(query).pl()))) > 2_000


def test_the_version_of_the_store_moves_with_an_answer_and_a_store_that_is_not_there_is_an_empty_one(
    store: tuple[Store, str], tmp_path: Path
) -> None:
    made, url = store
    before = app_version(url)
    row = {
        "answered_at": START, "request_id": "r", "route": "similar", "model_version": "v1", "data_snapshot": "{}",
        "latency_ms": 1.0, "movie_keys": "[]", "scores": "[]",
    }  # fmt: skip
    with made.writing() as session:
        keep_answers(session, [AnswerRow(None, row)])
    assert app_version(url) != before
    empty = f"sqlite:///{tmp_path / 'store.db'}"
    assert app_version(empty) == "0-0-0"
    Store(empty).migrate()
    assert app_version(empty) == "0-0-0"


def test_a_store_on_postgresql_gives_the_same_rows(tmp_path: Path) -> None:
    row = {
        "answered_at": START, "request_id": "r", "route": "recommend", "model_version": "v1", "data_snapshot": "{}",
        "latency_ms": 1.5, "fallback": "no_history", "movie_keys": "[3, 1]", "scores": "[0.5, 0.25]",
    }  # fmt: skip
    found = {}
    with running_postgresql() as server:
        for kind, url in (("sqlite", f"sqlite:///{tmp_path / 'store.db'}"), ("postgresql", server)):
            store = Store(url)
            store.migrate()
            with store.writing() as session:
                keep_answers(session, [AnswerRow((EDITION, 1), row), AnswerRow(None, {**row, "movie_keys": "[]"})])
            store.close()
            con = duckdb.connect()
            ingest_app(con, url, EDITION)
            found[kind] = con.sql("SELECT * EXCLUDE (subject), subject IS NULL FROM raw.app_answers").fetchall()
    assert len(found["sqlite"]) == 2
    assert found["postgresql"] == found["sqlite"]


def _same(found: pl.DataFrame, wanted: pl.DataFrame, keys: list[str], within: float) -> None:
    """Both hold the same rows, numbers as near as the mart rounds them."""
    assert found.height == wanted.height > 0
    both = found.join(wanted, on=keys, how="inner", suffix="_wanted")
    assert both.height == found.height
    for name in wanted.columns:
        if name in keys:
            continue
        ours, theirs = both[name], both[f"{name}_wanted"]
        if ours.dtype.is_float():
            assert ours.is_null().equals(theirs.is_null()), name
            assert (ours - theirs).abs().max() <= within, name
        else:
            assert ours.cast(theirs.dtype).eq_missing(theirs).all(), name

"""The whole graph by the real command on a tiny mirror: what `make run` promises.

One home is built once; the tests follow each other in it, from the first run to broken input.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import dagster as dg
import duckdb
import polars as pl
import pytest

from bento.client import serving
from models.serving.bundle import load_bundle, read_pointer
from orchestration.lib.dbt_project import ON_SETTLED_CHANGE
from orchestration.queries.analyses import analyses
from orchestration.training.mlflow_tracking import tracking_uri
from settings import Settings
from tests.graph.conftest import GraphHome, Run
from tests.unit.publishing.writers import write

pytestmark = pytest.mark.xdist_group("graph")


def published(home: GraphHome, query: str) -> list[tuple[object, ...]]:
    with duckdb.connect(str(home.settings.published), read_only=True) as con:
        return con.execute(query).fetchall()


def warehouse(home: GraphHome, query: str) -> list[tuple[object, ...]]:
    with duckdb.connect(str(home.settings.warehouse), read_only=True) as con:
        return con.execute(query).fetchall()


def test_a_fresh_home_ends_with_recommendations_that_came_over_http(first_run: Run) -> None:
    assert first_run.status == 0, first_run.story
    assert "Recommended to user 1" in first_run.result
    assert first_run.result.count("https://www.imdb.com/") == 5
    assert "0 reused" in first_run.story


def test_every_row_of_every_file_is_loaded_or_in_quarantine(graph_home: GraphHome, first_run: Run) -> None:
    assert first_run.status == 0
    lost = warehouse(
        graph_home,
        """
        SELECT table_name FROM raw.loads AS l
        WHERE file_rows != loaded_rows + (SELECT count(*) FROM raw.quarantine AS q WHERE q.table_name = l.table_name)
        """,
    )
    assert lost == []
    [(refused,)] = warehouse(graph_home, "SELECT count(*) FROM raw.quarantine")
    assert refused == graph_home.broken_rows


def test_the_published_copy_holds_every_mart_and_nothing_else(graph_home: GraphHome, first_run: Run) -> None:
    assert first_run.status == 0
    of_marts = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'marts' ORDER BY 1"
    assert published(graph_home, of_marts) == warehouse(graph_home, of_marts)
    schemas = published(graph_home, "SELECT DISTINCT table_schema FROM information_schema.tables")
    assert sorted(schemas) == [("marts",), ("questions",)]
    [(undescribed,)] = published(
        graph_home, "SELECT count(*) FROM duckdb_columns() WHERE comment IS NULL AND schema_name = 'marts'"
    )
    assert undescribed == 0
    views = "SELECT view_name FROM duckdb_views() WHERE schema_name = 'questions' AND comment IS NOT NULL ORDER BY 1"
    assert published(graph_home, views) == [(analysis.name,) for analysis in analyses()]


def test_the_comparison_holds_all_candidates_on_the_same_users(graph_home: GraphHome, first_run: Run) -> None:
    assert first_run.status == 0
    rows = json.loads((graph_home.settings.evaluation / "comparison.json").read_text())["rows"]
    assert [row["recommender"] for row in rows] == ["popularity", "ease", "ials", "neumf"]
    assert len({row["test_users"] for row in rows}) == 1


def test_what_is_served_is_what_the_gate_decided_on_the_data_that_were_checked(
    graph_home: GraphHome, first_run: Run
) -> None:
    assert first_run.status == 0
    settings = graph_home.settings
    served = read_pointer(settings.serving_pointer)
    decision = json.loads((settings.models / "decisions" / f"{served}.json").read_text())
    assert (decision["way"], decision["promoted"], decision["refused"]) == ("first", True, [])
    means = {row["recipe"]: row["mean"] for row in decision["table"]}
    assert decision["label"] == max(means, key=lambda label: means[label])
    assert load_bundle(settings.models / served).recommender.name == decision["recipe"]["name"]
    manifest = json.loads((settings.published.parent / "manifest.json").read_text())
    assert decision["lineage"]["data"] == {
        name: manifest["tables"][name]["digest"] for name in decision["lineage"]["data"]
    }
    # 150 users leave fewer than 200 with a past: the decision says by what it judged instead.
    assert decision["trial"]["protocol"] == "leave-last-out"
    assert "users with a past, fewer than 200" in decision["notes"][0]
    assert f"gate, first: {decision['reasons'][0]}" in first_run.story


def test_the_published_lists_are_of_the_served_model_for_each_user_without_what_he_rated(
    graph_home: GraphHome, first_run: Run
) -> None:
    assert first_run.status == 0
    served = read_pointer(graph_home.settings.serving_pointer)
    [(users, versions, shortest, kinds)] = published(
        graph_home,
        """
        SELECT count(DISTINCT user_key), list(DISTINCT model_version), min(films), list_sort(list(DISTINCT reason_kind))
        FROM marts.recommendations
        JOIN (SELECT user_key, count(*) AS films FROM marts.recommendations GROUP BY ALL) USING (user_key)
        """,
    )
    assert (users, versions) == (150, [served])
    assert isinstance(shortest, int)
    assert shortest >= 40
    assert isinstance(kinds, list)
    assert kinds
    seen = "SELECT count(*) FROM marts.recommendations JOIN marts.fct_ratings USING (user_key, movie_key)"
    assert published(graph_home, seen) == [(0,)]
    untold = (
        "SELECT count(*) FROM marts.recommendations WHERE reason_kind = 'like_film' AND reason NOT LIKE 'Because you%'"
    )
    assert published(graph_home, untold) == [(0,)]


def test_trust_can_be_queried(graph_home: GraphHome, first_run: Run) -> None:
    assert first_run.status == 0
    assert published(graph_home, "SELECT count(*) FROM marts.quarantine") == [(graph_home.broken_rows,)]
    assert published(
        graph_home, "SELECT count(*) FROM marts.check_results WHERE is_blocking AND status != 'passed'"
    ) == [(0,)]
    ahead = published(
        graph_home,
        """
        WITH RECURSIVE ahead AS (
            SELECT upstream FROM marts.asset_lineage WHERE downstream = 'published_copy'
            UNION SELECT l.upstream FROM marts.asset_lineage AS l JOIN ahead ON l.downstream = ahead.upstream
        )
        SELECT upstream FROM ahead
        """,
    )
    assert {("raw/ml_ratings",), ("upstream/movielens",), ("marts/recommendations",)} <= {*ahead}
    profiled = published(graph_home, "SELECT row_count FROM marts.mart_profile WHERE mart = 'fct_ratings' LIMIT 1")
    assert profiled == published(graph_home, "SELECT count(*) FROM marts.fct_ratings")
    assert published(graph_home, "SELECT count(*) > 0 FROM marts.run_history") == [(True,)]


def test_every_fit_is_a_run_among_the_experiments_with_its_figures(graph_home: GraphHome, first_run: Run) -> None:
    from mlflow import MlflowClient

    assert first_run.status == 0
    client = MlflowClient(tracking_uri(graph_home.settings))
    experiment = client.get_experiment_by_name("leave-last-out")
    assert experiment is not None
    runs = {run.info.run_name: run.data for run in client.search_runs([experiment.experiment_id])}
    rows = json.loads((graph_home.settings.evaluation / "comparison.json").read_text())["rows"]
    assert {name: run.metrics["ndcg_10"] for name, run in runs.items()} == {
        row["recommender"]: row["ndcg_10"] for row in rows
    }
    assert runs["neumf"].params["epochs"] == "4"


def test_training_rows_equal_a_recount_of_the_raw_ratings_before_their_time(
    graph_home: GraphHome, first_run: Run
) -> None:
    """200 random rows, recomputed in SQL from `raw`, knowing nothing of dbt's features or of Feast."""
    assert first_run.status == 0
    rows = pl.read_parquet(graph_home.settings.features / "training_set.parquet").sample(200, seed=7)
    with duckdb.connect(str(graph_home.settings.warehouse), read_only=True) as con:
        con.register("drawn", rows.to_arrow())
        recount = con.sql(
            """
            WITH events AS (
                SELECT
                    u.user_key, m.movie_key, r.rating, to_timestamp(r."timestamp") AT TIME ZONE 'UTC' AS given_at,
                    lead(given_at) OVER same_movie AS replaced_at
                FROM raw.ml_ratings AS r
                JOIN marts.dim_users AS u ON u.user_id = r.userId
                JOIN marts.dim_movies AS m ON list_contains(m.movie_ids, r.movieId)
                WINDOW same_movie AS (PARTITION BY u.user_key, m.movie_key ORDER BY given_at, r.movieId)
            )
            SELECT
                d.user_key, d.movie_key,
                count(*) FILTER (e.user_key = d.user_key) AS user_count,
                avg(e.rating) FILTER (e.user_key = d.user_key) AS user_mean,
                count(DISTINCT e.given_at::DATE) FILTER (e.user_key = d.user_key) AS user_days,
                count(*) FILTER (e.movie_key = d.movie_key) AS movie_count,
                avg(e.rating) FILTER (e.movie_key = d.movie_key) AS movie_mean
            FROM drawn AS d LEFT JOIN events AS e
                ON e.given_at < date_trunc('day', d.rated_at)
                AND (e.replaced_at IS NULL OR e.replaced_at >= date_trunc('day', d.rated_at))
                AND (e.user_key = d.user_key OR e.movie_key = d.movie_key)
            GROUP BY ALL
            """
        ).pl()
    joined = rows.join(recount, on=["user_key", "movie_key"], how="inner")
    assert joined.height == 200
    for counted, served in (
        ("user_count", "user_features__rating_count"),
        ("user_mean", "user_features__rating_mean"),
        ("user_days", "user_features__active_days"),
        ("movie_count", "movie_features__rating_count"),
        ("movie_mean", "movie_features__rating_mean"),
    ):
        left = joined[counted].cast(pl.Float64).fill_null(0.0)
        right = joined[served].cast(pl.Float64).fill_null(0.0)
        assert (left - right).abs().max() < 1e-5, counted
    assert joined["user_features__rating_count"].drop_nulls().len() > 50


def test_the_bundle_says_what_it_was_made_from(graph_home: GraphHome, first_run: Run) -> None:
    assert first_run.status == 0
    settings = graph_home.settings
    bundle = load_bundle(settings.models / read_pointer(settings.serving_pointer))
    manifest = json.loads((settings.published.parent / "manifest.json").read_text())
    snapshot = dict(bundle.manifest["data_snapshot"])
    assert snapshot.pop("edition") == "ml-latest-small"
    assert set(snapshot) == {"fct_ratings", "user_features", "movie_features", "movie_content"}
    assert snapshot == {name: manifest["tables"][name]["digest"] for name in snapshot}
    assert bundle.features.service == "recommender_v1"
    assert bundle.manifest["evaluation"]["rows"]


def test_the_served_bento_answers_known_and_unknown_users_and_similar_films(
    graph_home: GraphHome, first_run: Run
) -> None:
    assert first_run.status == 0
    # What is served is a source like others, and the next test wants none to have changed.
    with serving(graph_home.settings, environment={"MARQUEE_ANSWER_LOG": "false"}) as client:
        known = client.recommend(1, 10)
        stranger = client.recommend(10**9, 10)
        alike = client.similar(1, 5)
    rated = {row[0] for row in warehouse(graph_home, "SELECT movieId FROM raw.ml_ratings WHERE userId = 1")}
    assert len(known.items) == 10
    assert not rated & {item.movie_id for item in known.items}
    assert known.fallback is None
    assert known.provenance.data_snapshot["edition"] == "ml-latest-small"
    assert stranger.fallback is not None
    assert {item.source for item in stranger.items} == {"popular"}
    assert len(alike.items) == 5
    assert 1 not in {item.movie_id for item in alike.items}


def test_a_second_run_reuses_everything(graph_home: GraphHome, first_run: Run) -> None:
    assert first_run.status == 0
    again = graph_home.run("--no-recommend")
    assert again.status == 0, again.story
    assert "Nothing has changed" in again.story


def published_tables(home: GraphHome) -> dict[str, object]:
    """Return the tables of the published copy with their versions."""
    found: dict[str, object] = json.loads((home.settings.published.parent / "manifest.json").read_text())["tables"]
    return found


def rebuilt(update: Run) -> set[str]:
    """Return the assets that a run says it rebuilt."""
    assert update.status == 0, update.story
    told = update.story.split("\nrebuilt: ")[1].split("\nspared: ")[0]
    return {line.split()[0] for line in told.splitlines()[1:]}


@contextmanager
def changed_dump(home: GraphHome, dump: str, change: Callable[[list[str]], list[str]]) -> Iterator[None]:
    """For a while, a dump of the mirror with other data lines, a day younger, then the old one back to the byte."""
    path = home.mirror / "imdb" / f"{dump}.tsv.gz"
    before = path.read_bytes()
    written_at = int.from_bytes(before[4:8], "little")
    header, *lines = gzip.decompress(before).decode().splitlines(keepends=True)
    path.write_bytes(gzip.compress("".join([header, *change(lines)]).encode(), mtime=written_at + 86_400))
    try:
        yield
    finally:
        path.write_bytes(before)


#: What follows a dump of ratings wherever the wave ends: its table, and the ledgers beside it.
LOADED = {"raw/imdb_title_ratings", "raw/loads", "raw/quarantine"}


def test_a_dump_with_its_rows_in_another_order_stops_at_the_raw_table(graph_home: GraphHome, first_run: Run) -> None:
    assert first_run.status == 0
    with changed_dump(graph_home, "title.ratings", lambda lines: lines[::-1]):
        update = graph_home.run("--no-recommend")
    assert rebuilt(update) == {"raw/imdb_title_ratings"}
    assert "raw/imdb_title_ratings  the same" in update.story


def test_a_dump_that_changed_for_unknown_titles_stops_at_the_first_equal_tables(
    graph_home: GraphHome, first_run: Run
) -> None:
    assert first_run.status == 0
    before = published_tables(graph_home)
    with changed_dump(graph_home, "title.ratings", lambda lines: [*lines, "tt99999999\t1.5\t5\n"]):
        update = graph_home.run("--no-recommend")
    assert rebuilt(update) >= LOADED
    # The history of the dumps tells of the title, and so does the copy for analysts; films, features and models do not.
    assert not rebuilt(update) & {"catalogue", "feature_histories/movie_imdb", "online_store", "model_bundle"}
    after = published_tables(graph_home)
    # What tells of the pipeline itself tells of this run, too, and the profile of the one mart that changed.
    told = {"check_results", "run_history", "mart_profile", "mart_correlations"}
    assert {name for name in after if after[name] != before[name]} - told <= {"imdb_changes"}


def test_a_changed_dump_rebuilds_its_cone_and_spares_the_rest(graph_home: GraphHome, first_run: Run) -> None:
    assert first_run.status == 0
    settings = graph_home.settings
    [(tconst,)] = published(graph_home, "SELECT tconst FROM marts.dim_movies WHERE imdb_votes > 0 ORDER BY 1 LIMIT 1")
    fitted = [settings.evaluation / name / "recommender.json" for name in ("neumf", "fitted")]
    trained = [file.stat().st_mtime_ns for file in fitted]

    def vote(lines: list[str]) -> list[str]:
        return [f"{tconst}\t9.9\t987654\n" if line.startswith(f"{tconst}\t") else line for line in lines]

    with changed_dump(graph_home, "title.ratings", vote):
        update = graph_home.run("--no-recommend")
        assert published(graph_home, f"SELECT imdb_votes FROM marts.dim_movies WHERE tconst = '{tconst}'") == [
            (987654,)
        ]
        write(graph_home.settings.published, "UPDATE marts.dim_movies SET imdb_votes = 1")
        again = graph_home.run("--no-recommend")
    assert published(graph_home, f"SELECT imdb_votes FROM marts.dim_movies WHERE tconst = '{tconst}'") == [(987654,)]
    built = rebuilt(update)
    assert built >= {*LOADED, "marts/dim_movies", "marts/movie_imdb", "published_copy", "online_store"}
    # Nothing of MovieLens, of the other dumps, or that is fitted.
    assert not {name for name in built if name.startswith(("raw/ml_", "staging/stg_movielens", "candidates/"))}
    assert not built & {
        "raw/imdb_title_basics",
        "training_set",
        "comparison",
        "gate",
        "fitted_model",
        "rating_model",
        "model_bundle",
        "bento",
    }
    assert [file.stat().st_mtime_ns for file in fitted] == trained
    assert "changed upstream: imdb_title_ratings; as before: 9 of 10 files" in update.story
    assert "candidates/neumf" in update.story.split("\nspared: ")[1]
    # Nothing but what another tool has written to meanwhile.
    assert rebuilt(again) == {"published_copy"}


#: What leaves the warehouse or leads to what is served.
LEAVING = [
    "published_copy",
    *(f"feature_histories/{mart}" for mart in ("user_features", "movie_features", "movie_content", "movie_imdb")),
    *("training_set", "online_store", "catalogue", "film_credits", "film_map"),
    *("candidates/popularity", "candidates/ease", "candidates/ials", "candidates/neumf", "comparison", "gate"),
    *("fitted_model", "rating_model", "model_bundle", "promoted_model", "bento", "marts/recommendations"),
]


@contextmanager
def launched_by_hand(home: GraphHome) -> Iterator[tuple[dg.Definitions, Callable[..., dg.ExecuteInProcessResult]]]:
    """Yield the real graph and a function that launches assets or a check of it alone, as a click in Dagster does."""
    from orchestration.definitions import marquee

    with patch.dict(os.environ, home.environment()):
        defs = marquee()
        job = defs.resolve_implicit_global_asset_job_def()
        with dg.DagsterInstance.from_config(str(home.settings.dagster)) as instance:

            def launch(*assets: str, check: dg.AssetCheckKey | None = None) -> dg.ExecuteInProcessResult:
                part = job.get_subset(
                    asset_selection={dg.AssetKey(name.split("/")) for name in assets},
                    asset_check_selection=None if check is None else {check},
                )
                quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
                return part.execute_in_process(instance=instance, run_config=quiet, raise_on_error=False)

            yield defs, launch


def held_back(defs: dg.Definitions) -> set[str]:
    """Return the assets that require the checks of their inputs; fail where one outside the warehouse does not."""
    held = set()
    for asset in defs.assets or ():
        assert isinstance(asset, dg.AssetsDefinition)
        names = {spec.key.to_user_string() for spec in asset.specs}
        if "upstream_checks" in asset.required_resource_keys:
            held |= names
            conditions = {spec.automation_condition for spec in asset.specs}
            assert conditions == {ON_SETTLED_CHANGE}
        else:
            # What removes people who asked to be forgotten is held up by no check.
            outside = {spec.group_name for spec in asset.specs} & {"features", "recommender", "serving"}
            assert not outside or names == {"erasures"}
    return held


def said_of_failure(run: dg.ExecuteInProcessResult) -> str:
    """Why the steps or the checks of a run failed, as the UI shows it."""
    steps = [event.step_failure_data for event in run.all_events if event.is_step_failure]
    described = [str(one.user_failure_data.description) for one in steps if one.user_failure_data is not None]
    checks = [
        f"{check.asset_key.to_user_string()}: {check.check_name} {check.metadata}"
        for check in run.get_asset_check_evaluations()
        if not check.passed
    ]
    return "; ".join([*described, *checks])


def test_each_asset_that_leaves_the_warehouse_refuses_data_that_failed(graph_home: GraphHome, first_run: Run) -> None:
    assert first_run.status == 0
    settings = graph_home.settings
    before = [path.read_bytes() for path in (settings.published, settings.serving_pointer)]
    with duckdb.connect(str(settings.warehouse)) as con:
        con.execute("UPDATE raw.ml_ratings SET rating = 7 WHERE userId = 1")
    expectations = dg.AssetCheckKey(dg.AssetKey(["raw", "ml_ratings"]), "expectations")
    with launched_by_hand(graph_home) as (defs, launch):
        assert held_back(defs) == set(LEAVING)
        assert not launch(check=expectations).success
        said = {name: said_of_failure(launch(name)) for name in LEAVING}
    silent = [name for name, why in said.items() if "raw/ml_ratings: its check expectations failed" not in why]
    assert silent == []
    assert [path.read_bytes() for path in (settings.published, settings.serving_pointer)] == before

    mended = graph_home.run("--no-recommend")
    assert {"raw/ml_ratings", "gate"} <= rebuilt(mended)
    assert "its check expectations failed" in mended.story


def test_broken_input_stops_with_one_message_and_leaves_what_was_published(
    graph_home: GraphHome, first_run: Run, tmp_path: Path
) -> None:
    assert first_run.status == 0
    settings = graph_home.settings
    before = (settings.published.parent / "manifest.json").read_text()
    basics = graph_home.mirror / "imdb" / "title.basics.tsv.gz"
    kept = shutil.copy(basics, tmp_path)
    basics.write_bytes(basics.read_bytes()[:-200])
    try:
        failed = graph_home.run("--no-recommend")
    finally:
        shutil.copy2(kept, basics)
    assert failed.status == 1
    assert "title.basics.tsv.gz" in failed.story
    assert "Traceback" not in failed.story
    assert (settings.published.parent / "manifest.json").read_text() == before
    [(titles,)] = warehouse(graph_home, "SELECT count(*) FROM raw.imdb_title_basics")
    assert isinstance(titles, int)
    assert titles > 0


def test_a_wrong_setting_is_refused_before_anything_is_touched(graph_home: GraphHome, first_run: Run) -> None:
    assert first_run.status == 0
    refused = graph_home.run(MARQUEE_MOVIELENS="ml-7m")
    assert refused.status == 2
    assert "ml-7m" in refused.story
    assert "ml-100k" in refused.story
    assert json.loads((graph_home.folder / "home.json").read_text())["edition"] == "ml-latest-small"


def test_an_edition_that_is_not_there_leaves_the_old_one_served(
    graph_home: GraphHome, first_run: Run, tmp_path: Path
) -> None:
    assert first_run.status == 0
    pointer = graph_home.settings.serving_pointer.read_text()
    failed = graph_home.run(
        "--no-recommend",
        MARQUEE_MOVIELENS="ml-100k",
        MARQUEE_RAW_DIR=str(tmp_path / "empty"),
        MARQUEE_IMDB_DIR=str(graph_home.mirror / "imdb"),
        MARQUEE_MOVIELENS_URL="http://127.0.0.1:9/datasets",
    )
    assert failed.status != 0
    assert "http://127.0.0.1:9/datasets/ml-100k.zip" in failed.story
    assert "MARQUEE_RAW_DIR" in failed.story
    assert graph_home.settings.serving_pointer.read_text() == pointer
    assert Settings(home=graph_home.folder).published.exists()

"""What came through the API reaches tables, features and the model at the next run; who left is gone by it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import duckdb
import polars as pl
import pytest

from bento.store import users as people
from bento.store.database import Store
from bento.store.served_lists import AnswerRow, keep_answers, subjects_of
from bento.store.tables import FIRST_APP_USER_ID
from bento.store.users import Who
from models.serving.bundle import load_bundle, read_pointer
from orchestration.defs.automation import app_has_written
from settings import Settings
from tests.graph.conftest import GraphHome, make_graph_home

NOW = datetime(2030, 5, 1, 12, 0, tzinfo=UTC)
# The first id is the documentation's example, and so in every bento.
FIRST, LEAVER, STAYER = FIRST_APP_USER_ID + 1, FIRST_APP_USER_ID + 2, FIRST_APP_USER_ID + 3
#: Of the edition: one asks to be forgotten before the first run, one rates in the app, one leaves after it.
NEVER, RATER, LATE = 5, 6, 7
NAME = "Quetzalcoatlus"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> GraphHome:
    return make_graph_home(tmp_path_factory.mktemp("app"))


def _rows(file: Path, query: str) -> list[tuple[object, ...]]:
    with duckdb.connect(str(file), read_only=True) as con:
        return con.execute(query).fetchall()


def _films(home: GraphHome) -> list[tuple[int, int]]:
    """Return up to 30 rated movies as (movie_key, movie_id), in order of movie_key."""
    query = "SELECT movie_key, movie_id FROM marts.dim_movies WHERE rating_count > 0 ORDER BY 1 LIMIT 30"
    return [(int(str(key)), int(str(movie))) for key, movie in _rows(home.settings.warehouse, query)]


def _sensed(settings: Settings, cursor: str | None) -> tuple[object, str | None]:
    with dg.build_sensor_context(cursor=cursor, resources={"settings": settings}) as context:
        return app_has_written(context), context.cursor


def test_the_store_is_read_and_people_who_leave_are_gone_everywhere_by_the_next_run(home: GraphHome) -> None:
    settings = home.settings
    first = home.run("--no-recommend")
    assert first.status == 0, first.story
    # No store is nobody, and none is made by looking.
    assert not (settings.home / "app" / "store.db").exists()
    assert isinstance(_sensed(settings, None)[0], dg.SkipReason)
    before = dict(_rows(settings.warehouse, "SELECT user_id, user_key FROM marts.dim_users"))
    films = _films(home)

    store = Store(settings.app_store)
    with store.writing() as session:
        for name, count in (("First", 0), (NAME, 20), ("Stayer", 10)):
            user = people.create_user(session, name, NOW)
            for key, movie in films[:count]:
                people.rate(
                    session, user, movie_key=key, edition=settings.movielens, movie_id=movie, rating=4.5,
                    rated_at=NOW, now=NOW,
                )  # fmt: skip
        rater = people.adopt_user(session, Who(settings.movielens, RATER), NOW)
        key, movie = films[0]
        people.rate(
            session, rater, movie_key=key, edition=settings.movielens, movie_id=movie, rating=0.5, rated_at=NOW, now=NOW
        )
        people.forget_user(session, Who(settings.movielens, NEVER), NOW)
        served = [Who.of(user, settings.movielens).pair for user in (LEAVER, STAYER, LATE)]
        keep_answers(session, [_served(name, films[0][0]) for name in served])
        names = subjects_of(session, served)
        subjects = [names[name] for name in served]
        of_stayer, of_late = subjects[1:]
    few = settings.model_copy(update={"retrain_after": 31})
    wanted, cursor = _sensed(few, None)
    assert isinstance(wanted, dg.RunRequest)
    assert isinstance(_sensed(few, cursor)[0], dg.SkipReason)
    assert isinstance(_sensed(settings.model_copy(update={"retrain_after": 32}), "0-1")[0], dg.SkipReason)

    second = home.run("--no-recommend")
    assert second.status == 0, second.story
    warehouse = settings.warehouse
    counts = dict(_rows(warehouse, f"SELECT user_id, rating_count FROM marts.dim_users WHERE user_id >= {LEAVER}"))
    assert counts == {LEAVER: 20, STAYER: 10}
    told = f"""
        SELECT rating, times_rated FROM marts.fct_ratings JOIN marts.dim_users USING (user_key)
        WHERE user_id = {RATER} AND movie_key = {films[0][0]}
    """
    [(rating, times)] = _rows(warehouse, told)
    assert float(str(rating)) == 0.5
    assert times in (1, 2)
    keys = dict(_rows(warehouse, "SELECT user_id, user_key FROM marts.dim_users"))
    assert {user: key for user, key in keys.items() if user in before} == {
        user: key for user, key in before.items() if user != NEVER
    }
    assert set(keys) - set(before) == {FIRST, LEAVER, STAYER}
    features = pl.read_parquet(settings.features / "user_features.parquet")["user_key"]
    assert {keys[LEAVER], keys[STAYER]} <= set(features)
    assert before[NEVER] not in set(features)
    bundle = load_bundle(settings.models / read_pointer(settings.serving_pointer))
    assert {LEAVER, STAYER, RATER} <= set(bundle.user_index)
    assert NEVER not in bundle.user_index
    assert _events(warehouse) == 35
    # Both of the app rated the film at the moment of its serving, the third never did.
    told = "SELECT count(*), count(DISTINCT subject), sum(is_rated::INTEGER) FROM marts.served_feedback"
    assert _rows(settings.published, told) == [(3, 3, 2)]
    assert _rows(settings.published, "SELECT sum(answer_count)::INTEGER FROM marts.served_traffic") == [(3,)]
    assert [bool(_found(settings.home, subject.encode())) for subject in subjects] == [True] * 3

    with store.writing() as session:
        people.forget_user(session, Who.of(LEAVER, settings.movielens), NOW)
        people.forget_user(session, Who(settings.movielens, LATE), NOW)
    store.forget_traces()
    store.close()
    assert isinstance(_sensed(settings, cursor)[0], dg.RunRequest)
    third = home.run("--no-recommend")
    assert third.status == 0, third.story
    after = dict(_rows(warehouse, "SELECT user_id, user_key FROM marts.dim_users"))
    # The keys of the others stay as they were, and nobody gets a key that somebody had.
    assert after == {user: key for user, key in keys.items() if user not in (LEAVER, LATE)}
    rated = {user for (user,) in _rows(warehouse, 'SELECT DISTINCT "userId" FROM raw.ml_ratings')}
    assert not rated & {NEVER, LATE}
    for folder in settings.models.glob("*/bundle.json"):
        assert not {LEAVER, NEVER, LATE} & set(load_bundle(folder.parent).user_index)
    gone = {keys[LEAVER], keys[LATE], before[NEVER]}
    for file in settings.features.rglob("*.parquet"):
        frame = pl.read_parquet(file)
        if "user_key" in frame.columns:
            assert not gone & set(frame["user_key"]), file
    for mart in ("recommendations", "user_segments", "user_habits", "user_taste"):
        for file in (settings.warehouse, settings.published):
            there = {user for (user,) in _rows(file, f"SELECT DISTINCT user_key FROM marts.{mart}")}
            assert keys[STAYER] in there, (mart, file)
            assert not gone & there, (mart, file)
    assert _rows(settings.published, "SELECT subject FROM marts.served_feedback") == [(of_stayer,)]
    assert _found(settings.home, of_late.encode()) == []
    assert _found(settings.home, NAME.encode()) == []
    assert _found(settings.home, str(LEAVER).encode()) == []
    assert _values(settings.home, LEAVER) == {"store.db: suppressed.source_id"}


def _served(name: tuple[str, int], movie_key: int) -> AnswerRow:
    """Return a served list of one movie, answered at the moment of the ratings."""
    return AnswerRow(
        name,
        {
            "answered_at": NOW, "request_id": "r", "route": "recommend", "model_version": "v", "data_snapshot": "{}",
            "latency_ms": 1.0, "movie_keys": f"[{movie_key}]", "scores": "[1.0]",
        },
    )  # fmt: skip


def _events(warehouse: Path) -> int:
    [(count,)] = _rows(warehouse, "SELECT count(*) FROM staging.stg_app__events")
    return int(str(count))


def _found(folder: Path, text: bytes) -> list[Path]:
    """Files that hold a text, free blocks and compressed logs aside none."""
    return [path for path in folder.rglob("*") if path.is_file() and text in path.read_bytes()]


def _values(folder: Path, number: int) -> set[str]:
    """Where a number stands in any database or Parquet file below a folder: `file: table.column`."""
    places = set()
    for path in folder.rglob("*"):
        if path.suffix == ".duckdb":
            with duckdb.connect(str(path), read_only=True) as con:
                columns = con.execute(
                    "SELECT table_schema || '.' || table_name, column_name FROM information_schema.columns"
                    " WHERE data_type IN ('INTEGER', 'BIGINT', 'VARCHAR')"
                ).fetchall()
                for table, column in columns:
                    query = f'SELECT count(*) FROM {table} WHERE "{column}"::VARCHAR = ?'
                    if con.execute(query, [str(number)]).fetchall() != [(0,)]:
                        places.add(f"{path.name}: {table}.{column}")
        elif path.suffix == ".parquet":
            frame = pl.read_parquet(path)
            for column in frame.select(pl.selectors.integer() | pl.selectors.string()).columns:
                if (frame[column].cast(pl.String) == str(number)).any():
                    places.add(f"{path.name}: {column}")
        # Feast's registry is called a .db and is none: `_found` has read it.
        elif path.suffix == ".db" and path.read_bytes().startswith(b"SQLite format 3"):
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as con:
                for (table,) in con.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                    for column in [row[1] for row in con.execute(f'PRAGMA table_info("{table}")').fetchall()]:
                        query = f'SELECT count(*) FROM "{table}" WHERE CAST("{column}" AS TEXT) = ?'
                        if con.execute(query, [str(number)]).fetchone() != (0,):
                            places.add(f"{path.name}: {table}.{column}")
    return places

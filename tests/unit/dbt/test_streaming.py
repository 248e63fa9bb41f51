"""The streaming catalogues from their files to the questions asked of them, the real ones against polars."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from orchestration.ingestion.streaming import PLATFORMS, ingest_streaming
from orchestration.publishing.duckdb_copy import publish
from orchestration.storage.warehouse import connect
from settings import Settings
from tests.unit.dbt.warehouses import EDITION, Warehouse
from tests.unit.ingestion.catalogues import write_catalogues

REAL_DATA = Path(os.environ.get("MARQUEE_TEST_DATA", Path(__file__).resolve().parents[4] / "shared" / "data"))
#: What the questions need, with all that it is made of.
WANTED = ("+dim_streaming_titles", "bridge_title_cast", "bridge_title_country")


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    folder = tmp_path_factory.mktemp("streaming")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MARQUEE_WAREHOUSE", str(folder / "warehouse.duckdb"))
        patch.setenv("DBT_TARGET_PATH", str(folder / "target"))
        patch.setenv("DBT_LOG_PATH", str(folder / "logs"))
        yield Warehouse(folder)


def build(warehouse: Warehouse, folder: Path, movies: list[tuple[int, str]]) -> Settings:
    """Load a folder of catalogues beside a few films, build, publish; returns the settings of the published copy."""
    warehouse.reset()
    warehouse.insert("ml_movies", 'edition, "movieId", title', [(EDITION, *movie) for movie in movies])
    warehouse.add_ratings([(1, movie, 4.0, "2000-01-01T00:00:00") for movie, _ in movies])
    with duckdb.connect(warehouse.path) as con:
        ingest_streaming(con, folder)
    warehouse.dbt("run", "--select", *WANTED)
    settings = Settings(home=warehouse.path.parent, movielens=EDITION)
    with connect(settings) as con:
        publish(con, settings, comments={})
    return settings


def ask(settings: Settings, query: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(settings.published), read_only=True) as con:
        return con.execute(query).fetchall()


@pytest.fixture(scope="module")
def small(warehouse: Warehouse, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the answers on files made by hand."""
    folder = tmp_path_factory.mktemp("catalogues")
    write_catalogues(folder)
    settings = build(warehouse, folder, [(1, "Lantern Keeper, The (1999)"), (2, "Hush (2001)")])
    titles = "SELECT title_id, score, score_source, movie_key IS NOT NULL FROM marts.dim_streaming_titles ORDER BY 1"
    return {
        "titles": ask(settings, titles),
        "longest": ask(settings, "FROM marts.get_max_duration(year := 1999, type := 'MIN')"),
        "above": ask(settings, "FROM marts.get_score_count(score := 3.5)"),
        "platforms": ask(settings, "FROM marts.get_count_platform()"),
        "series": ask(settings, "FROM marts.get_count_platform(platform := 'Hulu', type := 'tv show')"),
        "actors": ask(settings, "FROM marts.get_actor(platform := 'netflix')"),
        "where": ask(settings, "SELECT platform, title_id FROM marts.where_to_watch('lantern KEEPER', year := 1999)"),
        "comments": ask(
            settings, "SELECT count(DISTINCT function_name) FROM duckdb_functions() WHERE contains(comment, 'marts.')"
        ),
        "ratings": ask(
            settings, "SELECT edition, rating, times_rated FROM marts.fct_ratings WHERE edition = 'streaming'"
        ),
    }


def test_titles_are_scored_by_their_users_and_matched_to_films(small: dict[str, Any]) -> None:
    found = [
        (title, None if score is None else float(score), source, known)
        for title, score, source, known in small["titles"]
    ]
    assert found == [
        ("as1", None, "none", True),
        ("ds1", None, "none", False),
        ("hs1", 2.0, "user_ratings", False),
        ("ns1", 4.25, "user_ratings", True),
        ("ns2", None, "none", True),
    ]


def test_the_questions_have_the_answers_of_a_count_by_hand(small: dict[str, Any]) -> None:
    assert small["longest"] == [
        (1999, "amazon", "min", 101, "the lantern keeper (extended edition)", "as1"),
        (1999, "netflix", "min", 95, "the lantern keeper", "ns1"),
    ]
    assert small["above"] == [("netflix", 1999, 1)]
    assert small["platforms"] == [("netflix", 2), ("amazon", 1), ("disney", 1), ("hulu", 1)]
    assert small["series"] == [("hulu", 1)]
    # Two actors of 1999 play in one title each: the first by name.
    assert small["actors"] == [("netflix", 2001, "cy dent", 1), ("netflix", 1999, "ann vale", 1)]
    assert small["where"] == [("netflix", "ns1"), ("amazon", "as1")]
    assert small["comments"] == [(5,)]


def test_ratings_of_a_title_that_is_a_film_are_ratings_of_the_film(small: dict[str, Any]) -> None:
    found = [(edition, float(rating), times) for edition, rating, times in small["ratings"]]
    assert sorted(found) == [("streaming", 4.0, 2), ("streaming", 4.5, 1)]


def _cleaned(text: str) -> pl.Expr:
    return (
        pl.col(text)
        .str.to_lowercase()
        .str.replace_all("[\ufffd\u200b\ufeff]", "")
        .str.replace_all(r"\s+", " ")
        .str.strip_chars()
    )


def _read(folder: Path) -> pl.DataFrame:
    """Read the catalogs by polars' own reader and with separate rules."""
    frames = [
        pl.read_csv(folder / platform.file, infer_schema=False, encoding="utf8").with_columns(
            platform=pl.lit(platform.name), title_id=pl.lit(platform.letter) + pl.col("show_id")
        )
        for platform in PLATFORMS
    ]
    length = r"^(\d+) (min|Season)s?$"
    duration = pl.coalesce("duration", pl.when(pl.col("rating").str.contains(length)).then("rating"))
    return pl.concat(frames).with_columns(
        year=pl.col("release_year").cast(pl.Int32),
        clean_title=_cleaned("title"),
        length=duration.str.extract(length, 1).cast(pl.Int32),
        unit=duration.str.extract(length, 2).str.to_lowercase(),
    )


@pytest.mark.real_data
def test_the_real_catalogues_are_whole_and_the_four_answers_are_those_of_polars(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    source = REAL_DATA / "streaming"
    if not source.is_dir():
        pytest.skip(f"no real files under {REAL_DATA}; MARQUEE_TEST_DATA names their folder")
    for platform in PLATFORMS:
        (tmp_path / platform.file).symlink_to(source / platform.file)
    titles = _read(tmp_path)
    assert titles.height == 22_998
    # Nobody's ratings are published with the catalogues: these are drawn.
    drawn = titles.select("title_id").sample(4_000, with_replacement=True, seed=5)
    ratings = drawn.select(
        userId=pl.int_range(1, pl.len() + 1),
        rating=(pl.int_range(pl.len()) * 7 % 10 + 1) / 2,
        timestamp=pl.lit(1_500_000_000) + pl.int_range(pl.len()),
        movieId="title_id",
    )
    (tmp_path / "ratings").mkdir()
    ratings.write_csv(tmp_path / "ratings" / "1.csv")
    settings = build(warehouse, tmp_path, [(1, "Knight and Day (2010)")])
    [(kept,)] = ask(settings, "SELECT count(*) FROM marts.dim_streaming_titles")
    [aside] = warehouse.read("SELECT count(*) AS rows FROM raw.quarantine WHERE table_name LIKE 'streaming%titles'")
    assert kept + aside["rows"] == 22_998

    longest = (
        titles.filter(pl.col("length").is_not_null())
        .sort(["length", "clean_title", "title_id"], descending=[True, False, False])
        .group_by("year", "platform", "unit", maintain_order=True)
        .first()
    )
    assert sorted(ask(settings, "FROM marts.get_max_duration()")) == sorted(
        longest.select("year", "platform", "unit", "length", "clean_title", "title_id").rows()
    )
    assert sorted(ask(settings, "FROM marts.get_count_platform()")) == sorted(titles.group_by("platform").len().rows())
    scores = ratings.group_by("movieId").agg(pl.col("rating").mean())
    above = (
        titles.join(scores, left_on="title_id", right_on="movieId", suffix="_mean")
        .filter(pl.col("rating_mean") > 3.5)
        .group_by("platform", "year")
        .len()
    )
    assert sorted(ask(settings, "FROM marts.get_score_count(score := 3.5)")) == sorted(above.rows())
    actors = (
        titles.select("platform", "year", "title_id", pl.col("cast").str.split(","))
        .explode("cast")
        .with_columns(actor=_cleaned("cast"))
        .filter(pl.col("actor") != "")
        .unique(["title_id", "actor"])
        .group_by("platform", "year", "actor")
        .len()
        .sort(["len", "actor"], descending=[True, False])
        .group_by("platform", "year", maintain_order=True)
        .first()
    )
    assert sorted(ask(settings, "FROM marts.get_actor()")) == sorted(actors.rows())

    rules = dict(
        ask(
            settings,
            "SELECT rule, count(*) FROM (SELECT unnest(rules) AS rule FROM marts.dim_streaming_titles) GROUP BY rule",
        )
    )
    slipped = titles.filter(pl.col("rating").str.contains(r"^\d+ (min|Seasons?)$"))
    assert rules["duration moved from rating"] == slipped.filter(pl.col("duration").is_null()).height
    assert rules["empty rating became g"] == titles["rating"].null_count()
    assert rules["lost character taken out"] == 3
    assert rules["date made iso"] == titles["date_added"].is_not_null().sum()

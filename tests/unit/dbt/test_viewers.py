"""The marts of films, people and viewers on the sample, each against a computation in polars that knows no SQL of ours.

What polars starts from are the plainest tables: who rated which film when, the films' genres, and who did what in them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import duckdb
import polars as pl
import pytest

from orchestration.ingestion.imdb import ingest_imdb
from orchestration.ingestion.movielens import ingest_movielens
from orchestration.ingestion.source_resolver import EditionFiles
from orchestration.storage.warehouse import open_database, tables_of
from orchestration.synthetic.sample import SampleSpec, write_sample
from orchestration.visualization import charts
from orchestration.visualization.mart_charts import PLOTS
from settings import IMDB_DUMPS, Settings
from tests.unit.dbt.warehouses import Warehouse

STAYING_DAYS, FIRST_FILMS, PRIOR_RATINGS = 30, 5, 25


@pytest.fixture(scope="module")
def con(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a connection to a warehouse with all marts that dbt builds of a small sample without streaming catalogs."""
    folder = tmp_path_factory.mktemp("viewers")
    write_sample(folder / "files", SampleSpec(users=150, movies=250, ratings=9_000, broken=False))
    settings = Settings(home=folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MARQUEE_WAREHOUSE", str(folder / "warehouse.duckdb"))
        patch.setenv("DBT_TARGET_PATH", str(folder / "target"))
        patch.setenv("DBT_LOG_PATH", str(folder / "logs"))
        warehouse = Warehouse(folder)
        warehouse.reset()
        con = open_database(settings, warehouse.path)
        ingest_movielens(con, EditionFiles("sample", folder / "files" / "sample", "generated"))
        for dump in IMDB_DUMPS:
            ingest_imdb(con, dump, folder / "files" / "imdb" / f"{dump}.tsv.gz")
        con.close()
        warehouse.dbt("build", "--exclude-resource-type", "unit_test")
        con = open_database(settings, warehouse.path)
        yield con
        con.close()


@pytest.fixture(scope="module")
def sample(con: duckdb.DuckDBPyConnection) -> dict[str, pl.DataFrame]:
    """Every mart, by name."""
    return {name: con.sql(f"FROM marts.{name}").pl() for name in tables_of(con, "marts")}


@pytest.fixture(scope="module")
def ratings(sample: dict[str, pl.DataFrame]) -> pl.DataFrame:
    return sample["fct_ratings"].with_columns(pl.col("rating").cast(pl.Float64))


@pytest.fixture(scope="module")
def starts(ratings: pl.DataFrame) -> pl.DataFrame:
    """user_key, first, last, and stayed: True, False, or None for who came too late."""
    end = ratings["rated_at"].max()
    return (
        ratings.group_by("user_key")
        .agg(first=pl.col("rated_at").min(), last=pl.col("rated_at").max())
        .with_columns(
            stayed=pl.when((pl.col("last") - pl.col("first")).dt.total_seconds() >= STAYING_DAYS * 86_400)
            .then(True)
            .when((pl.lit(end) - pl.col("first")).dt.total_seconds() >= STAYING_DAYS * 86_400)
            .then(False)
        )
    )


def same(found: pl.DataFrame, wanted: pl.DataFrame, keys: list[str], within: float = 2e-6) -> None:
    """Both hold the same rows, numbers as near as the mart rounds them."""
    assert found.height == wanted.height > 0
    columns = [name for name in wanted.columns if name not in keys]
    both = found.join(wanted, on=keys, how="inner", suffix="_wanted", nulls_equal=True)
    assert both.height == found.height
    for name in columns:
        ours, theirs = both[name], both[f"{name}_wanted"]
        if ours.dtype.is_numeric():
            assert ours.is_null().equals(theirs.is_null()), name
            assert (ours.cast(pl.Float64) - theirs.cast(pl.Float64)).abs().max() <= within, name
        else:
            assert ours.eq_missing(theirs).all(), name


@pytest.mark.parametrize("mart", PLOTS)
def test_each_mart_has_a_picture_and_that_of_a_table_with_rows_can_be_drawn(
    con: duckdb.DuckDBPyConnection, sample: dict[str, pl.DataFrame], mart: str
) -> None:
    frames = {name: con.sql(query).pl() for name, (query, _) in PLOTS[mart].items()}
    assert all(frame.is_empty() for frame in frames.values()) == sample[mart].is_empty()
    for name, frame in frames.items():
        if not frame.is_empty():
            assert len(charts.png_markdown(PLOTS[mart][name][1](frame))) > 2_000


def test_the_bayesian_rating_is_that_of_polars(sample: dict[str, pl.DataFrame], ratings: pl.DataFrame) -> None:
    prior = ratings["rating"].mean()
    wanted = (
        ratings.group_by("movie_key")
        .agg(v=pl.len(), r=pl.col("rating").mean())
        .select(
            "movie_key",
            bayesian_rating=(pl.col("v") * pl.col("r") + PRIOR_RATINGS * prior) / (pl.col("v") + PRIOR_RATINGS),
        )
    )
    films = sample["dim_movies"]
    same(
        films.filter(pl.col("rating_count") > 0).select("movie_key", "bayesian_rating"), wanted, ["movie_key"],
        within=6e-4,
    )  # fmt: skip
    assert films.filter(pl.col("rating_count") == 0)["bayesian_rating"].null_count() > 0
    # The order is another one than that of the mean, which is what it is for.
    known = films.filter(pl.col("rating_count") > 0)
    assert known.sort("bayesian_rating")["movie_key"][-1] != known.sort("rating_mean", "rating_count")["movie_key"][0]


def test_runtime_bands_hold_their_minutes(sample: dict[str, pl.DataFrame]) -> None:
    films = sample["dim_movies"].filter(pl.col("runtime_minutes").is_not_null())
    bands = films.group_by("runtime_band").agg(
        low=pl.col("runtime_minutes").min(), high=pl.col("runtime_minutes").max()
    )
    ordered = bands.sort("low").rows()
    assert len(ordered) >= 3
    assert all(before[2] < after[1] for before, after in pairwise(ordered))
    said = {"under 40 min": (0, 39), "40 to 89 min": (40, 89), "90 to 119 min": (90, 119), "120 to 149 min": (120, 149)}
    for band, low, high in ordered:
        least, most = said.get(band, (150, 10**6))
        assert least <= low <= high <= most, band


def test_careers_are_those_of_polars(sample: dict[str, pl.DataFrame]) -> None:
    credits = sample["fct_credits"].select("nconst", "movie_key", "category")
    films = sample["dim_movies"].select("movie_key", "year", pl.col("bayesian_rating").cast(pl.Float64))
    made = credits.select("nconst", "movie_key").unique().join(films, on="movie_key")

    def counted(name: str, chosen: pl.Expr) -> pl.DataFrame:
        return credits.filter(chosen).group_by("nconst").agg(pl.col("movie_key").n_unique().cast(pl.Int32).alias(name))

    wanted = made.group_by("nconst").agg(
        movie_count=pl.len().cast(pl.Int32),
        first_year=pl.col("year").min(),
        last_year=pl.col("year").max(),
        rated_movie_count=pl.col("bayesian_rating").count().cast(pl.Int32),
        rating_mean=pl.col("bayesian_rating").mean(),
    )
    known = ["director", "writer", "actor", "actress"]
    for name, chosen in {
        "directed_count": pl.col("category") == "director",
        "written_count": pl.col("category") == "writer",
        "acted_count": pl.col("category").is_in(["actor", "actress"]),
        "other_count": ~pl.col("category").is_in(known),
    }.items():
        wanted = wanted.join(counted(name, chosen), on="nconst", how="left").with_columns(pl.col(name).fill_null(0))
    same(sample["dim_people"].select(wanted.columns), wanted, ["nconst"], within=6e-4)
    assert (wanted["movie_count"] > 1).sum() > 20


def test_taste_is_that_of_polars(sample: dict[str, pl.DataFrame], ratings: pl.DataFrame) -> None:
    films = sample["dim_movies"]
    genre = films.select("movie_key", label="genres").explode("label").drop_nulls()
    decade = films.select("movie_key", label=pl.col("decade").cast(pl.String)).drop_nulls()
    parts = []
    for name, labels in (("genre", genre), ("decade", decade)):
        seen = ratings.join(labels.select("movie_key").unique(), on="movie_key", how="semi")
        mine = seen.group_by("user_key").agg(all_mine=pl.len())
        told = seen.join(labels, on="movie_key")
        base = told.group_by("label").agg(base_share=pl.len() / seen.height)
        parts.append(
            told.group_by("user_key", "label")
            .agg(rating_count=pl.len().cast(pl.Int32))
            .join(mine, on="user_key")
            .join(base, on="label")
            .select(
                "user_key",
                "label",
                "rating_count",
                "base_share",
                dimension=pl.lit(name),
                share=pl.col("rating_count") / pl.col("all_mine"),
                lift=pl.col("rating_count") / pl.col("all_mine") / pl.col("base_share"),
            )
        )
    wanted = pl.concat(parts)
    same(sample["user_taste"].select(wanted.columns), wanted, ["user_key", "dimension", "label"], within=1e-4)
    assert (wanted["lift"] > 1.5).sum() > 50


def test_entry_points_are_those_of_polars(
    sample: dict[str, pl.DataFrame], ratings: pl.DataFrame, starts: pl.DataFrame
) -> None:
    decided = starts.drop_nulls("stayed")
    firsts = (
        ratings.join(decided, on="user_key")
        .sort("user_key", "rated_at", "movie_key")
        .group_by("user_key", maintain_order=True)
        .head(FIRST_FILMS)
    )
    wanted = firsts.group_by("movie_key").agg(
        newcomers=pl.len().cast(pl.Int32),
        stayed=pl.col("stayed").sum().cast(pl.Int32),
        stay_rate=pl.col("stayed").mean(),
    )
    found = sample["entry_points"]
    same(found.select(wanted.columns), wanted, ["movie_key"])
    assert found["base_rate"].unique().to_list() == [pytest.approx(decided["stayed"].mean(), abs=1e-6)]
    assert 0 < decided["stayed"].mean() < 1


def test_effect_sizes_are_those_of_polars(
    sample: dict[str, pl.DataFrame], ratings: pl.DataFrame, starts: pl.DataFrame
) -> None:
    day = ratings.join(starts.drop_nulls("stayed"), on="user_key").filter(
        (pl.col("rated_at") - pl.col("first")).dt.total_seconds() < 86_400
    )
    films = sample["dim_movies"].select("movie_key", "genres", "year", film_ratings="rating_count")
    users = (
        day.join(films, on="movie_key")
        .group_by("user_key", "stayed")
        .agg(
            rating_count=pl.len().cast(pl.Float64),
            rating_mean=pl.col("rating").mean(),
            rating_stddev=pl.col("rating").std(ddof=0),
            positive_share=(pl.col("rating") >= 4).mean(),
            release_year=pl.col("year").mean(),
            film_rating_count=pl.col("film_ratings").mean(),
            genre_share_drama=pl.col("genres").list.contains("Drama").mean(),
            genre_share_sci_fi=pl.col("genres").list.contains("Sci-Fi").mean(),
        )
    )
    found: dict[str, dict[str, Any]] = {row["measure"]: row for row in sample["loyal_vs_new"].iter_rows(named=True)}
    assert len(found) == 24
    for measure in users.columns[2:]:
        loyal = users.filter("stayed")[measure].drop_nulls()
        new = users.filter(~pl.col("stayed"))[measure].drop_nulls()
        n, m = len(loyal), len(new)
        assert min(n, m) > 5
        pooled = math.sqrt(((n - 1) * loyal.var() + (m - 1) * new.var()) / (n + m - 2))  # type: ignore[operator]
        d = (loyal.mean() - new.mean()) / pooled  # type: ignore[operator]
        row = found[measure]
        assert (row["loyal_users"], row["new_users"]) == (n, m)
        assert row["loyal_mean"] == pytest.approx(loyal.mean(), abs=1e-5)
        assert row["pooled_stddev"] == pytest.approx(pooled, abs=1e-4)
        assert row["cohens_d"] == pytest.approx(d, abs=2e-4), measure
        half = 1.96 * math.sqrt((n + m) / (n * m) + d * d / (2 * (n + m)))
        assert row["cohens_d_high"] == pytest.approx(d + half, abs=3e-4)


def test_habits_which_segments_are_made_of_are_those_of_polars(
    sample: dict[str, pl.DataFrame], ratings: pl.DataFrame, starts: pl.DataFrame
) -> None:
    end = ratings["rated_at"].max()
    films = sample["dim_movies"].select("movie_key", "genres", "year", film_ratings="rating_count")
    wanted = (
        ratings.join(films, on="movie_key")
        .group_by("user_key")
        .agg(
            rating_count=pl.len().cast(pl.Int32),
            active_days=pl.col("rated_at").dt.date().n_unique().cast(pl.Int32),
            days_since_last=(pl.lit(end).dt.date() - pl.col("rated_at").max().dt.date()).dt.total_days().cast(pl.Int32),
            tenure_days=(pl.col("rated_at").max().dt.date() - pl.col("rated_at").min().dt.date())
            .dt.total_days()
            .cast(pl.Int32),
            rating_mean=pl.col("rating").mean(),
            positive_share=(pl.col("rating") >= 4).mean(),
            mean_release_year=pl.col("year").mean(),
            film_rating_count=pl.col("film_ratings").mean(),
            genre_share_horror=pl.col("genres").list.contains("Horror").mean(),
            genre_share_film_noir=pl.col("genres").list.contains("Film-Noir").mean(),
        )
    )
    same(sample["user_habits"].select(wanted.columns), wanted, ["user_key"])
    taste = sample["user_taste"].filter(pl.col("dimension") == "genre")
    favourites = (
        taste.with_columns(above=pl.col("share") - pl.col("base_share"))
        .sort("user_key", pl.col("above"), pl.col("label"), descending=[False, True, False])
        .group_by("user_key", maintain_order=True)
        .first()
        .select("user_key", favourite_genre="label")
    )
    same(sample["user_habits"].select("user_key", "favourite_genre"), favourites, ["user_key"])

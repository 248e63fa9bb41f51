"""Twenty and more questions to the published copy, whose answers on the embedded sample lie beside their SQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import duckdb
import polars as pl
import pytest

from orchestration.questions.analyses import Analysis, analyses, answer, answer_file
from orchestration.questions.metrics import metrics
from settings import Settings
from tests.unit.publication.sample import publish_sample


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return publish_sample(tmp_path_factory.mktemp("sample"))


@pytest.fixture(scope="module")
def con(settings: Settings) -> Iterator[duckdb.DuckDBPyConnection]:
    with closing(duckdb.connect(str(settings.published), read_only=True)) as opened:
        yield opened


def test_there_are_at_least_twenty_questions_each_with_its_answer() -> None:
    assert len(analyses()) >= 20
    assert {answer_file(analysis).name for analysis in analyses()} == {
        path.name for path in answer_file(analyses()[0]).parent.iterdir()
    }
    assert all(analysis.question.endswith("?") for analysis in analyses())


@pytest.mark.parametrize("analysis", analyses(), ids=lambda analysis: analysis.name)
def test_an_answer_is_what_the_published_copy_says(con: duckdb.DuckDBPyConnection, analysis: Analysis) -> None:
    found = answer(con, analysis)
    assert found == answer_file(analysis).read_text(encoding="utf-8"), (
        "`make run` on the sample, then `python -m orchestration.questions.analyses --write-answers`"
    )
    assert len(found.splitlines()) > 7, "an answer has more than one row"


def test_every_question_is_a_view_that_answers_the_same(con: duckdb.DuckDBPyConnection) -> None:
    for analysis in analyses():
        rows = con.execute(f"FROM questions.{analysis.name}").fetchall()
        assert rows == con.execute(analysis.sql).fetchall()


def test_the_retention_of_newcomers_is_that_of_polars(settings: Settings, con: duckdb.DuckDBPyConnection) -> None:
    """One answer from the ratings up, in other words: who rated in the n-th month after his first."""
    ratings = pl.scan_parquet(settings.published.parent / "parquet" / "fct_ratings").collect()
    number = (pl.col("rated_at").dt.year() * 12 + pl.col("rated_at").dt.month()).cast(pl.Int32)
    ratings = ratings.filter(pl.col("edition") != "streaming").with_columns(number=number)
    active = ratings.select("user_key", "number").unique()
    active = active.with_columns(first=pl.col("number").min().over("user_key"))
    last = int(str(active["number"].max()))
    for since, cohorts, newcomers, back, share in con.execute("FROM questions.retention_by_month").fetchall():
        users = active.filter(pl.col("first") + since <= last)
        assert (cohorts, newcomers) == (users["first"].n_unique(), users["user_key"].n_unique())
        assert back == users.filter(pl.col("number") == pl.col("first") + since)["user_key"].n_unique()
        assert share == pytest.approx(back / newcomers, abs=1e-4)


def test_the_metrics_are_those_of_polars(settings: Settings, con: duckdb.DuckDBPyConnection) -> None:
    folder = settings.published.parent / "parquet"
    ratings = pl.scan_parquet(folder / "fct_ratings").collect().filter(pl.col("edition") != "streaming")
    month_of = pl.col("rated_at").dt.truncate("1mo").dt.date()
    ratings = ratings.with_columns(month=month_of, stars=pl.col("rating").cast(pl.Float64))
    movies = pl.read_parquet(folder / "dim_movies.parquet").filter("in_movielens")
    sessions = pl.read_parquet(folder / "fct_user_sessions.parquet")
    found = {
        (name, month): float(value)
        for name, month, value in con.execute("SELECT metric, month, value FROM marts.metrics").fetchall()
    }
    wanted: dict[tuple[str, object], float] = {
        ("catalogue_films", None): movies.height,
        ("coverage", None): ratings["movie_key"].n_unique() / movies.height,
        ("ratings_per_session", None): float(str(sessions["rating_count"].mean())),
    }
    groups = [(None, ratings), *((month, part) for (month,), part in ratings.group_by("month"))]
    firsts = ratings.group_by("user_key").agg(pl.col("month").min().alias("first"))
    last = ratings["month"].max()
    for month, part in groups:
        users = part["user_key"].n_unique()
        wanted |= {
            ("active_users", month): users,
            ("ratings", month): part.height,
            ("ratings_per_active_user", month): part.height / users,
            ("average_rating", month): float(str(part["stars"].mean())),
            ("positive_share", month): float(str((part["stars"] >= 4).mean())),
            ("rated_films", month): part["movie_key"].n_unique(),
        }
        new = firsts if month is None else firsts.filter(pl.col("first") == month)
        if new.height:
            wanted["new_users", month] = new.height
        judged = new.filter(pl.col("first") < last)
        if judged.height:
            back = judged.with_columns(month=pl.col("first").dt.offset_by("1mo")).join(
                ratings, on=["user_key", "month"], how="semi"
            )
            wanted["retention", month] = back.height / judged.height
    monthly = {key: value for key, value in found.items() if key[0] != "ratings_per_session" or key[1] is None}
    assert set(monthly) == set(wanted)
    assert all(monthly[key] == pytest.approx(value, abs=1e-6) for key, value in wanted.items())
    assert {name for name, _ in found} == {metric.name for metric in metrics()}
    assert {name for name, month in found if month is not None} == {
        metric.name for metric in metrics() if metric.monthly
    }
    assert len(metrics()) >= 10

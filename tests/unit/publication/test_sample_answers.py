"""Twenty and more questions to the published copy, whose answers on the embedded sample lie beside their SQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import duckdb
import polars as pl
import pytest

from orchestration.questions.analyses import Analysis, analyses, answer, answer_file
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

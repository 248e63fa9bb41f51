"""The published copy of the sample: answers that lie beside their SQL, the metrics, and the report in a browser."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import duckdb
import polars as pl
import pytest

from orchestration.publishing.manifest import copy_of, read_manifest
from orchestration.queries.analyses import Analysis, analyses, answer, answer_file
from orchestration.queries.metrics import metrics
from orchestration.visualization.__main__ import main
from orchestration.visualization.html_report import report
from orchestration.visualization.report_charts import PLOTS
from settings import Settings
from tests.unit.publishing.browsing import DRAWN, browser
from tests.unit.publishing.sample import publish_sample
from tests.unit.publishing.writers import write


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
        "`make run` on the sample, then `python -m orchestration.queries.analyses --write-answers`"
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


@pytest.fixture(scope="module")
def page(settings: Settings, con: duckdb.DuckDBPyConnection) -> str:
    publication = read_manifest(settings)
    assert publication is not None
    return report(con, publication)


def test_the_report_says_the_metrics_of_the_mart(page: str, con: duckdb.DuckDBPyConnection) -> None:
    found = dict(con.execute("SELECT metric, value::DOUBLE FROM marts.metrics WHERE month IS NULL").fetchall())
    for metric in metrics():
        place = page.index(f'<div id="metric-{metric.name}">')
        assert f"<dd>{metric.spoken(found[metric.name])}</dd>" in page[place : place + 400]
    assert '<div id="metric-ratings"><dt>Ratings</dt><dd>99,798</dd>' in page


def test_the_report_holds_every_plot_with_its_rows_and_asks_no_network(
    page: str, con: duckdb.DuckDBPyConnection
) -> None:
    told = re.search(r'<script type="application/json" id="specs">(.*?)</script>', page, re.DOTALL)
    assert told is not None
    specs = json.loads(told[1])
    assert list(specs) == [plot.name for plot in PLOTS]
    for plot in PLOTS:
        (rows,) = specs[plot.name]["datasets"].values()
        assert len(rows) == con.sql(plot.sql).pl().height > 0
    ratings = con.execute("SELECT count(*) FROM marts.fct_ratings WHERE edition != 'streaming'").fetchall()
    (stars,) = specs["rating_distribution"]["datasets"].values()
    assert [(sum(row["ratings"] for row in stars),)] == ratings
    assert re.search(r'(src|href)="?https?:', page) is None


def test_a_report_is_made_of_what_was_published_whatever_a_killed_writer_left(
    settings: Settings, page: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    publication = read_manifest(settings)
    assert publication is not None
    file = copy_of(settings, publication.version)
    write(file, "UPDATE marts.metrics SET value = 1", killed=True)
    monkeypatch.setenv("MARQUEE_HOME", str(settings.home))
    assert main([str(tmp_path / "report.html")]) == 0
    assert (tmp_path / "report.html").read_text() == page
    assert capsys.readouterr().err.startswith(f"removed {file}.wal, a log of another tool's changes")


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium on this machine")
def test_a_browser_draws_the_whole_report_and_nothing_is_wider_than_a_desktop_or_a_phone(
    page: str, tmp_path: Path
) -> None:
    file = tmp_path / "report.html"
    file.write_text(page, encoding="utf-8")
    with browser(tmp_path / "profile") as ask:
        for width, is_phone in ((1280, False), (390, True)):
            screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": is_phone}
            ask("Emulation.setDeviceMetricsOverride", **screen)
            ask("Page.navigate", url=file.as_uri())
            seen = ask("Runtime.evaluate", expression=DRAWN, awaitPromise=True, returnByValue=True)["result"]["value"]
            # A desktop's scroll bar takes some of the width.
            assert seen.pop("wide") <= width
            assert seen == {"drawn": str(len(PLOTS)), "plots": len(PLOTS), "requests": []}

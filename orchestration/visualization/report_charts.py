"""The report's plots: a question to the published copy each, and the Vega-Lite picture of its answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import altair as alt
import duckdb
import polars as pl

BLUE, ORANGE, GREY = "#2a6fb0", "#d9822b", "#9aa5b1"
_SQRT = alt.Scale(scheme="blues", type="sqrt")
#: Beside a plot it would take the room that a phone lacks.
_BELOW = alt.Legend(orient="bottom")


@dataclass(frozen=True)
class Plot:
    """One plot. ``says`` is one sentence on how to read it; ``sql`` gives the rows that ``draw`` takes."""

    name: str
    title: str
    says: str
    sql: str
    draw: Callable[[pl.DataFrame], alt.TopLevelMixin]

    def rows(self, con: duckdb.DuckDBPyConnection) -> pl.DataFrame:
        """Return the query's rows, with decimals as floats and dates as text, as JSON has them."""
        frame = con.sql(self.sql).pl()
        decimals = [name for name, kind in frame.schema.items() if isinstance(kind, pl.Decimal)]
        return frame.with_columns(pl.col(decimals).cast(pl.Float64), pl.selectors.date().dt.to_string())

    def spec(self, frame: pl.DataFrame) -> dict[str, Any]:
        """Return the Vega-Lite specification with its rows, as wide as the page allows."""
        chart: Any = self.draw(frame)
        chart = chart.properties(width="container", height=chart.height if chart.height is not alt.Undefined else 260)
        spec: dict[str, Any] = chart.to_dict()
        return spec


def _distribution(frame: pl.DataFrame) -> alt.Chart:
    return (
        alt.Chart(frame)
        .mark_bar(color=BLUE)
        .encode(
            x=alt.X("rating:O", title="Stars", axis=alt.Axis(labelAngle=0)),
            y=alt.Y("ratings:Q", title="Ratings"),
            tooltip=["rating", alt.Tooltip("ratings", format=","), alt.Tooltip("share", format=".1%")],
        )
    )


def _over_time(frame: pl.DataFrame) -> alt.TopLevelMixin:
    base = alt.Chart(frame).encode(x=alt.X("month:T", title=None))
    near = alt.selection_point(nearest=True, on="pointerover", fields=["month"], empty=False)
    points = base.mark_point(size=60, filled=True, color=ORANGE).encode(
        y="ratings:Q",
        opacity=alt.condition(near, alt.value(1), alt.value(0)),
        tooltip=[
            alt.Tooltip("month:T", format="%B %Y"),
            alt.Tooltip("ratings:Q", format=","),
            alt.Tooltip("active_users:Q", title="active users", format=","),
        ],
    )
    area = base.mark_area(color=BLUE, opacity=0.3, line={"color": BLUE}).encode(y=alt.Y("ratings:Q", title="Ratings"))
    return alt.layer(area, points.add_params(near))


def _genre_map(frame: pl.DataFrame) -> alt.Chart:
    return (
        alt.Chart(frame)
        .mark_rect()
        .encode(
            x=alt.X("decade:O", title="Decade of release", axis=alt.Axis(labelAngle=-45)),
            y=alt.Y("genre:N", title=None),
            color=alt.Color("ratings:Q", title="Ratings", scale=_SQRT, legend=_BELOW),
            tooltip=[
                "genre",
                "decade",
                "films",
                alt.Tooltip("ratings", format=","),
                alt.Tooltip("rating_mean", format=".2f"),
            ],
        )
        .properties(height=alt.Step(18))
    )


def _retention(frame: pl.DataFrame) -> alt.Chart:
    return (
        alt.Chart(frame)
        .mark_rect()
        .encode(
            x=alt.X("months_since:O", title="Months since the first rating", axis=alt.Axis(labelAngle=0)),
            y=alt.Y("came_in:O", title="First rated in", sort="descending"),
            color=alt.Color(
                "share:Q",
                title="Rated",
                scale=alt.Scale(scheme="blues"),
                legend=alt.Legend(format=".0%", orient="bottom"),
            ),
            tooltip=["came_in", "months_since", "newcomers", "back", alt.Tooltip("share", format=".1%")],
        )
        .properties(height=alt.Step(20))
    )


def _films(frame: pl.DataFrame) -> alt.Chart:
    return (
        alt.Chart(frame)
        .mark_circle(color=BLUE, opacity=0.45)
        .encode(
            x=alt.X("rating_count:Q", title="Ratings", scale=alt.Scale(type="log")),
            y=alt.Y("rating_mean:Q", title="Mean stars", scale=alt.Scale(zero=False)),
            tooltip=["title", "year", "main_genre", "rating_count", alt.Tooltip("rating_mean", format=".2f")],
        )
        .interactive()
    )


def _deciles(frame: pl.DataFrame) -> alt.Chart:
    return (
        alt.Chart(frame)
        .mark_bar()
        .encode(
            x=alt.X("decile:O", title="Tenth of the users, the most active first", axis=alt.Axis(labelAngle=0)),
            y=alt.Y("share:Q", title="Share of all ratings", axis=alt.Axis(format=".0%")),
            color=alt.condition("datum.decile == 1", alt.value(ORANGE), alt.value(GREY)),
            tooltip=["decile", "users", alt.Tooltip("ratings", format=","), alt.Tooltip("share", format=".1%")],
        )
    )


def _overlap(frame: pl.DataFrame) -> alt.TopLevelMixin:
    base = alt.Chart(frame).encode(
        x=alt.X("platform:N", title=None, axis=alt.Axis(labelAngle=0)), y=alt.Y("other:N", title=None)
    )
    tiles = base.mark_rect().encode(
        color=alt.Color("films:Q", title="Films", scale=_SQRT, legend=_BELOW),
        tooltip=["platform", "other", "films"],
    )
    return alt.layer(
        tiles,
        base.mark_text(fontSize=13).encode(
            text="films:Q", color=alt.condition("datum.platform == datum.other", alt.value("white"), alt.value("black"))
        ),
    )


#: Every plot in the order of the page.
PLOTS = (
    Plot(
        "rating_distribution",
        "How people rate",
        "How often each number of stars was given.",
        "FROM questions.rating_distribution",
        _distribution,
    ),
    Plot(
        "activity",
        "Activity over time",
        "Ratings a month, by the metric of that name; point at a month for its active users.",
        """
        PIVOT (
            SELECT month, metric, value::DOUBLE AS value FROM marts.metrics
            WHERE month IS NOT NULL AND metric IN ('ratings', 'active_users')
        ) ON metric IN ('ratings', 'active_users') USING first(value) GROUP BY month ORDER BY month
        """,
        _over_time,
    ),
    Plot(
        "genre_map",
        "Genres through the decades",
        "Ratings of the films of a genre and decade; a film of several genres counts in each.",
        """
        SELECT genre, decade, count(*) AS films, sum(rating_count) AS ratings,
            sum(rating_count * rating_mean) / sum(rating_count) AS rating_mean
        FROM marts.bridge_movie_genres JOIN marts.dim_movies USING (movie_key)
        WHERE rating_count > 0 AND decade IS NOT NULL GROUP BY ALL ORDER BY ALL
        """,
        _genre_map,
    ),
    Plot(
        "retention",
        "Who comes back",
        "Of the users who rated first in a year: the share that rated again so many months later.",
        """
        WITH r AS (FROM marts.fct_retention WHERE edition != 'streaming'),
        ends AS (SELECT max(cohort_month + to_months(months_since)) AS last_month FROM r),
        asked AS (
            SELECT cohort_month, edition, cohort_users, unnest(range(1, 13))::INTEGER AS months_since
            FROM r WHERE months_since = 0
        )
        SELECT year(a.cohort_month) AS came_in, a.months_since, sum(a.cohort_users) AS newcomers,
            coalesce(sum(r.active_users), 0) AS back,
            coalesce(sum(r.active_users), 0) / sum(a.cohort_users) AS share
        FROM asked AS a JOIN ends ON a.cohort_month + to_months(a.months_since) <= last_month
        LEFT JOIN r USING (edition, cohort_month, months_since) GROUP BY ALL ORDER BY ALL
        """,
        _retention,
    ),
    Plot(
        "films",
        "Much rated and well rated",
        "Each point is a film, of the 2,000 most rated; drag to move, scroll or pinch to look closer.",
        """
        SELECT title, year, main_genre, rating_count, rating_mean FROM marts.dim_movies
        WHERE rating_count > 0 ORDER BY rating_count DESC, movie_key LIMIT 2000
        """,
        _films,
    ),
    Plot(
        "deciles",
        "Few rate much",
        "The share of all ratings that comes from each tenth of the users.",
        "FROM questions.ratings_by_user_decile",
        _deciles,
    ),
    Plot(
        "overlap",
        "Where films can be watched",
        "Films of the catalogue that are on both platforms; on the diagonal, those of one.",
        """
        WITH held AS (SELECT DISTINCT platform, movie_key FROM marts.dim_streaming_titles WHERE movie_key IS NOT NULL)
        SELECT a.platform, b.platform AS other, count(*) AS films
        FROM held AS a JOIN held AS b USING (movie_key) GROUP BY ALL ORDER BY ALL
        """,
        _overlap,
    ),
)

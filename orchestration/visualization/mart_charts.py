"""The pictures and tables on the page of each mart that dbt makes: what people would rather look at than read."""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import polars as pl

from orchestration.visualization import charts

Draw = Callable[[pl.DataFrame], Any]


def _bars(title: str) -> Draw:
    return partial(charts.bars, title=title)


def _powers(column: str) -> str:
    """Return SQL for the steps of counts that grow tenfold, as ``low`` and ``high``: 1, 2 to 4, 5 to 9 and so on."""
    steps = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10**4, 10**5, 10**6, 10**9]
    low = " ".join(f"WHEN {column} < {high} THEN {low}" for low, high in itertools.pairwise(steps))
    high = " ".join(f"WHEN {column} < {high} THEN {high - 1}" for high in steps[1:])
    return f"CASE {low} END AS low, CASE {high} END AS high"


def _counts(relation: str, column: str, what: str) -> str:
    return f"SELECT {_powers(column)}, count(*) AS {what} FROM {relation} WHERE {column} > 0 GROUP BY ALL ORDER BY low"


def _steps(title: str) -> Draw:
    return partial(charts.histogram, title=title, logarithmic=True)


_NEWEST_OF_USERS = (
    "(SELECT arg_max(rating_mean, feature_timestamp) AS rating_mean FROM marts.user_features GROUP BY user_key)"
)
_NEWEST_OF_FILMS = "(SELECT max(rating_count) AS rating_count FROM marts.movie_features GROUP BY movie_key)"
#: Genres by decade: what was made when, of what there is.
_GENRE_MAP = """
    WITH films AS (
        SELECT genre, decade FROM marts.bridge_movie_genres JOIN marts.dim_movies USING (movie_key)
        WHERE decade IS NOT NULL
    ),
    totals AS (SELECT decade, count(*) AS films FROM films GROUP BY decade)
    SELECT genre, decade, count(*) / any_value(totals.films) AS share FROM films JOIN totals USING (decade)
    GROUP BY genre, decade ORDER BY genre, decade
"""
_OVERLAP = """
    WITH held AS (SELECT DISTINCT platform, movie_key FROM marts.dim_streaming_titles WHERE movie_key IS NOT NULL)
    SELECT a.platform, b.platform AS also_on, count(*)::DOUBLE AS films
    FROM held AS a JOIN held AS b USING (movie_key) GROUP BY ALL ORDER BY ALL
"""
#: Cohorts of a quarter, for twenty years of months are no picture.
_RETENTION = """
    WITH cohorts AS (
        SELECT
            date_trunc('quarter', cohort_month) AS cohort, months_since // 3 AS quarters,
            sum(active_users) FILTER (months_since % 3 = 0) AS active,
            sum(cohort_users) FILTER (months_since = 0) AS users
        FROM marts.fct_retention WHERE edition != 'streaming' GROUP BY ALL
    ),
    sizes AS (SELECT cohort, users FROM cohorts WHERE quarters = 0)
    SELECT
        strftime(cohort, '%Y-%m') AS cohort, quarters * 3 AS months_since,
        coalesce(active, 0) / sizes.users AS retention
    FROM cohorts JOIN sizes USING (cohort)
    WHERE quarters BETWEEN 1 AND 12 AND cohort > (SELECT max(cohort) - INTERVAL 10 YEAR FROM cohorts)
    ORDER BY cohort, months_since
"""

#: Pictures of a table: name -> query and chart. One of an empty table is left out.
PLOTS: dict[str, dict[str, tuple[str, Draw]]] = {
    "ab_outcome": {
        "differences": (
            (
                "SELECT experiment || ': ' || measure AS measure, difference, difference_low, difference_high"
                " FROM marts.ab_outcome ORDER BY experiment, measure LIMIT 20"
            ),
            partial(charts.intervals, title="The challenger's rates less the champion's, with 95 %"),
        ),
    },
    "bridge_movie_genres": {
        "genre_map": (
            _GENRE_MAP,
            partial(charts.heatmap, title="Share of each genre among the genres of a decade's films", percent=True),
        ),
    },
    "bridge_title_cast": {
        "most_cast": (
            (
                "SELECT actor, count(*) AS titles FROM marts.bridge_title_cast GROUP BY ALL ORDER BY titles DESC, actor"
                " LIMIT 15"
            ),
            _bars("Who plays in the most streaming titles"),
        ),
    },
    "bridge_title_country": {
        "countries": (
            (
                "SELECT country, count(*) AS titles FROM marts.bridge_title_country GROUP BY ALL"
                " ORDER BY titles DESC, country LIMIT 15"
            ),
            _bars("Where streaming titles are from"),
        ),
    },
    "dim_movies": {
        "match_methods": (
            (
                "SELECT match_method, count(*) AS movies FROM marts.dim_movies WHERE in_movielens"
                " GROUP BY ALL ORDER BY ALL"
            ),
            charts.match_methods,
        ),
        "bayesian_ratings": (
            (
                "SELECT floor(bayesian_rating * 10) / 10 AS low, floor(bayesian_rating * 10) / 10 + 0.1 AS high,"
                " count(*) AS films FROM marts.dim_movies WHERE bayesian_rating IS NOT NULL GROUP BY ALL ORDER BY low"
            ),
            partial(charts.histogram, title="Films by their bayesian rating"),
        ),
    },
    "dim_people": {
        "careers": (_counts("marts.dim_people", "movie_count", "people"), _steps("People by films in the catalogue")),
    },
    "dim_streaming_titles": {
        "catalogue_overlap": (_OVERLAP, partial(charts.heatmap, title="Films that two platforms both have")),
    },
    "dim_users": {
        "newcomers": (
            (
                "SELECT date_trunc('month', first_rated_at) AS month, count(*) AS ratings FROM marts.dim_users"
                " WHERE first_rated_at IS NOT NULL GROUP BY ALL"
            ),
            partial(charts.activity_over_time, what="Newcomers"),
        ),
        "ratings_of_users": (
            _counts("marts.dim_users", "rating_count", "users"),
            _steps("Users by how many films they rated"),
        ),
    },
    "entry_points": {
        "first_films": (
            (
                "SELECT title, stay_rate - base_rate AS above, stay_rate_low - base_rate AS low,"
                " stay_rate_high - base_rate AS high FROM"
                " (SELECT * FROM marts.entry_points ORDER BY newcomers DESC, movie_key LIMIT 40)"
                " JOIN marts.dim_movies USING (movie_key) ORDER BY stay_rate DESC, movie_key LIMIT 20"
            ),
            partial(
                charts.intervals, title="The most common first films: the share who stayed, less that of all newcomers"
            ),
        ),
    },
    "fct_credits": {
        "categories": (
            "SELECT category, count(*) AS credits FROM marts.fct_credits GROUP BY ALL ORDER BY credits DESC, category",
            _bars("Credits by category"),
        ),
    },
    "fct_episodes": {
        "series": (
            (
                "SELECT series_title, count(*) AS episodes FROM marts.fct_episodes WHERE series_title IS NOT NULL"
                " GROUP BY series_tconst, series_title ORDER BY episodes DESC, series_tconst LIMIT 15"
            ),
            _bars("Series with the most episodes"),
        ),
    },
    "fct_movie_popularity": {
        "rising": (
            (
                "SELECT title, trend FROM marts.fct_movie_popularity JOIN marts.dim_movies USING (movie_key)"
                " WHERE month = (SELECT max(month) FROM marts.fct_movie_popularity)"
                " ORDER BY trend DESC, movie_key LIMIT 15"
            ),
            _bars("Rising in the last month: ratings above the mean of the three months before"),
        ),
    },
    "fct_ratings": {
        "stars": (
            "SELECT rating, count(*) AS ratings FROM marts.fct_ratings GROUP BY ALL ORDER BY ALL",
            charts.rating_histogram,
        ),
        "activity": (
            "SELECT date_trunc('month', rated_at) AS month, count(*) AS ratings FROM marts.fct_ratings GROUP BY ALL",
            charts.activity_over_time,
        ),
    },
    "fct_retention": {
        "triangle": (
            _RETENTION,
            partial(
                charts.heatmap,
                title="Share of a quarter's newcomers who rate so many months later",
                percent=True,
            ),
        ),
    },
    "fct_tags": {
        "tags": (
            "SELECT tag, count(*) AS uses FROM marts.fct_tags GROUP BY ALL ORDER BY uses DESC, tag LIMIT 15",
            _bars("The tags that are given most"),
        ),
    },
    "fct_user_sessions": {
        "lengths": (
            _counts("marts.fct_user_sessions", "rating_count", "sessions"),
            _steps("Sessions by how many films were rated in one go"),
        ),
    },
    "imdb_changes": {
        "changes": (
            "SELECT change, count(*) AS titles FROM marts.imdb_changes GROUP BY ALL ORDER BY titles DESC, change",
            _bars("What IMDb's dumps changed, so far"),
        ),
    },
    "loyal_vs_new": {
        "effects": (
            (
                "SELECT measure, cohens_d, cohens_d_low, cohens_d_high FROM marts.loyal_vs_new"
                " WHERE cohens_d IS NOT NULL"
                " ORDER BY cohens_d DESC, measure"
            ),
            partial(charts.intervals, title="First days of who stayed against who did not: Cohen's d with 95 %"),
        ),
    },
    "match_judgement": {
        "verdicts": (
            "SELECT verdict, count(*) AS films FROM marts.match_judgement GROUP BY ALL ORDER BY films DESC, verdict",
            _bars("Films found in IMDb by title and year, their links held back"),
        ),
    },
    "metrics": {
        "active_users": (
            ("SELECT month, value AS ratings FROM marts.metrics WHERE metric = 'active_users' AND month IS NOT NULL"),
            partial(charts.activity_over_time, what="Active users"),
        ),
    },
    "movie_content": {
        "years": (
            (
                "SELECT release_year - release_year % 5 AS low, release_year - release_year % 5 + 5 AS high,"
                " count(*) AS films FROM marts.movie_content WHERE release_year IS NOT NULL GROUP BY ALL ORDER BY low"
            ),
            partial(charts.histogram, title="Films by year of release, in steps of five"),
        ),
    },
    "movie_features": {
        "ratings_of_films": (
            _counts(_NEWEST_OF_FILMS, "rating_count", "films"),
            _steps("Films by how often they were rated by now"),
        ),
    },
    "movie_imdb": {
        "imdb_ratings": (
            (
                "SELECT floor(imdb_rating * 2) / 2 AS low, floor(imdb_rating * 2) / 2 + 0.5 AS high, count(*) AS films"
                " FROM marts.movie_imdb GROUP BY ALL ORDER BY low"
            ),
            partial(charts.histogram, title="IMDb's mean votes of our films"),
        ),
    },
    "movie_tags": {
        "telling_tags": (
            (
                "SELECT tag, count(*) FILTER (relevance >= 0.5 OR user_count > 0) AS films FROM marts.movie_tags"
                " GROUP BY ALL HAVING films > 0 ORDER BY films DESC, tag LIMIT 15"
            ),
            _bars("Tags by films that they tell of"),
        ),
    },
    "movie_titles": {
        "kinds": (
            "SELECT kind, count(*) AS titles FROM marts.movie_titles GROUP BY ALL ORDER BY titles DESC, kind",
            _bars("Titles by kind"),
        ),
    },
    "quarantine": {
        "reasons": (
            (
                "SELECT table_name || ': ' || reason AS reason, count(*) AS lines FROM marts.quarantine GROUP BY ALL"
                " ORDER BY lines DESC, reason LIMIT 20"
            ),
            _bars("Refused rows by table and reason"),
        ),
    },
    "served_feedback": {
        "clicks_by_rank": (
            (
                "SELECT rank, round(avg(is_clicked::INTEGER), 4) AS clicked FROM marts.served_feedback"
                " WHERE rank <= 20 GROUP BY ALL ORDER BY rank"
            ),
            _bars("Share of the films served at a rank that were clicked within seven days"),
        ),
    },
    "served_traffic": {
        "answers": (
            (
                "SELECT route || ', ' || model_version AS route, sum(answer_count)::BIGINT AS answers"
                " FROM marts.served_traffic WHERE arm != 'shadow' GROUP BY ALL ORDER BY answers DESC, route LIMIT 15"
            ),
            _bars("Answers by route and version"),
        ),
    },
    "user_features": {
        "means": (
            (
                "SELECT floor(rating_mean * 4) / 4 AS low, floor(rating_mean * 4) / 4 + 0.25 AS high, count(*) AS users"
                f" FROM {_NEWEST_OF_USERS} GROUP BY ALL ORDER BY low"
            ),
            partial(charts.histogram, title="Users by the mean of their ratings"),
        ),
    },
    "user_habits": {
        "away": (
            _counts("marts.user_habits", "days_since_last", "users"),
            _steps("Users by days since their last rating"),
        ),
    },
    "user_taste": {
        "devotion": (
            (
                "SELECT label, round(avg((lift >= 1.5)::INTEGER), 4) AS share FROM marts.user_taste"
                " WHERE dimension = 'genre' GROUP BY ALL ORDER BY share DESC, label"
            ),
            _bars("Of those who rated a genre, the share with a lift of 1.5 or more"),
        ),
    },
}

#: Tables that say more of a mart than its rows: name -> query.
TABLES: dict[str, dict[str, str]] = {
    "match_judgement": {
        "precision_and_recall": (
            "SELECT edition, count(*) AS films, count(*) FILTER (is_in_imdb) AS in_imdb,"
            " count(*) FILTER (found_tconst IS NOT NULL) AS found, count(*) FILTER (verdict = 'right') AS right_ones,"
            " round(right_ones / found, 4) AS precision, round(right_ones / in_imdb, 4) AS recall"
            " FROM marts.match_judgement GROUP BY ALL ORDER BY ALL"
        ),
        "misses": (
            "SELECT verdict, movie_id, title, year, linked_tconst, found_tconst, match_method, match_confidence"
            " FROM marts.match_judgement WHERE verdict = 'wrong' OR verdict = 'missed'"
            " ORDER BY verdict DESC, movie_id"
        ),
    },
    "dim_streaming_titles": {
        "cleaning_rules": (
            "SELECT platform, rule, count(*) AS titles"
            " FROM (SELECT platform, unnest(rules) AS rule FROM marts.dim_streaming_titles) GROUP BY ALL ORDER BY ALL"
        ),
        "matches": (
            "SELECT platform, match_method, count(*) AS titles FROM marts.dim_streaming_titles"
            " GROUP BY ALL ORDER BY ALL"
        ),
        "score_sources": (
            "SELECT platform, score_source, count(*) AS titles, round(avg(score), 2) AS mean_score"
            " FROM marts.dim_streaming_titles GROUP BY ALL ORDER BY ALL"
        ),
    },
}

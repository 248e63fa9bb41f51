"""What IMDb's dumps changed since the last look: a diff row by row against a snapshot, kept as a history.

A look compares ``raw.imdb_title_basics`` and ``raw.imdb_title_ratings`` with the snapshot of them that the last look
left, appends what is different to ``raw.imdb_changes`` and takes the new snapshot, all in one transaction. The first
look at a dump is the baseline and finds nothing; a dump that is not asked for is not looked at, and its snapshot stays.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import duckdb

from orchestration.ingestion.raw_tables import create_ledgers

#: The dumps that are compared, and their raw tables.
WATCHED = {"title.basics": "imdb_title_basics", "title.ratings": "imdb_title_ratings"}

#: From how much more votes (in percent) a step of the drift begins; below are the steps "fewer" and "the same".
VOTE_STEPS = (1, 5, 20, 100)

_CHANGE_COLUMNS = (
    "dump, snapshot_at, former_snapshot_at, tconst, change, title, former_title, year, former_year, rating,"
    " former_rating, votes, former_votes"
)


@dataclass(frozen=True)
class Thresholds:
    """From when on a title counts as re-rated: how far its rating moved, with how many votes before and after."""

    rating_step: float
    min_votes: int


@dataclass(frozen=True)
class Look:
    """What a look did: the dumps it compared, those it saw for the first time, and the number of changes by kind."""

    compared: tuple[str, ...] = ()
    baselines: tuple[str, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)


def take_look(con: duckdb.DuckDBPyConnection, thresholds: Thresholds) -> Look:
    """Compare the loaded dumps with the snapshot, append the changes, take the new snapshot: one transaction.

    A file that was looked at already (by its digest) is passed over, so that a second look adds nothing. A title whose
    row is in quarantine is not removed: it keeps its place in the snapshot.
    """
    con.begin()
    try:
        create_ledgers(con)
        look = _look(con, thresholds)
        con.commit()
    except BaseException:
        con.rollback()
        raise
    return look


def _look(con: duckdb.DuckDBPyConnection, thresholds: Thresholds) -> Look:
    loads = con.execute(
        """
        SELECT loads.table_name, looks.dump IS NULL
        FROM raw.loads AS loads
        LEFT JOIN raw.imdb_looks AS looks ON loads.table_name = 'imdb_' || replace(looks.dump, '.', '_')
        WHERE loads.file IS NOT NULL AND loads.sha256 IS DISTINCT FROM looks.sha256
        """
    ).fetchall()
    is_first = dict(loads)
    changed = [dump for dump, table in WATCHED.items() if table in is_first]
    baselines = tuple(dump for dump in changed if is_first[WATCHED[dump]])
    compared = tuple(dump for dump in changed if dump not in baselines)
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE found_changes AS SELECT {_CHANGE_COLUMNS} FROM raw.imdb_changes WHERE false"
    )
    for dump in changed:
        _find_quarantined(con, WATCHED[dump])
        if dump == "title.basics":
            _look_at_titles(con, compare=dump in compared)
        else:
            _look_at_ratings(con, thresholds, compare=dump in compared)
        con.execute("DELETE FROM raw.imdb_looks WHERE dump = ?", [dump])
        con.execute(
            "INSERT INTO raw.imdb_looks SELECT ?, sha256, snapshot_at FROM raw.loads WHERE table_name = ?",
            [dump, WATCHED[dump]],
        )
    con.execute(
        f"""
        INSERT INTO raw.imdb_changes BY NAME
        SELECT (SELECT coalesce(max(look), 0) + 1 FROM raw.imdb_changes) AS look, {_CHANGE_COLUMNS}
        FROM found_changes ORDER BY tconst, change
        """
    )
    counts = con.execute("SELECT change, count(*) FROM found_changes GROUP BY change ORDER BY change").fetchall()
    con.execute("DROP TABLE found_changes")
    return Look(compared, baselines, dict(counts))


def _find_quarantined(con: duckdb.DuckDBPyConnection, table: str) -> None:
    """Write the titles whose row of this dump was refused to ``refused_titles``; the key is the line's first field."""
    con.execute(
        """
        CREATE OR REPLACE TEMP TABLE refused_titles AS
        SELECT DISTINCT split_part(content, chr(9), 1) AS tconst FROM raw.quarantine WHERE table_name = ?
        """,
        [table],
    )


def _times(dump: str) -> str:
    """Return SQL for one row with the dump's name, its own time and that of the file before it."""
    return (
        f"(SELECT '{dump}' AS dump, loads.snapshot_at, looks.snapshot_at AS former_snapshot_at"
        f" FROM raw.loads AS loads LEFT JOIN raw.imdb_looks AS looks ON looks.dump = '{dump}'"
        f" WHERE loads.table_name = '{WATCHED[dump]}')"
    )


def _look_at_titles(con: duckdb.DuckDBPyConnection, *, compare: bool) -> None:
    if compare:
        con.execute(
            f"""
            INSERT INTO found_changes BY NAME
            WITH pairs AS (
                SELECT new.tconst AS new_tconst, old.tconst AS old_tconst, new."primaryTitle" AS title,
                    old.title AS former_title, new."startYear" AS year, old.year AS former_year
                FROM raw.imdb_title_basics AS new
                FULL JOIN raw.imdb_snapshot_titles AS old ON new.tconst = old.tconst
                WHERE new.tconst IS NULL OR old.tconst IS NULL
                    OR new."primaryTitle" IS DISTINCT FROM old.title OR new."startYear" IS DISTINCT FROM old.year
            )
            SELECT times.*, coalesce(new_tconst, old_tconst) AS tconst, pairs.* EXCLUDE (new_tconst, old_tconst),
                unnest(
                    CASE
                        WHEN old_tconst IS NULL THEN ['added']
                        WHEN new_tconst IS NULL THEN ['removed']
                        ELSE list_concat(
                            CASE WHEN title IS DISTINCT FROM former_title THEN ['retitled'] ELSE [] END,
                            CASE WHEN year IS DISTINCT FROM former_year THEN ['redated'] ELSE [] END
                        )
                    END
                ) AS change
            FROM pairs CROSS JOIN {_times("title.basics")} AS times
            WHERE new_tconst IS NOT NULL OR old_tconst NOT IN (SELECT tconst FROM refused_titles)
            """
        )
    con.execute(
        """
        CREATE OR REPLACE TABLE raw.imdb_snapshot_titles AS
        SELECT tconst, "primaryTitle" AS title, "startYear" AS year FROM raw.imdb_title_basics
        UNION ALL
        SELECT * FROM raw.imdb_snapshot_titles
        WHERE tconst IN (SELECT tconst FROM refused_titles) AND tconst NOT IN (SELECT tconst FROM raw.imdb_title_basics)
        """
    )


def _look_at_ratings(con: duckdb.DuckDBPyConnection, thresholds: Thresholds, *, compare: bool) -> None:
    """Ratings move by little steps, so a rating is compared with the one that was noted last, not with yesterday's.

    A title's rating is noted at its first look, at every look until it has the votes that make it count, and whenever
    it is found to have moved far enough.
    """
    con.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE rating_pairs AS
        SELECT new.tconst AS new_tconst, old.tconst AS old_tconst,
            new."averageRating" AS rating, new."numVotes" AS votes, old.rating AS last_rating,
            old.votes AS last_votes, old.noted_rating, old.noted_votes, old.noted_at,
            coalesce(
                old.noted_votes >= $min_votes AND new."numVotes" >= $min_votes
                AND abs(new."averageRating" - old.noted_rating) >= CAST($step AS DECIMAL(3, 1)), false
            ) AS is_rerated, times.*
        FROM raw.imdb_title_ratings AS new
        FULL JOIN raw.imdb_snapshot_ratings AS old ON new.tconst = old.tconst
        CROSS JOIN {_times("title.ratings")} AS times
        """,
        {"min_votes": thresholds.min_votes, "step": thresholds.rating_step},
    )
    if compare:
        con.execute(
            """
            INSERT INTO found_changes BY NAME
            SELECT dump, snapshot_at,
                CASE WHEN is_rerated THEN noted_at ELSE former_snapshot_at END AS former_snapshot_at,
                coalesce(new_tconst, old_tconst) AS tconst,
                CASE WHEN old_tconst IS NULL THEN 'rated' WHEN new_tconst IS NULL THEN 'unrated' ELSE 'rerated' END
                    AS change,
                rating, CASE WHEN is_rerated THEN noted_rating ELSE last_rating END AS former_rating,
                votes, CASE WHEN is_rerated THEN noted_votes ELSE last_votes END AS former_votes
            FROM rating_pairs
            WHERE is_rerated OR old_tconst IS NULL
                OR (new_tconst IS NULL AND old_tconst NOT IN (SELECT tconst FROM refused_titles))
            """
        )
        _measure_drift(con, thresholds.min_votes)
    con.execute(
        """
        CREATE OR REPLACE TABLE raw.imdb_snapshot_ratings AS
        SELECT new_tconst AS tconst, rating, votes, CASE WHEN renews THEN rating ELSE noted_rating END AS noted_rating,
            CASE WHEN renews THEN votes ELSE noted_votes END AS noted_votes,
            CASE WHEN renews THEN snapshot_at ELSE noted_at END AS noted_at
        FROM (
            SELECT *, old_tconst IS NULL OR is_rerated OR noted_votes < $min_votes AS renews
            FROM rating_pairs WHERE new_tconst IS NOT NULL
        )
        UNION ALL
        SELECT old_tconst, last_rating, last_votes, noted_rating, noted_votes, noted_at FROM rating_pairs
        WHERE new_tconst IS NULL AND old_tconst IN (SELECT tconst FROM refused_titles)
        """,
        {"min_votes": thresholds.min_votes},
    )
    con.execute("DROP TABLE rating_pairs")


def _measure_drift(con: duckdb.DuckDBPyConnection, min_votes: int) -> None:
    """How far the ratings of titles with enough votes moved between the two files, and by how much all votes grew."""
    steps = " ".join(
        f"WHEN 100 * (votes::BIGINT - last_votes) < {percent} * last_votes::BIGINT THEN {step}"
        for step, percent in enumerate(VOTE_STEPS, 2)
    )
    con.execute(
        f"""
        CREATE OR REPLACE TABLE raw.imdb_drift AS
        WITH steps AS (
            SELECT 'rating' AS measure, greatest(-10, least(10, CAST(10 * (rating - last_rating) AS INTEGER))) AS step
            FROM rating_pairs WHERE votes >= $min_votes AND last_votes >= $min_votes
            UNION ALL
            SELECT 'votes' AS measure, CASE WHEN votes < last_votes THEN 0 WHEN votes = last_votes THEN 1 {steps}
                ELSE {len(VOTE_STEPS) + 2} END AS step
            FROM rating_pairs WHERE new_tconst IS NOT NULL AND old_tconst IS NOT NULL
        )
        SELECT measure, CAST(step AS INTEGER) AS step, count(*) AS titles FROM steps GROUP BY ALL ORDER BY ALL
        """,
        {"min_votes": min_votes},
    )

"""The row-level diff of IMDb's dumps on small files, look by look, and on the two real snapshots."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from orchestration.ingestion import imdb_diff as imdb_changes
from orchestration.ingestion.imdb import ingest_imdb
from orchestration.ingestion.imdb_diff import Look, Thresholds, take_look
from orchestration.storage.warehouse import table_version
from tests.unit.ingestion.editions import write_dump

THRESHOLDS = Thresholds(rating_step=0.3, min_votes=100)
Read = Callable[..., Look]


@pytest.fixture
def read(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> Read:
    """Load dumps of these rows, written at ``at`` (epoch seconds), and take a look; no rows: not asked for."""

    def load_and_look(at: int, titles: list[str], ratings: list[str]) -> Look:
        for dump, rows in (("title.basics", titles), ("title.ratings", ratings)):
            path = write_dump(tmp_path / str(at), dump, *rows, mtime=at) if rows else None
            ingest_imdb(con, dump, path)
        return take_look(con, THRESHOLDS)

    return load_and_look


def title(tconst: str, name: str, year: str = "2000") -> str:
    return "\t".join((tconst, "movie", name, name, "0", year, "\\N", "90", "Drama"))


def changes(con: duckdb.DuckDBPyConnection, columns: str) -> list[tuple[Any, ...]]:
    return con.execute(f"SELECT {columns} FROM raw.imdb_changes ORDER BY look, tconst, change").fetchall()


def test_the_first_look_is_the_baseline(con: duckdb.DuckDBPyConnection, read: Read) -> None:
    look = read(1, [title("tt0000001", "A")], ["tt0000001 7.0 500"])
    assert (look.baselines, look.compared, look.counts) == (("title.basics", "title.ratings"), (), {})
    assert changes(con, "*") == []


def test_titles_added_removed_retitled_and_redated_are_told_with_what_they_were(
    con: duckdb.DuckDBPyConnection, read: Read
) -> None:
    read(1_000, [title(f"tt000000{n}", name) for n, name in enumerate("ABCDE", 1)], [])
    look = read(
        2_000,
        [
            title("tt0000001", "A"),
            title("tt0000002", "Bee"),
            title("tt0000003", "C", "\\N"),
            title("tt0000005", "Eh", "2001"),
            title("tt0000006", "F"),
        ],
        [],
    )
    assert look.counts == {"added": 1, "redated": 2, "removed": 1, "retitled": 2}
    assert changes(con, "tconst, change, former_title, title, former_year, year") == [
        ("tt0000002", "retitled", "B", "Bee", 2000, 2000),
        ("tt0000003", "redated", "C", "C", 2000, None),
        ("tt0000004", "removed", "D", None, 2000, None),
        ("tt0000005", "redated", "E", "Eh", 2000, 2001),
        ("tt0000005", "retitled", "E", "Eh", 2000, 2001),
        ("tt0000006", "added", None, "F", None, 2000),
    ]
    assert {tuple(map(str, row)) for row in changes(con, "look, dump, former_snapshot_at, snapshot_at")} == {
        ("1", "title.basics", "1970-01-01 00:16:40", "1970-01-01 00:33:20")
    }


def test_ratings_are_told_when_they_move_far_enough_with_enough_votes(
    con: duckdb.DuckDBPyConnection, read: Read
) -> None:
    before = ["tt0000001 7.0 500", "tt0000002 7.0 500", "tt0000003 7.0 99", "tt0000004 7.0 500", "tt0000005 6.0 100"]
    after = ["tt0000001 7.3 510", "tt0000002 7.2 510", "tt0000003 9.0 900", "tt0000005 5.7 100", "tt0000006 8.0 6"]
    read(1, [], before)
    assert read(2, [], after).counts == {"rated": 1, "rerated": 2, "unrated": 1}
    found = changes(con, "tconst, change, former_rating, rating, former_votes, votes")
    assert [tuple(str(value) for value in row) for row in found] == [
        ("tt0000001", "rerated", "7.0", "7.3", "500", "510"),
        ("tt0000004", "unrated", "7.0", "None", "500", "None"),
        ("tt0000005", "rerated", "6.0", "5.7", "100", "100"),
        ("tt0000006", "rated", "None", "8.0", "None", "6"),
    ]


def test_small_moves_add_up_until_they_are_told(con: duckdb.DuckDBPyConnection, read: Read) -> None:
    for at, rating in enumerate(("7.0", "7.1", "7.2", "7.3", "7.4"), 1):
        read(at, [], [f"tt0000001 {rating} {500 + at}"])
    found = changes(con, "former_rating, rating, former_votes, votes, epoch(former_snapshot_at), epoch(snapshot_at)")
    assert [tuple(float(value) for value in row) for row in found] == [(7.0, 7.3, 501, 504, 1, 4)]


def test_a_title_counts_from_the_rating_that_it_had_with_enough_votes(
    con: duckdb.DuckDBPyConnection, read: Read
) -> None:
    for at, row in enumerate(("9.0 20", "7.5 150", "7.3 200", "7.1 250"), 1):
        read(at, [], [f"tt0000001 {row}"])
    assert [tuple(float(value) for value in row) for row in changes(con, "former_rating, rating, votes")] == [
        (7.5, 7.1, 250)
    ]


def test_a_second_look_at_the_same_files_adds_nothing(con: duckdb.DuckDBPyConnection, read: Read) -> None:
    read(1, [title("tt0000001", "A")], ["tt0000001 7.0 500"])
    read(2, [title("tt0000001", "B")], ["tt0000001 8.0 500"])
    version = table_version(con, "raw.imdb_changes")
    assert version.rows == 2
    assert take_look(con, THRESHOLDS) == Look()
    assert table_version(con, "raw.imdb_changes") == version


def test_the_same_rows_in_another_file_change_nothing(con: duckdb.DuckDBPyConnection, read: Read) -> None:
    rows = ["tt0000001 7.0 500", "tt0000002 6.0 500"]
    read(1, [], rows)
    look = read(2, [], rows[::-1])
    assert (look.compared, look.counts) == (("title.ratings",), {})
    assert changes(con, "*") == []


def test_a_dump_that_is_not_asked_for_removes_nothing_and_is_compared_when_it_is_back(
    con: duckdb.DuckDBPyConnection, read: Read
) -> None:
    read(1, [title("tt0000001", "A"), title("tt0000002", "B")], ["tt0000001 7.0 500"])
    assert read(2, [], []) == Look()
    assert changes(con, "*") == []
    assert read(3, [title("tt0000001", "A")], []).counts == {"removed": 1}
    assert changes(con, "tconst, epoch(former_snapshot_at)::INTEGER, epoch(snapshot_at)::INTEGER") == [
        ("tt0000002", 1, 3)
    ]


def test_a_title_whose_row_is_refused_is_not_removed(con: duckdb.DuckDBPyConnection, read: Read) -> None:
    good = ["tt0000001 7.0 500", "tt0000002 7.0 500"]
    read(1, [title("tt0000001", "A"), title("tt0000002", "B")], good)
    look = read(2, [title("tt0000001", "A"), title("tt0000002", "B", "soon")], [good[0], "tt0000002 7.0 many"])
    assert (look.compared, look.counts) == (("title.basics", "title.ratings"), {})
    assert read(3, [title("tt0000001", "A"), title("tt0000002", "Bee")], good).counts == {"retitled": 1}


def test_a_look_that_fails_leaves_history_and_snapshot_as_they_were(
    con: duckdb.DuckDBPyConnection, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(1, [title("tt0000001", "A")], ["tt0000001 7.0 500"])
    with monkeypatch.context() as broken:
        # The titles are compared and their snapshot is taken before the query of the ratings' drift fails.
        broken.setattr(imdb_changes, "VOTE_STEPS", ("no number",))
        with pytest.raises(duckdb.Error):
            read(2, [title("tt0000001", "B")], ["tt0000001 8.0 500"])
    assert changes(con, "*") == []
    assert take_look(con, THRESHOLDS).counts == {"rerated": 1, "retitled": 1}


def test_the_drift_counts_moves_and_growth(con: duckdb.DuckDBPyConnection, read: Read) -> None:
    votes = {1: (100, 99), 2: (100, 100), 3: (1000, 1009), 4: (100, 101), 5: (100, 119), 6: (100, 199), 7: (100, 200)}
    read(1, [], [f"tt000000{n} 7.0 {before}" for n, (before, _) in votes.items()])
    read(2, [], [f"tt000000{n} {'5.5' if n == 7 else '7.1'} {after}" for n, (_, after) in votes.items()])
    found = con.execute("SELECT measure, step, titles FROM raw.imdb_drift ORDER BY ALL").fetchall()
    assert found == [("rating", -10, 1), ("rating", 1, 5), *(("votes", step, 1) for step in range(7))]


@pytest.mark.real_data
def test_six_years_of_real_ratings_are_compared_in_seconds(con: duckdb.DuckDBPyConnection, real_data: Path) -> None:
    earlier, later = (real_data / "imdb" / when / "title.ratings.tsv.gz" for when in ("earlier", "later"))
    if not earlier.exists() or not later.exists():
        pytest.skip(f"no two snapshots of title.ratings under {real_data / 'imdb'}")
    for file in (earlier, later):
        ingest_imdb(con, "title.ratings", file)
        look = take_look(con, THRESHOLDS)
    expected = con.execute(
        rf"""
        WITH files AS (
            SELECT *, filename LIKE '%later%' AS is_later
            FROM read_csv(['{earlier}', '{later}'], delim='\t', header=true, filename=true,
                columns={{'tconst': 'VARCHAR', 'rating': 'DECIMAL(3,1)', 'votes': 'INTEGER'}})
        ),
        pairs AS (
            SELECT tconst, max(rating) FILTER (is_later) AS new, max(rating) FILTER (NOT is_later) AS old,
                min(votes) AS votes
            FROM files GROUP BY tconst
        )
        SELECT count(*) FILTER (old IS NULL), count(*) FILTER (new IS NULL),
            count(*) FILTER (abs(new - old) >= 0.3 AND votes >= 100) FROM pairs
        """
    ).fetchall()
    assert [(look.counts["rated"], look.counts["unrated"], look.counts["rerated"])] == expected
    assert look.counts["rated"] > 60_000
    assert 1_000 < look.counts["rerated"] < 30_000

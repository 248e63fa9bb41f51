"""Files whose columns are not those of yesterday: a new one is loaded as text; a missing or retyped one stops."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from pathlib import Path

import duckdb
import pytest

from orchestration.errors import SourceError
from orchestration.ingestion.imdb import DUMPS, ingest_imdb, table_of
from orchestration.ingestion.loader import RETYPED_VALUES
from orchestration.ingestion.movielens import ingest_movielens
from tests.unit.ingestion import editions
from tests.unit.ingestion.editions import assert_adds_up, quarantined, write_dump
from tests.unit.ingestion.test_refusals import state

RATINGS = "title.ratings"
TABLE = "imdb_title_ratings"


def columns(con: duckdb.DuckDBPyConnection, table: str = TABLE) -> list[tuple[str, str]]:
    return [(name, kind) for name, kind, *_ in con.execute(f"DESCRIBE raw.{table}").fetchall()]


def write_text(folder: Path, header: str, rows: Iterable[str], dump: str = RATINGS) -> Path:
    """Write a dump with a header of its own; a blank stands for a tab."""
    path = write_dump(folder, dump)
    path.write_bytes("".join(line.replace(" ", "\t") + "\n" for line in (header, *rows)).encode())
    return path


def test_a_new_column_is_loaded_as_text_after_the_known_ones_and_warned_of(
    con: duckdb.DuckDBPyConnection, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Among the known columns, so that places and names cannot be confused.
    rows = [r"tt1 5.0 a 10 007", r"tt2 6.0 \N 11 x", "tt3 6.0 b many y", "tt4 6.0 b 12"]
    path = write_text(tmp_path, "tconst averageRating mood numVotes n", rows)
    with caplog.at_level(logging.WARNING):
        report = ingest_imdb(con, RATINGS, path)
    assert_adds_up(con, report)
    assert report.new_columns == ("mood", "n")
    declared = [(column.name, column.type) for column in table_of(RATINGS).columns]
    assert columns(con) == [*declared, ("mood", "VARCHAR"), ("n", "VARCHAR")]
    assert con.execute(f"SELECT tconst, mood, n, numVotes FROM raw.{TABLE} ORDER BY 1").fetchall() == [
        ("tt1", "a", "007", 10),
        ("tt2", None, "x", 11),
    ]
    assert [reason for _, reason, _ in quarantined(con, TABLE)] == [
        "unparsable number in numVotes",
        "wrong number of fields",
    ]
    assert re.search(r"title\.ratings\.tsv\.gz has new columns \(mood, n\)", caplog.text)


def test_a_new_column_that_goes_away_again_leaves_the_plain_table(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    ingest_imdb(con, RATINGS, write_text(tmp_path, "tconst averageRating numVotes mood", ["tt1 5.0 10 a"]))
    report = ingest_imdb(con, RATINGS, write_dump(tmp_path, RATINGS, "tt1 5.0 10"))
    assert report.new_columns == ()
    assert columns(con) == [(column.name, column.type) for column in table_of(RATINGS).columns]
    ingest_imdb(con, RATINGS, write_text(tmp_path, "tconst averageRating numVotes mood", ["tt1 5.0 10 a"]))
    ingest_imdb(con, RATINGS, None)
    assert columns(con) == [(column.name, column.type) for column in table_of(RATINGS).columns]


def test_rows_set_aside_for_their_key_keep_the_new_column_of_the_row_that_stays(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    movies = 'year,movieId,title,genres\n1999,1,"A, The (1999)",Drama\n2000,1,B (2000),Drama\n1995,7,C (1995),Drama\n'
    files = editions.csv_edition(tmp_path, movies=movies)
    reports = {report.table: report for report in ingest_movielens(con, files)}
    assert reports["ml_movies"].new_columns == ("year",)
    assert con.execute('SELECT "movieId", title, year, url FROM raw.ml_movies ORDER BY 1').fetchall() == [
        (1, "A, The (1999)", "1999", None),
        (7, "C (1995)", "1995", None),
    ]
    assert quarantined(con, "ml_movies") == [(3, "duplicate key", "2000,1,B (2000),Drama")]


@pytest.mark.parametrize("name", ["line", "f", "t1", "reason", "new column 0", "select", "1", "ö", "a.b", "it's", "%s"])
def test_a_new_columns_name_is_only_a_name(con: duckdb.DuckDBPyConnection, tmp_path: Path, name: str) -> None:
    path = write_text(tmp_path, f"{name.replace(' ', '~')} tconst averageRating numVotes", ["x tt1 5.0 10", "broken"])
    path.write_bytes(path.read_bytes().replace(b"~", b" "))
    report = ingest_imdb(con, RATINGS, path)
    assert (report.loaded_rows, report.quarantined_rows) == (1, 1)
    assert columns(con)[-1] == (name, "VARCHAR")
    assert con.execute(f"SELECT * FROM raw.{TABLE}").fetchall()[0][-1] == "x"


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("tconst\taverageRating", "lacks the column numVotes"),
        ("tconst\taverageRating\tvotes", "lacks the column numVotes and has an unknown column 'votes'"),
        ("tconst\taverageRating\tNumVotes", "lacks the column numVotes and has an unknown column 'NumVotes'"),
        ("tconst\taverageRating\tnumVotes\tNumVotes", "names a column twice (numVotes and NumVotes, the case aside)"),
        ("tconst\taverageRating\tnumVotes\tmood\tMood", "names a column twice (mood and Mood, the case aside)"),
        ("tconst\taverageRating\tnumVotes\tmood\tmood", "names a column twice;"),
        ("tconst\taverageRating\tnumVotes\t", "has a column without a name"),
        ("tconst\taverageRating\tnumVotes\t ", "has a column without a name"),
        ("tconst\taverageRating\tnumVotes\trowid", "'rowid', a name that the table uses for something else"),
        ('tconst\taverageRating\tnumVotes\ta"b', "'a\"b', which is no name for a column"),
        ("tconst\taverageRating\tnumVotes\tx\x07", r"'x\x07', which is no name for a column"),
        ("tconst\taverageRating\tnumVotes\t" + "x" * 101, "which is no name for a column"),
    ],
)
def test_a_header_that_cannot_be_taken_is_named_with_a_remedy_and_leaves_everything(
    con: duckdb.DuckDBPyConnection, tmp_path: Path, header: str, said: str
) -> None:
    ingest_imdb(con, RATINGS, write_dump(tmp_path / "good", RATINGS, "tt1 5.0 10", "broken"))
    before = state(con)
    with pytest.raises(SourceError) as refusal:
        ingest_imdb(con, RATINGS, write_text(tmp_path / "bad", header, ["tt1 5.0 10"]))
    message = str(refusal.value)
    assert said in message
    assert "it should be tconst, averageRating, numVotes." in message
    assert "leave it out of MARQUEE_IMDB_DUMPS." in message
    assert state(con) == before


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("movieId,title,genres,url", "'url', a name that the table uses for something else"),
        ("movieId,title,genres,EDITION", "'EDITION', a name that the table uses for something else"),
        ('movieId,title,genres,"a""b"', "which is no name for a column"),
        ('movieId,title,genres,"open', "the header is quoted wrongly"),
    ],
)
def test_a_csv_header_that_cannot_be_taken_is_refused(
    con: duckdb.DuckDBPyConnection, tmp_path: Path, header: str, said: str
) -> None:
    ingest_movielens(con, editions.csv_edition(tmp_path / "good"))
    before = state(con)
    with pytest.raises(SourceError, match=re.escape(said)):
        ingest_movielens(con, editions.csv_edition(tmp_path / "bad", movies=f"{header}\n1,A (1999),Drama,x\n"))
    assert state(con) == before


def _dump_row(dump: str, **changed: str) -> str:
    plain = {"integer": "1", "decimal": "5.0", "boolean": "0", "text": "tt1"}
    return " ".join(changed.get(column.name, plain[column.kind]) for column in DUMPS[dump].columns)


@pytest.mark.parametrize(
    ("dump", "column", "value", "wanted"),
    [
        ("title.ratings", "averageRating", "great", "a number from 1 up to 10 in steps of 0.1 (DECIMAL(3,1))"),
        ("title.ratings", "averageRating", "87", "a number from 1 up to 10 in steps of 0.1 (DECIMAL(3,1))"),
        ("title.ratings", "numVotes", "1.5", "a whole number from 0 (INTEGER)"),
        ("title.basics", "isAdult", "no", "0 or 1 (BOOLEAN)"),
        ("title.basics", "startYear", "1999-01-01", "a whole number from 0 up to 9999 (INTEGER)"),
        ("title.akas", "ordering", "first", "a whole number from 0 (INTEGER)"),
    ],
)
def test_a_retyped_column_stops_with_its_name_the_type_and_an_example(
    con: duckdb.DuckDBPyConnection, tmp_path: Path, dump: str, column: str, value: str, wanted: str
) -> None:
    key = DUMPS[dump].names[0]
    good = write_dump(tmp_path / "good", dump, _dump_row(dump), "broken")
    ingest_imdb(con, dump, good)
    before = state(con)
    sound = [_dump_row(dump, **{key: f"tt{n}"}) for n in range(11)]
    changed = [_dump_row(dump, **{key: f"tt{n}", column: value}) for n in range(100, 112)]
    with pytest.raises(SourceError) as refusal:
        ingest_imdb(con, dump, write_dump(tmp_path / "bad", dump, *sound, *changed))
    message = str(refusal.value)
    assert f"the column {column} should be {wanted}, but 12 of its 23 values are not" in message
    assert f"for example {value!r}" in message
    assert "MARQUEE_IMDB_DUMPS" in message
    assert state(con) == before


def test_half_of_the_values_or_too_few_of_them_are_broken_rows_and_not_another_type(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    few = [f"tt{n} great 10" for n in range(RETYPED_VALUES - 2)]
    report = ingest_imdb(con, RATINGS, write_dump(tmp_path / "few", RATINGS, "tt9999 5.0 10", *few))
    assert (report.loaded_rows, report.quarantined_rows) == (1, RETYPED_VALUES - 2)
    half = [f"tt{n} {'great' if n % 2 else '5.0'} 10" for n in range(40)]
    report = ingest_imdb(con, RATINGS, write_dump(tmp_path / "half", RATINGS, *half))
    assert (report.loaded_rows, report.quarantined_rows) == (20, 20)


def test_only_values_that_are_there_count_and_rows_broken_elsewhere_count_for_what_they_hold(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    # endYear: 30 values of 1,000 rows, 20 of them text. runtimeMinutes and startYear: broken in 45 of 100 rows each.
    base = {"primaryTitle": "A", "endYear": r"\N", "runtimeMinutes": "90"}
    rows = [
        _dump_row("title.basics", **base | {"tconst": f"tt{n}"} | ({"endYear": "late"} if n < 20 else {}))
        for n in range(970)
    ]
    rows += [_dump_row("title.basics", **base | {"tconst": f"tt{n}", "endYear": "1999"}) for n in range(970, 980)]
    with pytest.raises(SourceError, match=r"the column endYear should be .* 20 of its 30 values are not"):
        ingest_imdb(con, "title.basics", write_dump(tmp_path / "sparse", "title.basics", *rows))
    both = [
        _dump_row(
            "title.basics",
            tconst=f"tt{n}",
            startYear="soon" if n < 45 else "1999",
            runtimeMinutes="long" if 40 <= n < 85 else "90",
        )
        for n in range(100)
    ]
    report = ingest_imdb(con, "title.basics", write_dump(tmp_path / "both", "title.basics", *both))
    assert report.reasons == {"unparsable number in runtimeMinutes": 40, "unparsable number in startYear": 45}


def test_a_retyped_time_or_rating_of_an_edition_leaves_all_tables_of_the_edition_before(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    ingest_movielens(con, editions.csv_edition(tmp_path / "good", tags=editions.TAGS_CSV + "broken\n"))
    before = state(con)
    stars = "".join(f"{user},1,{20 * (user % 5 + 1)},{user}\n" for user in range(1, 31))
    days = "".join(f"{user},1,fun,2001-02-{user:02}\n" for user in range(1, 29))
    for changed, said in (
        ({"ratings": "userId,movieId,rating,timestamp\n" + stars}, "a number from 0.5 up to 5 in steps of 0.5"),
        ({"tags": "userId,movieId,tag,timestamp\n" + days}, "timestamp should be seconds since 1970 (BIGINT), but 28"),
    ):
        files = editions.csv_edition(tmp_path / "bad", **changed, links=editions.LINKS_CSV + "11,1,2\n")
        with pytest.raises(SourceError, match=re.escape(said)):
            ingest_movielens(con, files)
        assert state(con) == before

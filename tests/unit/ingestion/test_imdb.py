r"""The seven IMDb dumps, in their true form: tabs, a header, no quoting, ``\N`` for what is missing."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from orchestration.ingestion.imdb import DUMPS, ingest_imdb, table_of
from orchestration.ingestion.raw_tables import IMDB_TABLES
from settings import IMDB_DUMPS
from tests.unit.ingestion.editions import assert_adds_up, quarantined, write_dump


def test_the_dumps_of_the_settings_are_those_that_have_a_layout_and_a_table() -> None:
    assert tuple(DUMPS) == IMDB_DUMPS
    assert [table_of(dump) for dump in DUMPS] == list(IMDB_TABLES)
    for dump, layout in DUMPS.items():
        assert layout.names == tuple(column.name for column in table_of(dump).columns)


@pytest.mark.parametrize(
    ("dump", "row", "values"),
    [
        (
            "title.basics",
            'tt0000001\tshort\tThe "One"\t\'L\'Un"\t0\t1894\t\\N\t1\tDocumentary,Short',
            ("tt0000001", "short", 'The "One"', "'L'Un\"", False, 1894, None, 1, "Documentary,Short"),
        ),
        (
            "title.basics",
            "tt10000002\t\\N\t|a,b|::ゴッド\t\\N\t1\t\\N\t\\N\t\\N\t\\N",
            ("tt10000002", None, "|a,b|::ゴッド", None, True, None, None, None, None),
        ),
        ("title.ratings", "tt0000001\t5.7\t2150", ("tt0000001", Decimal("5.7"), 2150)),
        ("title.ratings", "tt0000001\t10\t5", ("tt0000001", Decimal("10.0"), 5)),
        ("title.crew", "tt0066787\tnm0002411,nm1\t\\N", ("tt0066787", "nm0002411,nm1", None)),
        (
            "title.principals",
            'tt0000001\t1\tnm1588970\tself\t\\N\t["Self \\"x\\""]',
            ("tt0000001", 1, "nm1588970", "self", None, '["Self \\"x\\""]'),
        ),
        ("title.episode", "tt0041951\ttt0041038\t1\t\\N", ("tt0041951", "tt0041038", 1, None)),
        (
            "title.akas",
            "tt0068646\t10\tNatlimama\tGE\t\\N\timdbDisplay\t\\N\t0",
            ("tt0068646", 10, "Natlimama", "GE", None, "imdbDisplay", None, False),
        ),
        (
            "name.basics",
            "nm0000001\tFred Astaire\t1899\t1987\tactor,producer\ttt0072308,tt0050419",
            ("nm0000001", "Fred Astaire", 1899, 1987, "actor,producer", "tt0072308,tt0050419"),
        ),
    ],
)
def test_a_row_of_each_dump_is_read_as_what_it_means(
    con: duckdb.DuckDBPyConnection, tmp_path: Path, dump: str, row: str, values: tuple[object, ...]
) -> None:
    report = ingest_imdb(con, dump, write_dump(tmp_path, dump, row))
    assert_adds_up(con, report)
    assert con.execute(f"SELECT * FROM raw.{report.table}").fetchall() == [values]


def test_a_dump_that_is_not_asked_for_is_an_empty_table_and_takes_its_old_rows_with_it(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    ingest_imdb(con, "title.crew", write_dump(tmp_path, "title.crew", "tt1 nm1 nm2", "broken"))
    report = ingest_imdb(con, "title.crew", None)
    assert_adds_up(con, report)
    assert (report.file, report.file_rows) == (None, 0)
    assert con.execute("SELECT file, sha256, snapshot_at FROM raw.loads").fetchall() == [(None, None, None)]
    assert [(name, kind) for name, kind, *_ in con.execute("DESCRIBE raw.imdb_title_crew").fetchall()] == [
        (column.name, column.type) for column in table_of("title.crew").columns
    ]


def test_the_snapshot_time_is_the_one_that_the_gzip_states(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    ingest_imdb(con, "title.ratings", write_dump(tmp_path, "title.ratings", "tt1 5.0 10", mtime=1_700_000_000))
    assert con.execute("SELECT snapshot_at FROM raw.loads").fetchall() == [(datetime(2023, 11, 14, 22, 13, 20),)]


@pytest.mark.parametrize(
    ("dump", "good", "bad", "reason"),
    [
        ("title.ratings", "tt1 5.0 10", "tt1 6.0 11", "duplicate key"),
        ("title.ratings", "tt1 5.0 10", "tt2 11.0 11", "number out of range in averageRating"),
        ("title.ratings", "tt1 5.0 10", "tt2 5.55 11", "number out of range in averageRating"),
        ("title.ratings", "tt1 5.0 10", "tt2 5.5 -11", "number out of range in numVotes"),
        ("title.ratings", "tt1 5.0 10", r"tt2 5.5 \N", "missing value in numVotes"),
        ("title.ratings", "tt1 5.0 10", r"\N 5.5 10", "missing key in tconst"),
        ("title.ratings", "tt1 5.0 10", "tt2 5.5", "wrong number of fields"),
        ("title.crew", "tt1 nm1 nm2", "tt1 nm1 nm2", "duplicate key"),
        ("title.episode", r"tt1 tt2 1 \N", "tt3 tt2 one 2", "unparsable number in seasonNumber"),
        ("title.akas", r"tt1 1 a \N \N \N \N 1", r"tt1 1 b \N \N \N \N 0", "duplicate key"),
        ("title.akas", r"tt1 1 a \N \N \N \N 1", r"tt1 2 b \N \N \N \N yes", "unknown code in isOriginalTitle"),
        ("name.basics", r"nm1 Fred 1899 1987 \N \N", r"nm1 Ted 1899 \N \N \N", "duplicate key"),
        ("name.basics", r"nm1 Fred 1899 1987 \N \N", r"nm2 Ted c.1899 \N \N \N", "unparsable number in birthYear"),
    ],
)
def test_a_broken_row_of_a_dump_goes_to_quarantine(
    con: duckdb.DuckDBPyConnection, tmp_path: Path, dump: str, good: str, bad: str, reason: str
) -> None:
    report = ingest_imdb(con, dump, write_dump(tmp_path, dump, good, bad))
    assert_adds_up(con, report)
    assert quarantined(con, report.table) == [(3, reason, bad.replace(" ", "\t"))]
    assert report.loaded_rows == 1


def test_two_rows_of_one_title_differ_by_their_ordering(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    rows = [rf"tt{title} {ordering} nm1 actor \N \N" for title in (2, 1) for ordering in (2, 1)]
    report = ingest_imdb(con, "title.principals", write_dump(tmp_path, "title.principals", *rows, rows[2]))
    assert (report.loaded_rows, report.reasons) == (4, {"duplicate key": 1})


def test_a_gzip_of_several_members_is_read_to_its_end(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    import gzip

    path = write_dump(tmp_path, "title.ratings", "tt1 5.0 10")
    path.write_bytes(path.read_bytes() + gzip.compress(b"tt2\t6.0\t11\n"))
    report = ingest_imdb(con, "title.ratings", path)
    assert_adds_up(con, report)
    assert report.loaded_rows == 2


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("dump", "rows"),
    [("title.basics", 176_034), ("title.ratings", 237_968), ("title.crew", 146_144), ("title.akas", 2_570)],
)
def test_the_real_dumps_load_to_the_row(con: duckdb.DuckDBPyConnection, real_data: Path, dump: str, rows: int) -> None:
    report = ingest_imdb(con, dump, real_data / "imdb" / "full" / f"{dump}.tsv.gz")
    assert_adds_up(con, report)
    assert (report.file_rows, report.quarantined_rows) == (rows, 0)

"""Rows that break a rule: each is kept with its line, the reason and its text, and the counts add up."""

from __future__ import annotations

import random
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from orchestration.ingestion.load_report import LoadReport
from orchestration.ingestion.movielens import ingest_movielens
from tests.unit.ingestion import editions
from tests.unit.ingestion.editions import assert_adds_up, quarantined

HEADER = "userId,movieId,rating,timestamp\n"
GOOD = "1,1,4.0,964982703"


def load_ratings(con: duckdb.DuckDBPyConnection, folder: Path, body: str | bytes) -> LoadReport:
    files = editions.csv_edition(folder)
    (folder / "ratings.csv").write_bytes(HEADER.encode() + (body.encode() if isinstance(body, str) else body))
    [report] = ingest_movielens(con, files, ["ml_ratings"])
    assert_adds_up(con, report)
    return report


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("2,1,4.0", "wrong number of fields"),
        ("2,1,4.0,1,9", "wrong number of fields"),
        ("hello", "wrong number of fields"),
        ("", "blank line"),
        (",1,4.0,1", "missing key in userId"),
        ("2,,4.0,1", "missing key in movieId"),
        ("2,1,,1", "missing value in rating"),
        ("2,1,4.0,", "missing value in timestamp"),
        ("2x,1,4.0,1", "unparsable number in userId"),
        ("2.0,1,4.0,1", "unparsable number in userId"),
        (" 2,1,4.0,1", "unparsable number in userId"),
        ("2,1e0,4.0,1", "unparsable number in movieId"),
        ("2,1,four,1", "unparsable number in rating"),
        ("2,1,nan,1", "unparsable number in rating"),
        ("2,1,4e0,1", "unparsable number in rating"),
        ("0,1,4.0,1", "number out of range in userId"),
        ("-2,1,4.0,1", "number out of range in userId"),
        ("9999999999,1,4.0,1", "number out of range in userId"),
        ("2,1,0.0,1", "rating out of range"),
        ("2,1,5.5,1", "rating out of range"),
        ("2,1,55,1", "rating out of range"),
        ("2,1,-1,1", "rating out of range"),
        ("2,1,3.7,1", "rating out of range"),
        ("2,1,3.49,1", "rating out of range"),
        ("2,1,4.0,-1", "bad timestamp"),
        ("2,1,4.0,soon", "bad timestamp"),
        ("2,1,4.0,964982703.5", "bad timestamp"),
        ("2,1,4.0,99999999999999", "bad timestamp"),
        ("2,999,4.0,1", "unknown movie"),
        ("1,1,2.0,7", "duplicate key"),
        ('2,1,"4.0,1', "broken quoting"),
        ('2,1,"4.0"x,1', "broken quoting"),
    ],
)
def test_a_broken_rating_goes_to_quarantine_with_its_line_reason_and_text(
    con: duckdb.DuckDBPyConnection, tmp_path: Path, row: str, reason: str
) -> None:
    report = load_ratings(con, tmp_path, f"{GOOD}\n{row}\n3,1,4.5,2\n")
    assert quarantined(con, "ml_ratings") == [(3, reason, row)]
    assert report.reasons == {reason: 1}
    assert con.execute('SELECT "userId", rating FROM raw.ml_ratings ORDER BY ALL').fetchall() == [
        (1, Decimal("4.0")),
        (3, Decimal("4.5")),
    ]


def test_whole_star_editions_refuse_half_stars(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    files = editions.ml_1m(tmp_path)
    (tmp_path / "ratings.dat").write_text("1::1::5::978300760\n1::73::3.5::978300760\n1::73::0::978300760\n")
    [report] = ingest_movielens(con, files, ["ml_ratings"])
    assert_adds_up(con, report)
    assert quarantined(con, "ml_ratings") == [
        (2, "rating out of range", "1::73::3.5::978300760"),
        (3, "rating out of range", "1::73::0::978300760"),
    ]


@pytest.mark.parametrize("body", [f"{GOOD}\r\n\r\n\r\n", f"{GOOD}\n\n\n"])
def test_blank_lines_are_rows_that_are_not_lost(con: duckdb.DuckDBPyConnection, tmp_path: Path, body: str) -> None:
    assert load_ratings(con, tmp_path, body).file_rows == 3
    assert quarantined(con, "ml_ratings") == [(3, "blank line", ""), (4, "blank line", "")]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_last_line_without_its_end_counts(con: duckdb.DuckDBPyConnection, tmp_path: Path, newline: str) -> None:
    files = editions.csv_edition(tmp_path, ratings=f"{HEADER}{GOOD}\n2,1,3.0,5", newline=newline)
    [report] = ingest_movielens(con, files, ["ml_ratings"])
    assert_adds_up(con, report)
    assert report.loaded_rows == 2


def test_line_ends_of_both_kinds_in_one_file_keep_their_line_numbers(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    load_ratings(con, tmp_path, f"{GOOD}\r\n2,1,3.0,5\n3,1,x,5\r\n4,1,y,5\n")
    assert [line for line, _, _ in quarantined(con, "ml_ratings")] == [4, 5]


def test_bytes_that_are_no_utf_8_are_shown_and_do_not_shift_the_lines_after(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    load_ratings(con, tmp_path, GOOD.encode() + b"\n2,1,\xff\xfe,5\n3,1,x,5\n4,1,3.0,5\n")
    assert quarantined(con, "ml_ratings") == [
        (3, "undecodable bytes", "2,1,\\xff\\xfe,5"),
        (4, "unparsable number in rating", "3,1,x,5"),
    ]


def test_a_carriage_return_or_a_control_character_inside_a_field_is_kept(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    files = editions.csv_edition(tmp_path, newline="\n")
    (tmp_path / "tags.csv").write_bytes(
        b"userId,movieId,tag,timestamp\n1,1,a\rb,5\n1,1,c\x01\x02\x03d,6\n1,1,x\x00y,7\nz\r,1\n"
    )
    [report] = ingest_movielens(con, files, ["ml_tags"])
    assert_adds_up(con, report)
    assert con.execute("SELECT tag FROM raw.ml_tags ORDER BY timestamp").fetchall() == [
        ("a\rb",),
        ("c\x01\x02\x03d",),
        ("x\x00y",),
    ]
    assert quarantined(con, "ml_tags") == [(5, "wrong number of fields", "z\r,1")]


def test_a_byte_order_mark_is_no_part_of_the_header_or_the_first_row(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    files = editions.csv_edition(tmp_path, ratings=f"\ufeff{HEADER}{GOOD}\n")
    [report] = ingest_movielens(con, files, ["ml_ratings"])
    assert (report.loaded_rows, report.quarantined_rows) == (1, 0)
    files = editions.ml_10m(tmp_path / "dat")
    (tmp_path / "dat" / "ratings.dat").write_text("\ufeff1::1::5::838985046\n")
    [report] = ingest_movielens(con, files, ["ml_ratings"])
    assert (report.loaded_rows, report.quarantined_rows) == (1, 0)


def test_of_rows_with_one_key_the_first_sound_one_stays(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    body = "2,1,9.0,1\n2,1,3.0,2\n1,1,4.0,3\n2,1,3.0,2\n2,1,1.0,5\n1,1,0.5,6\n"
    load_ratings(con, tmp_path, body)
    assert con.execute('SELECT "userId", rating, "timestamp" FROM raw.ml_ratings ORDER BY ALL').fetchall() == [
        (1, Decimal("4.0"), 3),
        (2, Decimal("3.0"), 2),
    ]
    assert [(line, reason) for line, reason, _ in quarantined(con, "ml_ratings")] == [
        (2, "rating out of range"),
        (5, "duplicate key"),
        (6, "duplicate key"),
        (7, "duplicate key"),
    ]


def test_a_movie_that_is_itself_in_quarantine_is_unknown_to_ratings(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    movies = editions.MOVIES_CSV + "12,Untitled (2001),Drama,surplus\n"
    reports = ingest_movielens(
        con, editions.csv_edition(tmp_path, movies=movies, ratings=f"{HEADER}{GOOD}\n1,12,3.0,4\n")
    )
    assert [(report.table, report.reasons) for report in reports if report.reasons] == [
        ("ml_ratings", {"unknown movie": 1}),
        ("ml_movies", {"wrong number of fields": 1}),
    ]


def test_a_quoted_field_may_run_over_lines_and_the_lines_after_keep_their_numbers(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    rows = ['1,1,"two\nlines, ""really""",5', "1,7,x,y", '1,7,"three\n\nlines",6', "1,11,plain,7", "z"]
    tags = "\n".join(["userId,movieId,tag,timestamp", *rows, ""])
    [report] = ingest_movielens(con, editions.csv_edition(tmp_path, tags=tags), ["ml_tags"])
    assert_adds_up(con, report)
    assert report.file_rows == 5
    assert con.execute("SELECT tag FROM raw.ml_tags ORDER BY timestamp").fetchall() == [
        ('two\nlines, "really"',),
        ("three\n\nlines",),
        ("plain",),
    ]
    assert quarantined(con, "ml_tags") == [(4, "bad timestamp", "1,7,x,y"), (9, "wrong number of fields", "z")]


def test_a_quote_that_is_never_closed_costs_its_own_row_only(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    rows = [f"{user},1,tag {user},{user}" for user in range(1, 101)]
    rows[4] = '5,1,"open,5'
    rows[60] = '61,1,"sound, sound",61'
    [report] = ingest_movielens(
        con,
        editions.csv_edition(tmp_path, tags="userId,movieId,tag,timestamp\n" + "\n".join(rows) + "\n"),
        ["ml_tags"],
    )
    assert_adds_up(con, report)
    assert quarantined(con, "ml_tags") == [(6, "broken quoting", '5,1,"open,5')]
    assert report.loaded_rows == 99


def test_flags_and_codes_that_nobody_defined_go_to_quarantine(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    files = editions.ml_100k(tmp_path / "100k")
    lines = editions.U_ITEM.splitlines()
    lines[1] = lines[1].replace("|1|0|", "|2|0|")
    (tmp_path / "100k" / "u.item").write_text("\n".join(lines) + "\n", encoding="latin-1")
    ingest_movielens(con, files)
    assert quarantined(con, "ml_movies") == [(2, "unknown code in unknown", lines[1])]
    files = editions.ml_1m(tmp_path / "1m")
    (tmp_path / "1m" / "users.dat").write_text("1::F::1::10::48067\n2::M::56::99::70072\n")
    ingest_movielens(con, files)
    assert quarantined(con, "ml_users") == [(2, "unknown code in occupation", "2::M::56::99::70072")]


def test_a_new_load_replaces_the_quarantine_of_its_table_and_of_no_other(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    tags = editions.TAGS_CSV + "broken\n"
    ingest_movielens(con, editions.csv_edition(tmp_path, ratings=f"{HEADER}{GOOD}\nbroken\n", tags=tags))
    assert len(quarantined(con, "ml_ratings")) == len(quarantined(con, "ml_tags")) == 1
    ingest_movielens(con, editions.csv_edition(tmp_path), ["ml_ratings"])
    assert (len(quarantined(con, "ml_ratings")), len(quarantined(con, "ml_tags"))) == (0, 1)


def test_line_numbers_hold_far_into_a_file_that_is_read_in_parallel(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    # 700,000 rows are several of DuckDB's units of work.
    count, wrong = 700_000, (2, 300_000, 499_999, 699_998)
    con.execute(
        f"""
        COPY (SELECT i + 1 AS "userId", 1 AS "movieId", CASE WHEN i IN {wrong} THEN 'x' || i ELSE '4.0' END AS rating,
            i AS "timestamp" FROM range({count}) AS r(i))
        TO '{tmp_path}/ratings.csv' (header, delimiter ',', quote '')
        """
    )
    (tmp_path / "movies.csv").write_text(editions.MOVIES_CSV)
    (tmp_path / "links.csv").write_text(editions.LINKS_CSV)
    (tmp_path / "tags.csv").write_text(editions.TAGS_CSV)
    files = editions.EditionFiles("ml-latest", tmp_path, "test")
    [report] = ingest_movielens(con, files, ["ml_ratings"])
    assert_adds_up(con, report)
    assert quarantined(con, "ml_ratings") == [
        (i + 2, "unparsable number in rating", f"{i + 1},1,x{i},{i}") for i in wrong
    ]
    # The rows stay in file order, by which uniqueness is checked without grouping.
    assert con.execute(
        'SELECT count(*) FROM (SELECT "userId" - lag("userId") OVER () AS step FROM raw.ml_ratings) WHERE step < 1'
    ).fetchone() == (0,)


@pytest.mark.parametrize("seed", range(12))
def test_whatever_is_done_to_a_file_every_line_is_loaded_or_in_quarantine_as_it_stands(
    con: duckdb.DuckDBPyConnection, tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    lines = [f"{user},{rng.choice([1, 7, 11])},{rng.randint(1, 10) / 2},{user}".encode() for user in range(1, 60)]
    for _ in range(rng.randint(1, 12)):
        place = rng.randrange(len(lines))
        line = lines[place]
        cut = rng.randrange(len(line) + 1)
        lines[place] = rng.choice(
            [
                line[:cut],
                line[:cut] + rng.choice([b",", b";", b"\xc3", b"\r", b"\x01", b"\x00", b" ", b"'", b"::"]) + line[cut:],
                line[:cut] + rng.randbytes(3).translate(None, b'\n"') + line[cut:],
                b"",
                rng.choice(lines),
            ]
        )
    body = b"\n".join(lines) + rng.choice([b"", b"\n"])
    report = load_ratings(con, tmp_path, body)
    whole = body.removesuffix(b"\n").split(b"\n") if body.endswith(b"\n") else body.split(b"\n")
    # A file that ends in an empty line without line end does not have that line.
    assert report.file_rows == len(whole) - (not body.endswith(b"\n") and whole[-1] == b"")
    for line, reason, content in quarantined(con, "ml_ratings"):
        raw = whole[line - 2].removesuffix(b"\r")
        if reason == "undecodable bytes":
            assert content == "".join(
                f"\\x{ord(c) - 0xDC00:02x}" if 0xDC80 <= ord(c) <= 0xDCFF else c
                for c in raw.decode(errors="surrogateescape")
            )
        else:
            assert content == raw.decode()

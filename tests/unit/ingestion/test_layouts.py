"""Every MovieLens layout, read from a small file of its true form."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from models.data.movielens import EDITIONS
from orchestration.errors import SourceError
from orchestration.ingestion.movielens import edition_digest, ingest_movielens
from orchestration.ingestion.raw_tables import MOVIELENS_TABLES, TABLES
from orchestration.ingestion.source_resolver import EditionFiles
from settings import EDITIONS as SETTINGS_EDITIONS
from tests.unit.ingestion import editions
from tests.unit.ingestion.editions import assert_adds_up, quarantined


def rows(con: duckdb.DuckDBPyConnection, table: str, columns: str = "*") -> list[tuple[object, ...]]:
    return con.execute(f"SELECT {columns} FROM raw.{table} ORDER BY ALL").fetchall()


def test_the_editions_of_the_settings_are_those_that_have_a_layout() -> None:
    assert set(EDITIONS) == set(SETTINGS_EDITIONS)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("name", editions.CSV_EDITIONS)
def test_a_csv_edition_is_read_with_quotes_accents_and_either_line_end(
    con: duckdb.DuckDBPyConnection, tmp_path: Path, name: str, newline: str
) -> None:
    reports = ingest_movielens(con, editions.csv_edition(tmp_path / name, name, newline))
    assert [report.table for report in reports] == [table.name for table in MOVIELENS_TABLES]
    for report in reports:
        assert_adds_up(con, report)
        assert report.quarantined_rows == 0
    assert rows(con, "ml_ratings") == [
        (name, 1, 1, Decimal("4.0"), 964982703),
        (name, 1, 7, Decimal("0.5"), 964981247),
        (name, 2, 1, Decimal("5.0"), 0),
    ]
    assert rows(con, "ml_movies") == [
        (name, 1, "Toy Story (1995)", "Adventure|Animation|Children", None, None, None),
        (name, 7, "City of Lost Children, The (Cité des enfants perdus, La) (1995)", "Adventure|Drama", *[None] * 3),
        (name, 11, '"Great Performances" Cats (1998)', "(no genres listed)", None, None, None),
    ]
    assert rows(con, "ml_links") == [(name, 1, "0114709", 862), (name, 7, "0112682", None)]
    assert rows(con, "ml_tags") == [
        (name, 2, 1, 'toys, "alive"', 1445714994),
        (name, 2, 7, "été", 1445714996),
    ]
    assert rows(con, "ml_users") == []
    if name in editions.GENOME_EDITIONS:
        assert rows(con, "ml_genome_scores", '"movieId", "tagId", relevance::VARCHAR') == [
            (1, 1, "0.025"),
            (1, 2, "0.00025"),
            (7, 1, "1.0"),
        ]
        assert rows(con, "ml_genome_tags") == [(name, 1, "007"), (name, 2, 'art, "modern"')]
    else:
        assert rows(con, "ml_genome_scores") == rows(con, "ml_genome_tags") == []


def test_only_ml_latest_may_come_without_the_genome(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    files = editions.csv_edition(tmp_path, "ml-latest")
    whole = edition_digest(files)
    (tmp_path / "genome-tags.csv").unlink()
    reports = {report.table: report for report in ingest_movielens(con, files)}
    assert (reports["ml_genome_scores"].loaded_rows, reports["ml_genome_tags"].file) == (3, None)
    (tmp_path / "genome-scores.csv").unlink()
    reports = {report.table: report for report in ingest_movielens(con, files)}
    assert (reports["ml_genome_scores"].file, reports["ml_genome_scores"].loaded_rows) == (None, 0)
    assert edition_digest(files) != whole
    with pytest.raises(SourceError, match=r"genome-scores\.csv does not exist"):
        ingest_movielens(con, EditionFiles("ml-25m", tmp_path, "test"))


def test_a_score_of_an_unknown_film_or_tag_or_out_of_range_goes_to_quarantine(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    scores = editions.GENOME_SCORES_CSV + "999,1,0.5\n1,3,0.5\n7,2,1.01\n7,2,-0.1\n1,1,0.5\n11,2,0.5\n"
    files = editions.csv_edition(tmp_path, "ml-25m", genome_scores=scores)
    [report] = ingest_movielens(con, files, ["ml_genome_scores"])
    assert_adds_up(con, report)
    assert [(line, reason) for line, reason, _ in quarantined(con, "ml_genome_scores")] == [
        (5, "unknown movie"),
        (6, "unknown tag"),
        (7, "number out of range in relevance"),
        (8, "number out of range in relevance"),
        (9, "duplicate key"),
    ]
    assert report.loaded_rows == 4


def test_ml_100k_has_latin_1_titles_genre_flags_dates_and_users(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    for report in ingest_movielens(con, editions.ml_100k(tmp_path)):
        assert_adds_up(con, report)
        assert report.quarantined_rows == 0
    assert rows(con, "ml_movies", "movieId, title, genres, releaseDate, videoReleaseDate, url") == [
        (
            1,
            "Toy Story (1995)",
            "Animation|Children's|Comedy",
            "01-Jan-1995",
            None,
            "http://us.imdb.com/M/title-exact?Toy%20Story%20(1995)",
        ),
        (267, "unknown", "(no genres listed)", None, None, None),
        (
            543,
            "Misérables, Les (1995)",
            "Drama|Musical",
            "01-Jan-1995",
            None,
            "http://us.imdb.com/M/title-exact?Mis%E9rables",
        ),
    ]
    assert rows(con, "ml_ratings", "userId, movieId, rating, timestamp") == [
        (186, 543, Decimal("1.0"), 891717742),
        (196, 1, Decimal("3.0"), 881250949),
    ]
    assert rows(con, "ml_users") == [
        ("ml-100k", 186, "M", 24, "technician", "85711"),
        ("ml-100k", 196, "F", 53, "other", "T8H1N"),
    ]
    assert rows(con, "ml_links") == rows(con, "ml_tags") == []


def test_ml_1m_has_users_whose_occupation_is_named_and_whose_age_is_the_lower_bound(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    for report in ingest_movielens(con, editions.ml_1m(tmp_path)):
        assert_adds_up(con, report)
        assert report.quarantined_rows == 0
    assert rows(con, "ml_movies", "movieId, title, genres") == [
        (1, "Toy Story (1995)", "Animation|Children's|Comedy"),
        (73, "Misérables, Les (1995)", "Drama|Musical"),
    ]
    assert rows(con, "ml_users", "userId, gender, age, occupation, zipCode") == [
        (1, "F", 1, "K-12 student", "48067"),
        (2, "M", 56, "self-employed", "70072-1234"),
    ]


def test_ml_10m_has_half_stars_and_tags_in_double_colons(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    for report in ingest_movielens(con, editions.ml_10m(tmp_path)):
        assert_adds_up(con, report)
        assert report.quarantined_rows == 0
    assert rows(con, "ml_ratings", "rating") == [(Decimal("3.5"),), (Decimal("5.0"),)]
    assert rows(con, "ml_tags", "userId, movieId, tag, timestamp") == [(15, 1, 'it\'s: "fun"', 1215184630)]
    assert rows(con, "ml_movies", "title")[0] == ("Misérables, Les (1995)",)


def test_every_table_has_the_columns_that_its_description_says_also_when_empty(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    ingest_movielens(con, editions.ml_10m(tmp_path))
    for table in MOVIELENS_TABLES:
        found = con.execute(
            "SELECT column_name, data_type FROM duckdb_columns() WHERE schema_name = 'raw' AND table_name = ?"
            " ORDER BY column_index",
            [table.name],
        ).fetchall()
        assert found == [(column.name, column.type) for column in TABLES[table.name].columns]


def test_columns_in_another_order_are_found_by_their_names(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    files = editions.csv_edition(tmp_path, ratings="rating,timestamp,movieId,userId\n4.5,10,7,3\n")
    ingest_movielens(con, files)
    assert rows(con, "ml_ratings", "userId, movieId, rating, timestamp") == [(3, 7, Decimal("4.5"), 10)]


def test_only_the_tables_asked_for_are_replaced(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    ingest_movielens(con, editions.csv_edition(tmp_path / "a"))
    other = editions.csv_edition(
        tmp_path / "b", tags="userId,movieId,tag,timestamp\n", ratings=editions.RATINGS_CSV[:52]
    )
    [report] = ingest_movielens(con, other, ["ml_tags"])
    assert (report.table, report.loaded_rows) == ("ml_tags", 0)
    assert len(rows(con, "ml_ratings")) == 3


def test_a_load_notes_the_files_digest_and_its_own_time(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    import hashlib
    import os

    files = editions.csv_edition(tmp_path)
    os.utime(tmp_path / "ratings.csv", (1_600_000_000, 1_600_000_000))
    ingest_movielens(con, files)
    noted = con.execute("SELECT file, sha256, snapshot_at FROM raw.loads WHERE table_name = 'ml_ratings'").fetchall()
    digest = hashlib.sha256(editions.RATINGS_CSV.encode()).hexdigest()
    assert noted == [("ratings.csv", digest, datetime(2020, 9, 13, 12, 26, 40))]
    assert con.execute(
        "SELECT file, sha256, snapshot_at, file_rows FROM raw.loads WHERE table_name = 'ml_users'"
    ).fetchall() == [(None, None, None, 0)]


def test_an_editions_digest_follows_its_content_and_not_its_folder(tmp_path: Path) -> None:
    first, second = (editions.csv_edition(tmp_path / folder) for folder in "ab")
    changed = editions.csv_edition(tmp_path / "c", links=editions.LINKS_CSV + "11,1,2\n")
    assert edition_digest(first) == edition_digest(second) != edition_digest(changed)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("ml-100k", {"ml_movies": 1_682, "ml_ratings": 100_000, "ml_users": 943}),
        (
            "ml-latest-small",
            {"ml_movies": 9_742, "ml_ratings": 100_836, "ml_links": 9_742, "ml_tags": 3_683},
        ),
    ],
)
def test_the_real_editions_load_to_the_row(
    con: duckdb.DuckDBPyConnection, real_data: Path, name: str, counts: dict[str, int]
) -> None:
    if not (real_data / name).is_dir():
        pytest.skip(f"no {name} under {real_data}")
    reports = ingest_movielens(con, EditionFiles(name, real_data / name, "test"))
    assert {report.table: report.loaded_rows for report in reports if report.file} == counts
    assert sum(report.quarantined_rows for report in reports) == 0
    published = EDITIONS[name].published
    assert published is not None
    assert con.execute('SELECT count(*), count(DISTINCT "userId") FROM raw.ml_ratings').fetchone() == (
        published.ratings,
        published.users,
    )
    assert con.execute("SELECT count(*) FROM raw.ml_movies").fetchone() == (published.movies,)


@pytest.mark.real_data
def test_the_real_movies_and_users_of_ml_1m_load_to_the_row(
    con: duckdb.DuckDBPyConnection, real_data: Path, tmp_path: Path
) -> None:
    if not (real_data / "ml-1m").is_dir():
        pytest.skip(f"no ml-1m under {real_data}")
    # The real ratings.dat is not among the files, so a row stands for it.
    for name in ("movies.dat", "users.dat"):
        (tmp_path / name).symlink_to(real_data / "ml-1m" / name)
    (tmp_path / "ratings.dat").write_text("1::1193::5::978300760\n")
    reports = {report.table: report for report in ingest_movielens(con, EditionFiles("ml-1m", tmp_path, "test"))}
    assert (reports["ml_movies"].loaded_rows, reports["ml_users"].loaded_rows) == (3_883, 6_040)
    assert reports["ml_movies"].quarantined_rows == reports["ml_users"].quarantined_rows == 0
    assert con.execute("SELECT count(*) FROM raw.ml_movies WHERE title LIKE '%é%'").fetchone() > (0,)
    assert con.execute("SELECT count(DISTINCT occupation) FROM raw.ml_users").fetchone() == (21,)

"""The streaming catalogues into raw tables: what is loaded, what goes to quarantine, what may be missing."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from orchestration.errors import SourceError
from orchestration.ingestion.source_resolver import locate_streaming
from orchestration.ingestion.streaming import PLATFORMS, absence, ingest_streaming, streaming_digest
from settings import Settings
from tests.unit.ingestion.catalogues import write_catalogues


def quarantine(con: duckdb.DuckDBPyConnection) -> list[tuple[str, str, int, str]]:
    return con.execute("SELECT table_name, file, line, reason FROM raw.quarantine ORDER BY ALL").fetchall()


def test_the_four_files_are_read_whatever_their_marks_line_ends_and_quoted_line_ends(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    reports = ingest_streaming(con, write_catalogues(tmp_path / "streaming"))
    assert [(report.table, report.file_rows, report.loaded_rows) for report in reports] == [
        ("streaming_netflix_titles", 2, 2),
        ("streaming_amazon_prime_titles", 1, 1),
        ("streaming_disney_plus_titles", 1, 1),
        ("streaming_hulu_titles", 1, 1),
        ("streaming_ratings", 4, 4),
    ]
    assert con.execute("SELECT platform, show_id, description FROM raw.streaming_amazon_prime_titles").fetchall() == [
        ("amazon", "s1", 'Rain, "more" rain\nand wind.')
    ]
    assert quarantine(con) == []


def test_a_broken_row_of_a_catalogue_goes_to_quarantine_with_its_reason(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    rows = (
        "s1,Movie,A,,,,,2000,G,9 min,Drama,D\r\n,Movie,B,,,,,2000,G,9 min,Drama,D\r\n"
        "s3,Movie,,,,,,2000,G,9 min,Drama,D\r\n"
        "s4,Movie,D,,,,,soon,G,9 min,Drama,D\r\ns5,Movie,E,,,\r\ns1,Movie,F,,,,,2000,G,9 min,Drama,D\r\n"
    )
    folder = write_catalogues(tmp_path / "streaming", ratings={}, netflix=rows)
    [netflix, *_, ratings] = ingest_streaming(con, folder)
    assert (netflix.file_rows, netflix.loaded_rows, netflix.quarantined_rows) == (6, 1, 5)
    assert [(line, reason) for _, _, line, reason in quarantine(con)] == [
        (3, "missing key in show_id"),
        (4, "missing value in title"),
        (5, "unparsable number in release_year"),
        (6, "wrong number of fields"),
        (7, "duplicate key"),
    ]
    assert (ratings.file, ratings.loaded_rows) == (None, 0)


def test_ratings_come_from_several_files_and_each_has_its_own_account(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    header = "userId,rating,timestamp,movieId\n"
    files = {
        "a.csv": f"{header}1,4.5,5,ns1\n1,6,5,ns1\n1,4,5,ns99\n",
        "b.csv": f"{header}1,3,9,ns1\nx,3,9,ns1\n",
        "c.csv": header,
    }
    folder = write_catalogues(tmp_path / "streaming", ratings=files)
    for _ in range(2):
        ingest_streaming(con, folder)
        assert con.execute(
            "SELECT file, file_rows, loaded_rows, quarantined_rows FROM raw.loads"
            " WHERE table_name = 'streaming_ratings' ORDER BY file"
        ).fetchall() == [("a.csv", 3, 1, 2), ("b.csv", 2, 1, 1), ("c.csv", 0, 0, 0)]
        assert quarantine(con) == [
            ("streaming_ratings", "a.csv", 3, "rating out of range"),
            ("streaming_ratings", "a.csv", 4, "unknown movie"),
            ("streaming_ratings", "b.csv", 3, "unparsable number in userId"),
        ]
        assert con.execute("SELECT rating::DOUBLE, file FROM raw.streaming_ratings ORDER BY ALL").fetchall() == [
            (3.0, "b.csv"),
            (4.5, "a.csv"),
        ]
    (folder / "ratings" / "a.csv").unlink()
    ingest_streaming(con, folder)
    assert [row[1] for row in quarantine(con)] == ["b.csv"]


def test_a_file_that_cannot_be_read_leaves_all_tables_as_they_were(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    folder = write_catalogues(tmp_path / "streaming")
    ingest_streaming(con, folder)
    (folder / "netflix_titles.csv").write_text("show_id,title\ns1,A\n")
    with pytest.raises(SourceError, match="lacks the column type"):
        ingest_streaming(con, folder)
    (folder / "netflix_titles.csv").write_text("")
    with pytest.raises(SourceError, match="is empty"):
        ingest_streaming(con, folder)
    assert con.execute("SELECT count(*) FROM raw.streaming_netflix_titles").fetchall() == [(2,)]


def test_without_files_the_tables_are_empty_and_the_reason_is_told(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    assert absence(None) == "skipped: MARQUEE_STREAMING_DIR is not set"
    assert str(absence(tmp_path)).endswith(f"is in {tmp_path}")
    ingest_streaming(con, write_catalogues(tmp_path / "streaming"))
    for folder in (None, tmp_path):
        assert {report.file for report in ingest_streaming(con, folder)} == {None}
        assert con.execute("SELECT count(*) FROM raw.streaming_ratings").fetchall() == [(0,)]
    assert streaming_digest(None) == streaming_digest(tmp_path)


def test_a_version_follows_the_content_and_the_number_of_files(tmp_path: Path) -> None:
    folder = write_catalogues(tmp_path / "streaming")
    versions = [streaming_digest(folder)]
    assert streaming_digest(write_catalogues(tmp_path / "again")) == versions[0]
    (folder / "ratings" / "1.csv").write_text("userId,rating,timestamp,movieId\n")
    versions.append(streaming_digest(folder))
    (folder / "hulu_titles.csv").unlink()
    versions.append(streaming_digest(folder))
    assert len({*versions, streaming_digest(None)}) == 4


def test_the_sample_has_its_own_catalogues_unless_a_folder_is_named(tmp_path: Path) -> None:
    sizes = {"sample_users": 20, "sample_movies": 40, "sample_ratings": 400}
    own = Settings(home=tmp_path / "home", **sizes)
    folder = locate_streaming(own)
    assert folder == own.sample_dir / "streaming"
    assert all((folder / platform.file).is_file() for platform in PLATFORMS)
    assert locate_streaming(own.model_copy(update={"streaming_dir": tmp_path})) == tmp_path
    assert locate_streaming(own.model_copy(update={"movielens": "ml-100k"})) is None


@pytest.mark.real_data
def test_the_real_catalogues_are_whole(con: duckdb.DuckDBPyConnection, real_data: Path) -> None:
    if not (real_data / "streaming").is_dir():
        pytest.skip(f"no streaming catalogues under {real_data}")
    reports = ingest_streaming(con, real_data / "streaming")
    assert [report.file_rows for report in reports] == [8_807, 9_668, 1_450, 3_073, 0]
    assert sum(report.loaded_rows + report.quarantined_rows for report in reports) == 22_998

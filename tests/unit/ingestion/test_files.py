"""What one pass over a file's bytes finds, at the edges of the pieces it is read in too."""

from __future__ import annotations

import gzip
import hashlib
from datetime import datetime
from pathlib import Path

import duckdb
import pytest

from orchestration.errors import SourceError
from orchestration.ingestion import file_inspection as files
from orchestration.ingestion.file_inspection import check_gzip, file_digest, inspect_file, suppose_regular
from orchestration.ingestion.imdb import ingest_imdb
from tests.unit.ingestion.editions import quarantined, write_dump

PIECE = 1 << 18


@pytest.mark.parametrize(
    ("data", "lines", "regular"),
    [
        (b"", 0, True),
        (b"a", 1, True),
        (b"a\n", 1, True),
        (b"a\nb", 2, True),
        (b"a\r\nb\r\n", 2, True),
        (b"a\r\nb", 2, True),
        (b"a\r\nb\n", 2, False),
        (b"\na\n", 2, False),
        (b"a\n\n", 2, False),
        (b"a\n\nb\n", 3, False),
        (b"a\r\n\r\nb\r\n", 3, False),
        (b"a\rb\n", 1, False),
        (b"a\r", 1, False),
        (b"a\x01\n", 1, False),
        ("é\n".encode(), 1, True),
        ("é\n".encode("latin-1"), 1, False),
        ("é".encode()[:1], 1, False),
    ],
)
def test_lines_are_counted_and_what_duckdb_would_read_otherwise_is_noticed(
    tmp_path: Path, data: bytes, lines: int, regular: bool
) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    facts = inspect_file(path, "utf-8")
    assert (facts.lines, facts.regular) == (lines, regular)
    assert facts.sha256 == file_digest(path) == hashlib.sha256(data).hexdigest()
    assert facts.first_line == data.split(b"\n")[0].removesuffix(b"\r").decode(errors="replace")


@pytest.mark.parametrize("shift", [-2, -1, 0, 1])
@pytest.mark.parametrize(
    ("pattern", "regular"),
    [("\r\n", True), ("é\r\n", True), ("ゴ\r\n", True), ("\r\n\r\n", False), ("\rx\r\n", False)],
)
def test_nothing_is_missed_or_imagined_where_two_pieces_meet(
    tmp_path: Path, pattern: str, regular: bool, shift: int
) -> None:
    path = tmp_path / "file"
    data = b"x\r\n" + b"y" * (PIECE - 4 + shift) + pattern.encode() + b"z\r\n"
    path.write_bytes(data)
    facts = inspect_file(path, "utf-8")
    assert (facts.lines, facts.regular) == (data.count(b"\n"), regular)


def test_a_gzip_is_known_by_its_content_and_states_its_time(tmp_path: Path) -> None:
    path = tmp_path / "misnamed.txt"
    path.write_bytes(gzip.compress(b"a\nb\n", mtime=86_400))
    facts = inspect_file(path, "utf-8")
    assert (facts.compressed, facts.lines, facts.snapshot_at) == (True, 2, datetime(1970, 1, 2))
    check_gzip(path)
    path.write_bytes(b"a\nb\n")
    with pytest.raises(SourceError, match=r"misnamed\.txt is no gzip"):
        check_gzip(path)


def test_an_irregular_file_is_read_through_a_copy_beside_the_warehouse_that_does_not_stay(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    # Long enough that the copy is written in several pieces.
    rows = [f"tt{i} 5.0 {i}" for i in range(200_000)]
    rows[150_000] = ""
    path = write_dump(tmp_path / "imdb", "title.ratings", *rows)
    report = ingest_imdb(con, "title.ratings", path)
    assert (report.file_rows, report.loaded_rows) == (200_000, 199_999)
    assert quarantined(con, "imdb_title_ratings") == [(150_002, "blank line", "")]
    left = {file.name for file in tmp_path.rglob("*") if file.is_file()}
    assert left - {"warehouse.duckdb.wal"} == {"warehouse.duckdb", path.name}


def test_what_is_supposed_of_a_regular_dump_is_what_its_inspection_finds(tmp_path: Path) -> None:
    path = tmp_path / "title.tsv.gz"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbftconst\ttitle\r\n" + b"tt1\tCaf\xc3\xa9\r\n" * 1_000))
    supposed, found = suppose_regular(path, "utf-8"), inspect_file(path, "utf-8")
    assert supposed is not None
    assert found.regular
    for fact in ("path", "size", "first_line", "compressed", "regular"):
        assert getattr(supposed, fact) == getattr(found, fact)


@pytest.mark.parametrize(
    "content",
    [b"tconst\ttitle\n", gzip.compress(b""), gzip.compress(b"no line end"), b"\x1f\x8bno gzip", b""],
    ids=["no gzip", "an empty one", "a line without end", "a damaged one", "no byte"],
)
def test_nothing_is_supposed_of_a_file_without_a_first_line_in_a_gzip(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "title.tsv.gz"
    path.write_bytes(content)
    assert suppose_regular(path, "utf-8") is None
    assert suppose_regular(tmp_path / "missing.tsv.gz", "utf-8") is None


@pytest.mark.parametrize(
    "content",
    [
        b"a\nb\nc\n",
        b"a\r\nb\r\nc\r\n",
        b"a\r\nb\nc\n",
        b"a\n\nb\n",
        b"\na\n",
        b"a\rb\n",
        b"a\n\rb\n",
        b"ab\r",
        b"a\r\n\r\n",
        b"a\x01b\n",
        "aé\nb\n".encode(),
        b"a\xc3\nb\n",
        b'a"b\n',
        b"ab",
    ],
)
def test_what_a_file_is_does_not_depend_on_where_the_pieces_end_in_which_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    path = tmp_path / "file.csv"
    path.write_bytes(content)
    whole = inspect_file(path, "utf-8")
    for size in range(1, 6):
        monkeypatch.setattr(files, "_CHUNK", size)
        assert inspect_file(path, "utf-8") == whole

"""Input that cannot be loaded: one clear line that names the file and the remedy, and the earlier tables stay."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from orchestration.errors import SourceError
from orchestration.ingestion.imdb import ingest_imdb
from orchestration.ingestion.movielens import ingest_movielens
from tests.unit.ingestion import editions
from tests.unit.ingestion.editions import write_dump

RATINGS_HEADER = "userId,movieId,rating,timestamp\n"


def state(con: duckdb.DuckDBPyConnection) -> dict[str, object]:
    """Every raw table with its rows."""
    names = con.execute("SELECT table_name FROM duckdb_tables() WHERE schema_name = 'raw' ORDER BY 1").fetchall()
    return {name: con.execute(f"SELECT * FROM raw.{name} ORDER BY ALL").fetchall() for (name,) in names}


def _remove(path: Path) -> None:
    path.unlink()


def _become_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _text(text: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(text) and None


@pytest.mark.parametrize(
    ("file", "damage", "said"),
    [
        ("ratings.csv", _remove, "does not exist"),
        ("links.csv", _remove, "does not exist"),
        ("movies.csv", _become_a_folder, "cannot be read"),
        ("ratings.csv", _text(""), "is empty"),
        ("ratings.csv", _text(RATINGS_HEADER), "has no data rows"),
        ("ratings.csv", _text("userId,movieId,stars,timestamp\n1,1,4.0,5\n"), "lacks the column rating"),
        ("ratings.csv", _text("userId,movieId,stars,timestamp\n1,1,4.0,5\n"), "unknown column 'stars'"),
        ("ratings.csv", _text("userId,movieId,rating\n1,1,4.0\n"), "lacks the column timestamp"),
        ("ratings.csv", _text("1,1,4.0,5\n1,2,4.0,5\n"), "lacks the column userId, movieId, rating, timestamp"),
        ("links.csv", _text("movieId,imdbId,tmdbId\n" + "tt1,0114709,862\n" * 30), "the column movieId should be"),
        ("movies.csv", _text("movieId,title,genres\n" + "tt1,A,Drama\n" * 30 + "1,A,Drama\n"), "the column movieId"),
        ("movies.csv", _text("movieId,title,genres,title\n1,A (1999),Drama,A\n"), "names a column twice"),
        ("ratings.csv", _text(RATINGS_HEADER + "a,b,c,d\n" * 3), "none of its 3 rows can be loaded"),
        ("movies.csv", _text("movieId,title,genres\nx,A (1999),Drama\n"), "none of its 1 rows can be loaded"),
        ("ratings.csv", _text(RATINGS_HEADER + "1,1,4.0,5" + "0" * 3_000_000 + "\n"), "cannot be read as lines"),
    ],
)
def test_a_refused_edition_is_named_with_a_remedy_and_leaves_the_earlier_tables(
    con: duckdb.DuckDBPyConnection, tmp_path: Path, file: str, damage: Callable[[Path], None], said: str
) -> None:
    ratings = editions.RATINGS_CSV + "broken\n"
    ingest_movielens(con, editions.csv_edition(tmp_path / "good", ratings=ratings))
    before = state(con)
    files = editions.csv_edition(tmp_path / "bad", tags=editions.TAGS_CSV + "1,1,new,6\n")
    damage(files.folder / file)
    with pytest.raises(SourceError) as refusal:
        ingest_movielens(con, files)
    message = str(refusal.value)
    assert said in message
    assert str(files.folder / file) in message
    assert "\n" not in message
    assert message.endswith(".")
    assert state(con) == before


def test_headerless_ratings_of_another_layout_are_refused(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    files = editions.ml_1m(tmp_path)
    (tmp_path / "ratings.dat").write_text("1\t1\t5\t978300760\n")
    with pytest.raises(SourceError, match=r"ratings\.dat: none of its 1 rows can be loaded \(wrong number of fields\)"):
        ingest_movielens(con, files)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-12])


def _cut_in_the_middle(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip_a_bit_of_the_checksum(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-6] ^= 1
    path.write_bytes(bytes(data))


def _header(text: str) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(gzip.compress(text.encode())) and None


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_remove, "does not exist"),
        (_cut, "is cut off"),
        (_cut_in_the_middle, "is cut off"),
        (_flip_a_bit_of_the_checksum, "is damaged"),
        (_header("tconst\taverageRating\n" + "tt1\t5.0\n"), "lacks the column numVotes"),
        (_header("tconst\taverageRating\tvotes\n" + "tt1\t5.0\t7\n"), "unknown column 'votes'"),
        (_header("tconst\taverageRating\tnumVotes\n"), "has no data rows"),
        (_header(""), "is empty"),
        (_text("<html>Forbidden</html>"), "lacks the column tconst, averageRating, numVotes"),
    ],
)
def test_a_refused_dump_is_named_with_a_remedy_and_leaves_the_earlier_tables(
    con: duckdb.DuckDBPyConnection, tmp_path: Path, damage: Callable[[Path], None], said: str
) -> None:
    ingest_imdb(con, "title.ratings", write_dump(tmp_path / "good", "title.ratings", "tt1 5.0 10", "broken"))
    before = state(con)
    path = write_dump(tmp_path / "bad", "title.ratings", *(f"tt{i} 5.0 {i}" for i in range(5_000)))
    damage(path)
    with pytest.raises(SourceError) as refusal:
        ingest_imdb(con, "title.ratings", path)
    message = str(refusal.value)
    assert said in message
    assert str(path) in message
    assert message.endswith(".")
    assert state(con) == before


def test_a_refused_load_leaves_no_transaction_open_and_the_next_one_goes_through(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    ratings = RATINGS_HEADER + "a,b,c,d\n"
    with pytest.raises(SourceError):
        ingest_movielens(con, editions.csv_edition(tmp_path, ratings=ratings))
    assert [report.loaded_rows for report in ingest_movielens(con, editions.csv_edition(tmp_path))] == [
        3,
        3,
        2,
        2,
        0,
        0,
        0,
    ]


_LOADER = """
import sys, duckdb
from pathlib import Path
from orchestration.ingestion.imdb import ingest_imdb
con = duckdb.connect(sys.argv[1], config={"threads": 2})
print("ready", flush=True)
while True:
    for path in sys.argv[2:]:
        ingest_imdb(con, "title.ratings", Path(path))
"""


@pytest.mark.parametrize("seed", range(3))
def test_a_kill_at_any_moment_leaves_a_table_its_quarantine_and_its_account_of_one_file(
    tmp_path: Path, seed: int
) -> None:
    # The two files differ in everything: rows, broken rows, digest.
    sizes = {1: 40_000, 2: 60_000}
    paths = [
        write_dump(tmp_path / str(n), "title.ratings", *["broken"] * n, *(f"tt{i} {n}.0 {i}" for i in range(size)))
        for n, size in sizes.items()
    ]
    warehouse = tmp_path / "warehouse.duckdb"
    with subprocess.Popen(
        [sys.executable, "-c", _LOADER, str(warehouse), *map(str, paths)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    ) as loader:
        assert loader.stdout is not None
        assert loader.stdout.readline() == b"ready\n"
        time.sleep(0.3 + 0.37 * seed)
        loader.send_signal(signal.SIGKILL)
    with duckdb.connect(str(warehouse), config={"threads": 2}) as con:
        if not con.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = 'loads'").fetchall():
            return
        [(loaded, aside, rows)] = con.execute(
            "SELECT loaded_rows, quarantined_rows, file_rows FROM raw.loads"
        ).fetchall()
        [(table_rows, grades, grade)] = con.execute(
            "SELECT count(*), count(DISTINCT averageRating), min(averageRating)::INTEGER FROM raw.imdb_title_ratings"
        ).fetchall()
        assert grades == 1
        assert (loaded, aside, rows) == (sizes[grade], grade, sizes[grade] + grade)
        assert table_rows == loaded
        assert con.execute("SELECT count(*) FROM raw.quarantine").fetchone() == (aside,)
        assert ingest_imdb(con, "title.ratings", paths[0]).loaded_rows == sizes[1]

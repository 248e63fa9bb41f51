"""Tiny editions and dumps in their true layouts, written to a folder."""

from __future__ import annotations

import gzip
from pathlib import Path

import duckdb

from orchestration.ingestion.imdb import DUMPS
from orchestration.ingestion.load_report import LoadReport
from orchestration.ingestion.source_resolver import EditionFiles

CSV_EDITIONS = ("sample", "ml-20m", "ml-25m", "ml-32m", "ml-latest-small", "ml-latest")
GENOME_EDITIONS = ("sample", "ml-20m", "ml-25m", "ml-latest")

MOVIES_CSV = '''\
movieId,title,genres
1,Toy Story (1995),Adventure|Animation|Children
7,"City of Lost Children, The (Cité des enfants perdus, La) (1995)",Adventure|Drama
11,"""Great Performances"" Cats (1998)",(no genres listed)
'''
RATINGS_CSV = """\
userId,movieId,rating,timestamp
1,1,4.0,964982703
1,7,0.5,964981247
2,1,5,0
"""
LINKS_CSV = """\
movieId,imdbId,tmdbId
1,0114709,862
7,0112682,
"""
TAGS_CSV = '''\
userId,movieId,tag,timestamp
2,1,"toys, ""alive""",1445714994
2,7,été,1445714996
'''

GENOME_SCORES_CSV = """\
movieId,tagId,relevance
1,1,0.025000000000000022
1,2,2.4999999999997247E-4
7,1,1
"""
GENOME_TAGS_CSV = '''\
tagId,tag
1,007
2,"art, ""modern"""
'''

# One line of u.item: id|title|release|video release|url|19 genre flags.
U_ITEM = """\
1|Toy Story (1995)|01-Jan-1995||http://us.imdb.com/M/title-exact?Toy%20Story%20(1995)|0|0|0|1|1|1|0|0|0|0|0|0|0|0|0|0|0|0|0
267|unknown||||1|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0
543|Misérables, Les (1995)|01-Jan-1995||http://us.imdb.com/M/title-exact?Mis%E9rables|0|0|0|0|0|0|0|0|1|0|0|0|1|0|0|0|0|0|0
"""
U_DATA = "196\t1\t3\t881250949\n186\t543\t1\t891717742\n"
U_USER = "186|24|M|technician|85711\n196|53|F|other|T8H1N\n"


def write(folder: Path, files: dict[str, str], encoding: str = "utf-8", newline: str = "\n") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_bytes(text.replace("\n", newline).encode(encoding))
    return folder


def csv_edition(folder: Path, name: str = "ml-latest-small", newline: str = "\n", **changed: str) -> EditionFiles:
    """Write a CSV edition; ``ratings="…"`` and so on replace the text of a file."""
    files = {"movies": MOVIES_CSV, "ratings": RATINGS_CSV, "links": LINKS_CSV, "tags": TAGS_CSV}
    if name in GENOME_EDITIONS:
        files |= {"genome_scores": GENOME_SCORES_CSV, "genome_tags": GENOME_TAGS_CSV}
    files |= changed
    write(folder, {f"{key.replace('_', '-')}.csv": text for key, text in files.items()}, newline=newline)
    return EditionFiles(name, folder, "test")


def ml_100k(folder: Path) -> EditionFiles:
    write(folder, {"u.item": U_ITEM, "u.data": U_DATA, "u.user": U_USER}, encoding="latin-1")
    return EditionFiles("ml-100k", folder, "test")


def ml_1m(folder: Path) -> EditionFiles:
    files = {
        "movies.dat": "1::Toy Story (1995)::Animation|Children's|Comedy\n73::Misérables, Les (1995)::Drama|Musical\n",
        "users.dat": "1::F::1::10::48067\n2::M::56::16::70072-1234\n",
        "ratings.dat": "1::1::5::978300760\n2::73::3::978302109\n",
    }
    write(folder, files, encoding="latin-1")
    return EditionFiles("ml-1m", folder, "test")


def ml_10m(folder: Path) -> EditionFiles:
    files = {
        "movies.dat": "1::Toy Story (1995)::Adventure|Animation\n73::Misérables, Les (1995)::Drama\n",
        "ratings.dat": "1::1::5::838985046\n1::73::3.5::838983525\n",
        "tags.dat": '15::1::it\'s: "fun"::1215184630\n',
    }
    write(folder, files)
    return EditionFiles("ml-10m", folder, "test")


def dump_text(dump: str, *rows: str) -> str:
    """Return a dump's header and rows; in a row without tabs each blank stands for one."""
    lines = ["\t".join(DUMPS[dump].names), *(row if "\t" in row else row.replace(" ", "\t") for row in rows)]
    return "".join(line + "\n" for line in lines)


def write_dump(folder: Path, dump: str, *rows: str, mtime: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{dump}.tsv.gz"
    path.write_bytes(gzip.compress(dump_text(dump, *rows).encode(), mtime=mtime))
    return path


def quarantined(con: duckdb.DuckDBPyConnection, table: str) -> list[tuple[int, str, str]]:
    """Line, reason and content of a table's quarantine, in file order."""
    return con.execute(
        "SELECT line, reason, content FROM raw.quarantine WHERE table_name = ? ORDER BY line", [table]
    ).fetchall()


def assert_adds_up(con: duckdb.DuckDBPyConnection, report: LoadReport) -> None:
    """Assert that the report, the table, its quarantine and its row of raw.loads agree, and that nothing is lost."""
    loaded = con.execute(f"SELECT count(*) FROM raw.{report.table}").fetchone()
    aside = con.execute("SELECT count(*) FROM raw.quarantine WHERE table_name = ?", [report.table]).fetchone()
    noted = con.execute(
        "SELECT file_rows, loaded_rows, quarantined_rows FROM raw.loads WHERE table_name = ?", [report.table]
    ).fetchall()
    assert loaded == (report.loaded_rows,)
    assert aside == (report.quarantined_rows,) == (sum(report.reasons.values()),)
    assert report.file_rows == report.loaded_rows + report.quarantined_rows
    assert noted == [(report.file_rows, report.loaded_rows, report.quarantined_rows)]

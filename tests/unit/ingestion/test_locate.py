"""Where an edition and the dumps come from: generated, a mirror's folder or zip, an earlier download, the network."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import duckdb
import pytest

from models.data.movielens import EDITIONS
from orchestration.errors import SourceError
from orchestration.ingestion.http_download import provenance
from orchestration.ingestion.imdb import ingest_imdb
from orchestration.ingestion.movielens import ingest_movielens
from orchestration.ingestion.source_resolver import locate_dump, locate_edition, unpack_edition
from orchestration.storage.disk_space import NoRoom
from settings import PROJECT_ROOT, Settings
from tests.unit.ingestion import editions
from tests.unit.ingestion.editions import write_dump
from tests.unit.ingestion.upstream import Upstream

NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[Upstream]:
    with Upstream(tmp_path / "upstream") as server:
        yield server


def settings(tmp_path: Path, edition: str = "ml-latest-small", **values: object) -> Settings:
    given = {"movielens_url": NOBODY, "imdb_url": NOBODY, "raw_dir": None, "imdb_dir": None} | values
    return Settings(home=tmp_path / "home", movielens=edition, **given)  # type: ignore[arg-type]


def zipped(archive: Path, folder: Path, inside: str, extra: dict[str, str] | None = None) -> Path:
    """Zip a folder's files as GroupLens packs them, below one folder; ``extra`` members keep their names."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        for path in sorted(folder.iterdir()):
            out.writestr(zipfile.ZipInfo(f"{inside}/{path.name}", (2018, 9, 26, 15, 50, 12)), path.read_bytes())
        for name, text in (extra or {}).items():
            out.writestr(name, text)
    return archive


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_a_mirrors_folder_comes_before_its_zip_and_is_read_in_place(tmp_path: Path) -> None:
    editions.csv_edition(tmp_path / "mirror" / "ml-latest-small")
    zipped(tmp_path / "mirror" / "ml-latest-small.zip", tmp_path / "mirror" / "ml-latest-small", "ml-latest-small")
    files = locate_edition(settings(tmp_path, raw_dir=tmp_path / "mirror"))
    assert files.folder == tmp_path / "mirror" / "ml-latest-small"
    assert "mirror" in files.origin
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(("edition", "inside"), [("ml-latest-small", "ml-latest-small"), ("ml-10m", "ml-10M100K")])
def test_a_mirrors_zip_is_unpacked_with_the_times_of_its_files(
    con: duckdb.DuckDBPyConnection, tmp_path: Path, edition: str, inside: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The small file is not the zip that GroupLens publishes.
    monkeypatch.setitem(EDITIONS, edition, replace(EDITIONS[edition], md5=None))
    source = (editions.ml_10m if edition == "ml-10m" else editions.csv_edition)(tmp_path / "source").folder
    (source / "README.txt").write_text("terms")
    (source / "other.txt").write_text("not read")
    zipped(tmp_path / "mirror" / f"{edition}.zip", source, inside)
    files = locate_edition(settings(tmp_path, edition, raw_dir=tmp_path / "mirror"))
    assert files.folder.is_relative_to(tmp_path / "home" / "downloads")
    assert (files.folder / "README.txt").read_text() == "terms"
    assert not (files.folder / "other.txt").exists()
    reports = ingest_movielens(con, files)
    assert sum(report.loaded_rows for report in reports) > 0
    assert con.execute("SELECT DISTINCT snapshot_at FROM raw.loads WHERE file IS NOT NULL").fetchall() == [
        (datetime(2018, 9, 26, 15, 50, 12),)
    ]


def test_a_zip_is_unpacked_once_and_again_when_it_has_changed(tmp_path: Path) -> None:
    source = editions.csv_edition(tmp_path / "source").folder
    archive = zipped(tmp_path / "mirror" / "ml-latest-small.zip", source, "ml-latest-small")
    wanted = settings(tmp_path, raw_dir=tmp_path / "mirror")
    folder = locate_edition(wanted).folder
    inode = (folder / "ratings.csv").stat().st_ino
    assert (locate_edition(wanted).folder / "ratings.csv").stat().st_ino == inode
    editions.csv_edition(source, ratings=editions.RATINGS_CSV + "2,7,3.0,9\n")
    zipped(archive, source, "ml-latest-small")
    assert (locate_edition(wanted).folder / "ratings.csv").read_text().endswith("2,7,3.0,9\n")


@pytest.mark.parametrize(
    "name",
    [
        "../evil.csv",
        "ml-latest-small/../../evil.csv",
        "/tmp/evil.csv",
        "..\\evil.csv",
        "C:\\evil.csv",
        "C:evil.csv",
        "\\\\host\\share\\evil.csv",
        "ml-latest-small/..",
    ],
)
def test_a_zip_with_a_member_that_leads_out_of_its_folder_is_refused_before_anything_is_written(
    tmp_path: Path, name: str
) -> None:
    source = editions.csv_edition(tmp_path / "source").folder
    archive = zipped(tmp_path / "mirror" / "ml-latest-small.zip", source, "ml-latest-small", {name: "evil"})
    before = tree(tmp_path)
    with pytest.raises(SourceError, match="leads out of the folder; nothing was unpacked") as refusal:
        locate_edition(settings(tmp_path, raw_dir=tmp_path / "mirror"))
    assert str(archive) in str(refusal.value)
    assert tree(tmp_path) == before


def test_a_zip_with_a_link_is_refused(tmp_path: Path) -> None:
    source = editions.csv_edition(tmp_path / "source").folder
    archive = zipped(tmp_path / "mirror" / "ml-latest-small.zip", source, "ml-latest-small")
    with zipfile.ZipFile(archive, "a") as out:
        link = zipfile.ZipInfo("ml-latest-small/README.md")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        out.writestr(link, "/etc/passwd")
    before = tree(tmp_path)
    with pytest.raises(SourceError, match=r"README\.md', which leads out"):
        locate_edition(settings(tmp_path, raw_dir=tmp_path / "mirror"))
    assert tree(tmp_path) == before


@pytest.mark.parametrize("damage", ["cut", "flipped", "page"])
def test_a_damaged_zip_is_refused_and_leaves_what_was_unpacked_before(tmp_path: Path, damage: str) -> None:
    source = editions.csv_edition(tmp_path / "source").folder
    archive = zipped(tmp_path / "mirror" / "ml-latest-small.zip", source, "ml-latest-small")
    target = tmp_path / "unpacked"
    unpack_edition(archive, target, EDITIONS["ml-latest-small"])
    before = {path.name: path.read_bytes() for path in target.iterdir()}
    data = bytearray(archive.read_bytes())
    # Byte 70 is within the first member's packed data.
    data[70] ^= 0xFF
    archive.write_bytes({"cut": bytes(data[:200]), "flipped": bytes(data), "page": b"<html></html>"}[damage])
    with pytest.raises(SourceError, match=r"is damaged or no zip .* get it again\.") as refusal:
        unpack_edition(archive, target, EDITIONS["ml-latest-small"])
    assert str(archive) in str(refusal.value)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before
    assert tree(tmp_path) - {"unpacked", *(f"unpacked/{name}" for name in before)} == {
        "mirror",
        "mirror/ml-latest-small.zip",
        "source",
        *(f"source/{path.name}" for path in source.iterdir()),
    }


def test_an_edition_that_lacks_a_file_is_refused_by_name(tmp_path: Path) -> None:
    files = editions.csv_edition(tmp_path / "mirror" / "ml-latest-small")
    (files.folder / "links.csv").unlink()
    with pytest.raises(SourceError, match=r"mirror/ml-latest-small lacks links\.csv\. Put the whole edition there"):
        locate_edition(settings(tmp_path, raw_dir=tmp_path / "mirror"))
    archive = zipped(tmp_path / "zips" / "ml-latest-small.zip", files.folder, "ml-latest-small")
    with pytest.raises(SourceError, match=r"small\.zip lacks links\.csv: it is not ml-latest-small") as refusal:
        locate_edition(settings(tmp_path, raw_dir=tmp_path / "zips"))
    assert str(archive) in str(refusal.value)


def test_an_unknown_edition_or_dump_is_refused_with_the_choice(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown MovieLens edition 'ml-9m'; choose one of sample, ml-100k"):
        settings(tmp_path, "ml-9m")
    unchecked = settings(tmp_path).model_copy(update={"movielens": "ml-9m"})
    with pytest.raises(
        SourceError, match=r"no MovieLens edition 'ml-9m'\. Set MARQUEE_MOVIELENS to one of sample, ml-100k"
    ):
        locate_edition(unchecked)
    with pytest.raises(
        SourceError, match=r"no IMDb dump 'title.posters'. Choose MARQUEE_IMDB_DUMPS from title\.basics"
    ):
        locate_dump(settings(tmp_path), "title.posters")


def test_an_edition_is_downloaded_once(tmp_path: Path, upstream: Upstream, con: duckdb.DuckDBPyConnection) -> None:
    source = editions.csv_edition(tmp_path / "source").folder
    zipped(upstream.folder / "ml-latest-small.zip", source, "ml-latest-small")
    wanted = settings(tmp_path, movielens_url=upstream.url + "/", raw_dir=tmp_path / "no mirror")
    files = locate_edition(wanted)
    assert files.origin == f"{upstream.url}/ml-latest-small.zip"
    assert locate_edition(wanted) == files
    assert upstream.requests == ["/ml-latest-small.zip"]
    assert [report.loaded_rows for report in ingest_movielens(con, files)] == [3, 3, 2, 2, 0, 0, 0]


def test_a_downloaded_zip_that_is_not_the_published_one_is_refused(tmp_path: Path, upstream: Upstream) -> None:
    zipped(upstream.folder / "ml-100k.zip", editions.ml_100k(tmp_path / "source").folder, "ml-100k")
    with pytest.raises(SourceError, match=r"ml-100k\.zip sent is not the ml-100k of GroupLens \(MD5\)"):
        locate_edition(settings(tmp_path, "ml-100k", movielens_url=upstream.url))
    (upstream.folder / "ml-100k.zip").write_bytes(b"<html>")
    with pytest.raises(SourceError, match=r"ml-100k\.zip sent is damaged or no zip"):
        locate_edition(settings(tmp_path, "ml-100k", movielens_url=upstream.url))
    assert not any(path.is_file() for path in (tmp_path / "home").rglob("*"))


def test_without_network_an_edition_is_refused_with_its_address_and_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as refusal:
        locate_edition(settings(tmp_path))
    assert f"{NOBODY}/ml-latest-small.zip cannot be fetched" in str(refusal.value)
    assert "MARQUEE_RAW_DIR" in str(refusal.value)
    with pytest.raises(SourceError) as refusal:
        locate_dump(settings(tmp_path, imdb_dir=tmp_path), "title.crew")
    assert f"{NOBODY}/title.crew.tsv.gz cannot be fetched" in str(refusal.value)
    assert f"{tmp_path} does not hold it" in str(refusal.value)
    assert "MARQUEE_IMDB_DIR" in str(refusal.value)
    assert "MARQUEE_IMDB_DUMPS" in str(refusal.value)


def test_a_dump_is_taken_from_its_own_folder_else_from_the_mirrors(tmp_path: Path) -> None:
    of_mirror = write_dump(tmp_path / "mirror" / "imdb", "title.crew", "tt1 nm1 nm2")
    own = write_dump(tmp_path / "own", "title.crew", "tt1 nm1 nm2")
    assert locate_dump(settings(tmp_path, raw_dir=tmp_path / "mirror"), "title.crew") == of_mirror
    both = settings(tmp_path, raw_dir=tmp_path / "mirror", imdb_dir=tmp_path / "own")
    assert locate_dump(both, "title.crew") == own


def test_a_dump_is_downloaded_again_when_it_is_older_than_the_settings_say(
    tmp_path: Path, upstream: Upstream, con: duckdb.DuckDBPyConnection
) -> None:
    write_dump(upstream.folder, "title.crew", "tt1 nm1 nm2")
    wanted = settings(tmp_path, imdb_url=upstream.url)
    path = locate_dump(wanted, "title.crew")
    assert locate_dump(wanted, "title.crew") == path
    assert upstream.requests == ["/title.crew.tsv.gz"]
    assert ingest_imdb(con, "title.crew", path).loaded_rows == 1
    write_dump(upstream.folder, "title.crew", "tt1 nm1 nm2", "tt2 nm1 nm2")
    # Eight days pass.
    note = path.with_name(f"{path.name}.json")
    fetched = json.loads(note.read_text())
    note.write_text(json.dumps(fetched | {"fetched_at": fetched["fetched_at"] - 8 * 86_400}))
    assert ingest_imdb(con, "title.crew", locate_dump(wanted, "title.crew")).loaded_rows == 2
    assert len(upstream.requests) == 2


def test_an_old_download_is_used_with_a_warning_where_imdb_cannot_be_reached(
    tmp_path: Path, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    write_dump(upstream.folder, "title.crew", "tt1 nm1 nm2")
    path = locate_dump(settings(tmp_path, imdb_url=upstream.url), "title.crew")
    gone = settings(tmp_path, imdb_url=NOBODY, imdb_max_age_days=1e-9)
    assert locate_dump(gone, "title.crew") == path
    assert f"{NOBODY}/title.crew.tsv.gz cannot be fetched" in caplog.text


def test_the_sample_is_generated_once_with_its_dumps_whatever_the_mirror_holds(tmp_path: Path) -> None:
    write_dump(tmp_path / "own", "title.crew", "tt1 nm1 nm2")
    wanted = settings(
        tmp_path, "sample", imdb_dir=tmp_path / "own", sample_users=30, sample_movies=60, sample_ratings=600
    )
    files = locate_edition(wanted)
    assert (files.edition, files.folder) == ("sample", wanted.sample_dir / "sample")
    written = (files.folder / "ratings.csv").stat().st_mtime_ns
    assert locate_dump(wanted, "title.crew") == wanted.sample_dir / "imdb" / "title.crew.tsv.gz"
    assert locate_edition(wanted) == files
    assert (files.folder / "ratings.csv").stat().st_mtime_ns == written


def test_at_age_zero_the_server_is_asked_at_each_look_and_the_table_is_read_from_what_was_observed(
    tmp_path: Path, upstream: Upstream
) -> None:
    write_dump(upstream.folder, "title.crew", "tt1 nm1 nm2")
    wanted = settings(tmp_path, imdb_url=upstream.url, imdb_max_age_days=0)
    path = locate_dump(wanted, "title.crew", ask=False)
    assert locate_dump(wanted, "title.crew") == path
    observed = path.read_bytes()
    write_dump(upstream.folder, "title.crew", "tt1 nm1 nm2", "tt2 nm1 nm2")
    assert locate_dump(wanted, "title.crew", ask=False).read_bytes() == observed
    assert [asked.status for asked in upstream.asked] == [200, 304]
    assert locate_dump(wanted, "title.crew").read_bytes() != observed


def test_a_growing_edition_is_asked_for_anew_and_unpacked_when_it_has_changed_and_a_released_one_is_not(
    tmp_path: Path, upstream: Upstream
) -> None:
    source = editions.csv_edition(tmp_path / "source").folder
    for edition in ("ml-latest", "ml-latest-small"):
        zipped(upstream.folder / f"{edition}.zip", source, edition)
        wanted = settings(tmp_path, edition, movielens_url=upstream.url, imdb_max_age_days=0)
        first, second = locate_edition(wanted), locate_edition(wanted)
        assert first == second
        assert first.archive is not None
        assert provenance(first.archive)["url"] == f"{upstream.url}/{edition}.zip"
    assert [(asked.path, asked.status) for asked in upstream.asked] == [
        ("/ml-latest.zip", 200),
        ("/ml-latest.zip", 304),
        ("/ml-latest-small.zip", 200),
    ]
    editions.csv_edition(source, ratings=editions.RATINGS_CSV + "2,7,3.0,9\n")
    zipped(upstream.folder / "ml-latest.zip", source, "ml-latest")
    grown = locate_edition(settings(tmp_path, "ml-latest", movielens_url=upstream.url, imdb_max_age_days=0))
    assert (grown.folder / "ratings.csv").read_text().endswith("2,7,3.0,9\n")


def test_a_download_that_was_cut_off_is_finished_whatever_the_age_of_the_earlier_one(
    tmp_path: Path, upstream: Upstream
) -> None:
    write_dump(upstream.folder, "title.crew", "tt1 nm1 nm2")
    ask = settings(tmp_path, imdb_url=upstream.url, imdb_max_age_days=0)
    path = locate_dump(ask, "title.crew")
    served = write_dump(upstream.folder, "title.crew", "tt1 nm1 nm2", "tt2 nm1 nm2")
    upstream.first = ["cut after 30", "missing"]
    earlier = path.read_bytes()
    assert locate_dump(ask, "title.crew").read_bytes() == earlier
    assert locate_dump(settings(tmp_path, imdb_url=upstream.url), "title.crew").read_bytes() == served.read_bytes()
    assert upstream.asked[-1].range == "bytes=30-"


def test_a_mirrors_zip_that_is_not_the_published_one_is_refused_and_a_folder_beside_it_is_taken(tmp_path: Path) -> None:
    source = editions.ml_100k(tmp_path / "source").folder
    archive = zipped(tmp_path / "mirror" / "ml-100k.zip", source, "ml-100k")
    wanted = settings(tmp_path, "ml-100k", raw_dir=tmp_path / "mirror")
    with pytest.raises(SourceError, match=r"not the ml-100k that GroupLens publishes \(its MD5 differs\)") as refusal:
        locate_edition(wanted)
    assert str(archive) in str(refusal.value)
    assert not (tmp_path / "home").exists()
    shutil.copytree(source, tmp_path / "mirror" / "ml-100k")
    assert locate_edition(wanted).folder == tmp_path / "mirror" / "ml-100k"


def test_a_mirrors_zip_is_checked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = zipped(tmp_path / "mirror" / "ml-100k.zip", editions.ml_100k(tmp_path / "source").folder, "ml-100k")
    published = replace(EDITIONS["ml-100k"], md5=hashlib.md5(archive.read_bytes()).hexdigest())
    monkeypatch.setitem(EDITIONS, "ml-100k", published)
    wanted = settings(tmp_path, "ml-100k", raw_dir=tmp_path / "mirror")
    files = locate_edition(wanted)
    before = archive.stat()
    data = archive.read_bytes()
    archive.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    os.utime(archive, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert locate_edition(wanted) == files
    os.utime(archive)
    with pytest.raises(SourceError):
        locate_edition(wanted)


def test_a_zip_whose_files_do_not_fit_on_the_disk_is_not_unpacked(tmp_path: Path) -> None:
    source = editions.csv_edition(tmp_path / "source").folder
    archive = zipped(tmp_path / "mirror" / "ml-latest-small.zip", source, "ml-latest-small")
    with zipfile.ZipFile(archive, "a") as out:
        # What the zip's directory states of a member's size when it is unpacked.
        next(member for member in out.infolist() if member.filename.endswith("ratings.csv")).file_size = 10**15
        out.writestr("ml-latest-small/other.txt", "so that the directory is written again")
    with pytest.raises(
        NoRoom, match=r"downloads/movielens has no room for the files of ml-latest-small: 1,000,000\.0 GB"
    ):
        locate_edition(settings(tmp_path, raw_dir=tmp_path / "mirror"))
    assert not any(path.is_file() for path in (tmp_path / "home").rglob("*"))


_UNPACK = """
import sys
from pathlib import Path
from models.data.movielens import EDITIONS
from orchestration.ingestion.source_resolver import unpack_edition
archive, base = map(Path, sys.argv[1:])
STEPS = {"open", "os.rename", "os.remove", "os.utime", "os.mkdir", "os.rmdir"}

def is_killed_at(step):
    folder = base / str(step) / "ml-latest-small"
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    seen = 0
    def strike(event, arguments):
        nonlocal seen
        # rmtree names what it removes relative to an open folder.
        path = str(arguments[0])
        if event in STEPS and (path.startswith(str(folder.parent)) or not path.startswith("/")):
            seen += 1
            if seen == step:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(strike)
    unpack_edition(archive, folder, EDITIONS["ml-latest-small"])
    os._exit(0)

step = 1
while is_killed_at(step):
    step += 1
print(step)
"""


def test_killed_before_any_step_of_unpacking_the_folder_is_the_earlier_the_new_one_or_gone_and_the_next_call_heals(
    tmp_path: Path,
) -> None:
    source = editions.csv_edition(tmp_path / "source").folder
    archive = zipped(tmp_path / "ml-latest-small.zip", source, "ml-latest-small")
    base = tmp_path / "killed"
    for step in range(1, 60):
        unpack_edition(archive, base / str(step) / "ml-latest-small", EDITIONS["ml-latest-small"])
    earlier = {path.name: path.read_bytes() for path in (base / "1" / "ml-latest-small").iterdir()}
    editions.csv_edition(source, ratings=editions.RATINGS_CSV + "2,7,3.0,9\n")
    zipped(archive, source, "ml-latest-small")
    found = subprocess.run(
        [sys.executable, "-c", f"import os, signal{_UNPACK}", str(archive), str(base)],
        cwd=PROJECT_ROOT,
        env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    steps = int(found.stdout)
    assert 15 < steps < 60
    new = {path.name: path.read_bytes() for path in (base / str(steps) / "ml-latest-small").iterdir()}
    assert new["ratings.csv"] != earlier["ratings.csv"]
    for step in range(1, steps):
        folder = base / str(step) / "ml-latest-small"
        if folder.exists():
            assert {path.name: path.read_bytes() for path in folder.iterdir()} in (earlier, new)
        unpack_edition(archive, folder, EDITIONS["ml-latest-small"])
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == new
        assert list(folder.parent.iterdir()) == [folder]


_UNPACK_LIMITED = """
import resource, sys
from pathlib import Path
from models.data.movielens import EDITIONS
from orchestration.ingestion.source_resolver import unpack_edition
from orchestration.errors import SourceError
resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))
try:
    unpack_edition(Path(sys.argv[1]), Path(sys.argv[2]), EDITIONS["ml-latest-small"])
except SourceError as error:
    print(type(error).__name__, error)
"""


def test_at_a_limit_of_file_size_a_zip_is_not_unpacked_and_the_earlier_files_stay(tmp_path: Path) -> None:
    source = editions.csv_edition(tmp_path / "source").folder
    archive = zipped(tmp_path / "ml-latest-small.zip", source, "ml-latest-small")
    folder = tmp_path / "unpacked" / "ml-latest-small"
    unpack_edition(archive, folder, EDITIONS["ml-latest-small"])
    earlier = {path.name: path.read_bytes() for path in folder.iterdir()}
    rows = "".join(f"2,{film},3.0,9\n" for film in range(10, 1_000))
    editions.csv_edition(source, ratings=editions.RATINGS_CSV + rows)
    zipped(archive, source, "ml-latest-small")
    found = subprocess.run(
        [sys.executable, "-c", _UNPACK_LIMITED, str(archive), str(folder)],
        cwd=PROJECT_ROOT,
        env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.startswith(f"NoRoom ml-latest-small cannot be written to {folder.parent} (File too large;")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == earlier
    assert list(folder.parent.iterdir()) == [folder]

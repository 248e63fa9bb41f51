from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import sqlite3
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest

from models.serving.bundle import load_bundle, read_pointer, read_previous
from orchestration.maintenance.__main__ import main
from orchestration.maintenance.backup import restore, verify, write_backup
from orchestration.maintenance.errors import UpkeepError
from orchestration.publishing.manifest import copy_of, read_manifest
from orchestration.storage.home import heal, prepare, read_home
from orchestration.storage.warehouse import connect
from settings import HOME_FORMAT, Settings
from tests.unit.maintenance.homes import KEYS, NOW, make_home, put
from tests.unit.publishing.writers import write


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    return make_home(tmp_path / "home", bundles=3)[0]


@pytest.fixture
def file(home: Settings, tmp_path: Path) -> Path:
    target = tmp_path / "backup.tar.gz"
    write_backup(home, target, now=NOW, tell=lambda line: None)
    return target


def keys_in(settings: Settings) -> list[Any]:
    with connect(settings) as con:
        return con.execute("SELECT user_key, source, source_id FROM intermediate.int_user_keys ORDER BY 1").fetchall()


def state_of(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def rewritten(file: Path, change: Callable[[dict[str, Any], dict[str, bytes]], None], target: Path) -> Path:
    """Write a copy of the archive with its manifest and members changed."""
    with tarfile.open(file) as archive:
        contents = {info.name: archive.extractfile(info).read() for info in archive}  # type: ignore[union-attr]
    manifest = json.loads(contents.pop("manifest.json"))
    change(manifest, contents)
    with tarfile.open(target, "w:gz") as archive:
        for name, content in {"manifest.json": json.dumps(manifest).encode(), **contents}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return target


def test_a_home_that_was_lost_comes_back_with_its_keys_copy_and_bundles(
    home: Settings, file: Path, tmp_path: Path
) -> None:
    elsewhere = Settings(home=tmp_path / "elsewhere")
    restore(elsewhere, file, tell=lambda line: None)
    assert keys_in(elsewhere) == KEYS
    served, rollback = read_pointer(home.serving_pointer), read_previous(home.serving_pointer)
    assert (read_pointer(elsewhere.serving_pointer), read_previous(elsewhere.serving_pointer)) == (served, rollback)
    for version in (served, rollback):
        assert load_bundle(elsewhere.models / str(version)).version == version
    assert {path.name for path in elsewhere.models.iterdir()} == {served, rollback}
    with duckdb.connect(str(elsewhere.published), read_only=True) as con:
        assert con.execute("FROM marts.viewers ORDER BY 1").fetchall() == [(1,), (2,)]
    assert read_home(elsewhere.home) == read_home(home.home)
    prepare(elsewhere)


def test_a_restored_home_holds_nothing_of_the_state_that_it_replaces(home: Settings, file: Path) -> None:
    with connect(home) as con:
        con.execute("INSERT INTO intermediate.int_user_keys VALUES (3, 'sample', '11')")
    put(home.features / "user_features.parquet")
    put(home.dagster / "history" / "runs.db")
    put(home.downloads / "imdb" / "title.basics.tsv.gz")
    put(home.home / "warehouse.duckdb.wal")
    restore(home, file, tell=lambda line: None)
    assert keys_in(home) == KEYS
    assert not home.features.exists()
    assert not (home.dagster / "history").exists()
    assert (home.downloads / "imdb" / "title.basics.tsv.gz").exists()
    assert not {"restored", "former", "swap.json", "keys"} & {path.name for path in home.home.iterdir()}


def test_a_copy_that_another_tool_has_changed_gets_into_no_backup(home: Settings, tmp_path: Path) -> None:
    publication = read_manifest(home)
    assert publication is not None
    versioned = copy_of(home, publication.version)
    write(home.published, "DELETE FROM marts.viewers")
    elsewhere = Settings(home=tmp_path / "elsewhere")
    write_backup(home, tmp_path / "one.tar.gz", now=NOW, tell=lambda line: None)
    restore(elsewhere, tmp_path / "one.tar.gz", tell=lambda line: None)
    with duckdb.connect(str(elsewhere.published), read_only=True) as con:
        assert con.execute("SELECT count(*) FROM marts.viewers").fetchall() == [(2,)]
    files = [path for path in elsewhere.published.parent.iterdir() if path.is_file()]
    assert {(oct(path.stat().st_mode & 0o777), path.stat().st_nlink) for path in files} == {("0o444", 1)}
    write(versioned, "DELETE FROM marts.viewers")
    told: list[str] = []
    manifest = write_backup(home, tmp_path / "none.tar.gz", now=NOW, tell=told.append)
    assert "the published copy is left out: another tool has changed it; `make update` makes it again" in told
    assert {member.part for member in manifest.members.values()} == {"keys", "bundles"}


def add_app_user(settings: Settings, name: str) -> None:
    store = settings.home / "app" / "store.db"
    store.parent.mkdir(exist_ok=True)
    with closing(sqlite3.connect(store)) as con, con:
        con.execute("PRAGMA journal_mode = wal")
        con.execute("CREATE TABLE IF NOT EXISTS users (name TEXT)")
        con.execute("INSERT INTO users VALUES (?)", [name])


def app_users(settings: Settings) -> list[tuple[str]]:
    with closing(sqlite3.connect(settings.home / "app" / "store.db")) as con:
        return con.execute("SELECT name FROM users ORDER BY 1").fetchall()


def test_the_apps_users_come_back_as_they_were_when_the_backup_was_made(home: Settings, tmp_path: Path) -> None:
    add_app_user(home, "Ann")
    with closing(sqlite3.connect(home.home / "app" / "store.db")) as service, service:
        # A service that has the store open, and its last writes in the log beside it.
        service.execute("INSERT INTO users VALUES ('Ben')")
        service.commit()
        write_backup(home, tmp_path / "with-app.tar.gz", now=NOW, tell=lambda line: None)
    add_app_user(home, "Cal")
    restore(home, tmp_path / "with-app.tar.gz", tell=lambda line: None)
    assert app_users(home) == [("Ann",), ("Ben",)]


def test_a_backup_without_an_app_store_leaves_the_one_that_is_there(home: Settings, file: Path) -> None:
    add_app_user(home, "Ann")
    restore(home, file, tell=lambda line: None)
    assert app_users(home) == [("Ann",)]


def test_a_backup_of_a_home_without_a_warehouse_and_a_served_bundle_holds_what_is_there(tmp_path: Path) -> None:
    bare = Settings(home=tmp_path / "bare")
    prepare(bare)
    manifest = write_backup(bare, tmp_path / "bare.tar.gz", now=NOW, tell=lambda line: None)
    assert manifest.members == {}
    restore(Settings(home=tmp_path / "again"), tmp_path / "bare.tar.gz", tell=lambda line: None)
    assert read_home(tmp_path / "again") == read_home(bare.home)


def test_every_bit_of_the_file_is_guarded(home: Settings, file: Path, tmp_path: Path) -> None:
    """Bytes changed all over the archive: whatever they hit, the file is refused and the home stays as it was."""
    before = state_of(home.home)
    whole = bytearray(gzip.decompress(file.read_bytes()))
    with tarfile.open(file) as archive:
        places = [info.offset_data + info.size // 2 for info in archive]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        (tmp_path / "damaged.tar.gz").write_bytes(gzip.compress(bytes(damaged), compresslevel=1))
        with pytest.raises(UpkeepError):
            restore(home, tmp_path / "damaged.tar.gz", tell=lambda line: None)
    assert state_of(home.home) == before


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_file_cut_short_is_refused(home: Settings, file: Path, tmp_path: Path, share: float) -> None:
    before = state_of(home.home)
    content = file.read_bytes()
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UpkeepError):
        restore(home, cut, tell=lambda line: None)
    assert state_of(home.home) == before


def escape(name: str) -> Callable[[dict[str, Any], dict[str, bytes]], None]:
    def change(manifest: dict[str, Any], contents: dict[str, bytes]) -> None:
        first = next(name for name in contents if name.startswith("models/"))
        contents[name] = contents[first]
        manifest["members"][name] = manifest["members"][first]

    return change


@pytest.mark.parametrize(
    "name", ["../outside", "/tmp/outside", "models/../../outside", "models//x", "./models/x", "models/./x", "run.lock"]
)
def test_a_path_that_leads_elsewhere_is_refused(home: Settings, file: Path, tmp_path: Path, name: str) -> None:
    strange = rewritten(file, escape(name), tmp_path / "strange.tar.gz")
    with pytest.raises(UpkeepError, match=r"leads out of the home|does not know"):
        restore(home, strange, tell=lambda line: None)
    assert not (tmp_path / "outside").exists()


def test_a_link_is_refused(home: Settings, file: Path, tmp_path: Path) -> None:
    strange = tmp_path / "link.tar.gz"
    with tarfile.open(file) as archive, tarfile.open(strange, "w:gz") as out:
        for info in archive:
            stream = archive.extractfile(info)
            if info.name.startswith("published/"):
                info.type, info.linkname, info.size = tarfile.SYMTYPE, "/etc/passwd", 0
            out.addfile(info, stream)
    with pytest.raises(UpkeepError):
        restore(home, strange, tell=lambda line: None)


def test_members_that_the_manifest_does_not_name_and_members_that_are_missing_are_refused(
    file: Path, tmp_path: Path
) -> None:
    more = rewritten(file, lambda manifest, contents: contents.update({"models/x": b"x"}), tmp_path / "more.tar.gz")
    with pytest.raises(UpkeepError, match="does not name"):
        verify(more)
    fewer = rewritten(file, lambda manifest, contents: contents.popitem(), tmp_path / "fewer.tar.gz")
    with pytest.raises(UpkeepError, match="lacks"):
        verify(fewer)


def test_a_backup_of_a_newer_home_is_refused(home: Settings, file: Path, tmp_path: Path) -> None:
    before = state_of(home.home)

    def newer(manifest: dict[str, Any], contents: dict[str, bytes]) -> None:
        manifest["home"]["format"] = HOME_FORMAT + 1

    with pytest.raises(UpkeepError, match="newer version"):
        restore(home, rewritten(file, newer, tmp_path / "newer.tar.gz"), tell=lambda line: None)
    assert state_of(home.home) == before


def test_a_backup_of_an_older_home_is_restored_and_migrated(home: Settings, file: Path, tmp_path: Path) -> None:
    def older(manifest: dict[str, Any], contents: dict[str, bytes]) -> None:
        manifest["home"]["format"] = 1

    restore(home, rewritten(file, older, tmp_path / "older.tar.gz"), tell=lambda line: None)
    found = read_home(home.home)
    assert found is not None
    assert found.format == HOME_FORMAT
    assert keys_in(home) == KEYS


def test_a_served_bundle_that_cannot_be_served_is_refused_before_anything_is_exchanged(
    home: Settings, file: Path, tmp_path: Path
) -> None:
    """A backup whose every hash holds, made of a bundle that was damaged already."""
    before = state_of(home.home)
    served = home.models / read_pointer(home.serving_pointer)
    whole = (served / "items.parquet").read_bytes()
    (served / "items.parquet").write_bytes(whole[:-1])
    write_backup(home, tmp_path / "damaged.tar.gz", now=NOW, tell=lambda line: None)
    (served / "items.parquet").write_bytes(whole)
    with pytest.raises(UpkeepError, match="cannot be served"):
        restore(home, tmp_path / "damaged.tar.gz", tell=lambda line: None)
    assert state_of(home.home) == before


@pytest.mark.parametrize("cut", range(1, 9))
def test_a_restoration_cut_off_at_any_move_is_finished_by_the_next_start(
    home: Settings, file: Path, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    with connect(home) as con:
        con.execute("INSERT INTO intermediate.int_user_keys VALUES (3, 'sample', '11')")
    moves = 0
    move = Path.replace

    def cut_off(self: Path, target: Path) -> Path:
        nonlocal moves
        if (home.home / "swap.json").exists():
            moves += 1
            if moves == cut:
                raise KeyboardInterrupt
        return move(self, target)

    monkeypatch.setattr(Path, "replace", cut_off)
    with pytest.raises(KeyboardInterrupt):
        restore(home, file, tell=lambda line: None)
    monkeypatch.setattr(Path, "replace", move)
    assert heal(home.home)
    prepare(home)
    assert keys_in(home) == KEYS
    assert load_bundle(home.models / read_pointer(home.serving_pointer))
    assert home.published.exists()


def test_a_full_disk_leaves_the_backup_before_as_it_was(home: Settings, file: Path) -> None:
    """A limit on the size of files stands in for the disk; it counts for a process, so for one of its own."""
    before = file.read_bytes()
    child = os.fork()
    if child == 0:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, 4_096))
        try:
            write_backup(home, file, now=NOW, tell=lambda line: None)
        except UpkeepError as error:
            os._exit(3 if "cannot be written" in str(error) else 4)
        finally:
            os._exit(5)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir() if path.name.endswith(".part")] == []


def test_the_commands_say_what_they_did(
    home: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MARQUEE_HOME", str(home.home))
    assert main(["backup"]) == 0
    [made] = home.backups.iterdir()
    assert str(made) in capsys.readouterr().out
    assert main(["restore", str(made)]) == 0
    assert "make run MOVIELENS=sample" in capsys.readouterr().out
    assert main(["clean-up", "--dry-run"]) == 0
    assert "would free 0 B" in capsys.readouterr().out
    assert main(["restore", str(tmp_path / "nowhere.tar.gz")]) == 1
    assert "nowhere.tar.gz is not there" in capsys.readouterr().err
    monkeypatch.setenv("MARQUEE_HOME", str(tmp_path / "nothing"))
    assert main(["backup"]) == 2
    assert "no home yet" in capsys.readouterr().err
    assert not (tmp_path / "nothing").exists()


def test_a_home_of_a_newer_format_is_left_alone(
    home: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (home.home / "home.json").write_text(json.dumps({"format": HOME_FORMAT + 1, "edition": "sample"}))
    monkeypatch.setenv("MARQUEE_HOME", str(home.home))
    for command in (["backup"], ["clean-up"], ["restore", "any.tar.gz"]):
        assert main(command) == 2
        assert "newer version" in capsys.readouterr().err


def test_a_rollback_bundle_that_was_removed_is_no_part_of_the_backup(home: Settings, tmp_path: Path) -> None:
    rollback = read_previous(home.serving_pointer)
    assert rollback is not None
    shutil.rmtree(home.models / rollback)
    manifest = write_backup(home, tmp_path / "one.tar.gz", now=NOW, tell=lambda line: None)
    assert not any(rollback in name for name in manifest.members)


def test_the_decisions_that_let_the_bundles_in_come_back_with_them(home: Settings, tmp_path: Path) -> None:
    served = read_pointer(home.serving_pointer)
    decision = home.models / "decisions" / f"{served}.json"
    decision.parent.mkdir()
    decision.write_text("{}")
    (home.models / "decisions" / "another.json").write_text("{}")
    file = tmp_path / "with-decisions.tar.gz"
    write_backup(home, file, now=NOW, tell=lambda line: None)
    elsewhere = Settings(home=tmp_path / "elsewhere")
    restore(elsewhere, file, tell=lambda line: None)
    assert [path.name for path in (elsewhere.models / "decisions").iterdir()] == [decision.name]

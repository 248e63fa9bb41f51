"""The shell on the published copy, while another process holds the warehouse."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from orchestration.publishing.duckdb_copy import differences, publish
from orchestration.publishing.manifest import copy_of
from orchestration.storage.warehouse import connect
from settings import PROJECT_ROOT, Settings
from tests.unit.publishing.writers import write, writer

SHELL = Path(sys.executable).with_name("duckdb")
needs_shell = pytest.mark.skipif(not SHELL.exists(), reason="the duckdb command line tool is not installed")


def shell(home: Path, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    return command("orchestration.shell", home, *arguments, typed=typed)


def command(module: str, home: Path, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MARQUEE_")}
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=PROJECT_ROOT,
        env={**clean, "MARQUEE_HOME": str(home)},
        input=typed,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@needs_shell
def test_the_shell_lists_the_tables_and_answers_while_the_warehouse_is_held(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    with connect(settings) as con:
        con.execute("CREATE SCHEMA marts; CREATE TABLE marts.films AS SELECT range AS film FROM range(1234)")
        comment = {"films": {"": "What is shown. One row a film."}}
        publication = publish(con, settings, comments=comment)
        done = shell(settings.home, typed="SELECT count(*) + 1000000 AS n FROM films;\n")
        asked = shell(settings.home, "-csv", "-noheader", "-c", "SELECT max(film) FROM films")
        refused = shell(settings.home, "-c", "DELETE FROM films")
    assert done.returncode == 0, done.stderr
    assert f"publication {publication.version}" in done.stdout
    assert "  films  1,234  What is shown\n" in done.stdout
    assert "1001234" in done.stdout.replace(",", "").replace("_", "")
    assert asked.stdout.strip() == "1233"
    assert refused.returncode != 0
    assert "read-only" in refused.stderr


def test_a_home_without_a_publication_says_what_to_do(tmp_path: Path) -> None:
    done = shell(tmp_path / "home")
    assert (done.returncode, done.stdout) == (1, "")
    assert "make run" in done.stderr


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, Path]:
    """Return a home with one publication, and the file that the commands read."""
    settings = Settings(home=tmp_path_factory.mktemp("films") / "home")
    with connect(settings) as con:
        con.execute("CREATE SCHEMA marts; CREATE TABLE marts.films AS SELECT range AS film FROM range(1234)")
        return settings, copy_of(settings, publish(con, settings, comments={}).version)


@needs_shell
def test_a_tool_that_holds_the_copy_for_writing_locks_nobody_out(films: tuple[Settings, Path]) -> None:
    settings, _ = films
    with writer(settings.published):
        done = shell(settings.home, "-csv", "-noheader", "-c", "SELECT count(*) FROM films")
    assert (done.returncode, done.stdout, done.stderr) == (0, "1234\n", "")


@needs_shell
def test_the_log_of_a_killed_writer_is_removed_before_the_shell_reads(films: tuple[Settings, Path]) -> None:
    settings, file = films
    for written in (file, settings.published):
        write(written, "DELETE FROM marts.films WHERE film > 3", killed=True)
    done = shell(settings.home, "-csv", "-noheader", "-c", "SELECT count(*) FROM films")
    assert (done.returncode, done.stdout) == (0, "1234\n")
    assert done.stderr == "".join(
        f"removed {written}.wal, a log of another tool's changes: the copy is as it was published\n"
        for written in (file, settings.published)
    )
    assert not list(file.parent.glob("*.wal*"))


@needs_shell
@pytest.mark.parametrize("module", ["orchestration.shell", "orchestration.visualization"])
def test_a_locked_copy_is_one_line_that_names_file_holder_and_remedy(films: tuple[Settings, Path], module: str) -> None:
    settings, file = films
    with writer(file) as process:
        done = command(module, settings.home)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"published/{file.name} is locked: process {process.pid} has it open for writing."
        " Close it there, or open it read-only.\n"
    )


@needs_shell
@pytest.mark.parametrize("module", ["orchestration.shell", "orchestration.visualization"])
@pytest.mark.parametrize("harm", ["changed", "damaged"])
def test_a_harmed_copy_is_one_line_that_names_file_and_remedy(
    films: tuple[Settings, Path], module: str, harm: str, tmp_path: Path
) -> None:
    settings, file = films
    kept, stamp = tmp_path / "kept", file.stat()
    shutil.copy2(file, kept)
    file.chmod(0o644)
    with file.open("r+b") as handle:
        # DuckDB sees that a header is none; of other bytes it need not say anything.
        handle.seek(0 if harm == "damaged" else stamp.st_size // 2)
        handle.write(b"x" * 64)
    if harm == "damaged":
        # As a failing disk does it.
        os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    done = command(module, settings.home)
    again = differences(settings)
    shutil.copy2(kept, file)
    what = "is not the file that was published" if harm == "changed" else "is damaged, or cannot be read"
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"published/{file.name} {what}. `make update` rewrites it.\n"
    assert again == [file.name], "the next run would not rewrite it"

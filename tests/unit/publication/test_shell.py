"""The shell on the published copy, while another process holds the warehouse."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestration.publication.copies import publish
from orchestration.warehouse import connect
from settings import PROJECT_ROOT, Settings

SHELL = Path(sys.executable).with_name("duckdb")
needs_shell = pytest.mark.skipif(not SHELL.exists(), reason="the duckdb command line tool is not installed")


def shell(home: Path, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MARQUEE_")}
    return subprocess.run(
        [sys.executable, "-m", "orchestration.shell", *arguments],
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

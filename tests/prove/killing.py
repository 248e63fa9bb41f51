"""Runs of the real command that are cut off, by a kill or a full disk, and what must hold afterwards.

All homes of a proof lie at one path in turn, kept aside as snapshots: an undisturbed run and a killed one differ in
nothing but the kill.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from models.serving.bundle import load_bundle, read_pointer
from orchestration.analytics.python_marts import OF_RUNS
from orchestration.publishing.manifest import read_manifest
from orchestration.storage.warehouse import TableVersion, open_database, quote, table_version, tables_of
from orchestration.synthetic.sample import SampleSpec, write_sample
from settings import PROJECT_ROOT, Settings

COMMAND = (sys.executable, "-m", "orchestration.run", "--no-recommend")
SHELL = Path(sys.executable).with_name("duckdb")

EARLIER = SampleSpec(users=80, movies=120, ratings=4_000, seed=42)
LATER = SampleSpec(users=90, movies=130, ratings=4_400, seed=43)
SMALL = {
    "MARQUEE_NEUMF_EPOCHS": "1",
    "MARQUEE_SAMPLE_USERS": "80",
    "MARQUEE_SAMPLE_MOVIES": "120",
    "MARQUEE_SAMPLE_RATINGS": "4000",
}


@dataclass(frozen=True)
class Case:
    """A change of state that is cut off: the snapshot it starts from (None: nothing), and what is asked of the run."""

    name: str
    start: str | None
    variables: Mapping[str, str]


@dataclass(frozen=True)
class Killed:
    """One killed run: when, how far its story had come, and what was found afterwards."""

    case: str
    after_s: float
    story: str
    published: str
    served: str
    rerun_s: float


@dataclass
class KillBench:
    """A folder with two states of a mirror, one home at a time, and snapshots of homes."""

    folder: Path
    undisturbed_s: dict[str, float] = field(default_factory=dict)
    #: What the command is started through, and where its home lies for us when that is another view of the files.
    through: tuple[str, ...] = ()
    seen: Path = Path()

    def __post_init__(self) -> None:
        self.seen = self.home
        for name, spec in (("earlier", EARLIER), ("later", LATER)):
            write_sample(self.folder / name, spec)
            (self.folder / name / "sample").rename(self.folder / name / "ml-latest-small")

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def cases(self) -> tuple[Case, ...]:
        """From nothing; after every upstream file has changed; to another edition, which is built aside and swapped."""
        small = {"MARQUEE_MOVIELENS": "ml-latest-small"}
        return (
            Case("empty", None, {**small, "MARQUEE_RAW_DIR": str(self.folder / "earlier")}),
            Case("changed", "empty", {**small, "MARQUEE_RAW_DIR": str(self.folder / "later")}),
            Case("edition", "empty", {"MARQUEE_MOVIELENS": "sample"}),
        )

    def environment(self, case: Case) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("MARQUEE_", "DAGSTER_"))}
        return {**clean, **SMALL, **case.variables, "MARQUEE_HOME": str(self.home)}

    def snapshot(self, name: str) -> Path:
        return self.folder / "snapshots" / name

    def begin(self, case: Case) -> None:
        """Put the home into the state that the case starts from."""
        for found in self.seen.iterdir() if self.seen.exists() else ():
            shutil.rmtree(found) if found.is_dir() else found.unlink()
        if case.start is not None:
            shutil.copytree(self.snapshot(case.start), self.seen, symlinks=True, dirs_exist_ok=True)

    def run(self, case: Case) -> subprocess.CompletedProcess[str]:
        """Run the plain command to whatever end it comes to."""
        return subprocess.run(
            [*self.through, *COMMAND],
            cwd=PROJECT_ROOT,
            env=self.environment(case),
            capture_output=True,
            text=True,
            check=False,
        )

    def finish(self, case: Case) -> float:
        """Run the plain command to its end, which must be a good one. Returns the seconds it took."""
        started = time.monotonic()
        done = self.run(case)
        assert done.returncode == 0, f"{case.name}: exit {done.returncode}\n{done.stderr}"
        return time.monotonic() - started

    def undisturbed(self, case: Case) -> None:
        """Keep the state that the case leads to when nobody interferes."""
        self.begin(case)
        self.undisturbed_s[case.name] = self.finish(case)
        shutil.copytree(self.seen, self.snapshot(case.name), symlinks=True)

    def kill(self, case: Case, after_s: float) -> str | None:
        """Start the command and kill it and all its children. Returns its story so far; None when it ended before."""
        log = self.folder / "story.log"
        with (
            log.open("wb") as out,
            subprocess.Popen(
                COMMAND,
                cwd=PROJECT_ROOT,
                env=self.environment(case),
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            ) as run,
        ):
            try:
                run.wait(timeout=after_s)
            except subprocess.TimeoutExpired:
                os.killpg(run.pid, signal.SIGKILL)
                run.wait()
                return log.read_text(errors="replace")
        assert run.returncode == 0, log.read_text(errors="replace")
        return None

    def published_state(self, case: Case) -> str:
        """Which published copy lies there, whole: ``none``, ``before`` or ``after`` the case. Fails on anything else.

        Read as an analyst would, with the plain `duckdb`, and every table's content compared with the manifests.
        """
        settings = Settings(home=self._held())
        if not settings.published.exists():
            assert case.start is None, f"{case.name}: the published copy is gone"
            return "none"
        whole = {"after": self._manifest(case.name)}
        if case.start is not None:
            whole = {"before": self._manifest(case.start), **whole}
        marts = sorted(whole["after"])
        counted = " UNION ALL ".join(f"SELECT '{name}' AS mart, count(*) AS rows FROM marts.{name}" for name in marts)
        done = subprocess.run(
            [SHELL, "-readonly", "-json", settings.published, counted], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{case.name}: {done.stderr}"
        rows = {row["mart"]: row["rows"] for row in json.loads(done.stdout)}
        # A killed run may leave its half-written part, hidden, until the next publication.
        assert not settings.published.with_name(settings.published.name + ".wal").exists()
        with closing(duckdb.connect(str(settings.published), read_only=True)) as con:
            con.execute("SET TimeZone = 'UTC'")
            found = {name: table_version(con, f"marts.{name}") for name in tables_of(con, "marts")}
        assert rows == {name: version.rows for name, version in found.items()}
        for state, manifest in whole.items():
            if _of_data(found) == _of_data(manifest):
                return state
        raise AssertionError(f"{case.name}: the published copy is neither the old one nor the new one: {found}")

    def served_state(self) -> str:
        """Return the version that the pointer names once every hash of its bundle fits; ``none`` without a pointer."""
        settings = Settings(home=self._held())
        if not settings.serving_pointer.exists():
            return "none"
        return load_bundle(settings.models / read_pointer(settings.serving_pointer)).version

    def assert_as_undisturbed(self, case: Case) -> None:
        """Every mart and key table equals, row for row, that of the run which nobody disturbed."""
        settings = Settings(home=self._held())
        with closing(open_database(settings, ":memory:")) as con:
            for name, home in (("found", settings.home), ("wanted", self.snapshot(case.name))):
                literal = str(home / "warehouse.duckdb").replace("'", "''")
                con.execute(f"ATTACH '{literal}' AS {name} (READ_ONLY)")
            wanted = list(_content(con, "wanted"))
            assert wanted, "the undisturbed run left no marts"
            assert list(_content(con, "found")) == wanted, case.name
            for relation, _ in wanted:
                for one, other in (("found", "wanted"), ("wanted", "found")):
                    con.execute("USE memory")
                    query = f"FROM {quote(f'{one}.{relation}')} EXCEPT ALL FROM {quote(f'{other}.{relation}')}"
                    assert con.execute(f"SELECT count(*) FROM ({query})").fetchall() == [(0,)], (case.name, relation)

    def _held(self) -> Path:
        """Return the home, or a copy: DuckDB follows the link of another namespace's root to our own files."""
        if self.seen == self.home:
            return self.home
        copy = self.folder / "held"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.seen, copy, symlinks=True)
        return copy

    def _manifest(self, name: str) -> dict[str, TableVersion]:
        publication = read_manifest(Settings(home=self.snapshot(name)))
        assert publication is not None
        return publication.tables


def _of_data(tables: Mapping[str, TableVersion]) -> dict[str, TableVersion | None]:
    """Map the tables to their versions, those about runs to None: their times and ids differ from home to home."""
    return {name: None if name in OF_RUNS else version for name, version in tables.items()}


def _content(con: duckdb.DuckDBPyConnection, database: str) -> Iterator[tuple[str, TableVersion]]:
    con.execute(f"USE {database}")
    for name in sorted({*tables_of(con, "marts")} - OF_RUNS):
        yield f"marts.{name}", table_version(con, f"marts.{name}")
    for name in ("int_user_keys", "int_movie_keys"):
        yield f"intermediate.{name}", table_version(con, f"intermediate.{name}")


def write_report(name: str, content: Mapping[str, object]) -> Path:
    """Write the result of a proof as JSON to the reports of the caller's home."""
    report = Settings().reports / f"{name}.json"
    report.parent.mkdir(parents=True, exist_ok=True)
    aside = report.with_name(f".{report.name}.part")
    aside.write_text(json.dumps(content, indent=1) + "\n")
    aside.replace(report)
    return report

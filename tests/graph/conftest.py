"""One home built by the real command on a tiny mirror, shared by the tests of the graph.

The mirror holds generated files in the layout of ml-latest-small, so that a test may change a file as upstream would.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestration.synthetic.sample import SampleSpec, write_sample
from settings import PROJECT_ROOT, Settings

#: Small enough for half a minute of work, large enough that NeuMF has something to learn.
TINY = {
    "MARQUEE_MOVIELENS": "ml-latest-small",
    "MARQUEE_NEUMF_EPOCHS": "4",
}
SPEC = SampleSpec(users=150, movies=200, ratings=8_000, seed=42)


@dataclass(frozen=True)
class Run:
    """One call of the command: exit status, the story (stderr) and the result (stdout)."""

    status: int
    story: str
    result: str


@dataclass(frozen=True)
class GraphHome:
    """A home and how to run the command on it."""

    folder: Path
    mirror: Path
    broken_rows: int

    @property
    def settings(self) -> Settings:
        """The settings that the command sees."""
        names = {name.removeprefix("MARQUEE_").lower(): value for name, value in TINY.items()}
        return Settings(home=self.folder, raw_dir=self.mirror, **names)  # type: ignore[arg-type]

    def environment(self, **variables: str) -> dict[str, str]:
        """Return the variables of a run, with nothing of the caller's own home."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("MARQUEE_", "DAGSTER_"))}
        return {**clean, **TINY, "MARQUEE_HOME": str(self.folder), "MARQUEE_RAW_DIR": str(self.mirror), **variables}

    def run(self, *arguments: str, **variables: str) -> Run:
        """Run ``python -m orchestration.run`` in a process of its own."""
        done = subprocess.run(
            [sys.executable, "-m", "orchestration.run", *arguments],
            cwd=PROJECT_ROOT,
            env=self.environment(**variables),
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        return Run(done.returncode, done.stderr, done.stdout)


def make_graph_home(folder: Path) -> GraphHome:
    """Write a tiny mirror into ``folder`` and return a home next to it that does not exist yet."""
    manifest = write_sample(folder / "mirror", SPEC)
    (folder / "mirror" / "sample").rename(folder / "mirror" / "ml-latest-small")
    # ml-latest-small has no genome: those files of the sample are not read.
    broken = [row for row in manifest.broken if not row.file.startswith("genome-")]
    return GraphHome(folder / "home", folder / "mirror", len(broken))


@pytest.fixture(scope="session")
def graph_home(tmp_path_factory: pytest.TempPathFactory) -> GraphHome:
    """Return a home in which nothing but `first_run` has run."""
    return make_graph_home(tmp_path_factory.mktemp("graph"))


@pytest.fixture(scope="session")
def first_run(graph_home: GraphHome) -> Run:
    """Materialize the whole graph once, ending with recommendations over HTTP."""
    return graph_home.run("-k", "5")

"""The dry run: what would be fetched from where, asked of a real server, with nothing written."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestration.ingestion.fetch_plan import Plan, make_plan, plan_lines
from orchestration.ingestion.source_resolver import locate_dump, locate_edition
from settings import PROJECT_ROOT, Settings
from tests.unit.ingestion import editions
from tests.unit.ingestion.editions import write_dump
from tests.unit.ingestion.test_locate import NOBODY, zipped
from tests.unit.ingestion.upstream import Upstream


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[Upstream]:
    with Upstream(tmp_path / "upstream") as server:
        zipped(server.folder / "ml-latest.zip", editions.csv_edition(tmp_path / "source").folder, "ml-latest")
        for dump in ("title.crew", "title.ratings"):
            write_dump(server.folder, dump, "tt1 nm1 nm2" if dump == "title.crew" else "tt1 5.0 10")
        yield server


def settings(tmp_path: Path, url: str, edition: str = "ml-latest", **values: object) -> Settings:
    given = {
        "movielens_url": url,
        "imdb_url": url,
        "raw_dir": None,
        "imdb_dir": None,
        "imdb_max_age_days": 0,
        "imdb_dumps": ("title.crew", "title.ratings"),
    }
    return Settings(home=tmp_path / "home", movielens=edition, **(given | values))  # type: ignore[arg-type]


def states(plan: Plan) -> dict[str, tuple[str, int | None]]:
    return {one.name: (one.state, one.size) for one in plan.wanted}


def said(plan: Plan, name: str) -> str:
    [one] = [one for one in plan.wanted if one.name == name]
    return one.said


def size(upstream: Upstream, name: str) -> int:
    return (upstream.folder / name).stat().st_size


def test_what_would_be_fetched_is_told_with_its_sizes_and_nothing_is_written(
    tmp_path: Path, upstream: Upstream
) -> None:
    wanted = settings(tmp_path, upstream.url)
    plan = make_plan(wanted)
    sizes = {file: size(upstream, file) for file in ("ml-latest.zip", "title.crew.tsv.gz", "title.ratings.tsv.gz")}
    assert states(plan) == {
        "ml-latest": ("would be fetched", sizes["ml-latest.zip"]),
        "title.crew": ("would be fetched", sizes["title.crew.tsv.gz"]),
        "title.ratings": ("would be fetched", sizes["title.ratings.tsv.gz"]),
    }
    assert (plan.size, plan.feasible) == (sum(sizes.values()), True)
    assert {asked.method for asked in upstream.asked} == {"HEAD"}
    assert not (tmp_path / "home").exists()
    *lines, total = plan_lines(plan, wanted)
    assert f"{upstream.url}/ml-latest.zip" in lines[0]
    assert "in 3 files" in total
    assert total.endswith("Nothing was fetched.")


def test_what_is_here_is_told_apart_as_unchanged_changed_cut_off_or_not_to_be_asked_for(
    tmp_path: Path, upstream: Upstream
) -> None:
    wanted = settings(tmp_path, upstream.url)
    locate_edition(wanted)
    crew = locate_dump(wanted, "title.crew")
    locate_dump(wanted, "title.ratings")
    write_dump(upstream.folder, "title.crew", "tt1 nm1 nm2", "tt2 nm1 nm2")
    plan = make_plan(wanted)
    assert states(plan) == {
        "ml-latest": ("earlier download", 0),
        "title.crew": ("would be fetched", size(upstream, "title.crew.tsv.gz")),
        "title.ratings": ("earlier download", 0),
    }
    assert "has changed" in said(plan, "title.crew")
    assert "unchanged at" in said(plan, "title.ratings")
    # Ten bytes of the new one are here.
    upstream.first = ["cut after 10", "missing"]
    assert locate_dump(wanted, "title.crew") == crew
    plan = make_plan(wanted)
    assert states(plan)["title.crew"] == ("would be fetched", size(upstream, "title.crew.tsv.gz") - 10)
    assert "of which 10 B are here" in said(plan, "title.crew")
    # Looked at a moment ago is recent enough, unless the settings say otherwise; the cut one is asked for.
    upstream.asked.clear()
    plan = make_plan(settings(tmp_path, upstream.url, imdb_max_age_days=7))
    assert [asked.path for asked in upstream.asked] == ["/title.crew.tsv.gz"]
    assert "not asked for" in said(plan, "title.ratings")


def test_mirrors_and_the_sample_need_no_server(tmp_path: Path) -> None:
    editions.csv_edition(tmp_path / "mirror" / "ml-latest")
    write_dump(tmp_path / "mirror" / "imdb", "title.crew", "tt1 nm1 nm2")
    wanted = settings(tmp_path, NOBODY, raw_dir=tmp_path / "mirror", imdb_dumps=("title.crew",))
    plan = make_plan(wanted)
    assert states(plan) == {"ml-latest": ("mirror", 0), "title.crew": ("mirror", 0)}
    assert "A run would fetch nothing;" in plan_lines(plan, wanted)[-1]
    assert {state for state, _ in states(make_plan(settings(tmp_path, NOBODY, "sample"))).values()} == {"generated"}


def test_what_cannot_be_had_is_told_for_each_file(tmp_path: Path, upstream: Upstream) -> None:
    (upstream.folder / "title.ratings.tsv.gz").unlink()
    wanted = settings(tmp_path, upstream.url, movielens_url=NOBODY)
    plan = make_plan(wanted)
    assert {name: state for name, (state, _) in states(plan).items()} == {
        "ml-latest": "cannot be had",
        "title.crew": "would be fetched",
        "title.ratings": "cannot be had",
    }
    assert "404 Not Found" in said(plan, "title.ratings")
    assert "in 1 file and could not have 2 that it needs; " in plan_lines(plan, wanted)[-1]
    assert not plan.feasible


def test_what_does_not_fit_is_told(tmp_path: Path, upstream: Upstream) -> None:
    upstream.manner = "stating a petabyte"
    wanted = settings(tmp_path, upstream.url)
    plan = make_plan(wanted)
    assert not plan.feasible
    assert "does not fit" in plan_lines(plan, wanted)[-1]
    upstream.manner = "stating nothing"
    assert "3 of a size that is not stated" in plan_lines(make_plan(wanted), wanted)[-1]


@pytest.mark.parametrize(("reachable", "status"), [(True, 0), (False, 1)])
def test_the_command_prints_the_plan_without_dagster_or_a_home(
    tmp_path: Path, upstream: Upstream, reachable: bool, status: int
) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "MARQUEE_HOME": str(tmp_path / "home"),
        "MARQUEE_MOVIELENS": "ml-latest",
        "MARQUEE_IMDB_DUMPS": "title.crew",
        "MARQUEE_MOVIELENS_URL": upstream.url if reachable else NOBODY,
        "MARQUEE_IMDB_URL": upstream.url,
    }
    command = (
        "import sys, orchestration.run as r; s = r.main(['--dry-run']); print('dagster' in sys.modules); sys.exit(s)"
    )
    found = subprocess.run(
        [sys.executable, "-c", command], cwd=PROJECT_ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert found.returncode == status, found.stderr
    *lines, total, imported = found.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["ml-latest", "title.crew"]
    assert total.startswith("A run would fetch")
    assert imported == "False"
    assert not (tmp_path / "home").exists()

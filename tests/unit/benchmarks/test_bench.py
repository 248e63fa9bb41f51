"""The bench: its hand-written script against the pipeline's own marts, its measuring, its report."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest

from benchmarks.pipeline.__main__ import main
from benchmarks.pipeline.compare import differences
from benchmarks.pipeline.measure import run_measured
from benchmarks.pipeline.report import machine, markdown, slowest_analyses, summary
from benchmarks.pipeline.sizes import ML_20M_MOVIES, ML_20M_RATINGS, ML_20M_USERS, generate, size_of
from settings import PROJECT_ROOT

#: Small, and with films of every awkward kind.
RATINGS = 20_000


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run the command with the stages that are compared and return its JSON."""
    home = tmp_path_factory.mktemp("bench")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MARQUEE_HOME", str(home))
        stages = ["--stages", "checked_marts", "by_hand"]
        assert main(["--ratings", str(RATINGS), *stages, "--keep"]) == 0
        assert main(["--ratings", str(RATINGS), *stages[:1], "by_hand", "--reuse-home", "--keep"]) == 0
    first = min((home / "reports").glob("bench-*.json"))
    return {**json.loads(first.read_text()), "home": home}


def test_the_hand_written_script_makes_the_marts_of_the_pipeline_row_for_row(report: dict[str, Any]) -> None:
    assert report["different_marts"] == {}
    (home,) = (report["home"] / "bench" / "homes").iterdir()
    with duckdb.connect() as con:
        assert differences(con, home / "checked-marts" / "warehouse.duckdb", home / "by-hand.duckdb") == {}
    with duckdb.connect(home / "checked-marts" / "warehouse.duckdb", read_only=True) as con:
        counts = dict(con.execute("SELECT match_method, count(*) FROM marts.dim_movies GROUP BY ALL").fetchall())
        tables = con.execute("SELECT count(*) FROM duckdb_tables() WHERE schema_name = 'marts'").fetchall()
    # The comparison means something only where films are matched in every way and all marts of the core are there.
    # Those that only analysts ask (dbt's tag `analysts`) are neither built here nor compared.
    assert {"link", "title_year", "unmatched", "imdb_only"} <= counts.keys()
    assert tables == [(15,)]


def test_a_row_that_differs_is_found_and_named(report: dict[str, Any], tmp_path: Path) -> None:
    (home,) = (report["home"] / "bench" / "homes").iterdir()
    changed = tmp_path / "changed.duckdb"
    changed.write_bytes((home / "by-hand.duckdb").read_bytes())
    with duckdb.connect(changed) as con:
        con.execute("UPDATE marts.dim_users SET rating_count = rating_count + 1 WHERE user_key = 1")
        con.execute("INSERT INTO marts.fct_tags SELECT * FROM marts.fct_tags LIMIT 1")
        con.execute("ALTER TABLE marts.movie_imdb DROP imdb_votes")
        con.execute("DROP TABLE marts.dim_people")
    with duckdb.connect() as con:
        found = differences(con, home / "checked-marts" / "warehouse.duckdb", changed)
    assert found == {
        "dim_users": "1 rows only in the pipeline's, 1 only by hand",
        "fct_tags": "0 rows only in the pipeline's, 1 only by hand",
        "movie_imdb": "columns [('imdb_votes', 'INTEGER')]",
        "dim_people": "only one has it",
    }


def test_the_report_has_time_rows_and_memory_of_each_stage_and_the_machine(report: dict[str, Any]) -> None:
    (stages,) = report["runs"].values()
    assert set(stages) == {"checked_marts", "by_hand"}
    assert {part["name"] for part in stages["checked_marts"][0]["parts"]} >= {"movielens", "name.basics", "build"}
    for (run,) in stages.values():
        assert run["wall_s"] > 0
        assert run["rows"] > RATINGS / 2
        # A Python process with DuckDB takes more than this.
        assert run["peak_bytes"] > 50e6
    assert report["machine"]["cores"] >= 1
    assert report["machine"]["memory_gb"] > 0


def _run(wall_s: float, peak_gb: float, ratings: int) -> dict[str, Any]:
    return {
        "wall_s": wall_s,
        "cpu_s": wall_s,
        "peak_bytes": int(peak_gb * 1e9),
        "rows": ratings,
        "ratings": ratings,
        "parts": [],
    }


def test_the_analyses_that_take_longest_are_told_of_each_size_the_slowest_first() -> None:
    def asked(**seconds: float) -> dict[str, Any]:
        parts = [{"name": name, "rows": 0, "seconds": taken} for name, taken in seconds.items()]
        return {"analyses": [{"wall_s": 9.0, "cpu_s": 9.0, "peak_bytes": 1, "rows": 0, "parts": parts}]}

    runs = {"small": asked(gems=0.01, first=0.02), "large": asked(gems=0.3, first=1.5, tags=0.2)}
    assert slowest_analyses(runs, most=2) == [
        ("small", "first", 0.02, 2),
        ("small", "gems", 0.01, 2),
        ("large", "first", 1.5, 3),
        ("large", "gems", 0.3, 3),
    ]
    report = markdown(machine(2, "2GB"), runs)
    assert "| large | first | 1500 ms | 3 |" in report
    # They are no parts of the pipeline.
    assert "The slowest parts" not in report


def test_the_summary_takes_medians_and_holds_sizes_against_the_first() -> None:
    def stages(ratings: int, pipeline: list[float]) -> dict[str, list[dict[str, Any]]]:
        checked = [_run(seconds, 2.0, ratings) for seconds in pipeline]
        return {"checked_marts": checked, "by_hand": [_run(25.0, 0.5, ratings)]}

    small, large = summary({"small": stages(100, [50.0, 90.0, 10.0]), "large": stages(1_000, [200.0])})
    assert (small["checked_marts_s"], small["ratio"], small["peak_bytes"]) == (50.0, 2.0, 2e9)
    assert small["cpu_ratio"] == 2.0
    assert (large["growth"], large["growth_of_ratings"]) == (4.0, 10.0)


def test_a_size_without_all_stages_has_no_ratio() -> None:
    runs = {"small": {"ingest": [_run(1.0, 1.0, 100)], "by_hand": [_run(1.0, 1.0, 100)]}}
    assert summary(runs) == []
    facts = {"cores": 2, "memory_gb": 8.0, "processor": "p", "python": "3.11", "threads": 2, "duckdb_memory": "2GB"}
    assert "| small | ingest | 100 | 1.0 s | 1.0 s | 100 | 1.00 GB |" in markdown(facts, runs)


def test_the_peak_counts_a_process_and_its_children_together(tmp_path: Path) -> None:
    child = "block = bytearray(80_000_000); import time; time.sleep(1.5)"
    both = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {child!r}]); {child}; p.wait()"
    cost = run_measured([sys.executable, "-c", both], cwd=PROJECT_ROOT, env={}, log=tmp_path / "log")
    assert cost.peak_bytes > 160e6
    assert cost.wall_s > 1.5


def test_the_peak_is_not_that_of_who_started_the_process(tmp_path: Path) -> None:
    held = b"x" * 400_000_000
    cost = run_measured(
        [sys.executable, "-c", "import time; time.sleep(0.5)"], cwd=PROJECT_ROOT, env={}, log=tmp_path / "log"
    )
    assert len(held) == 400_000_000
    assert 0 < cost.peak_bytes < 200e6


def test_a_command_that_fails_is_reported_with_the_end_of_its_output(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the disk is gone"):
        run_measured(
            [sys.executable, "-c", "raise SystemExit('the disk is gone')"], cwd=tmp_path, env={}, log=tmp_path / "l"
        )


def test_the_full_size_has_the_counts_of_ml_20m_and_a_quarter_of_imdb() -> None:
    spec = size_of(ML_20M_RATINGS).spec
    assert (spec.ratings, spec.users, spec.movies) == (ML_20M_RATINGS, ML_20M_USERS, ML_20M_MOVIES)
    assert (spec.imdb_titles, spec.people) == (2_750_000, 3_500_000)
    assert size_of(2_000_026).imdb_share == 0.025


def test_input_is_generated_once_and_used_again(tmp_path: Path) -> None:
    told: list[str] = []
    place, manifest = generate(tmp_path, size_of(5_000), told.append)
    stamp = (place / "sample" / "ratings.csv").stat().st_mtime_ns
    assert generate(tmp_path, size_of(5_000), told.append) == (place, manifest)
    assert (place / "sample" / "ratings.csv").stat().st_mtime_ns == stamp
    assert {file.broken_rows for file in manifest.files} == {0}

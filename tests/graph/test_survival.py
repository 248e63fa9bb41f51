"""What a home survives: kills in the middle of its first run, a clean-up, and its own loss.

A small cut of `make prove ONLY=kills`; the tests follow each other on one home.
"""

from __future__ import annotations

import random
from contextlib import closing

import duckdb
import pytest

from orchestration.maintenance.__main__ import main
from orchestration.maintenance.retention import named_versions
from settings import Settings
from tests.prove.killing import Case, KillBench

KILLS = 3

pytestmark = pytest.mark.xdist_group("survival")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> KillBench:
    """Run the pipeline undisturbed once and keep its home as a snapshot."""
    bench = KillBench(tmp_path_factory.mktemp("survival"))
    bench.undisturbed(bench.cases[0])
    return bench


@pytest.fixture
def case(bench: KillBench) -> Case:
    return bench.cases[0]


def test_after_three_kills_in_a_row_the_plain_command_gives_the_undisturbed_result(
    bench: KillBench, case: Case
) -> None:
    draw = random.Random(7)
    bench.begin(case)
    for number in range(KILLS):
        # Each run goes on where the one before was cut off, so a later kill comes at a later step.
        story = bench.kill(case, bench.undisturbed_s[case.name] * draw.uniform(0.15, 0.45))
        assert story is not None, f"run {number} was over before its kill"
        assert bench.published_state(case) in ("none", "after")
        bench.served_state()
    bench.finish(case)
    bench.assert_as_undisturbed(case)
    assert bench.published_state(case) == "after"


def test_after_a_clean_up_that_keeps_the_least_a_run_has_nothing_to_do(
    bench: KillBench, case: Case, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("BUNDLES", "BENTOS"):
        monkeypatch.setenv(f"MARQUEE_KEEP_{name}", "1")
    for name in ("RUNS", "LEFTOVERS"):
        monkeypatch.setenv(f"MARQUEE_KEEP_{name}_DAYS", "0")
    monkeypatch.setenv("MARQUEE_HOME", str(bench.home))
    assert main(["clean-up"]) == 0
    assert "freed" in capsys.readouterr().out
    done = bench.run(case)
    assert done.returncode == 0, done.stderr
    assert "Nothing has changed" in done.stderr


def test_a_lost_home_restored_from_its_backup_gives_every_user_and_film_its_key_again(
    bench: KillBench, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARQUEE_HOME", str(bench.home))
    backup = bench.folder / "backup.tar.gz"
    # Keys that no run from nothing would give, so that they can have come from the backup alone.
    with closing(duckdb.connect(str(bench.home / "warehouse.duckdb"))) as con:
        for table, key in (("int_user_keys", "user_key"), ("int_movie_keys", "movie_key")):
            con.execute(f"UPDATE intermediate.{table} SET {key} = {key} + 100000")
        given = {table: keys_of(con, table) for table in ("int_user_keys", "int_movie_keys")}
    served = named_versions(Settings(home=bench.home))
    assert main(["backup", str(backup)]) == 0
    bench.begin(case)
    assert main(["restore", str(backup)]) == 0
    assert bench.served_state() in served
    bench.finish(case)
    with closing(duckdb.connect(str(bench.home / "warehouse.duckdb"), read_only=True)) as con:
        assert {table: keys_of(con, table) for table in given} == given
        users = con.execute("SELECT user_key FROM marts.dim_users ORDER BY ALL").fetchall()
        assert users == sorted({(key,) for key, *_ in given["int_user_keys"]})


def keys_of(con: duckdb.DuckDBPyConnection, table: str) -> list[tuple[object, ...]]:
    """Return the rows of a key table, the key first."""
    key = table.removeprefix("int_").removesuffix("s")
    return con.execute(f"SELECT {key}, source, source_id FROM intermediate.{table} ORDER BY ALL").fetchall()

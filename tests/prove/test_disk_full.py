"""Long proof: the disk is full in the middle of a run. One clear message, the old state whole, and it goes on later.

The disk is a small file system of its own where a user may make one (a namespace with a tmpfs), and the kernel's limit
on the size of a file everywhere.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from settings import PROJECT_ROOT
from tests.prove.killing import Case, KillBench, write_report

#: Shares of the space that a run takes beyond what its start takes.
SHARES = (0.05, 0.3, 0.6, 0.9)
LIMITS_KB = (64, 1_024, 4_096)
SPOKEN = ("no space left", "disk is full", "file too large", "disk i/o error", "cannot be written")


def size_of(folder: Path) -> int:
    """Return the bytes that a folder takes in a file system with pages of 4 kB."""
    return sum(4_096 * (1 + path.lstat().st_size // 4_096) for path in folder.rglob("*"))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> KillBench:
    bench = KillBench(tmp_path_factory.mktemp("disk"))
    for case in bench.cases[:2]:
        bench.undisturbed(case)
    return bench


@contextmanager
def small_disk(bench: KillBench) -> Iterator[list[str]]:
    """Mount a tmpfs at the home's path that only the runs see, and yield the command that enters its namespace."""
    ready = bench.folder / "ready"
    script = 'mount -t tmpfs -o size=1g tmpfs "$1" && touch "$2" && exec sleep infinity'
    shutil.rmtree(bench.home, ignore_errors=True)
    bench.home.mkdir()
    holder = subprocess.Popen(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", str(bench.home), str(ready)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not ready.exists():
            if holder.poll() is not None:
                pytest.skip("no namespaces here: this kernel or container does not let a user mount a file system")
            time.sleep(0.05)
        enter = ["nsenter", "--user", "--mount", "--preserve-credentials", "--target", str(holder.pid)]
        bench.through = (*enter, f"--wdns={PROJECT_ROOT}")
        bench.seen = Path(f"/proc/{holder.pid}/root{bench.home}")
        yield enter
    finally:
        bench.through, bench.seen = (), bench.home
        holder.kill()
        holder.wait()
        ready.unlink(missing_ok=True)


def judge_failure(bench: KillBench, case: Case) -> dict[str, object]:
    """Run where space is short. A failure must be one clear message, and leave whole what was published and served."""
    done = bench.run(case)
    if done.returncode == 0:
        return {"case": case.name, "failed": False}
    assert done.returncode in (1, 2), done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    said = [line.strip() for line in done.stderr.splitlines() if any(word in line.lower() for word in SPOKEN)]
    assert said, f"no word of the disk in: {done.stderr}"
    return {
        "case": case.name,
        "failed": True,
        "said": said[0],
        "published": bench.published_state(case),
        "served": bench.served_state(),
    }


@pytest.mark.parametrize("number", [0, 1], ids=["first_run", "update"])
def test_a_full_disk_is_told_and_with_more_space_the_plain_command_goes_on(bench: KillBench, number: int) -> None:
    case = bench.cases[number]
    found = []
    with small_disk(bench) as enter:
        start = 0 if case.start is None else size_of(bench.snapshot(case.start))
        needed = size_of(bench.snapshot(case.name)) - start
        for share in SHARES:
            resize(bench, enter, "1g")
            bench.begin(case)
            resize(bench, enter, str(start + int(needed * share) + 65_536))
            outcome = judge_failure(bench, case)
            resize(bench, enter, "1g")
            bench.finish(case)
            bench.assert_as_undisturbed(case)
            assert bench.published_state(case) == "after"
            found.append({"share": share, **outcome})
            print(found[-1], flush=True)
    assert sum(bool(outcome["failed"]) for outcome in found) >= 2
    write_report(f"disk_full_{case.name}", {"needed_bytes": needed, "all": found})


def resize(bench: KillBench, enter: list[str], size: str) -> None:
    """Give the small disk another size."""
    subprocess.run([*enter, "mount", "-o", f"remount,size={size}", str(bench.home)], check=True)


def test_a_limit_on_the_size_of_files_is_told_and_without_it_the_plain_command_goes_on(bench: KillBench) -> None:
    case = bench.cases[1]
    found = []
    for limit in LIMITS_KB:
        bench.begin(case)
        bench.through = ("prlimit", f"--fsize={limit * 1_024}")
        outcome = judge_failure(bench, case)
        bench.through = ()
        bench.finish(case)
        bench.assert_as_undisturbed(case)
        assert bench.published_state(case) == "after"
        found.append({"limit_kb": limit, **outcome})
        print(found[-1], flush=True)
    assert sum(bool(outcome["failed"]) for outcome in found) >= 2
    write_report("disk_full_file_size", {"all": found})

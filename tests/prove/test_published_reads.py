"""Long proof: the published copy opens with a plain `duckdb` while a run writes, 100 times out of 100."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

from settings import PROJECT_ROOT, Settings
from tests.graph.conftest import make_graph_home

OPENS = 100
QUERY = "SELECT count(*) FROM marts.fct_ratings"


def test_the_published_copy_opens_every_time_while_a_run_writes(tmp_path: Path) -> None:
    home = make_graph_home(tmp_path)
    assert home.run("--no-recommend").status == 0
    shell = Path(sys.executable).with_name("duckdb")
    dump = home.mirror / "imdb" / "title.ratings.tsv.gz"
    opened, failures, runs = 0, [], 0
    while opened < OPENS:
        # Every vote moves, so that the marts change and the copy is replaced under the readers.
        header, *rows = gzip.decompress(dump.read_bytes()).decode().splitlines()
        moved = [
            f"{tconst}\t{mean}\t{int(votes) + 1}"
            for tconst, mean, votes in (
                r.split("\t") for r in rows if r.count("\t") == 2 and r.split("\t")[2].isdigit()
            )
        ]
        dump.write_bytes(gzip.compress("\n".join([header, *moved, ""]).encode(), mtime=runs + 1))
        runs += 1
        with subprocess.Popen(
            [sys.executable, "-m", "orchestration.run", "--no-recommend"],
            cwd=PROJECT_ROOT,
            env=home.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as run:
            while run.poll() is None:
                done = subprocess.run(
                    [shell, "-readonly", "-csv", "-noheader", home.settings.published, QUERY],
                    capture_output=True,
                    text=True,
                    check=False,
                )
                opened += 1
                if done.returncode != 0 or int(done.stdout) == 0:
                    failures.append(done.stderr)
        assert run.returncode == 0
    report = Settings().reports / "published_reads.json"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(json.dumps({"opened": opened, "failed": len(failures), "runs": runs}))
    print(report.read_text())
    assert failures == []

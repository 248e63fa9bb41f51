"""The serving part of ``make bench``, small: every figure is there, and a second run makes nothing anew."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.serving import __main__ as bench
from benchmarks.serving.load_generator import quantile

SMALL = [
    "--films",
    "400",
    "--users",
    "900",
    "--ratings",
    "9000",
    "--people",
    "300",
    "--requests",
    "30",
    "--rounds",
    "1",
]


def test_the_bench_asks_the_service_in_every_way_and_reports_what_it_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MARQUEE_HOME", str(tmp_path))
    assert bench.main(["--models", "ials", *SMALL]) == 0
    shown = capsys.readouterr()
    assert "| ials |" in shown.out
    assert "| plain FastAPI + faiss |" in shown.out
    [path] = (tmp_path / "reports").glob("bench-serving-*.json")
    report = json.loads(path.read_text())
    figures = report["models"]["ials"]
    one, fresh = figures["one"], figures["fresh"]
    assert one["above_p50_ms"] == pytest.approx(one["recommend_p50_ms"] - one["constant_p50_ms"], abs=0.02)
    assert one["bytes"] > 1_000
    assert fresh["film_gone"] == fresh["list_changed"] == fresh["users"] == 3
    assert figures["many"]["share"] > 0
    assert figures["batch"]["users"] == 45
    assert figures["similar"]["exact"]["recall"] == 1.0
    assert figures["similar"]["faiss"]["recall"] > 0.9
    assert figures["worker_mb"] > 50
    assert report["plain"]["recommend_rps"] > 0
    # The home is used again: only what another recipe needs is fitted.
    bundles = sorted((tmp_path / "bench").glob("serving-*/models/*"))
    made = bench.make_home(tmp_path / "bench", bench.ServedSize(400, 900, 9_000, 300), ["ials"], bench.say)
    assert sorted((tmp_path / "bench").glob("serving-*/models/*")) == bundles
    assert "fitting" not in capsys.readouterr().err
    assert set(made.versions) == {"ials"}


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50.0), (0.99, 99.0), (0.01, 1.0), (1.0, 100.0), (0.501, 51.0)])
def test_a_quantile_is_the_least_value_that_so_many_do_not_exceed(share: float, expected: float) -> None:
    assert quantile([float(value) for value in range(100, 0, -1)], share) == expected

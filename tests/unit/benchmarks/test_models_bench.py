from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.models.__main__ import main
from benchmarks.models.memory import CASES, fit_peak
from benchmarks.models.naive_neumf import PairData, fit_plainly
from benchmarks.models.synthetic import generated_interactions
from benchmarks.models.training_speed import CONFIG
from models.registry import RECOMMENDERS


def test_the_training_bench_reports_every_way_and_the_ratio_to_the_best_plain_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = ["--users", "60", "--items", "50", "--rows", "700", "--rounds", "1"]
    assert main(["--parts", "training", *size, "--reports", str(tmp_path)]) == 0
    (path,) = tmp_path.glob("bench-models-*.json")
    speed = json.loads(path.read_text())["training"]
    assert set(speed["seconds"]) == {"DataLoader", "DataLoader, one worker process", "NeuMF", "NeuMF, bfloat16"}
    best = max(speed["pairs_a_second"][name] for name in speed["seconds"] if name.startswith("DataLoader"))
    ratio = speed["pairs_a_second"]["NeuMF"] / best
    assert speed["times_as_fast_as_the_best_plain"]["NeuMF"] == pytest.approx(ratio, rel=0.02)
    assert "| DataLoader | " in capsys.readouterr().out


def test_the_plain_network_learns_from_as_many_pairs_none_of_them_met() -> None:
    rows = generated_interactions(60, 50, 700, seed=2)
    data = PairData(rows, CONFIG.negatives, seed=0)
    data.draw()
    assert len(data) == len(rows) * (1 + CONFIG.negatives)
    assert {pair[:2] for pair in data.pairs if pair[2]} == data.met
    assert not {pair[:2] for pair in data.pairs if not pair[2]} & data.met
    # As good as guessing one in nine is .349; an epoch or two begin to be better.
    assert fit_plainly(rows, CONFIG, workers=0, seed=0) < 0.7


def test_generated_interactions_are_distinct_have_a_long_tail_and_follow_the_seed() -> None:
    rows = generated_interactions(200, 100, 5_000, seed=4)
    assert len(np.unique(rows.codes())) == len(rows)
    counts = np.sort(rows.item_counts())[::-1]
    assert counts[:10].sum() > 3 * counts[50:60].sum()
    again, other = (generated_interactions(200, 100, 5_000, seed=seed) for seed in (4, 5))
    np.testing.assert_array_equal(rows.codes(), again.codes())
    assert len(other) != len(rows) or (other.codes() != rows.codes()).any()


def test_every_recommenders_memory_is_looked_at() -> None:
    assert {name for name, _ in CASES.values()} == set(RECOMMENDERS)


def test_a_fits_peak_is_measured_beside_what_it_states() -> None:
    row = fit_peak("ease", 3_000, 2_000, 60_000)
    # The weights alone are 16 MB.
    assert row["measured_bytes"] > 15e6
    assert row["stated_bytes"] > 15e6

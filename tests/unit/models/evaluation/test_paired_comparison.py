"""The best less each of the others, over all seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models.evaluation.paired_comparison import mean_pairs


def rows_of(figures: dict[str, list[list[float | None]]]) -> list[dict[str, Any]]:
    return [
        {"recommender": name, "seed": seed, "by_user": {"figure": "ndcg_10", "values": values}}
        for name, of_seeds in figures.items()
        for seed, values in enumerate(of_seeds, start=1)
    ]


def test_a_users_mean_over_the_seeds_is_one_figure() -> None:
    rows = rows_of({"ease": [[0.2, 0.4], [0.4, 0.2]], "ours": [[0.5, 0.3], [0.3, 0.5]], "popularity": [[0, 0], [0, 0]]})
    pairs = {pair["against"]: pair for pair in mean_pairs(rows, "temporal")}
    assert set(pairs) == {"ease", "popularity"}
    # Each user's mean is .4 with ours and .3 with EASE: nothing is left open, whatever the single seeds say.
    assert pairs["ease"]["difference"] == pytest.approx(0.1)
    assert pairs["ease"]["interval"] == pytest.approx([0.1, 0.1])
    assert {pair["recommender"] for pair in pairs.values()} == {"ours"}
    assert pairs["ease"] | {"users": 2, "seeds": 2, "figure": "ndcg_10"} == pairs["ease"]


def test_users_without_an_answer_are_left_out_of_the_pair() -> None:
    rows = rows_of({"ease": [[0.2, None, 0.4]], "ours": [[0.5, 0.9, 0.5]]})
    [pair] = mean_pairs(rows, "leave-last-out")
    assert pair["users"] == 2
    assert pair["difference"] == pytest.approx(0.2)


def test_three_seeds_are_not_three_times_the_users() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(0.3, 0.2, 90).tolist(), rng.normal(0.28, 0.2, 90).tolist()
    one, three = (mean_pairs(rows_of({"a": [ours] * n, "b": [theirs] * n}), "temporal")[0] for n in (1, 3))
    assert one["interval"] == pytest.approx(three["interval"])


def test_nothing_is_paired_where_users_differ_by_the_seed_or_a_seed_is_missing() -> None:
    rows = rows_of({"ease": [[0.2], [0.3]], "ours": [[0.4], [0.5]]})
    assert mean_pairs(rows, "random-75-25") == []
    assert mean_pairs(rows[:-1], "temporal") == []

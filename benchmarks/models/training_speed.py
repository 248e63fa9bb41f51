"""NeuMF's training speed beside the same network written plainly with a ``DataLoader``, in turn."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import Any

from benchmarks.models.naive_neumf import fit_plainly
from benchmarks.models.synthetic import generated_interactions
from models.algorithms.neumf.model import NeuMF, torch_threads
from models.algorithms.neumf.network import NeuMFConfig
from models.data.interactions import Interactions

#: The paper's network, as it is configured; no validation, so that both do nothing but train.
CONFIG = NeuMFConfig(use_features=False, patience=0, refit=False, epochs=2, precision="float32", device="cpu")


def training_speed(n_users: int, n_items: int, n_rows: int, *, rounds: int, seed: int) -> dict[str, Any]:
    """Pairs a second of each way, the median of the rounds, and how many times as fast ours is as the best plain one.

    A whole fit is timed: drawing the negatives, training, and with ours what comes after it.
    """
    rows = generated_interactions(n_users, n_items, n_rows, seed=seed)
    ways: dict[str, Callable[[], object]] = {
        "DataLoader": lambda: fit_plainly(rows, CONFIG, workers=0, seed=seed),
        "DataLoader, one worker process": lambda: fit_plainly(rows, CONFIG, workers=1, seed=seed),
        "NeuMF": lambda: NeuMF(CONFIG).fit(rows, seed=seed),
        "NeuMF, bfloat16": lambda: NeuMF(replace(CONFIG, precision="bfloat16")).fit(rows, seed=seed),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with torch_threads(1):
        # The first steps of a process pay for what is loaded late.
        NeuMF(CONFIG).fit(rows.take(rows.users < 50), seed=seed)
        for _ in range(rounds):
            for name, fit in ways.items():
                started = time.perf_counter()
                fit()
                seconds[name].append(time.perf_counter() - started)
    speeds = {name: _pairs(rows) / median(times) for name, times in seconds.items()}
    plain = max(speeds["DataLoader"], speeds["DataLoader, one worker process"])
    return {
        "interactions": len(rows),
        "pairs_a_fit": _pairs(rows),
        "threads": 1,
        "rounds": rounds,
        "seconds": {name: [round(value, 3) for value in times] for name, times in seconds.items()},
        "pairs_a_second": {name: round(speed) for name, speed in speeds.items()},
        "times_as_fast_as_the_best_plain": {
            name: round(speed / plain, 2) for name, speed in speeds.items() if name.startswith("NeuMF")
        },
    }


def _pairs(rows: Interactions) -> int:
    return CONFIG.epochs * len(rows) * (1 + CONFIG.negatives)

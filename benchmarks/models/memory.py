"""``python -m benchmarks.models.memory CASE USERS ITEMS ROWS``: what a fit holds at its peak, beside what it states.

One fit a process, for the system gives freed memory back when it likes.
"""

from __future__ import annotations

import ctypes
import gc
import json
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.models.synthetic import generated_interactions
from models.data.features import FeatureHistory, TrainingFeatures
from models.data.interactions import Interactions
from models.data.item_content import ItemContent
from models.registry import RECOMMENDERS, configured
from models.runtime.memory import held_memory, peak_memory, reset_peak_memory

#: Users, items and rows of the two fits: ml-1m's size, and one at which no matrix of the items is small.
SIZES = ((6_000, 3_700, 1_000_000), (30_000, 12_000, 3_000_000))
#: As many films as the largest edition has rated ones, on which every recommender has to fit into 12 GB.
LARGE = (100_000, 62_000, 5_000_000)
#: Fewer epochs or sweeps hold the same memory; what is not named is the default. A case is a recommender, or one
#: with another setting that costs memory.
CASES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    **{name: (name, {}) for name in RECOMMENDERS},
    "ials": ("ials", {"sweeps": 1}),
    "als": ("als", {"sweeps": 1}),
    "flagship": ("flagship", {"epochs": 1, "cuts": 1}),
    "flagship of sets": ("flagship", {"epochs": 1, "task": "any"}),
    "bpr": ("bpr", {"epochs": 2}),
    "svd": ("svd", {"epochs": 1}),
    "svdpp": ("svdpp", {"epochs": 1}),
    "neumf": ("neumf", {"epochs": 2, "device": "cpu"}),
    "neumf without features": ("neumf", {"epochs": 2, "use_features": False, "device": "cpu"}),
    "neumf with pretraining": ("neumf", {"epochs": 2, "use_features": False, "pretrain": True, "device": "cpu"}),
}


def fit_peaks(sizes: tuple[tuple[int, int, int], ...] = SIZES) -> list[dict[str, Any]]:
    """Measure every case at every size: one row each, with the bytes stated and measured."""
    found = []
    for case in CASES:
        for size in sizes:
            command = [sys.executable, "-m", __spec__.name, case, *map(str, size)]
            done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
            if done.returncode:
                raise RuntimeError(f"{case}: {done.stderr.strip()}")
            found.append(json.loads(done.stdout))
    return found


def fit_peak(case: str, n_users: int, n_items: int, n_rows: int) -> dict[str, Any]:
    """Return the bytes that one fit states, and by how much the process's memory grew at its peak."""
    name, settings = CASES[case]
    # What is loaded at the first fit of a process is no part of a fit.
    small = generated_interactions(50, 40, 900, seed=1)
    configured(name, settings).fit(small, _features(small))
    rows = generated_interactions(n_users, n_items, n_rows, seed=1)
    features = _features(rows)
    recommender = configured(name, settings)
    stated = recommender.fit_memory(rows.n_users, rows.n_items, len(rows))
    gc.collect()
    with suppress(OSError, AttributeError):
        # What was freed and is kept for later would be taken for free by the fit. Only GNU's library can be told.
        ctypes.CDLL(None).malloc_trim(0)
    reset_peak_memory()
    before = held_memory()
    recommender.fit(rows, features)
    return {
        "case": case,
        "users": n_users,
        "items": n_items,
        "interactions": len(rows),
        "stated_bytes": stated,
        "measured_bytes": peak_memory() - before,
    }


def _features(rows: Interactions) -> TrainingFeatures:
    """As wide as the feature service's: 6 values a user's row, two histories of 4 and 30 values, 20 words an item."""
    rng = np.random.default_rng(0)
    items = np.arange(rows.n_items)
    histories = tuple(
        FeatureHistory.of(
            np.repeat(items, moments),
            np.tile(np.linspace(0, len(rows), moments).astype(np.int64), rows.n_items),
            rng.normal(size=(rows.n_items * moments, width)),
            [f"value{column}" for column in range(width)],
        )
        for moments, width in ((5, 4), (1, 30))
    )
    words = pl.DataFrame(
        {
            "item": np.repeat(items, 20),
            "word": [f"tag:{word}" for word in rng.integers(0, 5_000, 20 * rows.n_items).tolist()],
        }
    )
    content = ItemContent.of(words, np.full(rows.n_items, 1990, dtype=np.float32))
    values = rng.normal(size=(len(rows), 6)).astype(np.float32)
    return TrainingFeatures(values, tuple(f"feature{column}" for column in range(6)), histories, content)


if __name__ == "__main__":
    print(json.dumps(fit_peak(sys.argv[1], *map(int, sys.argv[2:]))))

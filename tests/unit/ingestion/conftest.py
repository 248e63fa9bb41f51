"""What the tests of the sources share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

_ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def con(tmp_path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a connection to a warehouse on disk, as in a run."""
    with duckdb.connect(str(tmp_path / "warehouse.duckdb"), config={"threads": 2}) as connection:
        yield connection


@pytest.fixture
def real_data() -> Path:
    """Return the folder of real files, by default next to the project; skip the test where it is missing."""
    folder = Path(os.environ.get("MARQUEE_TEST_DATA", _ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; name its folder in MARQUEE_TEST_DATA")
    return folder

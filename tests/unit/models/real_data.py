"""The real files beside the project, for tests that need one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(os.environ.get("MARQUEE_TEST_DATA", Path(__file__).parents[4] / "shared" / "data"))


def real_file(name: str) -> Path:
    """Return the path of a file; skip the test with the reason where it is missing."""
    if not (ROOT / name).is_file():
        pytest.skip(f"{ROOT / name} is missing: real data is not beside the project")
    return ROOT / name

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from bento.bundles.hot_reload import ServedBundle
from bento.bundles.loaded_bundle import Served
from models.serving.bundle import write_pointer
from tests.unit.bento.conftest import write_tiny_bundle


@pytest.fixture(scope="module")
def two_bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    models = tmp_path_factory.mktemp("models")
    return models, write_tiny_bundle(models, snapshot="first"), write_tiny_bundle(models, snapshot="second")


class Follower(ServedBundle):
    """A follower over one folder, which notes every swap."""

    def __init__(self, home: Path, shipped: Path | None = None, poll_s: float = 60.0) -> None:
        self.swaps: list[str] = []
        super().__init__(
            pointer=home / "serving.json",
            models=home / "models",
            feast=home / "feast",
            shipped=shipped,
            on_swap=self._note,
            poll_s=poll_s,
        )

    def _note(self, served: Served) -> None:
        self.swaps.append(served.bundle.version)

    @property
    def version(self) -> str | None:
        return None if self.current is None else self.current.bundle.version


@pytest.fixture
def home(tmp_path: Path, two_bundles: tuple[Path, str, str]) -> Path:
    shutil.copytree(two_bundles[0], tmp_path / "models")
    return tmp_path


def test_the_pointed_bundle_is_served_and_a_moved_pointer_followed_both_ways(
    home: Path, two_bundles: tuple[Path, str, str]
) -> None:
    _, first, second = two_bundles
    follower = Follower(home)
    for version in (first, second, first):
        write_pointer(home / "serving.json", version)
        follower.refresh()
        assert follower.version == version
    assert follower.swaps == [first, second, first]


def test_an_unmoved_pointer_loads_nothing_again(home: Path, two_bundles: tuple[Path, str, str]) -> None:
    write_pointer(home / "serving.json", two_bundles[1])
    follower = Follower(home)
    follower.refresh()
    served = follower.current
    follower.refresh()
    assert follower.current is served


def test_the_thread_notices_a_moved_pointer_by_itself(home: Path, two_bundles: tuple[Path, str, str]) -> None:
    _, first, second = two_bundles
    write_pointer(home / "serving.json", first)
    follower = Follower(home, poll_s=0.01)
    follower.start()
    try:
        write_pointer(home / "serving.json", second)
        deadline = time.monotonic() + 20
        while follower.version != second and time.monotonic() < deadline:
            time.sleep(0.01)
        assert follower.version == second
    finally:
        follower.stop()


def test_a_damaged_bundle_is_not_swapped_in_and_the_old_one_goes_on(
    home: Path, two_bundles: tuple[Path, str, str]
) -> None:
    _, first, second = two_bundles
    write_pointer(home / "serving.json", first)
    follower = Follower(home)
    follower.refresh()
    weights = home / "models" / second / "recommender" / "weights.npz"
    weights.write_bytes(weights.read_bytes()[:-1])
    write_pointer(home / "serving.json", second)
    follower.refresh()
    assert follower.version == first
    assert follower.problem is not None
    assert "weights.npz" in follower.problem.message
    write_pointer(home / "serving.json", first)
    follower.refresh()
    assert follower.problem is None


def test_without_a_pointer_the_shipped_bundle_is_served_until_one_appears(
    home: Path, two_bundles: tuple[Path, str, str]
) -> None:
    models, first, second = two_bundles
    follower = Follower(home, shipped=models / first)
    follower.refresh()
    assert follower.version == first
    write_pointer(home / "serving.json", second)
    follower.refresh()
    assert follower.version == second


def test_a_shipped_bundle_is_known_by_its_version_not_by_its_folder(
    home: Path, tmp_path: Path, two_bundles: tuple[Path, str, str]
) -> None:
    models, first, _ = two_bundles
    shipped = tmp_path / "inside" / "bundle"
    shutil.copytree(models / first, shipped)
    follower = Follower(home, shipped=shipped)
    follower.refresh()
    write_pointer(home / "serving.json", first)
    follower.refresh()
    assert follower.swaps == [first]


def test_a_pointer_to_a_bundle_that_is_not_here_leaves_the_shipped_one(
    home: Path, two_bundles: tuple[Path, str, str]
) -> None:
    models, first, _ = two_bundles
    write_pointer(home / "serving.json", "neumf-000000000000")
    follower = Follower(home, shipped=models / first)
    follower.refresh()
    assert follower.version == first


def test_with_nothing_to_serve_it_says_what_is_missing_and_the_remedy(tmp_path: Path) -> None:
    follower = Follower(tmp_path)
    follower.refresh()
    assert follower.current is None
    assert follower.problem is not None
    assert "serving.json" in follower.problem.message
    assert "make run" in follower.problem.remedy


def test_it_becomes_ready_by_itself_when_the_first_bundle_is_promoted(
    home: Path, two_bundles: tuple[Path, str, str]
) -> None:
    follower = Follower(home)
    follower.refresh()
    assert follower.current is None
    write_pointer(home / "serving.json", two_bundles[1])
    follower.refresh()
    assert follower.version == two_bundles[1]
    assert follower.problem is None

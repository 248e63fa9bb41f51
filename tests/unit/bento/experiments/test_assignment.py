"""Who is dealt to which version, and what works in the shadow."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from bento.bundles.hot_reload import load_served
from bento.bundles.loaded_bundle import Served
from bento.experiments.assignment import Choice, Experiment, Shadows, overlap
from models.serving.bundle import Bundle
from settings import Settings
from tests.unit.bento.conftest import write_tiny_bundle


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Served, Served]:
    folder = tmp_path_factory.mktemp("two")
    return tuple(load_served(folder / write_tiny_bundle(folder, snapshot=name), folder) for name in ("a", "b"))  # type: ignore[return-value]


def test_a_user_stays_in_his_arm_and_the_share_is_what_was_asked_for(two: tuple[Served, Served]) -> None:
    champion, challenger = two
    experiment = Experiment("ab", "e1", 0.2, challenger)
    dealt = [experiment.choice(champion, user) for user in range(5_000)]
    again = Experiment("ab", "e1", 0.2, challenger)
    assert [again.choice(champion, user).arm for user in range(5_000)] == [choice.arm for choice in dealt]
    share = sum(choice.arm == "challenger" for choice in dealt) / 5_000
    # Five standard deviations of a fair deal.
    assert abs(share - 0.2) < 5 * (0.2 * 0.8 / 5_000) ** 0.5
    for choice in dealt:
        assert (choice.served is challenger) == (choice.arm == "challenger")
        assert (choice.experiment, choice.shadow) == ("e1", None)
        assert (choice.instead_of is champion) == (choice.arm == "challenger")


def test_a_larger_share_only_adds_to_who_is_dealt_and_another_name_deals_anew(two: tuple[Served, Served]) -> None:
    champion, challenger = two

    def dealt(name: str, share: float) -> set[int]:
        experiment = Experiment("ab", name, share, challenger)
        return {user for user in range(2_000) if experiment.choice(champion, user).arm == "challenger"}

    assert dealt("e1", 0.1) < dealt("e1", 0.5)
    assert (dealt("e1", 0.0), len(dealt("e1", 1.0))) == (set(), 2_000)
    both = dealt("e1", 0.5) & dealt("e2", 0.5)
    assert abs(len(both) / 2_000 - 0.25) < 5 * (0.25 * 0.75 / 2_000) ** 0.5


def test_whoever_is_no_user_gets_the_promoted_version(two: tuple[Served, Served]) -> None:
    champion, challenger = two
    assert Experiment("ab", "e1", 1.0, challenger).choice(champion, None) == Choice(champion)


def test_in_the_shadow_everybody_is_served_by_the_promoted_version(two: tuple[Served, Served]) -> None:
    champion, challenger = two
    choices = [Experiment("shadow", "e1", 0.5, challenger).choice(champion, user) for user in range(100)]
    assert {choice.served is champion for choice in choices} == {True}
    assert {choice.arm for choice in choices} == {None}
    assert {choice.shadow is challenger for choice in choices} == {True, False}


def test_an_experiment_rests_while_its_version_is_the_promoted_one_or_there_is_none(two: tuple[Served, Served]) -> None:
    champion, challenger = two
    experiment = Experiment("ab", "e1", 1.0, challenger)
    assert experiment.rests(champion) is None
    assert experiment.rests(challenger) == "its version is the promoted one"
    assert experiment.choice(challenger, 11) == Choice(challenger)
    assert experiment.choice(None, 11) == Choice(None)
    assert Experiment("ab", "e1", 1.0, None).choice(champion, 11) == Choice(champion)
    assert Experiment("off", "", 0.0, None).choice(champion, 11) == Choice(champion)


def test_a_batch_is_cut_into_one_part_a_version_with_everybody_in_one(two: tuple[Served, Served]) -> None:
    champion, challenger = two
    experiment = Experiment("ab", "e1", 0.5, challenger)
    users = list(range(50))
    parts = experiment.choices(champion, users)
    assert {choice.arm for choice, _ in parts} == {"champion", "challenger"}
    assert sorted(place for _, places in parts for place in places) == users
    for choice, places in parts:
        assert all(experiment.choice(champion, users[place]) == choice for place in places)


@pytest.mark.parametrize("version", ["none-such", "damaged"])
def test_a_version_that_cannot_be_served_leaves_everybody_with_the_promoted_one(
    tmp_path: Path, two: tuple[Served, Served], bundle: Bundle, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "models" / "damaged").mkdir(parents=True)
    (tmp_path / "models" / "damaged" / "bundle.json").write_text("{}")
    settings = Settings(home=tmp_path, ab_mode="ab", ab_version=version, ab_share=1.0)
    experiment = Experiment.of(settings)
    assert experiment.choice(two[0], 11) == Choice(two[0])
    assert version in caplog.text
    assert "answers everybody" in caplog.text


def test_a_shadow_that_fails_or_comes_too_fast_is_counted_and_the_next_is_made() -> None:
    told: list[str] = []
    done, go = threading.Event(), threading.Event()
    shadows = Shadows(told.append, most=2)

    def fail() -> None:
        go.wait(30)
        raise ValueError("no")

    for act in (fail, done.set, done.set):
        shadows.add(act)
    assert told == ["left_out"]
    shadows.start()
    go.set()
    assert done.wait(30)
    shadows.stop()
    assert told == ["left_out", "failed", "made"]


def test_overlap_is_of_the_longer_list() -> None:
    assert overlap([1, 2], [2, 3, 4, 5]) == 0.25
    assert overlap([1, 2], [2, 1]) == 1.0
    assert overlap([], [1]) == 0.0
    assert overlap([], []) is None

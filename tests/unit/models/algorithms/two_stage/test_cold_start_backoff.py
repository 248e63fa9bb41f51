"""How short a history is, and how that is chosen."""

from __future__ import annotations

import numpy as np
import pytest

from models.algorithms.two_stage.cold_start_backoff import BOLD, SAFE, TOLD, Shortness, best_shortness


def test_a_lone_entry_is_shortest_and_sixteen_are_not_short() -> None:
    found = Shortness(width=8.0, most=0.98).of(np.array([0, 1, 9, 16, 300]))
    assert found.shape == (5, 1, 1)
    # At eight entries it is e^-(7/8)^2 of the most, and at nine less of that, on the way to nothing at sixteen.
    left = 1 - np.log2(9 / 8)
    assert found[:, 0, 0] == pytest.approx([0.98, 0.98, 0.98 * np.exp(-((7 / 8) ** 2)) * left, 0, 0], abs=1e-6)


@pytest.mark.parametrize("shortness", SAFE + BOLD)
def test_a_longer_history_is_never_shorter(shortness: Shortness) -> None:
    found = shortness.of(np.arange(40))[:, 0, 0]
    assert (np.diff(found) <= 0).all()
    assert ((found >= 0) & (found <= 1)).all()


def test_width_0_takes_none_for_short() -> None:
    assert not Shortness().of(np.arange(20)).any()


def test_without_newcomers_none_is_short() -> None:
    assert best_shortness(np.empty((0, len(SAFE + BOLD)))) == Shortness()


def test_what_lets_the_other_parts_speak_at_once_has_to_be_surely_better() -> None:
    rng = np.random.default_rng(0)
    figures = np.full((200, len(SAFE + BOLD)), 0.3)
    figures[:, 4] = 0.4
    bold = len(SAFE) + 2
    figures[:, bold] = 0.4 + rng.normal(0, 0.5, 200)
    figures[:, bold] += 0.41 - figures[:, bold].mean()
    # Better by .01, where the mean of 200 such figures is off by .035.
    assert best_shortness(figures) == SAFE[4]
    figures[:, bold] = 0.4 + 0.1 * (figures[:, bold] - 0.4)
    figures[:, bold] += 0.41 - figures[:, bold].mean()
    assert best_shortness(figures) == BOLD[2]


def test_the_lengths_that_are_told_are_short() -> None:
    assert (Shortness(width=64.0).of(np.array(TOLD)) > 0.9).all()

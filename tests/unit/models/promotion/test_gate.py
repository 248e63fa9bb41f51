"""The decision from figures alone: who is let in, who is not, and what is said of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.promotion.backtest import Figures
from models.promotion.gate import Champion, Panel, Rules, compare, decide

USERS = 400
RULES = Rules()


def panel(users: int = USERS) -> Panel:
    """Nine tenths have a past, a third of them a short one; each has one new film to find."""
    warm = np.arange(users) % 10 != 0
    return Panel(warm, warm & (np.arange(users) % 3 == 0), np.ones(users))


def figures(mean: float = 0.3, *, seed: int = 0, shift: float = 0.0) -> Figures:
    """Return the same draw for the same seed; ``shift`` is added for every user."""
    rng = np.random.default_rng(seed)
    values = rng.normal(mean, 0.1, USERS) + shift
    return Figures(values, (rng.random(USERS) < 0.5).astype(float))


def champion(own: Figures, **changes: object) -> Champion:
    return replace(Champion("old", own), **changes)  # type: ignore[arg-type]


def test_the_first_decision_promotes_the_best_whatever_its_name() -> None:
    decision = decide({"popularity": figures(0.1), "ease": figures(0.4), "neumf": figures(0.3)}, panel(), None, RULES)
    assert (decision.way, decision.promoted, decision.recipe) == ("first", True, "ease")
    assert [row["recipe"] for row in decision.table] == ["popularity", "ease", "neumf"]


def test_a_challenger_that_is_worse_is_refused() -> None:
    old = figures()
    decision = decide({"old": old, "new": figures(shift=-0.05)}, panel(), champion(old), RULES)
    assert (decision.way, decision.recipe) == ("refresh", "old")
    assert any("new is not better beyond the interval" in reason for reason in decision.reasons)


def test_a_challenger_that_ties_is_refused() -> None:
    old = figures()
    decision = decide({"old": old, "new": figures()}, panel(), champion(old), RULES)
    assert decision.recipe == "old"


def test_a_challenger_with_a_higher_mean_within_the_interval_is_refused() -> None:
    old = figures()
    noise = Figures(old.ndcg + np.random.default_rng(3).normal(0.002, 0.2, USERS), old.found_new)
    pair = compare(noise, old, panel().warm)
    assert pair.difference > 0
    assert pair.low < 0 < pair.high
    decision = decide({"old": old, "new": noise}, panel(), champion(old), RULES)
    assert decision.recipe == "old"


def test_a_challenger_that_is_better_beyond_the_interval_is_promoted() -> None:
    old = figures()
    decision = decide({"old": old, "new": figures(shift=0.01)}, panel(), champion(old), RULES)
    assert (decision.way, decision.promoted, decision.recipe) == ("challenger", True, "new")


def test_of_several_challengers_the_best_that_is_surely_better_is_promoted() -> None:
    old = figures()
    loud = Figures(old.ndcg + np.random.default_rng(3).normal(0.02, 0.9, USERS), old.found_new)
    recipes = {"old": old, "sure": figures(shift=0.01), "loud": loud}
    assert loud.ndcg[panel().warm].mean() > recipes["sure"].ndcg[panel().warm].mean()
    assert decide(recipes, panel(), champion(old), RULES).recipe == "sure"


def test_a_refresh_that_ties_is_promoted() -> None:
    old = figures()
    decision = decide({"old": old}, panel(), champion(old), RULES)
    assert (decision.way, decision.promoted, decision.recipe) == ("refresh", True, "old")


def test_a_recipe_under_changed_code_may_be_half_a_percent_worse_but_not_two() -> None:
    old = figures()
    gone = champion(old, refitted=False, heir="heir")
    mean = old.ndcg[panel().warm].mean()
    near = decide({"heir": figures(shift=-0.005 * mean)}, panel(), gone, RULES)
    assert (near.way, near.promoted, near.recipe) == ("renewal", True, "heir")
    far = decide({"heir": figures(shift=-0.02 * mean)}, panel(), gone, RULES)
    assert (far.promoted, far.recipe) == (False, "old")
    assert "by more than 1%" in far.reasons[0]


def test_the_lower_bound_decides_and_not_the_mean() -> None:
    old = figures()
    noisy = Figures(old.ndcg + np.random.default_rng(1).normal(0.0, 0.3, USERS), old.found_new)
    noisy.ndcg[panel().warm] -= (noisy.ndcg - old.ndcg)[panel().warm].mean()
    decision = decide({"heir": noisy}, panel(), champion(old, refitted=False, heir="heir"), RULES)
    assert compare(noisy, old, panel().warm).difference == pytest.approx(0.0)
    assert not decision.promoted


@pytest.mark.parametrize("segment", ["new users", "light users", "new films"])
def test_a_refresh_is_refused_where_one_segment_falls(segment: str) -> None:
    old, asked = figures(), panel()
    fallen = Figures(old.ndcg.copy(), old.found_new.copy())
    if segment == "new films":
        fallen.found_new[:] *= 0.8
    else:
        where = ~asked.warm if segment == "new users" else asked.light
        fallen.ndcg[where] *= 0.8
        # The others make up for it, so that only the segment can be what is refused.
        others = asked.warm & ~asked.light
        fallen.ndcg[others] += 0.08
    decision = decide({"heir": fallen}, asked, champion(old, refitted=False, heir="heir"), RULES)
    assert not decision.promoted
    assert decision.reasons[0].startswith(f"{segment} fall by more than 10%")


def test_a_segment_that_is_too_small_is_told_and_not_judged() -> None:
    old = figures()
    asked = Panel(np.arange(USERS) >= 10, np.zeros(USERS, dtype=bool), np.zeros(USERS))
    fallen = Figures(np.where(asked.warm, old.ndcg, 0.0), old.found_new)
    decision = decide({"heir": fallen}, asked, champion(old, refitted=False, heir="heir"), RULES)
    assert decision.promoted
    new_users = next(part for part in decision.segments if part.name == "new users")
    assert (new_users.paired.users, new_users.judged) == (10, False)


def test_newer_data_that_make_the_recipe_surely_worse_are_refused() -> None:
    broken = figures()
    before = figures(shift=0.05)
    decision = decide({"old": broken}, panel(), champion(broken, older=before), RULES)
    assert not decision.promoted
    assert "the newer data make old worse" in decision.reasons[0]


def test_newer_data_may_move_the_figures_by_chance() -> None:
    """Two fits of a neural recipe on rows that differ a little differ user by user and not in the mean."""
    now = figures()
    before = Figures(now.ndcg + np.random.default_rng(5).normal(0.0, 0.2, USERS), now.found_new)
    pair = compare(now, before, panel().warm)
    assert pair.low < -0.01 * pair.theirs
    assert decide({"old": now}, panel(), champion(now, older=before), RULES).promoted


def test_a_champion_whose_recipe_is_no_more_keeps_its_weights_until_something_is_better() -> None:
    old = figures()
    gone = champion(old, refitted=False)
    kept = decide({"new": figures()}, panel(), gone, RULES)
    assert (kept.way, kept.promoted, kept.recipe) == ("none", False, "old")
    assert decide({"new": figures(shift=0.01)}, panel(), gone, RULES).recipe == "new"


def test_users_without_a_past_do_not_decide_between_recipes() -> None:
    old = figures()
    cold = Figures(np.where(panel().warm, old.ndcg, old.ndcg + 5.0), old.found_new)
    assert decide({"old": old, "new": cold}, panel(), champion(old), RULES).recipe == "old"


def test_who_cannot_be_answered_is_served_the_fallback() -> None:
    half = figures()
    half.ndcg[::2] = np.nan
    backed = half.backed_by(figures(0.1, seed=9))
    assert not np.isnan(backed.ndcg).any()
    assert (backed.ndcg[::2] == figures(0.1, seed=9).ndcg[::2]).all()


def test_the_same_figures_give_the_same_decision() -> None:
    recipes = {"old": figures(), "new": figures(seed=4)}
    first, second = (decide(recipes, panel(), champion(recipes["old"]), RULES) for _ in range(2))
    assert first == second

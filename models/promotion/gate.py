"""The promotion gate's decision: which recipe may be served next, from figures alone.

Two ways in. A *challenger* is another recipe and has to be better than the champion's beyond the paired interval. A
*refresh* is the champion's own recipe on newer data and must not be worse. Nothing is fitted, read or written here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.evaluation.bootstrap import bootstrap_interval, bootstrap_ratio_interval, paired_interval
from models.promotion.backtest import Figures, Trial

Way = Literal["first", "challenger", "refresh", "renewal", "none"]


@dataclass(frozen=True, slots=True)
class Rules:
    """How much better is better, and how much worse is not worse."""

    #: A refresh may be worse than the champion's recipe by this share of its figure, by the lower paired bound.
    tolerance: float = 0.01
    #: And no segment's figure may fall by more than this share.
    segment_share: float = 0.1
    #: Segments with fewer users (for new films: films to find) are reported and not judged.
    min_segment: int = 30
    #: Of the bootstrap.
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Panel:
    """Who was asked in a trial, by segment: bool[Q] each, and ``relevant_new`` float64[Q], new films to find."""

    warm: NDArray[np.bool_]
    light: NDArray[np.bool_]
    relevant_new: NDArray[np.float64]

    @classmethod
    def of(cls, trial: Trial) -> Panel:
        """Return the panel of a trial."""
        return cls(trial.warm, trial.light, trial.relevant_new)


@dataclass(frozen=True, slots=True)
class Paired:
    """Ours beside theirs over the same users: means, the difference with its paired 95 % bounds, how many users."""

    ours: float
    theirs: float
    low: float
    high: float
    users: int

    @property
    def difference(self) -> float:
        """Ours less theirs."""
        return self.ours - self.theirs

    @property
    def change(self) -> float:
        """The difference as a share of theirs; 0 where both are 0."""
        if self.theirs == 0:
            return 0.0 if self.ours == 0 else float("inf")
        return self.difference / self.theirs

    @property
    def better(self) -> bool:
        """Beyond the interval."""
        return self.low > 0

    def not_worse(self, tolerance: float) -> bool:
        """Whether even the lower bound is no further below theirs than this share of it."""
        return self.low >= -tolerance * self.theirs

    def surely_worse(self, tolerance: float) -> bool:
        """Whether ours is lower by more than this share, and lower at all beyond the interval."""
        return self.change < -tolerance and self.high < 0


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment's comparison; ``judged`` is False for one that is too small to say anything."""

    name: str
    paired: Paired
    judged: bool

    def falls(self, share: float) -> bool:
        """Whether ours is lower than theirs by more than a share."""
        return self.judged and self.paired.change < -share


@dataclass(frozen=True, slots=True)
class Champion:
    """The recipe that is served now, as far as it can be judged.

    ``label`` is its name in tables. ``figures`` are those of its recipe in the trial: refitted, or, where its code is
    gone (``refitted`` False), those on file of its own trial, which is then the trial of everybody. ``older`` are its
    recipe's figures when fitted on the data that the served weights know; None where these are the same rows. ``heir``
    is the label of the same name and settings under the present code, where that is another recipe.
    """

    label: str
    figures: Figures
    refitted: bool = True
    older: Figures | None = None
    heir: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What is served next and why. ``recipe`` is a label of the recipes, the champion's where nothing is promoted."""

    way: Way
    promoted: bool
    recipe: str
    reasons: tuple[str, ...]
    #: Each recipe's mean with its interval, and the paired difference from the champion.
    table: tuple[dict[str, float | str | None], ...]
    #: What a refresh or renewal was judged by, segment by segment.
    segments: tuple[Segment, ...] = field(default=())


def compare(ours: Figures, theirs: Figures, users: NDArray[np.bool_], *, seed: int = 0) -> Paired:
    """Two recipes over some users (bool[Q]), those left out whom one of them could not answer."""
    both = users & ~np.isnan(ours.ndcg) & ~np.isnan(theirs.ndcg)
    a, b = ours.ndcg[both], theirs.ndcg[both]
    if not len(a):
        return Paired(0.0, 0.0, float("-inf"), float("inf"), 0)
    low, high = paired_interval(a, b, seed=seed)
    return Paired(float(a.mean()), float(b.mean()), low, high, len(a))


def compare_new_films(ours: Figures, theirs: Figures, panel: Panel, *, seed: int = 0) -> Paired:
    """Compare the shares of the new movies that are found in the first ten places; ``users`` counts these movies."""
    both = panel.warm & ~np.isnan(ours.found_new) & ~np.isnan(theirs.found_new) & (panel.relevant_new > 0)
    films = panel.relevant_new[both]
    if not len(films):
        return Paired(0.0, 0.0, float("-inf"), float("inf"), 0)
    a, b, total = ours.found_new[both], theirs.found_new[both], float(films.sum())
    low, high = bootstrap_ratio_interval(a - b, films, seed=seed)
    return Paired(float(a.sum()) / total, float(b.sum()) / total, low, high, int(total))


def by_segment(ours: Figures, theirs: Figures, panel: Panel, rules: Rules) -> tuple[Segment, ...]:
    """Compare both on new users, light users and new movies."""
    pairs = {
        "new users": compare(ours, theirs, ~panel.warm, seed=rules.seed),
        "light users": compare(ours, theirs, panel.light, seed=rules.seed),
        "new films": compare_new_films(ours, theirs, panel, seed=rules.seed),
    }
    return tuple(Segment(name, pair, pair.users >= rules.min_segment) for name, pair in pairs.items())


def decide(recipes: Mapping[str, Figures], panel: Panel, champion: Champion | None, rules: Rules) -> Decision:
    """Decide between recipes by label, all fitted on the same training part and judged on the same users.

    ``recipes`` holds the champion's own label where it could be refitted. Ties between means go to the recipe given
    first. Raises ``ValueError`` if ``recipes`` is empty.
    """
    if not recipes:
        raise ValueError("there is no recipe to decide between")
    means = {label: _mean(figures, panel) for label, figures in recipes.items()}
    ranked = sorted(means, key=lambda label: -means[label])
    table = _table(recipes, panel, champion, rules)
    if champion is None:
        best = ranked[0]
        reason = f"nothing is served yet, and {best} has the highest mean ({means[best]:.4f})"
        return Decision("first", True, best, (reason,), table)
    refused = []
    for label in ranked:
        if label in (champion.label, champion.heir):
            continue
        pair = compare(recipes[label], champion.figures, panel.warm, seed=rules.seed)
        if pair.better:
            return Decision(
                "challenger", True, label, (f"{label} is better than {champion.label}: {spoken(pair)}",), table
            )
        refused.append(f"{label} is not better beyond the interval: {spoken(pair)}")
    return _same_recipe(recipes, panel, champion, rules, table, tuple(refused))


def _same_recipe(
    recipes: Mapping[str, Figures],
    panel: Panel,
    champion: Champion,
    rules: Rules,
    table: tuple[dict[str, float | str | None], ...],
    refused: tuple[str, ...],
) -> Decision:
    """No challenger was better: whether the champion's own recipe may take over the newer data."""
    label = champion.label if champion.refitted else champion.heir
    if label is None or label not in recipes:
        gone = f"the code of {champion.label} is gone, so it cannot be refreshed: the old weights stay"
        return Decision("none", False, champion.label, (gone, *refused), table)
    ours = recipes[label]
    against = champion.figures
    pair = compare(ours, against, panel.warm, seed=rules.seed)
    segments = by_segment(ours, against, panel, rules)
    faults = []
    if not pair.not_worse(rules.tolerance):
        faults.append(f"{label} is worse than the champion's recipe by more than {rules.tolerance:.0%}: {spoken(pair)}")
    if champion.older is not None:
        newer = compare(ours, champion.older, panel.warm, seed=rules.seed)
        if newer.surely_worse(rules.tolerance):
            faults.append(f"the newer data make {label} worse than those that the served weights know: {spoken(newer)}")
        segments = by_segment(ours, champion.older, panel, rules)
        # The two fits saw different rows: a segment's fall counts where it is more than their noise.
        fallen = [part for part in segments if part.falls(rules.segment_share) and part.paired.high < 0]
    else:
        fallen = [part for part in segments if part.falls(rules.segment_share)]
    faults += [f"{part.name} fall by more than {rules.segment_share:.0%}: {spoken(part.paired)}" for part in fallen]
    way: Way = "refresh" if champion.refitted else "renewal"
    if faults:
        return Decision(way, False, champion.label, (*faults, "the old weights stay", *refused), table, segments)
    said = f"{label} is not worse than the champion's recipe: {spoken(pair)}"
    return Decision(way, True, label, (said, *refused), table, segments)


def spoken(pair: Paired) -> str:
    """Describe a comparison in words."""
    return (
        f"{pair.ours:.4f} for {pair.theirs:.4f}, {pair.difference:+.4f} ({pair.low:+.4f} to {pair.high:+.4f}) over"
        f" {pair.users:,}"
    )


def _mean(figures: Figures, panel: Panel) -> float:
    values = figures.ndcg[panel.warm]
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else float("-inf")


def _table(
    recipes: Mapping[str, Figures], panel: Panel, champion: Champion | None, rules: Rules
) -> tuple[dict[str, float | str | None], ...]:
    rows: list[dict[str, float | str | None]] = []
    shown = dict(recipes)
    if champion is not None:
        shown.setdefault(champion.label, champion.figures)
    for label, figures in shown.items():
        values = figures.ndcg[panel.warm]
        values = values[~np.isnan(values)]
        low, high = bootstrap_interval(values, seed=rules.seed)
        row: dict[str, float | str | None] = {
            "recipe": label,
            "mean": float(values.mean()) if len(values) else None,
            "low": low,
            "high": high,
        }
        if champion is not None:
            pair = compare(figures, champion.figures, panel.warm, seed=rules.seed)
            row |= {"against_champion": pair.difference, "paired_low": pair.low, "paired_high": pair.high}
        rows.append(row)
    return tuple(rows)

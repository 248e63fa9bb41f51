"""The trial of the promotion gate: one split on which every recipe is fitted and judged alike, user by user."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from models import metrics
from models.base import Recommender
from models.data.features import FeatureHistory, TrainingFeatures
from models.data.interactions import Interactions
from models.evaluation.protocols.base import Histories, RankingTask, matrix_of, task_of
from models.evaluation.protocols.global_temporal import Temporal
from models.evaluation.protocols.leave_last_out import LeaveLastOut
from models.evaluation.runner import judge
from models.registry import configured, module_of
from models.runtime.code_fingerprint import code_fingerprint
from models.runtime.progress import ProgressCallback

#: The figure of a user that decides: NDCG@10 in the ranking of all films that the user has not met.
FIGURE = "ndcg_10"
#: Films that came among the last tenth of the rated ones, or have no rating in the training, are new.
_NEW_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class RecipeVersion:
    """A recipe to the letter: the recommender's name, every field of its configuration, the digest of its code."""

    name: str
    settings: Mapping[str, Any]
    code: str

    @classmethod
    def of(cls, recommender: Recommender) -> RecipeVersion:
        """Return the recipe of a recommender, fitted or not, under the present code."""
        # Through JSON, so that a recipe that was written and read is equal to one that was not.
        settings = json.loads(json.dumps(asdict(recommender.config)))
        return cls(recommender.name, settings, code_fingerprint(module_of(recommender.name))[:16])

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits for name, settings and code."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]

    @property
    def label(self) -> str:
        """What tables call it: the name, with digits that tell two recipes of one name apart."""
        return f"{self.name} {self.digest[:6]}"

    def make(self) -> Recommender:
        """Build the unfitted recommender; raise ``RecommenderError`` for an unknown name or setting."""
        return configured(self.name, {k: tuple(v) if isinstance(v, list) else v for k, v in self.settings.items()})

    def present(self) -> RecipeVersion:
        """Return the same name and settings under the present code; raises as :meth:`make`."""
        return RecipeVersion.of(self.make())


@dataclass(frozen=True, slots=True)
class Figures:
    """What one recipe did in a trial, user by user, so that two recipes can be paired.

    ``ndcg`` float64[Q], NaN where it cannot answer the user; ``found_new`` float64[Q]: how many of the user's relevant
    new films are in the first ten places.
    """

    ndcg: NDArray[np.float64]
    found_new: NDArray[np.float64]

    def save(self, path: Path) -> None:
        """Write both columns as npz, aside and renamed."""
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.part")
        with aside.open("wb") as stream:
            np.savez(stream, allow_pickle=False, ndcg=self.ndcg, found_new=self.found_new)
        aside.replace(path)

    @classmethod
    def load(cls, path: Path) -> Figures:
        """Load the figures that :meth:`save` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            return cls(stored["ndcg"], stored["found_new"])

    def backed_by(self, fallback: Figures) -> Figures:
        """Users that the recipe cannot answer have the fallback's figures, for that is what they would be served."""
        missing = np.isnan(self.ndcg)
        return Figures(
            np.where(missing, fallback.ndcg, self.ndcg), np.where(missing, fallback.found_new, self.found_new)
        )


@dataclass(frozen=True, slots=True)
class Trial:
    """A split with Q users to ask, and who they are.

    ``protocol`` is its name; ``task`` the split; ``asked`` int64[Q] the users' indices; ``until`` int64[n_users]: rows
    of a user before that second may be learnt from; ``held`` int64: the codes of the pairs that may not in any case.
    ``relevant_new`` float64[Q]: how many of the films to find are new ones. ``too_small`` says why another protocol
    was wanted and not taken.
    """

    protocol: str
    task: RankingTask
    asked: NDArray[np.int64]
    until: NDArray[np.int64]
    held: NDArray[np.int64]
    new_films: NDArray[np.bool_]
    relevant_new: NDArray[np.float64]
    too_small: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def warm(self) -> NDArray[np.bool_]:
        """bool[Q]: users with a past, over whom the recipes are compared."""
        return np.ones(len(self.task), dtype=bool) if self.task.apart is None else ~self.task.apart

    @property
    def light(self) -> NDArray[np.bool_]:
        """bool[Q]: the third of the warm users with the shortest histories."""
        lengths = np.diff(self.task.history.indptr)
        if not self.warm.any():
            return self.warm
        return np.asarray(self.warm & (lengths <= np.quantile(lengths[self.warm], 1 / 3)))

    def digest(self) -> str:
        """Hash of everything that figures depend on beside the recipe: rows, features, what is asked and when."""
        found = hashlib.sha256(self.protocol.encode())
        task = self.task
        parts: list[NDArray[Any] | None] = [
            task.fit.users, task.fit.items, task.fit.ratings, task.fit.timestamps, self.asked, task.relevant.indptr,
            task.relevant.indices, task.user_features, task.asked_at,
        ]  # fmt: skip
        if task.features is not None:
            parts.append(task.features.user_values)
            for history in task.features.item_histories:
                parts += [history.keys, history.times, history.values]
            found.update(repr((task.features.user_names, task.features.item_names)).encode())
            content = task.features.item_content
            if content is not None:
                found.update("\n".join(content.names).encode())
                parts += [content.counts.indptr, content.counts.indices, content.counts.data, content.years]
        for part in parts:
            found.update(b"-" if part is None else np.ascontiguousarray(part).tobytes())
        found.update(repr((task.fit.n_users, task.fit.n_items)).encode())
        return found.hexdigest()[:16]

    def may_learn(self, rows: Interactions) -> NDArray[np.bool_]:
        """bool[N]: rows, of this or an older state of the data, that tell nothing of what is asked."""
        return np.asarray((rows.timestamps < self.until[rows.users]) & ~np.isin(rows.codes(), self.held))

    def fit(
        self,
        recipe: RecipeVersion,
        *,
        seed: int,
        progress: ProgressCallback | None = None,
        checkpoints: Path | None = None,
    ) -> Recommender:
        """Fit the recipe on the training part; ``checkpoints`` as in ``Recommender.fit``."""
        return recipe.make().fit(
            self.task.fit, self.task.features, seed=seed, progress=progress, checkpoints=checkpoints
        )

    def on_older(self, older: Interactions) -> Trial:
        """Ask the same of a recommender that knows only an older state: its rows and its users' histories.

        Weights that are kept are served that way, except for movies met since: both rankings leave these out, as the
        weights cannot know of them. A row that the present state lacks has unknown features; a user without an older
        row is unknown.
        """
        rows = older.take(self.may_learn(older))
        known, features = rows.user_counts()[self.asked] > 0, self.task.features
        history, times = Histories.of(rows).of_users(self.asked)
        task = replace(
            self.task,
            fit=rows,
            users=np.where(known, self.asked, -1),
            history=history,
            history_times=times,
            hidden=csr_array(matrix_of(self.task.fit, self.asked) + matrix_of(rows, self.asked)),
            features=None if features is None else features_of_pairs(rows, self.task.fit, features),
        )
        return replace(self, task=task)

    def same_as_older(self, older: Interactions) -> bool:
        """Whether an older state knew before the cut exactly the rows of the training part."""
        return np.array_equal(_sorted_rows(older.take(self.may_learn(older))), _sorted_rows(self.task.fit))

    def judge(self, recommender: Recommender) -> Figures:
        """Evaluate a fitted recommender; raise ``UnknownUser`` where it can answer no user."""
        judgement = judge(recommender, self.task, (FIGURE,))
        hits = metrics.list_hits(judgement.lists, self.task.relevant)
        new = self.new_films[np.maximum(judgement.lists, 0)] & (judgement.lists >= 0)
        values = judgement.by_user[FIGURE]
        return Figures(values, np.where(np.isnan(values), np.nan, (hits & new).sum(axis=1).astype(np.float64)))


def make_trial(
    interactions: Interactions,
    features: TrainingFeatures | None = None,
    user_history: FeatureHistory | None = None,
    *,
    min_users: int,
    share: float = 0.9,
) -> Trial:
    """Split by time or, where that leaves fewer warm users than ``min_users``, hold out each user's last row.

    ``user_history`` is keyed by user index; without it nothing is known of the users at the moment of the cut.
    Raises ``ProtocolError`` where neither split has a user to ask for.
    """
    temporal = Temporal(share=share)
    cut = temporal.cut(interactions)
    past = interactions.timestamps < cut
    warm = np.intersect1d(interactions.users[past], interactions.users[~past])
    if len(warm) >= max(1, min_users):
        until = np.full(interactions.n_users, cut, dtype=np.int64)
        asked_at = np.full(interactions.n_users, cut, dtype=np.int64)
        trial = _trial(temporal.name, interactions, past, features, until, asked_at)
        if user_history is not None:
            values = user_history.as_of(trial.asked, np.full(len(trial.asked), cut))
            trial = replace(trial, task=replace(trial.task, user_features=values))
        return replace(trial, facts={**trial.facts, "cut": cut, "share": share})
    last = LeaveLastOut().held_out(interactions)
    fit = np.ones(len(interactions), dtype=bool)
    fit[last] = False
    never = np.iinfo(np.int64).max
    until = np.full(interactions.n_users, never, dtype=np.int64)
    # A row of the second itself may be learnt from: what is held out is the pair.
    until[interactions.users[last]] = interactions.timestamps[last] + 1
    asked_at = np.zeros(interactions.n_users, dtype=np.int64)
    asked_at[interactions.users[last]] = interactions.timestamps[last]
    trial = _trial(LeaveLastOut.name, interactions, fit, features, until, asked_at)
    if features is not None:
        trial = replace(trial, task=replace(trial.task, user_features=features.user_values[last]))
    return replace(
        trial,
        too_small=f"the temporal split has {len(warm)} users with a past, fewer than {min_users}",
    )


def _trial(
    protocol: str,
    interactions: Interactions,
    fit: NDArray[np.bool_],
    features: TrainingFeatures | None,
    until: NDArray[np.int64],
    asked_at: NDArray[np.int64],
) -> Trial:
    relevant = interactions.take(~fit)
    task = task_of(interactions.take(fit), relevant)
    asked = np.unique(relevant.users).astype(np.int64)
    task = replace(task, features=None if features is None else features.take(fit), asked_at=asked_at[asked])
    new = new_films(task.fit)
    batch = task.relevant
    rows = np.repeat(np.arange(len(task)), np.diff(batch.indptr))
    of_new = np.bincount(rows, weights=new[batch.indices], minlength=len(task)).astype(np.float64)
    facts = {
        "training_rows": len(task.fit),
        "rows_to_find": len(relevant),
        "users_asked": len(task),
        "warm_users": len(task) if task.apart is None else int((~task.apart).sum()),
    }
    return Trial(protocol, task, asked, until, np.unique(relevant.codes()), new, of_new, facts=facts)


def new_films(fit: Interactions) -> NDArray[np.bool_]:
    """bool[n_items]: films first rated after nine tenths of the others were, and those that nobody rated."""
    first = np.full(fit.n_items, np.iinfo(np.int64).max)
    np.minimum.at(first, fit.items, fit.timestamps)
    rated = fit.item_counts() > 0
    if not rated.any():
        return ~rated
    return np.asarray(~rated | (first > np.quantile(first[rated], _NEW_SHARE)))


def features_of_pairs(rows: Interactions, known_rows: Interactions, features: TrainingFeatures) -> TrainingFeatures:
    """Return the features of rows of another state, in the same index space: the same pair's, else unknown."""
    order = np.argsort(known_rows.codes(), kind="stable")
    codes = known_rows.codes()[order]
    places = np.minimum(np.searchsorted(codes, rows.codes()), max(len(codes) - 1, 0))
    known = codes[places] == rows.codes()
    values = features.user_values[order[places]].copy()
    values[~known] = np.nan
    return replace(features, user_values=values)


def _sorted_rows(rows: Interactions) -> NDArray[np.int64]:
    order = np.argsort(rows.codes(), kind="stable")
    stars = np.rint(rows.ratings[order] * 100).astype(np.int64)
    return np.stack([rows.codes()[order], stars, rows.timestamps[order]])

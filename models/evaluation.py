"""Evaluation of recommenders on one split: the same held-out items and the same negatives for all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from models.features import ItemsAsOf, TrainingFeatures
from models.interactions import Interactions
from models.metrics import coverage, hit_ratio, ndcg, recall, target_ranks
from models.negatives import distinct_negatives
from models.recommender import Progress, Recommender, UserBatch, mask_seen, top_k
from models.splits import LeaveLastOut, leave_last_out

#: Sampled negatives a user, as in He et al. 2017.
NEGATIVES = 99
#: Scores that a batch of users holds at a time (float32: 4 MB); a recommender holds some dozen numbers for each.
_CELLS = 1_000_000


@dataclass(frozen=True, slots=True)
class EvaluationRow:
    """One recommender on one split. ``hr_10`` and ``ndcg_10`` rank the held-out item among 99 sampled negatives.

    ``full_ndcg_10``, ``recall_20`` and ``coverage_10`` rank all items but those the user met before; seconds are wall
    time.
    """

    recommender: str
    hr_10: float
    ndcg_10: float
    full_ndcg_10: float
    recall_20: float
    coverage_10: float
    fit_seconds: float
    score_seconds: float
    test_users: int


@dataclass(frozen=True, slots=True)
class LeaveLastOutEvaluation:
    """The leave-last-one-out protocol over given interactions, ready to judge any number of recommenders.

    ``negatives`` int32[test users, 99], drawn once from the items that a user never met in any part. Features are read
    as of the held-out interaction's own time: the user's from its row, the items' from their histories.
    """

    interactions: Interactions
    features: TrainingFeatures | None
    split: LeaveLastOut
    negatives: NDArray[np.int32]

    @classmethod
    def prepare(
        cls, interactions: Interactions, features: TrainingFeatures | None = None, *, seed: int
    ) -> LeaveLastOutEvaluation:
        """Cut the split and draw the negatives; ``ValueError`` when no user has two interactions."""
        split = leave_last_out(interactions)
        if len(split.test) == 0:
            raise ValueError("no user has two interactions, so there is none to hold out")
        negatives = distinct_negatives(interactions, interactions.users[split.test], NEGATIVES, seed=seed)
        return cls(interactions, features, split, negatives)

    def fit(
        self,
        recommender: Recommender,
        *,
        seed: int,
        progress: Callable[[Progress], None] | None = None,
        checkpoints: Path | None = None,
    ) -> float:
        """Fit on everything but the test and return the seconds it took; ``checkpoints`` as of ``Recommender.fit``."""
        rows = self.split.fit
        features = None if self.features is None else self.features.take(rows)
        start = time.perf_counter()
        recommender.fit(self.interactions.take(rows), features, seed=seed, progress=progress, checkpoints=checkpoints)
        return time.perf_counter() - start

    def judge(self, recommender: Recommender, *, fit_seconds: float = float("nan")) -> EvaluationRow:
        """The metrics of a recommender that was fitted on :attr:`LeaveLastOut.fit` (see :meth:`fit`)."""
        test = self.interactions.take(self.split.test)
        sampled = np.empty(len(test), dtype=np.int64)
        full = np.empty(len(test), dtype=np.int64)
        lists = np.empty((len(test), 10), dtype=np.int64)
        start = time.perf_counter()
        seen = self.interactions.take(self.split.fit).matrix()
        for block in self._blocks():
            batch, targets = self._batch(recommender, block, seen), test.items[block].astype(np.int64)
            scores = recommender.score(batch)
            candidates = np.column_stack([targets, self.negatives[block]])
            among = np.take_along_axis(scores, np.maximum(candidates, 0), axis=1)
            sampled[block] = target_ranks(
                np.where(candidates < 0, -np.inf, among), np.zeros(len(targets), dtype=np.int64)
            )
            unseen = mask_seen(scores, batch.history)
            full[block] = target_ranks(unseen, targets)
            lists[block] = top_k(unseen, 10)[0]
        return EvaluationRow(
            recommender=recommender.name,
            hr_10=hit_ratio(sampled, 10),
            ndcg_10=ndcg(sampled, 10),
            full_ndcg_10=ndcg(full, 10),
            recall_20=recall(full, 20),
            coverage_10=coverage(lists, self.interactions.n_items),
            fit_seconds=fit_seconds,
            score_seconds=time.perf_counter() - start,
            test_users=len(test),
        )

    def compare(
        self,
        recommenders: Sequence[Recommender],
        *,
        seed: int,
        progress: Callable[[str, Progress], None] | None = None,
    ) -> list[EvaluationRow]:
        """Fit and judge each in turn; ``progress`` hears the recommender's name and its step."""
        rows = []
        for recommender in recommenders:
            name = recommender.name
            report = None if progress is None else (lambda step, name=name: progress(name, step))
            rows.append(self.judge(recommender, fit_seconds=self.fit(recommender, seed=seed, progress=report)))
        return rows

    def _blocks(self) -> list[slice]:
        """Slices of test users whose scores, and some arrays of their shape, fit into memory."""
        step = max(1, min(256, _CELLS // self.interactions.n_items))
        return [slice(start, start + step) for start in range(0, len(self.split.test), step)]

    def _batch(self, recommender: Recommender, block: slice, seen: csr_array) -> UserBatch:
        rows = self.split.test[block]
        users = self.interactions.users[rows]
        before = seen[users]
        if self.features is None or not recommender.uses_features:
            return UserBatch(users.astype(np.int64), before)
        times = self.interactions.timestamps[rows]
        items = ItemsAsOf(self.features.item_histories, times, self.interactions.n_items)
        return UserBatch(users.astype(np.int64), before, self.features.user_values[rows], items)

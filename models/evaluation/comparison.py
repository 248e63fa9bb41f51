"""The comparison of recommenders on each user's last rating: the same question and the same negatives for all of them.

How a recommender is asked and judged is not decided here but in :mod:`protocols`, as for the promotion gate.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from models.base import Recommender
from models.data.features import TrainingFeatures
from models.data.interactions import Interactions
from models.evaluation.protocols.base import RankingTask
from models.evaluation.protocols.leave_last_out import LeaveLastOut
from models.evaluation.runner import judge
from models.metrics import coverage
from models.runtime.progress import Progress


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
    """The leave-last-out task of given interactions, ready to judge any number of recommenders."""

    task: RankingTask

    @classmethod
    def prepare(
        cls, interactions: Interactions, features: TrainingFeatures | None = None, *, seed: int
    ) -> LeaveLastOutEvaluation:
        """Cut the split and draw the negatives; ``ProtocolError`` when no user has two interactions."""
        protocol = LeaveLastOut()
        if features is None:
            return cls(protocol.split(interactions, seed=seed))
        return cls(protocol.split_with(interactions, features, seed=seed))

    def fit(
        self,
        recommender: Recommender,
        *,
        seed: int,
        progress: Callable[[Progress], None] | None = None,
        checkpoints: Path | None = None,
    ) -> float:
        """Fit on everything but the test and return the seconds it took; ``checkpoints`` as of ``Recommender.fit``."""
        start = time.perf_counter()
        recommender.fit(self.task.fit, self.task.features, seed=seed, progress=progress, checkpoints=checkpoints)
        return time.perf_counter() - start

    def judge(self, recommender: Recommender, *, fit_seconds: float = float("nan")) -> EvaluationRow:
        """Evaluate a recommender that was fitted on the task (see :meth:`fit`)."""
        judgement = judge(recommender, self.task, LeaveLastOut.metrics)
        means = {name: float(values.mean()) for name, values in judgement.by_user.items()}
        return EvaluationRow(
            recommender=recommender.name,
            hr_10=means["hr_10"],
            ndcg_10=means["ndcg_10"],
            full_ndcg_10=means["full_ndcg_10"],
            recall_20=means["full_recall_20"],
            coverage_10=coverage(judgement.lists, self.task.fit.n_items),
            fit_seconds=fit_seconds,
            score_seconds=judgement.score_seconds,
            test_users=len(self.task),
        )

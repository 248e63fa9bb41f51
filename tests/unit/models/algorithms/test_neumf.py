from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from models.algorithms.neumf.model import NeuMF
from models.algorithms.neumf.network import Network, NeuMFConfig
from models.data.batch import UserBatch
from models.data.features import FeatureHistory, ItemsAsOf, TrainingFeatures
from models.data.interactions import Interactions
from models.data.negative_sampling import NegativeSampler
from models.data.splits import last_rows
from models.runtime.checkpoints import Checkpoint
from models.runtime.device import in_bfloat16
from models.runtime.errors import RecommenderError
from models.runtime.progress import Progress
from tests.unit.models.examples import ITEMS, USERS, batch_of, features_of, two_tastes

SMALL = NeuMFConfig(
    batch_size=64, epochs=4, patience=4, threads=1, learning_rate=0.02, weight_decay=0.05, negatives=4, refit=False
)


@pytest.fixture(scope="module")
def interactions() -> Interactions:
    return two_tastes()[0]


@pytest.fixture(scope="module")
def features(interactions: Interactions) -> TrainingFeatures:
    return features_of(interactions)


@pytest.fixture(scope="module")
def fitted(interactions: Interactions, features: TrainingFeatures) -> NeuMF:
    return NeuMF(SMALL).fit(interactions, features, seed=1)


@pytest.fixture
def batch(interactions: Interactions, features: TrainingFeatures) -> UserBatch:
    return batch_of(interactions, np.arange(4), features)


def test_a_changed_user_feature_changes_that_users_scores_alone(fitted: NeuMF, batch: UserBatch) -> None:
    changed = batch.user_features.copy()
    changed[2, 0] += 1.0
    before, after = fitted.score(batch), fitted.score(replace(batch, user_features=changed))
    assert (before[2] != after[2]).all()
    np.testing.assert_array_equal(before[[0, 1, 3]], after[[0, 1, 3]])


def test_a_changed_user_feature_does_not_move_all_films_alike(fitted: NeuMF, batch: UserBatch) -> None:
    changed = batch.user_features.copy()
    changed[:, 0] += 2.0
    moved = fitted.score(replace(batch, user_features=changed)) - fitted.score(batch)
    assert np.ptp(moved, axis=1).min() > 1e-3


def test_a_changed_film_feature_changes_that_films_scores_alone(fitted: NeuMF, batch: UserBatch) -> None:
    changed = batch.item_features.copy()
    changed[5, 1] += 1.0
    before, after = fitted.score(batch), fitted.score(replace(batch, item_features=changed))
    assert (before[:, 5] != after[:, 5]).all()
    others = np.arange(ITEMS) != 5
    np.testing.assert_allclose(before[:, others], after[:, others], rtol=1e-6, atol=1e-6)


def test_features_that_explain_everything_are_learnt() -> None:
    # Which taste a user has is a feature, and each user met a single film of it: the embeddings cannot know.
    rng = np.random.default_rng(0)
    users = np.arange(400)
    items = (users % 2) * 10 + rng.integers(0, 10, 400)
    features = TrainingFeatures(
        (users % 2).astype(np.float32)[:, None],
        ("taste",),
        (FeatureHistory.of(np.arange(20), np.zeros(20), (np.arange(20) // 10)[:, None], ["kind"]),),
    )
    data = Interactions.of(users, items, n_users=400, n_items=20)
    # Strong decay keeps the embeddings out of it.
    config = replace(SMALL, epochs=15, weight_decay=5.0, hidden_features=0.0)
    model = NeuMF(config).fit(data, features, seed=0)
    kinds = features.items_as_of(np.arange(20), np.zeros(20))
    for taste in (0, 1):
        wish = np.full((400, 1), taste, dtype=np.float32)
        found, _ = model.recommend(UserBatch(users, data.matrix(), wish, kinds), 5, exclude_seen=False)
        assert (found // 10 == taste).mean() > 0.9


def test_item_features_as_of_a_users_moment_are_those_of_that_moment(
    fitted: NeuMF, features: TrainingFeatures, batch: UserBatch
) -> None:
    times = np.array([0, 3, 6, 9]) * 86_400  # before the first count of any film, and after each of the three
    together = fitted.score(replace(batch, item_features=ItemsAsOf(features.item_histories, times, ITEMS)))
    for user, time in enumerate(times):
        films = features.items_as_of(np.arange(ITEMS), np.full(ITEMS, time))
        alone = fitted.score(replace(batch.take(slice(user, user + 1)), item_features=films))
        np.testing.assert_allclose(together[user], alone[0], rtol=1e-4, atol=1e-5)


def test_new_item_features_are_not_answered_from_the_cache(fitted: NeuMF, batch: UserBatch) -> None:
    before = fitted.score(batch)
    other = fitted.score(replace(batch, item_features=batch.item_features + 1))
    assert (before != other).all()
    np.testing.assert_array_equal(before, fitted.score(batch))


def test_without_features_it_needs_and_reads_none(interactions: Interactions, features: TrainingFeatures) -> None:
    config = replace(SMALL, use_features=False)
    plain = NeuMF(config).fit(interactions, seed=1)
    given = NeuMF(config).fit(interactions, features, seed=1)
    bare, full = batch_of(interactions, np.arange(4)), batch_of(interactions, np.arange(4), features)
    np.testing.assert_array_equal(plain.score(bare), given.score(full))


def test_missing_features_are_an_error_and_no_zero(fitted: NeuMF, interactions: Interactions, batch: UserBatch) -> None:
    with pytest.raises(RecommenderError, match="needs features"):
        NeuMF(SMALL).fit(interactions)
    with pytest.raises(RecommenderError, match="a batch needs features"):
        fitted.score(replace(batch, user_features=None))
    with pytest.raises(ValueError, match="3 features, the training had 2"):
        fitted.score(replace(batch, user_features=np.zeros((4, 3), dtype=np.float32)))
    with pytest.raises(RecommenderError, match="1 item features, the training had 2"):
        fitted.score(replace(batch, item_features=batch.item_features[:, :1]))


def test_unknown_values_are_answered(fitted: NeuMF, batch: UserBatch) -> None:
    unknown = np.full_like(batch.user_features, np.nan)
    assert np.isfinite(fitted.score(replace(batch, user_features=unknown))).all()


def test_training_reads_item_features_as_of_the_interaction_and_nothing_later(interactions: Interactions) -> None:
    users = np.zeros((len(interactions), 1), dtype=np.float32)
    keys = np.arange(ITEMS)
    past = FeatureHistory.of(keys, np.zeros(ITEMS), keys[:, None], ["count"])
    future = FeatureHistory.of(
        np.tile(keys, 2),
        np.repeat([0, interactions.timestamps.max() + 1], ITEMS),
        np.concatenate([keys, keys[::-1] * 1_000])[:, None],
        ["count"],
    )
    fits = [
        NeuMF(SMALL).fit(interactions, TrainingFeatures(users, ("age",), (history,)), seed=2)
        for history in (past, future)
    ]
    batch = UserBatch(
        np.arange(3), interactions.matrix()[:3], np.zeros((3, 1), dtype=np.float32), keys[:, None].astype(np.float32)
    )
    np.testing.assert_array_equal(fits[0].score(batch), fits[1].score(batch))


class _RecordingSampler(NegativeSampler):
    """Remembers which interactions the training drew its negatives for."""

    trained_on: ClassVar[list[Interactions]] = []

    def __init__(self, interactions: Interactions) -> None:
        super().__init__(interactions)
        self.trained_on.append(interactions)


def test_the_validation_is_cut_from_the_training_and_not_trained_on(
    interactions: Interactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.algorithms.neumf.training.NegativeSampler", _RecordingSampler)
    _RecordingSampler.trained_on.clear()
    NeuMF(replace(SMALL, use_features=False, epochs=1)).fit(interactions, seed=0)
    (rows,) = _RecordingSampler.trained_on
    held = interactions.take(last_rows(interactions))
    assert len(rows) == len(interactions) - USERS
    assert not np.isin(held.codes(), rows.codes()).any()


def test_early_stopping_ends_the_fit_and_restores_the_best_epoch(
    interactions: Interactions, features: TrainingFeatures
) -> None:
    config = replace(SMALL, epochs=60, patience=2, learning_rate=0.05)
    stopped = NeuMF(config).fit(interactions, features, seed=1)
    curve = stopped.learning_curve
    best = max(range(len(curve)), key=lambda epoch: curve[epoch]["validation_ndcg"])
    assert len(curve) < 60
    assert len(curve) == best + 1 + config.patience
    # A fit that may run no longer than the best epoch ends with the same weights.
    short = NeuMF(replace(config, epochs=best + 1)).fit(interactions, features, seed=1)
    batch = batch_of(interactions, np.arange(5), features)
    np.testing.assert_array_equal(stopped.score(batch), short.score(batch))


def test_the_learning_curve_has_a_row_an_epoch(fitted: NeuMF) -> None:
    assert [row["epoch"] for row in fitted.learning_curve] == [1, 2, 3, 4]
    assert set(fitted.learning_curve[0]) == {
        "epoch", "loss", "validation_hr_10", "validation_ndcg_10", "validation_ndcg",
    }  # fmt: skip
    assert fitted.learning_curve[-1]["loss"] < fitted.learning_curve[0]["loss"]


def test_progress_is_told_after_each_epoch(interactions: Interactions, features: TrainingFeatures) -> None:
    told: list[Progress] = []
    NeuMF(SMALL).fit(interactions, features, progress=told.append)
    assert [(step.step, step.total) for step in told] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert all("loss" in step.metrics for step in told)


def test_another_seed_gives_other_weights(
    fitted: NeuMF, interactions: Interactions, features: TrainingFeatures, batch: UserBatch
) -> None:
    other = NeuMF(SMALL).fit(interactions, features, seed=2)
    assert (other.score(batch) != fitted.score(batch)).any()


def test_a_fit_leaves_torchs_seed_and_threads_as_they_were(interactions: Interactions) -> None:
    torch.manual_seed(11)
    threads, expected = torch.get_num_threads(), torch.rand(1)
    torch.manual_seed(11)
    NeuMF(replace(SMALL, use_features=False, epochs=1, threads=1)).fit(interactions, seed=5)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.rand(1), expected)


def test_users_with_one_row_or_with_every_film_can_be_learnt_from() -> None:
    users, items = [0] * 6 + [1, 2, 2], [*range(6), 3, 1, 4]
    data = Interactions.of(users, items, timestamps=range(9), n_users=4, n_items=6)
    model = NeuMF(replace(SMALL, use_features=False)).fit(data, seed=0)
    assert np.isfinite(model.score(batch_of(data, np.arange(4)))).all()
    assert all(np.isfinite(row["loss"]) for row in model.learning_curve)


def test_nobody_to_validate_on_means_all_epochs_are_run() -> None:
    data = Interactions.of(np.arange(10), np.arange(10) % 4, n_users=10, n_items=6)
    steps: list[Progress] = []
    NeuMF(replace(SMALL, use_features=False)).fit(data, seed=0, progress=steps.append)
    assert len(steps) == SMALL.epochs


def test_weights_are_stored_without_pickles(fitted: NeuMF, tmp_path: Path) -> None:
    fitted.save(tmp_path)
    with np.load(tmp_path / "weights.npz", allow_pickle=False) as stored:
        assert {"scale.0.mean", "network.gmf_user.weight"} <= set(stored.files)
        assert all(stored[name].dtype != object for name in stored.files)


def test_hidden_features_reach_the_training(interactions: Interactions, features: TrainingFeatures) -> None:
    # Hidden in every row, the users' values cannot move a weight, so two different sets of them give the same network.
    config = replace(SMALL, hidden_features=1.0, epochs=1)
    other = TrainingFeatures(features.user_values[::-1].copy(), features.user_names, features.item_histories)
    fits = [NeuMF(config).fit(interactions, given, seed=4) for given in (features, other)]
    networks = [fit._state()[1]["network.mlp_user.weight"] for fit in fits]
    np.testing.assert_array_equal(*networks)
    shown = NeuMF(replace(config, hidden_features=0.0)).fit(interactions, features, seed=4)
    assert (shown._state()[1]["network.mlp_user.weight"] != networks[0]).any()


def test_a_refit_trains_on_the_validations_rows_too(
    interactions: Interactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.algorithms.neumf.training.NegativeSampler", _RecordingSampler)
    _RecordingSampler.trained_on.clear()
    NeuMF(replace(SMALL, use_features=False, epochs=2, refit=True)).fit(interactions, seed=0)
    assert [len(rows) for rows in _RecordingSampler.trained_on] == [len(interactions) - USERS, len(interactions)]


def test_without_patience_all_epochs_are_run_on_all_rows(
    interactions: Interactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    # How a final fit repeats what an evaluation chose: its best epoch, no validation, nothing held back.
    chosen = NeuMF(replace(SMALL, use_features=False)).fit(interactions, seed=0).best_epoch
    monkeypatch.setattr("models.algorithms.neumf.training.NegativeSampler", _RecordingSampler)
    _RecordingSampler.trained_on.clear()
    final = NeuMF(replace(SMALL, use_features=False, epochs=chosen, patience=0)).fit(interactions, seed=0)
    assert [len(rows) for rows in _RecordingSampler.trained_on] == [len(interactions)]
    assert final.best_epoch == chosen
    assert [row["epoch"] for row in final.learning_curve] == list(range(1, chosen + 1))


def test_both_branches_start_as_the_mean_of_what_each_learnt_alone(interactions: Interactions) -> None:
    config = replace(SMALL, use_features=False)
    torch.manual_seed(0)
    gmf, mlp, both = (Network(config, USERS, ITEMS, 0, 0, branch) for branch in ("gmf", "mlp", "both"))
    with torch.no_grad():
        for network in (gmf, mlp):
            for parameter in network.parameters():
                parameter.normal_()
    both.start_from(gmf, mlp, alpha=0.3)
    users, items = torch.arange(5), torch.randint(0, ITEMS, (5, 4))
    with torch.inference_mode():
        alone = [network(users, items, None, None) for network in (gmf, mlp)]
        together = both(users, items, None, None)
    torch.testing.assert_close(together, 0.3 * alone[0] + 0.7 * alone[1], rtol=1e-4, atol=1e-5)


def test_a_branch_that_is_trained_alone_leaves_the_other_alone(interactions: Interactions, tmp_path: Path) -> None:
    stages = {}

    def watch(self: Checkpoint, stage: str, state: dict[str, Any]) -> None:
        stages[stage] = {name: value.clone() for name, value in state["network"].items()}

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Checkpoint, "save", watch)
        NeuMF(replace(SMALL, use_features=False, pretrain=True)).fit(interactions, seed=1)
    assert list(stages) == ["train-gmf", "train-mlp", "train"]
    # Both drew the same start; what one of them did not touch still has it.
    gmf, mlp = stages["train-gmf"], stages["train-mlp"]
    for name in gmf:
        if name == "item_bias":
            continue
        if gmf[name].numel():
            assert not torch.equal(gmf[name], mlp[name]), name
    torch.manual_seed(1)
    start = dict(Network(replace(SMALL, use_features=False), USERS, ITEMS, 0, 0).named_parameters())
    assert torch.equal(gmf["mlp_user.weight"], start["mlp_user.weight"])
    assert torch.equal(mlp["gmf_user.weight"], start["gmf_user.weight"])


def test_a_precision_that_is_not_known_is_refused(interactions: Interactions) -> None:
    with pytest.raises(RecommenderError, match="precision 'float8' is none of auto, float32, bfloat16"):
        NeuMF(replace(SMALL, use_features=False, precision="float8")).fit(interactions)


def test_half_precision_is_taken_where_the_processor_has_it_and_only_changes_the_products(
    interactions: Interactions, batch: UserBatch
) -> None:
    fits = {
        precision: NeuMF(replace(SMALL, use_features=False, precision=precision)).fit(interactions, seed=1)
        for precision in ("auto", "float32", "bfloat16")
    }
    scores = {precision: fit.score(batch) for precision, fit in fits.items()}
    taken = "bfloat16" if in_bfloat16("auto", torch.device("cpu")) else "float32"
    np.testing.assert_array_equal(scores["auto"], scores[taken])
    assert (scores["float32"] != scores["bfloat16"]).any()
    np.testing.assert_allclose(scores["bfloat16"], scores["float32"], atol=0.2)
    weights = fits["bfloat16"]._state()[1]
    assert all(value.dtype == np.float32 for name, value in weights.items() if name.startswith("network."))

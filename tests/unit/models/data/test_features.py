import numpy as np
import pytest

from models.data.features import FeatureHistory, Standardizer, TrainingFeatures


@pytest.fixture
def history() -> FeatureHistory:
    # Given out of order, as a file may be.
    return FeatureHistory.of([2, 0, 0], [50, 20, 10], [[5.0], [2.0], [1.0]], ["count"])


@pytest.mark.parametrize(
    ("key", "time", "expected"),
    [
        (0, 9, None),
        (0, 10, 1.0),
        (0, 19, 1.0),
        (0, 20, 2.0),
        (0, 10**10, 2.0),
        (1, 100, None),
        (2, 49, None),
        (2, 50, 5.0),
    ],
)
def test_a_value_holds_from_its_moment_until_the_next(
    history: FeatureHistory, key: int, time: int, expected: float | None
) -> None:
    value = history.as_of([key], [time])[0, 0]
    assert np.isnan(value) if expected is None else value == expected


def test_keys_and_times_are_looked_up_in_one_go_and_broadcast(history: FeatureHistory) -> None:
    values = history.as_of(np.array([[0, 2]]), np.array([[10], [60]]))
    assert values.shape == (2, 2, 1)
    np.testing.assert_array_equal(values[..., 0], [[1.0, np.nan], [2.0, 5.0]])


def test_looking_up_equals_a_plain_search() -> None:
    rng = np.random.default_rng(0)
    keys, times = rng.integers(0, 8, 60), rng.integers(-5, 20, 60)
    history = FeatureHistory.of(keys, times, np.arange(60)[:, None], ["row"])
    wanted_keys, wanted_times = rng.integers(-1, 10, 200), rng.integers(-10, 30, 200)
    found = history.as_of(wanted_keys, wanted_times)[:, 0]
    for key, time, value in zip(wanted_keys, wanted_times, found, strict=True):
        before = [(t, row) for row, (k, t) in enumerate(zip(keys, times, strict=True)) if k == key and t <= time]
        assert np.isnan(value) if not before else value == max(before)[1]


def test_an_empty_history_knows_nothing() -> None:
    empty = FeatureHistory.of([], [], np.empty((0, 2)), ["a", "b"])
    assert np.isnan(empty.as_of([1, 2, 3], 5)).all()
    assert empty.as_of([1, 2, 3], 5).shape == (3, 2)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        FeatureHistory.of([1], [1], [[1.0, 2.0]], ["only one"])


def test_the_histories_of_items_stand_side_by_side(history: FeatureHistory) -> None:
    static = FeatureHistory.of([0, 1, 2], [0, 0, 0], [[7.0], [8.0], [9.0]], ["length"])
    features = TrainingFeatures(np.zeros((1, 1), dtype=np.float32), ("age",), (history, static))
    assert features.item_names == ("count", "length")
    np.testing.assert_array_equal(features.items_as_of([0, 2], 20), [[2.0, 7.0], [np.nan, 9.0]])


def test_scaling_uses_the_statistics_of_the_training_rows_alone() -> None:
    scale = Standardizer.fit(np.array([[1.0], [3.0]], dtype=np.float32))
    np.testing.assert_allclose(scale.transform(np.array([[2.0], [4.0]], dtype=np.float32)), [[0.0], [2.0]])


def test_a_missing_value_becomes_zero_and_a_flag() -> None:
    scale = Standardizer.fit(np.array([[1.0, 5.0], [3.0, np.nan], [np.nan, 5.0]], dtype=np.float32))
    assert scale.width == 4
    np.testing.assert_allclose(scale.transform(np.array([[np.nan, np.nan]], dtype=np.float32)), [[0, 0, 1, 1]])
    np.testing.assert_allclose(scale.transform(np.array([[3.0, 5.0]], dtype=np.float32)), [[1, 0, 0, 0]])


def test_a_column_that_was_never_missing_has_no_flag_and_is_the_mean_when_it_is() -> None:
    scale = Standardizer.fit(np.array([[1.0], [3.0]], dtype=np.float32))
    np.testing.assert_allclose(scale.transform(np.array([[np.nan]], dtype=np.float32)), [[0.0]])


def test_counts_are_compressed_and_stars_shares_and_years_are_not() -> None:
    rng = np.random.default_rng(0)
    columns = [rng.pareto(1.0, 500) * 10, rng.uniform(1, 5, 500), rng.uniform(0, 1, 500), rng.uniform(1930, 2018, 500)]
    scale = Standardizer.fit(np.stack(columns, axis=1).astype(np.float32))
    assert scale.heavy.tolist() == [True, False, False, False]


def test_a_value_far_beyond_the_training_is_cut() -> None:
    scale = Standardizer.fit(np.array([[-1.0], [1.0]], dtype=np.float32))
    np.testing.assert_allclose(scale.transform(np.array([[900.0], [-900.0]], dtype=np.float32)), [[5.0], [-5.0]])


def test_a_constant_column_scales_to_zero() -> None:
    scale = Standardizer.fit(np.full((4, 1), 3.0, dtype=np.float32))
    assert scale.transform(np.full((1, 1), 3.0, dtype=np.float32)).tolist() == [[0.0]]


def test_another_number_of_columns_is_refused() -> None:
    scale = Standardizer.fit(np.zeros((2, 3), dtype=np.float32))
    with pytest.raises(ValueError, match="2 features, the training had 3"):
        scale.transform(np.zeros((1, 2), dtype=np.float32))

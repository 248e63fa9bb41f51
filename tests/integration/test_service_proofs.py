"""A small, seeded cut of the proofs of the service; the whole ones are in ``tests/prove``."""

from __future__ import annotations

from pathlib import Path

import pytest

from bento.client import serving
from tests.integration.served_home import ServedHome
from tests.prove.fuzzing import fuzz, inject
from tests.prove.loading import ask_under_load
from tests.prove.served import make_served_home
from tests.prove.swapping import swap_under_load
from tests.prove.writing import write_and_kill

pytestmark = pytest.mark.xdist_group("service_proofs")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> ServedHome:
    return make_served_home(tmp_path_factory.mktemp("proofs") / "home")


def test_three_swaps_under_load_fail_no_request_and_mix_no_answer(home: ServedHome, tmp_path: Path) -> None:
    done = swap_under_load(home, tmp_path / "service.log", swaps=3, callers=4)
    assert (done.swaps, done.failed, done.mixed) == (3, [], [])
    assert set(done.answers) == set(home.versions.values())


def test_16_callers_at_once_each_get_their_own_answers(home: ServedHome, tmp_path: Path) -> None:
    done = ask_under_load(home.settings, tmp_path / "service.log", requests=640, callers=16)
    assert not done.wrong
    assert sum(done.answers.values()) == 640
    assert min(done.answers[name] for name in ("rate", "recommend", "similar", "batch", "films")) > 10


def test_of_300_writes_a_kill_of_the_service_loses_and_doubles_none(home: ServedHome, tmp_path: Path) -> None:
    done = write_and_kill(home.settings, tmp_path / "service.log", writes=300, writers=8, kills=1)
    assert (done.acknowledged, done.kills, done.lost, done.doubled) == (300, 1, [], [])
    assert done.sent_again > 0


def test_made_up_requests_and_strings_that_would_harm_get_answers_that_are_documented(
    home: ServedHome, tmp_path: Path
) -> None:
    with serving(home.settings, log=tmp_path / "service.log") as client:
        made_up = fuzz(client.url, tmp_path, max_examples=2, seed=home.settings.seed, phases="examples,fuzzing")
        harmful = inject(client.url, every=16)
    wrong = [*made_up.wrong, *harmful.wrong]
    print(*wrong, sep="\n")
    assert not wrong
    assert made_up.cases + harmful.cases > 300

from __future__ import annotations

import io
import socket
import subprocess
import time

import pytest

from bento.bundles.loaded_bundle import Served
from bento.client import ClientError, MarqueeClient, _group, _stop, main, print_answer
from bento.recommendation.answers import recommend
from bento.schemas.recommendations import RecommendRequest
from models.serving.bundle import Bundle


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_an_absent_service_is_named_with_the_remedy(closed_port: int) -> None:
    with (
        MarqueeClient(f"http://127.0.0.1:{closed_port}") as client,
        pytest.raises(ClientError, match="make serve") as raised,
    ):
        client.recommend(1)
    assert str(closed_port) in str(raised.value)
    assert raised.value.status is None


def test_the_command_line_ends_with_1_and_the_message(closed_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--url", f"http://127.0.0.1:{closed_port}", "recommend", "--user", "1"]) == 1
    assert "make serve" in capsys.readouterr().err


def test_waiting_ends_after_its_time(closed_port: int) -> None:
    with (
        MarqueeClient(f"http://127.0.0.1:{closed_port}") as client,
        pytest.raises(ClientError, match="not ready within"),
    ):
        client.wait_until_ready(0.2)


def test_the_table_holds_titles_years_scores_and_whole_links(bundle: Bundle) -> None:
    answer = recommend(Served.of(bundle, None), RecommendRequest(user_id=999, k=2))
    link = "https://www.imdb.com/find/?q=" + "a" * 60
    answer.items[0] = answer.items[0].model_copy(update={"title": "[REC] 2", "link": link})
    out = io.StringIO()
    print_answer(answer, out)
    text = out.getvalue()
    assert "[REC] 2" in text
    assert link in text
    assert "1991" in text
    assert "999" in text
    assert "popular films" in text


def test_stopping_ends_workers_that_outlive_or_ignore_their_parent() -> None:
    # The leader leaves at the first signal, its worker ignores it.
    script = "trap 'exit 0' TERM; (trap '' TERM; while :; do sleep 0.1; done) & echo started; wait"
    process = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == b"started\n"
    time.sleep(0.2)
    assert len(_group(process.pid)) >= 2
    _stop(process, patience_s=1.0)
    process.stdout.close()
    assert _group(process.pid) == []

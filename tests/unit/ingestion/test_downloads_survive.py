"""Downloads from a server that misbehaves, killed at every step, on a full disk.

What was there stays whole, and the next call asks only for the rest.
"""

from __future__ import annotations

import errno
import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

from orchestration.errors import SourceError
from orchestration.ingestion.file_inspection import check_gzip
from orchestration.ingestion.http_download import Patience, download, is_unfinished, look, provenance, read_note
from orchestration.ingestion.transfer_progress import Lines
from orchestration.storage.disk_space import NoRoom, check_room
from tests.unit.ingestion.upstream import Upstream

ROOT = Path(__file__).parents[3]
REMEDY = "Put it there by hand."
NAME = "title.ratings.tsv.gz"
#: Larger than what httpx takes from a connection at once.
SIZE = 300_000


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[Upstream]:
    with Upstream(tmp_path / "upstream") as server:
        yield server


@pytest.fixture
def served(upstream: Upstream) -> Path:
    return publish(upstream, 1)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "downloads" / NAME


class Told(list[str]):
    """What a download tells its user, and how long it would have slept."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    def patience(self, **values: float) -> Patience:
        return Patience(sleep=self.slept.append, **{"tries": 3, **values})  # type: ignore[arg-type]

    def retries(self) -> list[str]:
        return [line for line in self if "trying again" in line]


def publish(upstream: Upstream, version: int) -> Path:
    """Publish a gzip of about ``SIZE`` bytes that is dated ``version`` days after a fixed day in the past."""
    file = upstream.folder / NAME
    file.write_bytes(gzip.compress(random.Random(version).randbytes(SIZE + version), mtime=0))
    at = 1_700_000_000 + version * 86_400
    os.utime(file, (at, at))
    return file


def fetch(upstream: Upstream, target: Path, told: Told | None = None, **patience: float) -> None:
    told = Told() if told is None else told
    url = f"{upstream.url}/{NAME}"
    download(url, target, check=check_gzip, remedy=REMEDY, patience=told.patience(**patience), tell=told.append)


def cut_off(upstream: Upstream, target: Path, at: int = 100_000) -> None:
    """Leave a download unfinished, as an earlier call that ended in the middle does."""
    upstream.first = [f"cut after {at}", "missing"]
    with pytest.raises(
        SourceError, match=r"404 Not Found\)\. 100\.0 kB are kept, and the next call goes on from there\."
    ):
        fetch(upstream, target)
    assert is_unfinished(target)
    upstream.asked.clear()


def files_beside(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def assert_whole(target: Path, served: Path) -> None:
    """Assert that the file is the server's, its note fits, and nothing else is left."""
    assert target.read_bytes() == served.read_bytes()
    note = read_note(target)
    assert note is not None
    assert note.size == served.stat().st_size
    assert note.last_modified is None or int(target.stat().st_mtime) == int(served.stat().st_mtime)
    assert files_beside(target) == [NAME, f"{NAME}.json"]


def test_an_unchanged_file_is_not_sent_again_and_its_note_says_when_it_was_looked_at(
    upstream: Upstream, served: Path, target: Path
) -> None:
    fetch(upstream, target)
    before = read_note(target)
    assert before is not None
    assert before.checked_at is None
    inode = target.stat().st_ino
    fetch(upstream, target)
    second = upstream.asked[-1]
    assert (second.status, second.sent) == (304, 0)
    assert second.headers["If-None-Match"] == before.etag
    assert second.headers["If-Modified-Since"] == before.last_modified
    after = read_note(target)
    assert after is not None
    assert after.checked_at is not None
    assert after.checked_at >= before.fetched_at == after.fetched_at
    assert target.stat().st_ino == inode
    assert_whole(target, served)
    assert set(provenance(target)) == {"url", "etag", "last_modified", "fetched_at", "checked_at"}
    publish(upstream, 2)
    fetch(upstream, target)
    assert upstream.asked[-1].status == 200
    assert_whole(target, served)


@pytest.mark.parametrize("validators", [{"etag"}, {"weak etag"}, {"last-modified"}])
def test_one_validator_is_enough_to_ask_conditionally(
    upstream: Upstream, served: Path, target: Path, validators: set[str]
) -> None:
    upstream.validators = validators
    fetch(upstream, target)
    fetch(upstream, target)
    assert [asked.status for asked in upstream.asked] == [200, 304]


def test_a_file_put_there_by_hand_is_not_taken_for_the_download(upstream: Upstream, served: Path, target: Path) -> None:
    fetch(upstream, target)
    target.write_bytes(b"by hand")
    assert read_note(target) is None
    assert provenance(target) == {}
    fetch(upstream, target)
    assert "If-None-Match" not in upstream.asked[-1].headers
    assert_whole(target, served)


@pytest.mark.parametrize("validators", [{"etag", "last-modified"}, {"last-modified"}, {"weak etag", "last-modified"}])
def test_after_a_cut_only_the_rest_is_asked_for(
    upstream: Upstream, served: Path, target: Path, validators: set[str]
) -> None:
    upstream.validators = validators
    upstream.first = ["cut after 100000", "cut after 50000"]
    told = Told()
    fetch(upstream, target, told)
    assert [asked.range for asked in upstream.asked] == [None, "bytes=100000-", "bytes=150000-"]
    strong = "ETag" if "etag" in validators else "Last-Modified"
    expected = formatdate(served.stat().st_mtime, usegmt=True) if strong == "Last-Modified" else read_note(target).etag  # type: ignore[union-attr]
    assert {asked.headers["If-Range"] for asked in upstream.asked[1:]} == {expected}
    assert sum(asked.sent for asked in upstream.asked) == served.stat().st_size
    assert len(told.retries()) == 2
    assert "from 100.0 kB" in told.retries()[0]
    assert_whole(target, served)


def test_without_a_strong_validator_a_cut_download_starts_over(upstream: Upstream, served: Path, target: Path) -> None:
    for validators in ({"weak etag"}, set()):
        upstream.validators = set(validators)
        upstream.first = ["cut after 100000"]
        upstream.asked.clear()
        fetch(upstream, target)
        assert [asked.range for asked in upstream.asked] == [None, None]
        assert_whole(target, served)
        shutil.rmtree(target.parent)


def test_a_time_within_the_second_of_the_answer_is_no_validator(upstream: Upstream, served: Path, target: Path) -> None:
    upstream.validators = {"last-modified"}
    upstream.first = ["cut after 100000"]
    now = time.time() + 1
    os.utime(served, (now, now))
    fetch(upstream, target)
    assert [asked.range for asked in upstream.asked] == [None, None]


@pytest.mark.parametrize(
    ("manner", "said", "asked"),
    [
        ("ignoring ranges", "sends it from the start", ["bytes=100000-"]),
        ("another part", "sends another part", ["bytes=100000-", None]),
        ("a part without saying which", "without saying which", ["bytes=100000-", None]),
        ("no such part", "has no such part", ["bytes=100000-", None]),
    ],
)
def test_a_server_that_cannot_go_on_sends_it_from_the_start(
    upstream: Upstream, served: Path, target: Path, manner: str, said: str, asked: list[str | None]
) -> None:
    cut_off(upstream, target)
    upstream.manner = manner
    told = Told()
    fetch(upstream, target, told)
    assert [request.range for request in upstream.asked] == asked
    assert any(said in line for line in told)
    assert told.slept == []
    assert_whole(target, served)


@pytest.mark.parametrize("validators", [{"etag", "last-modified"}, {"last-modified"}])
def test_a_file_that_changed_after_the_cut_starts_over_and_is_no_mixture(
    upstream: Upstream, served: Path, target: Path, validators: set[str]
) -> None:
    upstream.validators = validators
    cut_off(upstream, target)
    publish(upstream, 2)
    fetch(upstream, target)
    assert [(asked.range, asked.status) for asked in upstream.asked] == [("bytes=100000-", 200)]
    assert_whole(target, served)


def test_a_part_of_another_version_is_not_gone_on_with_even_if_the_size_is_the_same(
    upstream: Upstream, served: Path, target: Path
) -> None:
    cut_off(upstream, target)
    size = served.stat().st_size
    served.write_bytes(gzip.compress(random.Random(2).randbytes(SIZE + 1), mtime=0))
    assert served.stat().st_size == size
    upstream.manner = "a part of any version"
    told = Told()
    fetch(upstream, target, told)
    assert any("of another version" in line for line in told)
    assert [(asked.range, asked.status) for asked in upstream.asked] == [("bytes=100000-", 206), (None, 200)]
    assert_whole(target, served)


def test_a_cut_update_goes_on_and_the_earlier_file_stays_until_it_is_whole(
    upstream: Upstream, served: Path, target: Path
) -> None:
    fetch(upstream, target)
    earlier = target.read_bytes()
    first = read_note(target)
    publish(upstream, 2)
    cut_off(upstream, target)
    assert target.read_bytes() == earlier
    assert read_note(target) == first
    fetch(upstream, target)
    [asked] = upstream.asked
    assert (asked.range, asked.status, asked.sent) == ("bytes=100000-", 206, served.stat().st_size - 100_000)
    assert_whole(target, served)


def test_where_an_update_is_taken_back_the_earlier_file_stays_and_the_partial_one_goes(
    upstream: Upstream, served: Path, target: Path
) -> None:
    fetch(upstream, target)
    publish(upstream, 2)
    cut_off(upstream, target)
    publish(upstream, 1)
    fetch(upstream, target)
    assert [asked.status for asked in upstream.asked] == [304]
    assert_whole(target, served)


@pytest.mark.parametrize("manner", ["failing", "busy"])
def test_a_server_that_asks_to_wait_is_obeyed(upstream: Upstream, served: Path, target: Path, manner: str) -> None:
    upstream.first = [manner, manner]
    upstream.retry_after = "7"
    told = Told()
    fetch(upstream, target, told)
    assert told.slept == [7.0, 7.0]
    assert len(told.retries()) == 2
    assert "trying again in 7 s (try 2 of 3)" in told.retries()[0]
    upstream.first = [manner]
    upstream.retry_after = formatdate(time.time() + 60, usegmt=True)
    fetch(upstream, target, told)
    assert 50 < told.slept[-1] <= 60


def test_a_server_that_asks_to_wait_too_long_is_given_up(upstream: Upstream, served: Path, target: Path) -> None:
    upstream.manner = "busy"
    upstream.retry_after = "3600"
    told = Told()
    with pytest.raises(SourceError, match=r"answers 429 and asks to come back in 3600 s\)\. Put it there by hand\.$"):
        fetch(upstream, target, told)
    assert (told.slept, len(upstream.asked)) == ([], 1)
    assert files_beside(target) == []


def test_waits_double_up_to_a_bound_and_differ_by_chance(upstream: Upstream, served: Path, target: Path) -> None:
    upstream.manner = "failing"
    told = Told()
    with pytest.raises(SourceError, match="503 Service Unavailable"):
        fetch(upstream, target, told, tries=6, first_wait_s=1.0, longest_wait_s=6.0)
    assert len(upstream.asked) == 6
    for wait, bound in zip(told.slept, (1, 2, 4, 6, 6), strict=True):
        assert bound / 2 <= wait <= bound
    patience = Patience()
    assert len({patience.wait_s(3, None) for _ in range(20)}) > 1


def test_tries_that_bring_something_new_are_not_counted(upstream: Upstream, served: Path, target: Path) -> None:
    upstream.first = ["cut after 10000"] * 20
    told = Told()
    fetch(upstream, target, told)
    assert len(upstream.asked) == 21
    assert all("(try 2 of 3)" in line for line in told.retries())
    assert_whole(target, served)


def test_silence_is_a_cut(upstream: Upstream, served: Path, target: Path) -> None:
    upstream.first = ["stall after 100000"]
    told = Told()
    fetch(upstream, target, told, silence_s=0.2)
    assert [asked.range for asked in upstream.asked] == [None, "bytes=100000-"]
    assert len(told.slept) == 1
    assert_whole(target, served)


def test_a_connection_refused_in_the_middle_is_tried_again(upstream: Upstream, served: Path, target: Path) -> None:
    upstream.first = ["cut after 100000"]
    told = Told()

    def vanish(_: float) -> None:
        told.slept.append(0)
        upstream._server.server_close()

    patience = Patience(tries=3, sleep=vanish)
    with pytest.raises(SourceError, match=r"100\.0 kB are kept"):
        download(f"{upstream.url}/{NAME}", target, check=check_gzip, remedy=REMEDY, patience=patience, tell=told.append)
    assert len(told.retries()) == 2


def test_a_length_that_is_too_long_is_told_and_keeps_the_earlier_file(
    upstream: Upstream, served: Path, target: Path
) -> None:
    target.parent.mkdir()
    target.write_bytes(b"earlier")
    upstream.manner = "stating more"
    with pytest.raises(SourceError, match="without sending complete message body"):
        fetch(upstream, target)
    assert target.read_bytes() == b"earlier"
    upstream.manner = "well"
    fetch(upstream, target)
    assert_whole(target, served)


def test_a_length_that_is_too_short_is_found_by_the_content_and_keeps_the_earlier_file(
    upstream: Upstream, served: Path, target: Path
) -> None:
    target.parent.mkdir()
    target.write_bytes(b"earlier")
    upstream.manner = "stating less"
    with pytest.raises(SourceError, match=r"damaged file, twice in a row \(.* is cut off") as refusal:
        fetch(upstream, target)
    assert ".partial" not in str(refusal.value)
    assert len(upstream.asked) == 2
    assert files_beside(target) == [NAME]
    assert target.read_bytes() == b"earlier"


def test_a_damaged_file_is_fetched_once_more_from_the_start(upstream: Upstream, served: Path, target: Path) -> None:
    upstream.first = ["damaging"]
    told = Told()
    fetch(upstream, target, told)
    assert [asked.range for asked in upstream.asked] == [None, None]
    assert any("is damaged" in line and "once more" in line for line in told)
    assert_whole(target, served)


def test_a_part_that_was_damaged_on_disk_is_fetched_again_from_the_start(
    upstream: Upstream, served: Path, target: Path
) -> None:
    cut_off(upstream, target)
    with target.with_name(f".{NAME}.partial").open("r+b") as handle:
        handle.write(b"\0" * 1_000)
    fetch(upstream, target)
    assert [asked.range for asked in upstream.asked] == ["bytes=100000-", None]
    assert_whole(target, served)


def test_asking_only_says_what_would_be_fetched_and_writes_nothing(
    upstream: Upstream, served: Path, target: Path
) -> None:
    url, size = f"{upstream.url}/{NAME}", served.stat().st_size
    asked = look(url, target)
    assert (asked.unchanged, asked.size, asked.have) == (False, size, 0)
    assert not target.parent.exists()
    cut_off(upstream, target)
    before = files_beside(target)
    assert look(url, target).have == 100_000
    publish(upstream, 2)
    assert look(url, target).have == 0
    assert files_beside(target) == before
    fetch(upstream, target)
    assert look(url, target).unchanged
    assert {request.method for request in upstream.asked if request.status == 304} == {"HEAD"}
    with pytest.raises(SourceError, match="cannot be asked"):
        look("http://127.0.0.1:9/x", target)


# Killed.

_FETCH = """
import sys, time
from pathlib import Path
from orchestration.ingestion.http_download import Patience, download
from orchestration.ingestion.file_inspection import check_gzip
url, target, first_wait_s, check_s = sys.argv[1:]
def check(path):
    print("checking", file=sys.stderr, flush=True)
    time.sleep(float(check_s))
    check_gzip(path)
patience = Patience(first_wait_s=float(first_wait_s))
download(url, Path(target), check=check, remedy="", patience=patience)
"""


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def kill_at(process: subprocess.Popen[str], said: str) -> None:
    """Wait until the process says something, then kill it."""
    assert process.stderr is not None
    with process:
        for line in process.stderr:
            if said in line:
                process.send_signal(signal.SIGKILL)
                return
    raise AssertionError(f"it ended without saying {said!r}")


def wait_until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def bytes_of_partial(target: Path) -> int:
    partial = target.with_name(f".{target.name}.partial")
    return partial.stat().st_size if partial.exists() else 0


@pytest.mark.parametrize("earlier", [False, True])
def test_killed_in_the_middle_the_next_call_asks_only_for_the_rest(
    upstream: Upstream, served: Path, target: Path, earlier: bool
) -> None:
    if earlier:
        fetch(upstream, target)
        publish(upstream, 2)
        upstream.asked.clear()
    before = target.read_bytes() if earlier else None
    upstream.first = ["stall after 100000"]
    with start(_FETCH, f"{upstream.url}/{NAME}", target, 1, 0) as process:
        wait_until(lambda: bytes_of_partial(target) == 100_000)
        process.send_signal(signal.SIGKILL)
    assert (target.read_bytes() if target.exists() else None) == before
    fetch(upstream, target)
    assert [asked.range for asked in upstream.asked] == [None, "bytes=100000-"]
    assert upstream.asked[1].sent == served.stat().st_size - 100_000
    assert_whole(target, served)


def test_killed_while_it_waits_to_try_again_the_next_call_asks_only_for_the_rest(
    upstream: Upstream, served: Path, target: Path
) -> None:
    upstream.first = ["cut after 100000"]
    kill_at(start(_FETCH, f"{upstream.url}/{NAME}", target, 60, 0), "trying again")
    fetch(upstream, target)
    assert [asked.range for asked in upstream.asked] == [None, "bytes=100000-"]
    assert_whole(target, served)


def test_killed_between_the_last_byte_and_the_renaming_the_next_call_asks_for_nothing(
    upstream: Upstream, served: Path, target: Path
) -> None:
    kill_at(start(_FETCH, f"{upstream.url}/{NAME}", target, 1, 60), "checking")
    assert not target.exists()
    fetch(upstream, target)
    assert len(upstream.asked) == 1
    assert_whole(target, served)


def test_what_was_finished_long_before_the_next_call_is_asked_for_conditionally(
    upstream: Upstream, served: Path, target: Path
) -> None:
    kill_at(start(_FETCH, f"{upstream.url}/{NAME}", target, 1, 60), "checking")
    note = target.with_name(f".{NAME}.partial.json")
    begun = json.loads(note.read_text())
    note.write_text(json.dumps(begun | {"whole_at": begun["whole_at"] - 7_200}))
    fetch(upstream, target)
    assert [asked.status for asked in upstream.asked] == [200, 304]
    assert_whole(target, served)


_KILLED_AT_EVERY_STEP = """
import os, signal, sys
from pathlib import Path
from orchestration.ingestion.http_download import download, look
from orchestration.ingestion.file_inspection import check_gzip
url, base, *STEPS = sys.argv[1:]
# So that the children need not load what every request needs.
look(url, Path(base) / "never")

def is_killed_at(step):
    target = Path(base) / str(step) / url.rpartition("/")[2]
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    seen = 0
    def strike(event, arguments):
        nonlocal seen
        if event in STEPS and str(arguments[0]).startswith(str(target.parent)):
            seen += 1
            if seen == step:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(strike)
    download(f"{url}?{step}", target, check=check_gzip, remedy="")
    os._exit(0)

step = 1
while is_killed_at(step):
    step += 1
print(step)
"""


@pytest.mark.parametrize("earlier", [False, True])
def test_killed_before_any_step_on_the_disk_the_file_is_the_earlier_or_the_new_one_and_the_next_call_heals(
    upstream: Upstream, served: Path, tmp_path: Path, earlier: bool
) -> None:
    """Not through the pieces of the body: those are cut above."""
    base = tmp_path / "killed"
    if earlier:
        old = gzip.compress(b"earlier")
        for step in range(1, 60):
            target = base / str(step) / NAME
            target.parent.mkdir(parents=True)
            target.write_bytes(old)
            note = {"url": f"{upstream.url}/{NAME}?{step}", "fetched_at": 1.0, "size": len(old)}
            target.with_name(f"{NAME}.json").write_text(json.dumps(note | {"etag": '"old"', "last_modified": None}))
    kinds = ("open", "os.rename", "os.remove", "os.utime", "os.mkdir")
    with start(_KILLED_AT_EVERY_STEP, f"{upstream.url}/{NAME}", base, *kinds) as process:
        steps = int(process.communicate(timeout=60)[0])
    assert steps > 12
    spared = 0
    for step in range(1, steps):
        target = base / str(step) / NAME
        new = served.read_bytes()
        assert not target.exists() or target.read_bytes() in ({old, new} if earlier else {new})
        is_here = bytes_of_partial(target) == len(new) or (target.exists() and target.read_bytes() == new)
        url = f"{upstream.url}/{NAME}?{step}"
        before = len(upstream.asked)
        download(url, target, check=check_gzip, remedy="", tell=Told().append)
        asked = upstream.asked[before:]
        assert (sum(request.sent for request in asked) == 0) == is_here, step
        spared += is_here
        assert_whole(target, served)
    assert spared >= 6


def test_killed_while_a_damaged_file_is_dropped_the_earlier_one_of_its_size_is_not_taken_for_the_new_one(
    upstream: Upstream, served: Path, tmp_path: Path
) -> None:
    base = tmp_path / "killed"
    for step in range(1, 30):
        target = base / str(step) / NAME
        target.parent.mkdir(parents=True)
        target.write_bytes(b"e" * (served.stat().st_size // 2))
    upstream.manner = "damaging"
    with start(_KILLED_AT_EVERY_STEP, f"{upstream.url}/{NAME}", base, "os.remove") as process:
        said = process.communicate(timeout=60)[1]
    steps = next(step for step in range(1, 30) if f"{NAME}?{step} sends a damaged file, twice in a row" in said)
    assert steps > 6
    upstream.manner = "well"
    for step in range(1, steps):
        target = base / str(step) / NAME
        assert target.read_bytes() == b"e" * (served.stat().st_size // 2)
        download(f"{upstream.url}/{NAME}?{step}", target, check=check_gzip, remedy="", tell=Told().append)
        assert_whole(target, served)


def test_two_processes_do_not_fetch_the_same_file_at_a_time(upstream: Upstream, served: Path, target: Path) -> None:
    upstream.first = ["stall after 100000"]
    told = Told()
    with start(_FETCH, f"{upstream.url}/{NAME}", target, 0.01, 0) as process:
        wait_until(lambda: bytes_of_partial(target) == 100_000)
        other = threading.Thread(target=fetch, args=(upstream, target, told))
        other.start()
        wait_until(lambda: bool(told))
        assert "waiting for another process" in told[0]
        upstream.released.set()
        other.join(20)
        assert process.wait(20) == 0
    # Both of the first process: the second found what it wanted.
    assert [asked.range for asked in upstream.asked] == [None, "bytes=100000-"]
    assert_whole(target, served)


# A full disk.

_FETCH_LIMITED = """
import resource, sys
from pathlib import Path
from orchestration.ingestion.http_download import download
from orchestration.ingestion.file_inspection import check_gzip
from orchestration.errors import SourceError
url, target, limit = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
try:
    download(url, Path(target), check=check_gzip, remedy="")
except SourceError as error:
    print(type(error).__name__, error)
"""


def test_at_a_limit_of_file_size_the_error_is_clear_the_earlier_file_whole_and_the_rest_is_fetched_later(
    upstream: Upstream, served: Path, target: Path
) -> None:
    fetch(upstream, target)
    earlier = target.read_bytes()
    publish(upstream, 2)
    upstream.asked.clear()
    with start(_FETCH_LIMITED, f"{upstream.url}/{NAME}", target, 200_000) as process:
        said = process.communicate(timeout=30)[0]
    assert said.startswith(f"NoRoom {NAME} cannot be written to {target.parent} (File too large;")
    assert "MARQUEE_DOWNLOAD_DIR" in said
    assert target.read_bytes() == earlier
    fetch(upstream, target)
    assert [asked.range for asked in upstream.asked] == [None, "bytes=200000-"]
    assert_whole(target, served)


def test_a_file_that_does_not_fit_is_not_begun(upstream: Upstream, served: Path, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"earlier")
    upstream.manner = "stating a petabyte"
    told = Told()
    with pytest.raises(NoRoom) as refusal:
        fetch(upstream, target, told)
    message = str(refusal.value)
    assert message.startswith(f"{target.parent} has no room for {NAME}: 1,000,000.0 GB and a margin of 268.4 MB are")
    assert " are free. Make room there, or name another folder in MARQUEE_DOWNLOAD_DIR" in message
    assert (files_beside(target), target.read_bytes(), told.slept) == ([NAME], b"earlier", [])


def test_the_margin_is_kept_free_and_what_needs_nothing_always_fits(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(NoRoom):
        check_room(tmp_path, free - (100 << 20), "a file")
    check_room(tmp_path, 0, "nothing")
    check_room(tmp_path, 1, "a byte")


_ON_A_SMALL_DISK = """
set -e
mount -t tmpfs -o size=200k tmpfs "$1"
echo earlier > "$1/$2"
"$3" -c "$4" "$5" "$1/$2" 100000000
ls -A "$1"
cat "$1/$2"
"""


def test_on_a_full_disk_the_error_is_clear_the_earlier_file_whole_and_the_room_is_given_back(
    upstream: Upstream, served: Path, target: Path
) -> None:
    mounting = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    if shutil.which("unshare") is None or subprocess.run([*mounting, "mount -t tmpfs t /mnt"], check=False).returncode:
        pytest.skip("this system does not let a user mount a small disk")
    # Where the size is stated it is refused beforehand.
    upstream.manner = "stating nothing"
    target.parent.mkdir()
    arguments = [str(target.parent), NAME, sys.executable, _FETCH_LIMITED, f"{upstream.url}/{NAME}"]
    found = subprocess.run(
        [*mounting, _ON_A_SMALL_DISK, "sh", *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    said, *rest = found.stdout.splitlines()
    assert f"NoRoom {NAME} cannot be written to {target.parent} ({os.strerror(errno.ENOSPC)};" in said
    assert rest == [NAME, "earlier"]


def test_progress_in_a_log_has_a_line_every_ten_seconds_with_rate_and_time_left() -> None:
    told: list[str] = []
    times = iter([0.0, 4.0, 10.0, 14.0, 21.0, 22.0])
    with Lines("a.gz", 1_000_000, 100_000_000, told.append, clock=lambda: next(times)) as pace:
        for _ in range(4):
            pace.add(5_000_000)
    assert told == [
        "fetching a.gz (100.0 MB, from 1.0 MB on)",
        "a.gz: 11.0 MB of 100.0 MB (11%), 1:29 left, 1.0 MB/s",
        "a.gz: 21.0 MB of 100.0 MB (21%), 1:23 left, 952.4 kB/s",
        "a.gz: fetched 20.0 MB in 22 s",
    ]

"""Fetching files over HTTP, from a real server on this machine."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestration.errors import SourceError
from orchestration.ingestion.file_inspection import check_gzip
from orchestration.ingestion.http_download import Patience, download, read_note
from tests.unit.ingestion.editions import write_dump
from tests.unit.ingestion.upstream import Upstream

REMEDY = "Put it there by hand."


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[Upstream]:
    with Upstream(tmp_path / "upstream") as server:
        yield server


def fetch(url: str, target: Path) -> None:
    download(url, target, check=check_gzip, remedy=REMEDY, patience=Patience(tries=3, first_wait_s=0.01))


def test_a_download_is_the_servers_file_with_its_time_and_a_note_of_what_the_server_said(
    upstream: Upstream, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served = write_dump(upstream.folder, "title.ratings", *(f"tt{i} 5.0 {i}" for i in range(20_000)))
    target = tmp_path / "downloads" / served.name
    fetch(f"{upstream.url}/{served.name}", target)
    assert target.read_bytes() == served.read_bytes()
    assert int(target.stat().st_mtime) == int(served.stat().st_mtime)
    note = read_note(target)
    assert note is not None
    assert (note.url, note.size) == (f"{upstream.url}/{served.name}", served.stat().st_size)
    assert note.last_modified
    assert sorted(path.name for path in target.parent.iterdir()) == [served.name, f"{served.name}.json"]
    # The progress.
    assert served.name in capsys.readouterr().err


@pytest.mark.parametrize(
    ("manner", "said", "requests"),
    [
        ("missing", "404 Not Found", 1),
        ("forbidden", "403 Forbidden", 1),
        ("failing", "503 Service Unavailable", 3),
        ("cutting", "", 3),
        ("damaging", "cut off", 2),
        ("answering with a page", "is no gzip", 2),
    ],
)
def test_what_cannot_be_fetched_whole_is_refused_and_leaves_the_earlier_file(
    upstream: Upstream, tmp_path: Path, manner: str, said: str, requests: int
) -> None:
    served = write_dump(upstream.folder, "title.ratings", *(f"tt{i} 5.0 {i}" for i in range(20_000)))
    upstream.manner = manner
    # Nothing to go on by.
    upstream.validators.clear()
    target = tmp_path / "downloads" / served.name
    target.parent.mkdir()
    target.write_bytes(b"earlier")
    with pytest.raises(SourceError) as refusal:
        fetch(f"{upstream.url}/{served.name}", target)
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert f"{upstream.url}/{served.name}" in str(refusal.value)
    assert str(refusal.value).endswith(REMEDY)
    assert len(upstream.requests) == requests
    assert [path.name for path in target.parent.iterdir()] == [served.name]
    assert target.read_bytes() == b"earlier"


def test_a_server_that_fails_once_is_asked_again(upstream: Upstream, tmp_path: Path) -> None:
    served = write_dump(upstream.folder, "title.ratings", "tt1 5.0 1")
    upstream.first = ["failing"]
    fetch(f"{upstream.url}/{served.name}", tmp_path / served.name)
    assert len(upstream.requests) == 2
    assert (tmp_path / served.name).read_bytes() == served.read_bytes()


def test_where_nobody_listens_the_address_and_the_remedy_are_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/title.ratings.tsv.gz"
    with pytest.raises(SourceError) as refusal:
        fetch(url, tmp_path / "title.ratings.tsv.gz")
    assert url in str(refusal.value)
    assert str(refusal.value).endswith(REMEDY)
    assert list(tmp_path.iterdir()) == []

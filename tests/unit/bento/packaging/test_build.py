from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from bento.packaging.build import (
    BuildError,
    _bento_is_whole,
    _code,
    _digest_of,
    _model_is_whole,
    build,
    built_bentos,
    promoted_bento,
)
from bento.serve import main, server_home
from models.serving.bundle import write_pointer
from settings import PROJECT_ROOT, Settings


def _fake_bento(settings: Settings, version: str, bundle: str, built_at: float) -> None:
    folder = settings.bentoml / "bentos" / "marquee" / version
    folder.mkdir(parents=True)
    (folder / "bento.yaml").write_text(f"args:\n  bundle: marquee_bundle:{bundle}\n")
    os.utime(folder / "bento.yaml", (built_at, built_at))


def test_the_newest_bento_of_the_promoted_bundle_is_served(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    _fake_bento(settings, "a-1", "a", 100)
    _fake_bento(settings, "a-2", "a", 200)
    _fake_bento(settings, "b-1", "b", 300)
    write_pointer(settings.serving_pointer, "a")
    assert promoted_bento(settings).tag == "marquee:a-2"


@pytest.mark.parametrize("pointer", [None, "gone"])
def test_without_a_bento_of_the_promoted_bundle_the_newest_is_served(tmp_path: Path, pointer: str | None) -> None:
    settings = Settings(home=tmp_path)
    _fake_bento(settings, "a-1", "a", 100)
    _fake_bento(settings, "b-1", "b", 300)
    if pointer:
        write_pointer(settings.serving_pointer, pointer)
    assert promoted_bento(settings).tag == "marquee:b-1"


def test_a_half_written_bento_is_no_bento(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    for version, text in (("x", ""), ("y", "args: [")):
        folder = settings.bentoml / "bentos" / "marquee" / version
        folder.mkdir(parents=True)
        (folder / "bento.yaml").write_text(text)
    assert built_bentos(settings) == []


def test_serving_without_a_bento_ends_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MARQUEE_HOME", str(tmp_path))
    assert main([]) == 1
    message = capsys.readouterr().err
    assert "make run" in message
    assert str(tmp_path) in message


def test_serving_on_a_taken_port_ends_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MARQUEE_HOME", str(tmp_path))
    _fake_bento(Settings(home=tmp_path), "a-1", "a", 100)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["--port", str(port)]) == 1
    message = capsys.readouterr().err
    assert f"127.0.0.1:{port}" in message
    assert "MARQUEE_SERVE_PORT" in message


def test_building_without_a_bundle_says_so(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"bundle\.json is missing"):
        build(Settings(home=tmp_path), tmp_path / "models" / "neumf-0")


def test_a_bento_holds_serving_code_and_requirements_only() -> None:
    files = _code(PROJECT_ROOT)
    assert {"settings.py", "requirements.txt", "bento/service.py", "models/serving/bundle.py"} <= set(files)
    assert {name.split("/")[0] for name in files} == {
        "environment.py",
        "settings.py",
        "requirements.txt",
        "bento",
        "models",
    }


def test_the_tag_changes_with_the_code() -> None:
    files = {"bento/service.py": b"x = 1\n", "settings.py": b""}
    assert _digest_of(files) != _digest_of({**files, "bento/service.py": b"x = 2\n"})
    # The same bytes, cut at another place.
    assert _digest_of({"a": b"bc"}) != _digest_of({"ab": b"c"})


def test_a_damaged_bento_or_model_is_seen(tmp_path: Path) -> None:
    bento, files = tmp_path / "bento", {"settings.py": b"x"}
    (bento / "src").mkdir(parents=True)
    (bento / "src" / "settings.py").write_bytes(b"x")
    assert not _bento_is_whole(bento, files)
    (bento / "bento.yaml").write_text("")
    assert _bento_is_whole(bento, files)
    (bento / "src" / "settings.py").write_bytes(b"y")
    assert not _bento_is_whole(bento, files)

    bundle, model = tmp_path / "bundle", tmp_path / "model"
    for folder in (bundle, model / "bundle"):
        folder.mkdir(parents=True)
        (folder / "bundle.json").write_text("{}")
    assert not _model_is_whole(model, bundle)
    (model / "model.yaml").write_text("")
    assert _model_is_whole(model, bundle)
    (bundle / "items.parquet").write_text("more")
    assert not _model_is_whole(model, bundle)


def test_each_server_has_its_own_folder_of_metrics_over_the_same_store(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    _fake_bento(settings, "a-1", "a", 100)
    first, second = server_home(settings, 8000), server_home(settings, 8001)
    assert first != second
    for home in (first, second, server_home(settings, 8000)):
        assert (home / "bentos" / "marquee" / "a-1" / "bento.yaml").is_file()

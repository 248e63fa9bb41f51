"""From a bundle to a bento in the store under ``MARQUEE_HOME``: offline, and once for the same bundle and code.

BentoML keeps its store's place and the imported service in the process, so a bento is built in a child process, from a
staged copy of the few files it needs. Importing this module imports neither BentoML nor torch.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml

from bento.errors import ServingError
from environment import process_environment
from models.serving.bundle import BundleError, read_bundle_manifest, read_pointer
from settings import PROJECT_ROOT, Settings

#: Name of the bento, and of the model in it that is the bundle.
BENTO_NAME = "marquee"
MODEL_NAME = "marquee_bundle"
SERVICE = "bento.service:Marquee"

_PACKAGES = ("bento", "models")
_DESCRIPTION = """\
# Marquee

Movie recommendations with IMDb links. `POST /recommend` gives films for a user, `POST /similar` films like one film;
every answer says which model, data and features it came from, and when popular films stand in for the model.

Served bundle at build time: `{version}`. The service follows `$MARQUEE_HOME/serving.json` while it runs.
`/readyz` answers 200 once a bundle is served and else says why not; `/metrics` is for Prometheus.
"""


class BuildError(ServingError):
    """A bento could not be built; the message says why."""


@dataclass(frozen=True, slots=True)
class BuiltBento:
    """One whole bento of the store."""

    tag: str
    path: Path
    bundle_version: str
    built_at: float


def build(settings: Settings, bundle_path: Path) -> str:
    """Put a bundle and the serving code into the bento store; returns ``marquee:<bundle version>-<hash of the code>``.

    The tag is the address of the content: a bento that is there already is used again (and becomes the newest), a half
    written one of a killed build is replaced. Raises ``BuildError``.
    """
    try:
        bundle_version = str(read_bundle_manifest(bundle_path)["version"])
    except BundleError as error:
        raise BuildError(f"no bento without a bundle: {error}") from error
    files = _code(PROJECT_ROOT)
    version = f"{bundle_version}-{_digest_of(files)[:8]}"
    tag = f"{BENTO_NAME}:{version}"
    model = settings.bentoml / "models" / MODEL_NAME / bundle_version
    bento = settings.bentoml / "bentos" / BENTO_NAME / version
    if _model_is_whole(model, bundle_path) and _bento_is_whole(bento, files):
        os.utime(bento / "bento.yaml")
        return tag
    for target, whole in ((model, _model_is_whole(model, bundle_path)), (bento, _bento_is_whole(bento, files))):
        if not whole:
            shutil.rmtree(target, ignore_errors=True)
    settings.bentoml.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=settings.bentoml) as staging:
        for name, content in files.items():
            target = Path(staging) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        arguments = [str(bundle_path.absolute()), bundle_version, version]
        done = subprocess.run(
            [sys.executable, "-m", "bento.packaging.build", *arguments],
            cwd=staging,
            env=bentoml_environment(settings),
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode or not (_model_is_whole(model, bundle_path) and _bento_is_whole(bento, files)):
        raise BuildError(
            f"building {tag} failed (exit {done.returncode}): {(done.stderr or done.stdout).strip()[-2000:]}"
        )
    return tag


def built_bentos(settings: Settings) -> list[BuiltBento]:
    """Return the bentos of the store, newest first, without half-written ones."""
    found = []
    for manifest in (settings.bentoml / "bentos" / BENTO_NAME).glob("*/bento.yaml"):
        try:
            facts = yaml.safe_load(manifest.read_text(encoding="utf-8"))
            bundle = str(facts["args"]["bundle"]).partition(":")[2]
        except (yaml.YAMLError, KeyError, TypeError):
            continue
        found.append(
            BuiltBento(f"{BENTO_NAME}:{manifest.parent.name}", manifest.parent, bundle, manifest.stat().st_mtime)
        )
    return sorted(found, key=lambda bento: bento.built_at, reverse=True)


def promoted_bento(settings: Settings) -> BuiltBento:
    """Return the newest bento of the bundle that ``serving.json`` names, else the newest, which follows that file too.

    Raises ``BuildError`` with the remedy when none is built.
    """
    bentos = built_bentos(settings)
    if not bentos:
        raise BuildError(
            f"no bento is built in {settings.bentoml}: run `make run` first, or point MARQUEE_HOME to a home with one"
        )
    try:
        promoted = read_pointer(settings.serving_pointer)
    except BundleError:
        return bentos[0]
    return next((bento for bento in bentos if bento.bundle_version == promoted), bentos[0])


def bentoml_environment(settings: Settings, *, bentoml_home: Path | None = None) -> dict[str, str]:
    """Return the environment of a child process that imports BentoML: its store, no usage reports, and this home."""
    return {
        **process_environment(settings),
        "BENTOML_HOME": str(bentoml_home or settings.bentoml),
        "MARQUEE_HOME": str(settings.home),
        # A bento's own source folder must win over the place the caller happens to work in.
        "PYTHONPATH": "",
    }


def _code(root: Path) -> dict[str, bytes]:
    """Return the files of a bento by their path in it: the serving code and its requirements."""
    roots = [root / "settings.py", root / "environment.py"]
    modules = [path for package in _PACKAGES for path in sorted((root / package).rglob("*.py"))]
    files = {path.relative_to(root).as_posix(): path.read_bytes() for path in [*roots, *modules]}
    # In a served bento's own tree the lock has the name that BentoML gives it.
    lock = root / "requirements.lock"
    if not lock.is_file():
        raise BuildError(f"{lock} is missing: the bento takes its requirements from it")
    files["requirements.txt"] = lock.read_bytes()
    return files


def _digest_of(files: dict[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name, content in sorted(files.items()):
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _model_is_whole(model: Path, bundle_path: Path) -> bool:
    """Whether the store's model holds exactly the bundle's files."""
    stored = model / "bundle"
    if not (model / "model.yaml").is_file() or not stored.is_dir():
        return False
    names = {path.relative_to(bundle_path) for path in bundle_path.rglob("*") if path.is_file()}
    if names != {path.relative_to(stored) for path in stored.rglob("*") if path.is_file()}:
        return False
    return all(_file_digest(stored / name) == _file_digest(bundle_path / name) for name in names)


def _file_digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _bento_is_whole(bento: Path, files: dict[str, bytes]) -> bool:
    """Whether the store's bento holds exactly these files; ``bento.yaml`` is the last that BentoML writes."""
    if not (bento / "bento.yaml").is_file():
        return False
    return all(
        (bento / "src" / name).is_file() and (bento / "src" / name).read_bytes() == files[name] for name in files
    )


def _build_here(bundle_path: Path, bundle_version: str, version: str) -> None:
    """Register the model and build the bento: the child's part, in the staged copy."""
    import bentoml

    model = f"{MODEL_NAME}:{bundle_version}"
    try:
        bentoml.models.get(model)
    except bentoml.exceptions.NotFound:
        with bentoml.models.create(model, metadata={"bundle_version": bundle_version}) as created:
            shutil.copytree(bundle_path, Path(created.path) / "bundle")
    bentoml.bentos.build(
        SERVICE,
        name=BENTO_NAME,
        version=version,
        description=_DESCRIPTION.format(version=bundle_version),
        labels={"bundle_version": bundle_version},
        include=["*.py", "requirements.txt"],
        # The lines, for BentoML refuses a file below a hidden folder. The lock is exact already; resolving it again
        # would need the network.
        python={"packages": _requirements(Path("requirements.txt")), "lock_packages": False},
        build_ctx=str(Path.cwd()),
        args={"bundle": model},
    )


def _requirements(lock: Path) -> list[str]:
    lines = (line.partition("#")[0].strip() for line in lock.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


if __name__ == "__main__":
    _build_here(Path(sys.argv[1]), sys.argv[2], sys.argv[3])

"""Rollback: the pointer goes back to a version that can still be served, and stays there until it is let go."""

from __future__ import annotations

from collections.abc import Callable

from models.serving.bundle import BundleError, read_former, read_pointer, write_pointer
from orchestration.maintenance.errors import UpkeepError
from orchestration.storage.warehouse import hold
from settings import Settings

Tell = Callable[[str], None]


def roll_back(settings: Settings, version: str | None, *, tell: Tell) -> str:
    """Move the pointer to a version, or to the last one before the served that is whole; returns it.

    The version is loaded, every hash checked, and answers once before anything moves. Runs leave the pointer there
    until :func:`release`. Raises ``UpkeepError`` where there is nothing to go back to; the pointer is then as it was.
    """
    with hold(settings.serving_lock, timeout_s=settings.lock_timeout_s, tell=tell, what="the pointer"):
        try:
            served = read_pointer(settings.serving_pointer)
            wanted = (version,) if version is not None else read_former(settings.serving_pointer)
        except BundleError as error:
            if version is None:
                raise UpkeepError(f"{error}. Name one: make rollback VERSION=…{_there(settings)}") from error
            served, wanted = "nothing", (version,)
        if not wanted:
            raise UpkeepError(f"{served} is the first that was served: there is none before it.{_there(settings)}")
        for candidate in wanted:
            fault = _fault(settings, candidate)
            if fault is None:
                write_pointer(settings.serving_pointer, candidate, held=True)
                tell(f"{served} was served, {candidate} is now; a running bento follows within a second or two")
                tell("runs leave it there; `make rollback RELEASE=1` lets the next run promote again")
                return candidate
            tell(f"{candidate} cannot be served: {fault}")
        raise UpkeepError(f"{served} is still served.{_there(settings)}")


def release(settings: Settings, *, tell: Tell) -> None:
    """Let go of the pointer: the next run moves it to the newest bundle that the gate and its checks let through."""
    with hold(settings.serving_lock, timeout_s=settings.lock_timeout_s, tell=tell, what="the pointer"):
        try:
            served = read_pointer(settings.serving_pointer)
        except BundleError as error:
            raise UpkeepError(str(error)) from error
        write_pointer(settings.serving_pointer, served)
    tell(f"{served} is served until the next run: `make update` promotes the newest bundle")


def _fault(settings: Settings, version: str) -> str | None:
    """Why a version cannot be served; None where it answers."""
    from bento.bundles.hot_reload import load_served
    from bento.errors import NotServable

    if "/" in version or not (settings.models / version / "bundle.json").is_file():
        return "there is no such bundle"
    try:
        load_served(settings.models / version, settings.feast)
    except NotServable as error:
        return str(error)
    return None


def _there(settings: Settings) -> str:
    """Return a sentence with the bundles that exist, the newest first; empty if there are none."""
    found = sorted(settings.models.glob("[!.]*/bundle.json"), key=lambda file: file.stat().st_mtime, reverse=True)
    names = [file.parent.name for file in found]
    return f" In {settings.models}: {', '.join(names)}" if names else ""

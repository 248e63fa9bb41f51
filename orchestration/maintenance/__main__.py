"""``make clean-up``, ``make backup``, ``make restore`` and ``make rollback``: what keeps a home small, and safe.

Exit status: 0 when it is done, 1 when it could not be, 2 for a wrong setting or home.
"""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from environment import PathError
from orchestration.maintenance.backup import restore, write_backup
from orchestration.maintenance.errors import UpkeepError
from orchestration.maintenance.retention import clean_up
from orchestration.maintenance.rollback import release, roll_back
from orchestration.storage.home import HomeError, heal, migrate, read_home
from orchestration.storage.warehouse import WarehouseBusy, hold
from settings import Settings, command_settings


def say(line: str) -> None:
    """One line of the account."""
    print(line, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m orchestration.maintenance", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    cleaning = commands.add_parser("clean-up", help="remove what the retention settings let go")
    cleaning.add_argument("--dry-run", action="store_true", help="only say what would be freed")
    backing_up = commands.add_parser("backup", help="write what upstream files cannot give back into one file")
    backing_up.add_argument("file", type=Path, nargs="?", help="default: backups/ in the home, named by the time")
    restoring = commands.add_parser("restore", help="make the home hold what a backup holds")
    restoring.add_argument("file", type=Path)
    going_back = commands.add_parser("rollback", help="serve an earlier version, and stay there")
    going_back.add_argument("version", nargs="?", help="default: the one that was served before")
    going_back.add_argument("--release", action="store_true", help="let the next run promote again")
    options = parser.parse_args(arguments)
    settings = command_settings()
    now = datetime.now(UTC)
    try:
        if options.command != "restore" and read_home(settings.home) is None:
            raise HomeError(f"{settings.home} is no home yet: there is no home.json. Is MARQUEE_HOME right?")
        if options.command == "rollback":
            # It takes the pointer's lock alone: who serves something wrong must not wait for a run to end.
            if options.release:
                release(settings, tell=say)
            else:
                roll_back(settings, options.version, tell=say)
            return 0
        with hold(settings.run_lock, timeout_s=settings.lock_timeout_s, tell=say, what="this home"):
            heal(settings.home)
            migrate(settings.home)
            if options.command == "clean-up":
                clean_up(settings, now=now, dry_run=options.dry_run, tell=say)
            elif options.command == "backup":
                write_backup(settings, options.file or _default_file(settings, now), now=now, tell=say)
            else:
                home = restore(settings, options.file, tell=say).home
                say(f"{settings.home} holds it. `make run MOVIELENS={home.edition}` builds the rest.")
    except (HomeError, PathError, WarehouseBusy) as error:
        print(error, file=sys.stderr)
        return 2
    except UpkeepError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _default_file(settings: Settings, now: datetime) -> Path:
    home = read_home(settings.home)
    assert home is not None, "a home that is no home was refused before"
    return settings.backups / f"marquee-{home.edition}-{now:%Y%m%dT%H%M%SZ}.tar.gz"


if __name__ == "__main__":
    sys.exit(main())

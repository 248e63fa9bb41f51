"""Says which servers the service tests find on this machine, and what is missing: ``python -m tests.servers``."""

from __future__ import annotations

import sys

from tests.postgresql import find_postgresql
from tests.redis_server import find_redis


def main() -> int:
    """1 where one is missing. Nothing is installed or started here."""
    found = {"postgresql": find_postgresql(), "redis-server": find_redis()}
    for package, place in found.items():
        print(f"{package}: {place or 'missing'}")
    missing = [package for package, place in found.items() if place is None]
    if missing:
        print(f"The service tests need {' and '.join(missing)} (Debian: apt-get install {' '.join(missing)}).")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())

"""Makes a key to log in with: ``python -m bento.issue_key --role admin``. The first one cannot come over HTTP."""

from __future__ import annotations

import argparse
import sys

from bento.api.dependencies import utc_now
from bento.auth.principal import ROLES
from bento.errors import ServingError
from bento.store import api_keys as keys
from bento.store import users as people
from bento.store.database import Store
from bento.store.users import Who
from settings import command_settings


def main(arguments: list[str] | None = None) -> int:
    """Run the command line: print the key on stdout only; return 1, with a message, when there is none."""
    parser = argparse.ArgumentParser(prog="python -m bento.issue_key", description=__doc__)
    parser.add_argument("--role", choices=ROLES, default="admin")
    parser.add_argument("--user-id", type=int, help="whose key it is, for the role user")
    parser.add_argument("--label", help="what the key is for")
    options = parser.parse_args(arguments)
    if (options.role == "user") != (options.user_id is not None):
        parser.error("--user-id belongs to the role user, and to no other")
    settings = command_settings()
    try:
        store = Store(settings.app_store)
        now = utc_now()
        with store.writing() as session:
            user = None
            if options.user_id is not None:
                user = people.adopt_user(session, Who.of(options.user_id, settings.movielens), now)
            _, text = keys.issue_key(session, options.role, user, options.label, now)
        store.close()
    except ServingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(text)
    print("It is shown this once. Send it to /login for a token of ten minutes.", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""``python -m orchestration.synthetic.generated_edition FOLDER``: a generated edition for what needs many users.

It proves plumbing and scale; what is good on it says nothing of real viewers.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from orchestration.synthetic.sample import SampleSpec, write_sample


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the edition unless it is there already; 0, or 2 with one line where the sizes cannot be."""
    parser = argparse.ArgumentParser(prog="python -m orchestration.synthetic.generated_edition", description=__doc__)
    parser.add_argument("folder", type=Path, help="the edition is in its folder `sample`")
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--movies", type=int, default=2_500)
    parser.add_argument("--ratings", type=int, default=600_000)
    given = parser.parse_args(arguments)
    try:
        spec = SampleSpec(users=given.users, movies=given.movies, ratings=given.ratings, broken=False)
        given.folder.mkdir(parents=True, exist_ok=True)
        write_sample(given.folder, spec)
    except (ValueError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""``make docs``: the data dictionary in ``docs/``, and dbt's docs as one page in the home."""

from __future__ import annotations

import argparse
import os
import sys

from environment import PathError
from orchestration.docs_generation.data_dictionary import FILE, markdown, marts
from orchestration.storage.warehouse import WarehouseBusy
from settings import command_settings


def main(arguments: list[str] | None = None) -> int:
    """Write the documentation; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m orchestration.docs_generation", description=__doc__)
    parser.add_argument("--dictionary", action="store_true", help="only the data dictionary")
    options = parser.parse_args(arguments)
    FILE.write_text(markdown(marts()), encoding="utf-8")
    print(FILE)
    if options.dictionary:
        return 0
    # dbt's semaphores end with this process; what minds them would say so in two lines after the last one here.
    sys.warnoptions.append("ignore:resource_tracker:UserWarning")
    from orchestration.docs_generation.dbt_docs import SiteError, build_site

    try:
        print(build_site(command_settings()))
    except (PathError, SiteError, WarehouseBusy) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # DuckDB 2.0 prints a page about its own leaked references when the interpreter takes itself apart.
    os._exit(status)

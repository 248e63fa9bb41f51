"""``make ui``: the Dagster web page with its daemon, on the home of ``MARQUEE_HOME``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from orchestration.home import HomeError, heal, prepare
from settings import PROJECT_ROOT, Settings


def main() -> int:
    """Prepare the home, then become ``dagster dev``, which runs web server and daemon and stops both on Ctrl-C."""
    settings = Settings()
    heal(settings.home)
    try:
        prepare(settings)
    except HomeError as error:
        print(error, file=sys.stderr)
        return 2
    from orchestration.defs.resources import dbt_project, quiet_environment

    os.environ.update(quiet_environment(settings))
    dbt_project(settings)
    print(f"Dagster UI on http://127.0.0.1:{settings.ui_port}, state in {settings.home}; Ctrl-C ends it", flush=True)
    dagster = Path(sys.executable).with_name("dagster")
    os.chdir(PROJECT_ROOT)
    os.execv(
        dagster,
        [str(dagster), "dev", "-w", "workspace.yaml", "--host", "127.0.0.1", "--port", str(settings.ui_port)],
    )


if __name__ == "__main__":
    sys.exit(main())

"""``make report``: one HTML file with the figures and interactive plots of the published copy, to send on."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bento.catalog.published_copy import CopyUnusable
from orchestration.publishing.manifest import read_manifest
from orchestration.publishing.newest_copy import newest
from settings import command_settings


def main(arguments: list[str] | None = None) -> int:
    """Write the report; returns the exit status, 1 where nothing is published or the copy is locked or damaged."""
    parser = argparse.ArgumentParser(prog="python -m orchestration.visualization", description=__doc__)
    parser.add_argument("file", type=Path, nargs="?", help="default: reports/marquee.html in the home")
    options = parser.parse_args(arguments)
    settings = command_settings()
    publication = read_manifest(settings)
    if publication is None or not settings.published.exists():
        print(f"Nothing is published in {settings.home} yet: `make run` does it.", file=sys.stderr)
        return 1
    from orchestration.visualization.html_report import report

    file: Path = options.file or settings.reports / "marquee.html"
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_name(f".{file.name}.part")
    try:
        with newest(settings, publication, lambda line: print(line, file=sys.stderr)) as (_, con):
            page = report(con, publication)
    except CopyUnusable as error:
        print(error, file=sys.stderr)
        return 1
    aside.write_text(page, encoding="utf-8")
    aside.replace(file)
    print(f"{file} ({file.stat().st_size / 1e6:.1f} MB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())

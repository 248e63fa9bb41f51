"""What the command line shows of a fit: a bar on a terminal, a line a step in a log."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

from models.runtime.progress import Progress, ProgressCallback


@contextmanager
def shown_progress(name: str) -> Iterator[ProgressCallback]:
    """Yield a callback for ``Recommender.fit`` that reports to stderr, which is never a command's result.

    A fit that stops early leaves its bar where it stopped.
    """
    if not sys.stderr.isatty():
        yield lambda step: print(
            f"{name}: {step.step} of at most {step.total} {_facts(step)}".rstrip(), file=sys.stderr
        )
        return
    with tqdm(desc=name, total=0, file=sys.stderr, unit="step", leave=True) as bar:

        def show(step: Progress) -> None:
            bar.total = step.total
            bar.set_postfix_str(_facts(step), refresh=False)
            bar.update(step.step - bar.n)

        yield show


def _facts(step: Progress) -> str:
    return " ".join(f"{key}={value:.4f}" for key, value in step.metrics.items() if key != "epoch")

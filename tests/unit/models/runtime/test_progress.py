from __future__ import annotations

import io

import pytest

from models.runtime.progress import Progress
from models.runtime.progress_bar import shown_progress


class _Stream(io.StringIO):
    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


def shown(monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> str:
    stream = _Stream(terminal=terminal)
    monkeypatch.setattr("sys.stderr", stream)
    with shown_progress("neumf") as tell:
        for step in (1, 2):
            tell(Progress(step, 4, {"epoch": float(step), "loss": 1 / step}))
    return stream.getvalue()


def test_a_log_gets_a_line_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(monkeypatch, terminal=False).splitlines()
    assert lines == ["neumf: 1 of at most 4 loss=1.0000", "neumf: 2 of at most 4 loss=0.5000"]


def test_a_terminal_gets_one_bar_that_is_drawn_over(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, terminal=True)
    assert text.count("\n") <= 1
    last = text.rstrip().split("\r")[-1]
    assert "neumf" in last
    assert "2/4" in last
    assert "loss=0.5000" in last

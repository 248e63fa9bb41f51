"""Account of a load: its counts, and how many rows were set aside for which reason."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class LoadReport:
    """The account of one raw table: ``file_rows == loaded_rows + quarantined_rows``, in rows of the file.

    ``file`` is None for a table whose file does not exist or was not asked for. ``reasons`` counts the quarantined
    rows by reason. ``new_columns``: columns of the file that are not among the table's declared ones; they are in the
    table as text, after those.
    """

    table: str
    file: str | None
    file_rows: int
    loaded_rows: int
    quarantined_rows: int
    reasons: dict[str, int] = field(default_factory=dict)
    new_columns: tuple[str, ...] = ()

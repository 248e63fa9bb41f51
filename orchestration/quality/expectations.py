"""What a suite is: the rules of one table, as data. Great Expectations itself is not imported here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

#: ``blocking``: what depends on the table must not run. ``warning``: shown, and the run goes on.
Severity = Literal["blocking", "warning"]

#: Expectations that are judged on the table as a whole, not on its rows.
NOT_EMPTY = "ExpectTableRowCountToBeBetween"
SAME_COLUMNS = "ExpectTableColumnsToMatchOrderedList"
SOME_COLUMNS = "ExpectTableColumnsToMatchSet"
SAME_TYPES = "ExpectColumnPairValuesToBeInSet"


@dataclass(frozen=True)
class Rule:
    """One expectation: the name of its class in ``great_expectations.expectations`` and what it is called with.

    ``columns`` are the columns whose values it reads (none for a rule about the whole table), ``kwargs`` all else.
    """

    expectation: str
    columns: tuple[str, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    severity: Severity = "blocking"

    @property
    def arguments(self) -> dict[str, Any]:
        """All keyword arguments of the expectation, columns included."""
        if not self.columns:
            return dict(self.kwargs)
        if self.expectation.startswith("ExpectColumnPair"):
            named: dict[str, Any] = {"column_A": self.columns[0], "column_B": self.columns[1]}
        elif self.expectation == "ExpectCompoundColumnsToBeUnique":
            named = {"column_list": list(self.columns)}
        else:
            (column,) = self.columns
            named = {"column": column}
        return {**named, **self.kwargs}

    @property
    def is_about_table(self) -> bool:
        """Whether the table as a whole is judged, not its rows."""
        return self.expectation in (NOT_EMPTY, SAME_COLUMNS, SOME_COLUMNS, SAME_TYPES)

    @property
    def needs_counts(self) -> bool:
        """Whether more than yes or no is wanted of a rule that holds: what was observed, or the share."""
        return self.is_about_table or "mostly" in self.kwargs

    @property
    def is_unique(self) -> bool:
        """Whether rows are compared with each other, so that equal keys must be judged together."""
        return self.expectation in ("ExpectColumnValuesToBeUnique", "ExpectCompoundColumnsToBeUnique")


@dataclass(frozen=True)
class Suite:
    """The rules of one table.

    ``table`` is ``schema.name``. ``columns`` maps the expected columns, in order, to their DuckDB types (``""``
    for any type). With ``others`` the table may have more columns, in any order.
    """

    table: str
    columns: Mapping[str, str]
    rules: tuple[Rule, ...]
    others: bool = False

    @property
    def all_rules(self) -> tuple[Rule, ...]:
        """The rules about columns and types that follow from ``columns``, then the written ones."""
        names = list(self.columns)
        types = [(name, kind) for name, kind in self.columns.items() if kind]
        # Blocking: whoever reads a column by name or by position would read another one, or none.
        derived = [
            Rule(SOME_COLUMNS, kwargs={"column_set": names, "exact_match": False})
            if self.others
            else Rule(SAME_COLUMNS, kwargs={"column_list": names})
        ]
        if types:
            # Blocking: a key that has become text joins with nothing, silently.
            derived.append(Rule(SAME_TYPES, kwargs={"value_pairs_set": types}))
        return (*derived, *self.rules)


def _share(mostly: float) -> dict[str, float]:
    return {} if mostly == 1.0 else {"mostly": mostly}


def not_null(*columns: str, severity: Severity = "blocking", mostly: float = 1.0) -> tuple[Rule, ...]:
    """Each of the columns has a value in (at least ``mostly`` of) the rows: one rule a column."""
    return tuple(Rule("ExpectColumnValuesToNotBeNull", (column,), _share(mostly), severity) for column in columns)


def unique(*columns: str, severity: Severity = "blocking") -> Rule:
    """No two rows agree in all of the columns. Of a single column, NULLs are not compared."""
    single = len(columns) == 1
    return Rule("ExpectColumnValuesToBeUnique" if single else "ExpectCompoundColumnsToBeUnique", columns, {}, severity)


def between(
    column: str,
    least: float | str | None = None,
    most: float | str | None = None,
    *,
    severity: Severity = "blocking",
    mostly: float = 1.0,
) -> Rule:
    """Values that are not NULL lie in [least, most]; an ISO date bounds a TIMESTAMP column."""
    bounds = {"min_value": least, "max_value": most}
    kwargs = {key: value for key, value in bounds.items() if value is not None}
    return Rule("ExpectColumnValuesToBeBetween", (column,), {**kwargs, **_share(mostly)}, severity)


def one_of(column: str, values: Sequence[Any], *, severity: Severity = "blocking") -> Rule:
    """Values that are not NULL are among ``values``."""
    return Rule("ExpectColumnValuesToBeInSet", (column,), {"value_set": list(values)}, severity)


def matches(column: str, pattern: str, *, severity: Severity = "blocking", mostly: float = 1.0) -> Rule:
    r"""Values that are not NULL contain the pattern; anchor it with ``^`` and ``\Z`` (``$`` lets a line feed pass).

    It may name digits only as ``[0-9]``, because of a long table one string is judged for all that differ in their
    digits only. Raises ``ValueError`` otherwise.
    """
    if re.search(r"[0-9]|\\[dw]", re.sub(r"\[0-9\]|\{[0-9,]*\}", "", pattern)):
        raise ValueError(f"the pattern tells digits apart: {pattern}")
    return Rule("ExpectColumnValuesToMatchRegex", (column,), {"regex": pattern, **_share(mostly)}, severity)


def not_before(later: str, earlier: str, *, severity: Severity = "blocking") -> Rule:
    """``later >= earlier`` in each row that has both."""
    kwargs = {"or_equal": True, "ignore_row_if": "either_value_is_missing"}
    return Rule("ExpectColumnPairValuesAToBeGreaterThanB", (later, earlier), kwargs, severity)


def not_empty(*, severity: Severity = "blocking") -> Rule:
    """Return the rule that the table has rows."""
    return Rule(NOT_EMPTY, (), {"min_value": 1}, severity)

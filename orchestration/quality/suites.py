"""The suites: what must hold of every raw table and every mart. A new rule is one line here.

Blocking is what would make every number after it wrong without a trace. Warning is what a person should look at, while
what comes after still says the truth about the rest.
"""

from __future__ import annotations

from orchestration.quality.rules import Suite, not_empty, not_null, one_of

HALF_STARS = [step / 2 for step in range(1, 11)]
TCONST = r"^tt[0-9]{7,}\Z"
NCONST = r"^nm[0-9]{7,}\Z"

SUITES: dict[str, Suite] = {
    suite.table: suite
    for suite in (
        Suite(
            "raw.ml_ratings",
            {
                "edition": "VARCHAR",
                "userId": "INTEGER",
                "movieId": "INTEGER",
                "rating": "DECIMAL(2,1)",
                "timestamp": "BIGINT",
            },
            (
                not_empty(),
                *not_null("userId", "movieId", "rating"),
                one_of("rating", HALF_STARS),
            ),
        ),
    )
}

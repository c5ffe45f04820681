"""Statistics of checks and of what was done about them: counts, never subjects (Art. 40, 63).

1. Every answer that left counts once, local passes too; one that was overtaken before it left does not.
2. A hit is an answer that is no pass: an effect, or undetermined.
3. An effect counts once in every group that it belongs to, though several listings or measures bear it.
4. Feedback counts by listing, as it is asked for.
"""

import datetime
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from lanjie_gateway.domain.feedback import EFFECTS, Asked, Disposition
from lanjie_matcher.civil_time import day_of

USAGE_DIMENSIONS: Final = ("department", "matter", "region", "month")
"""What every check has."""
DIMENSIONS: Final = (*USAGE_DIMENSIONS, "list_type", "measure")
"""What feedback can be told apart by: groups by list type or measure have no number of checks."""
LOCAL: Final = "local"


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """How many answers of one kind and outcome were given in a month (YYYY-MM, in Shanghai)."""

    department: str
    matter: str
    region: str
    month: str
    kind: str
    outcome: str
    answers: int


@dataclass(slots=True)
class Line:
    """One group.

    Attributes:
        checks: answers; `None` where a group has no number of them.
        local: of these, passes that SDKs answered from their set; `None` likewise.
        outcomes: answers by outcome, without local ones; empty likewise.
        effects: answers with an effect.
        asked: listings of these that ask for feedback.
        told: of these by disposition.
        reasons: of those not applied, or only in part, by reason.
        outstanding: not told yet.
        overdue: of these, past their last day.
        hours: from the answer to the feedback, each.
    """

    checks: int | None = None
    local: int | None = None
    outcomes: Counter[str] = field(default_factory=Counter)
    effects: int = 0
    asked: int = 0
    told: Counter[Disposition] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    outstanding: int = 0
    overdue: int = 0
    hours: list[float] = field(default_factory=list)

    @property
    def hits(self) -> int | None:
        """Answers that are no pass (2)."""
        return None if self.checks is None else sum(self.outcomes.values()) - self.outcomes["PASS"]

    @property
    def median_hours(self) -> float | None:
        """Median time from the answer to the feedback."""
        return statistics.median(self.hours) if self.hours else None


def month_of(at: datetime.datetime) -> str:
    """Return the month of an instant in Shanghai, YYYY-MM."""
    return day_of(at).isoformat()[:7]


def grouped(
    by: Sequence[str], usage: Iterable[Usage], asked: Iterable[Asked], overdue_before: datetime.datetime
) -> Mapping[tuple[str, ...], Line]:
    """Return the counts of each group, by its values of the dimensions `by`.

    Args:
        by: some of `DIMENSIONS`; none for one line of all.
        usage: of the months that are looked at.
        asked: feedback that answers of these months ask for.
        overdue_before: answers made before this are overdue while nothing is told of them.
    """
    lines: dict[tuple[str, ...], Line] = {}
    countable = set(by) <= set(USAGE_DIMENSIONS)
    for each in usage if countable else ():
        line = lines.setdefault(tuple(getattr(each, name) for name in by), Line())
        line.checks = (line.checks or 0) + each.answers
        line.local = (line.local or 0) + (each.answers if each.kind == LOCAL else 0)
        if each.kind != LOCAL:
            line.outcomes[each.outcome] += each.answers
            line.effects += each.answers if each.outcome in EFFECTS else 0
    effects: dict[tuple[str, ...], set[str]] = {}
    for one in asked:
        for key in _keys(by, one):
            _count(lines.setdefault(key, Line()), one, overdue_before)
            effects.setdefault(key, set()).add(one.decision_id)
    if not countable:
        for key, decisions in effects.items():  # (3)
            lines[key].effects = len(decisions)
    return dict(sorted(lines.items()))


def _keys(by: Sequence[str], asked: Asked) -> Iterable[tuple[str, ...]]:
    values = {
        "department": asked.department,
        "matter": asked.matter,
        "region": asked.region,
        "list_type": asked.list_type,
        "month": month_of(asked.decided_at),
    }
    measures = asked.measures if "measure" in by else ("",)
    for measure in measures:
        yield tuple(values.get(name, measure) for name in by)


def _count(line: Line, asked: Asked, overdue_before: datetime.datetime) -> None:
    """Step 4."""
    if asked.listing:
        line.asked += 1
    if asked.told is None or asked.told_at is None or asked.disposition is None:
        line.outstanding += 1
        line.overdue += asked.decided_at < overdue_before
        return
    line.told[asked.disposition] += 1
    if asked.told.reason:
        line.reasons[asked.told.reason] += 1
    line.hours.append((asked.told_at - asked.decided_at).total_seconds() / 3_600)

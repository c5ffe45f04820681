"""Where an edition stands in its life on a day (Art. 45): computed when asked, by dates alone.

1. Published is not yet in force: it acts from the later of its effective day and its publication.
2. It acts to 24:00 of its last day: its own, or the day before its successor's first.
3. An edition whose successor begins no later never acts, nor does one that was published after its own end.

A closing edition (`Edition.closing`) is in force like any other; there is nothing in it that could act.
"""

import datetime
import enum
from dataclasses import dataclass

from lanjie_matcher.catalogues import CatalogueSet, Edition


class State(enum.StrEnum):
    """Where an edition stands on a day."""

    NOT_YET_IN_FORCE = "not_yet_in_force"
    IN_FORCE = "in_force"
    ENDED = "ended"
    SUPERSEDED = "superseded"
    NEVER_IN_FORCE = "never_in_force"


@dataclass(frozen=True, slots=True, kw_only=True)
class EditionLife:
    """The days of an edition, and where it stands on one of them.

    Attributes:
        state: where it stands on the day asked about.
        first_day: the first day it acts; `None` where it never does.
        last_day: the last day it acts, inclusive; `None` where it never does, or as long as no end is published.
        superseded_by: ``id@edition`` of the edition that ends it, or because of which it never acts; "" for none.
        superseded_from: first day of that edition.
    """

    state: State
    first_day: datetime.date | None
    last_day: datetime.date | None
    superseded_by: str = ""
    superseded_from: datetime.date | None = None


def life_of(edition: Edition, catalogues: CatalogueSet, day: datetime.date) -> EditionLife:
    """Return where an edition stands on a day, by what is published now.

    Args:
        edition: one of `catalogues`.
        catalogues: every edition ever published.
        day: day in Asia/Shanghai.
    """
    first, last = edition.starts_on, catalogues.last_day(edition)
    successor = catalogues.successor(edition)
    # An edition that ended by itself days before the next one begins is not ended by that.
    if (
        successor is not None
        and edition.effective_to is not None
        and (successor.starts_on - edition.effective_to).days > 1
    ):
        successor = None
    never = last is not None and last < first
    # (3), (1), (2)
    if never:
        state = State.NEVER_IN_FORCE
    elif day < first:
        state = State.NOT_YET_IN_FORCE
    elif last is None or day <= last:
        state = State.IN_FORCE
    else:
        state = State.ENDED if successor is None else State.SUPERSEDED
    return EditionLife(
        state=state,
        first_day=None if never else first,
        last_day=None if never else last,
        superseded_by=successor.name if successor is not None else "",
        superseded_from=successor.starts_on if successor is not None else None,
    )

"""What a caller says of an event beside reason and document: only what its kind takes, in the form it is kept in."""

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from lanjie_gateway.domain.errors import invalid_argument
from lanjie_gateway.domain.event_detail import InstrumentNotice, ObjectionOutcome, Verdict
from lanjie_gateway.domain.events import EventKind

_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFacts:
    """Fields of `RecordEventRequest`; empty where the caller says nothing."""

    until_date: str = ""
    objection_outcome: ObjectionOutcome | None = None
    reply: str = ""
    notice: InstrumentNotice | None = None
    instrument_date: str = ""
    reviewed_revision: int = 0
    contested: bool = False


NOTHING: Final = EventFacts()
_TAKEN: Final[Mapping[EventKind, tuple[str, ...]]] = {
    EventKind.STAYED: ("until_date",),
    EventKind.OBJECTION_CLOSED: ("objection_outcome", "reply"),
    EventKind.NOTICED: ("notice", "instrument_date"),
    EventKind.REVIEWED: ("reviewed_revision", "contested"),
}


def detail(kind: EventKind, facts: EventFacts) -> Mapping[str, Any]:
    """Return the detail of an event; what must be there is `events.require_complete`'s to say.

    Raises:
        Refused: ARGUMENT_INVALID: a field that events of this kind do not take, or one that is malformed.
    """
    for each in fields(facts):
        if getattr(facts, each.name) and each.name not in _TAKEN.get(kind, ()):
            raise invalid_argument(each.name, "kind", f"events of this kind take no {each.name}")
    if "\0" in facts.reply:
        raise invalid_argument("reply", "characters", "a reply holds no NUL")
    made: dict[str, Any] = {}
    if facts.until_date:
        made["until"] = parsed_day("until_date", facts.until_date).isoformat()
    if facts.objection_outcome is not None:
        made["outcome"] = facts.objection_outcome.value
    if facts.reply:
        made["reply"] = facts.reply
    if facts.notice is not None:
        made["what"] = facts.notice.value
    if facts.instrument_date:
        made["instrument_date"] = parsed_day("instrument_date", facts.instrument_date).isoformat()
    if kind is EventKind.REVIEWED:
        made["revision"] = facts.reviewed_revision
        made["verdict"] = (Verdict.CONTESTED if facts.contested else Verdict.AGREED).value
    return made


def parsed_day(field: str, text: str) -> datetime.date:
    """Return a day.

    Raises:
        Refused: ARGUMENT_INVALID: it is not written YYYY-MM-DD, or there is no such day.
    """
    try:
        if _DAY.fullmatch(text):
            return datetime.date.fromisoformat(text)
    except ValueError:
        pass
    raise invalid_argument(field, "date", "a date is written YYYY-MM-DD")

"""What tests of answers do to a running gateway: events, and a disk that takes its time."""

import contextlib
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from lanjie_gateway.adapters.ledger import Ledger
from lanjie_gateway.domain.access import Role
from lanjie_gateway.domain.event_detail import ObjectionOutcome
from lanjie_gateway.domain.events import BURDENS, EventKind
from lanjie_gateway.services.event_facts import EventFacts
from tests.support.gateway import RunningGateway, person

AUTHORITY = person("authority", Role.AUTHORITY)
_numbers = itertools.count(1)


def row(subject: str, list_type: str, **facts: str) -> dict[str, str]:
    """Return a row about a company that was listed in January 2026."""
    kind, _, number = subject.partition(":")
    return {
        "id_kind": kind,
        "id_number": number,
        "list_type": list_type,
        "decision_no": f"测试〔2026〕{number[-6:]}号",
        "authority": "测试机关",
        "reason": "测试事由",
        "basis": "测试依据",
        "decision_date": "2026-01-05",
        "served_date": "2026-01-06",
        "listed_on": "2026-01-06",
        "removal_conditions": "履行义务后申请移出",
        "remedies": "六十日内申请行政复议，六个月内提起行政诉讼",
        "source": "test",
        **facts,
    }


def act(gateway: RunningGateway, listing_id: str, kind: EventKind, effective_date: str = "", until: str = "") -> int:
    """Record an event as an authority does, or two of its persons; return the revision, when that was acknowledged."""
    control, document = gateway.inner.control, f"测试〔2026〕{next(_numbers)}号"
    if kind in BURDENS:
        order = control.listings.act(kind, ("测试事由", document, effective_date), AUTHORITY)
        waits = gateway.run(control.waiting.propose(listing_id, order, {}, AUTHORITY))
        return gateway.run(control.waiting.confirm(waits.id, person("reviewer", Role.AUTHORITY))).revision
    grounds: dict[str, Any] = {"reason": "测试事由", "document": document, "effective_date": effective_date}
    if kind is EventKind.REMOVED:
        recorded = control.listings.remove(listing_id, **grounds, principal=AUTHORITY)
    else:
        facts = EventFacts(until_date=until)
        if kind is EventKind.OBJECTION_CLOSED:
            facts = EventFacts(objection_outcome=ObjectionOutcome.UNFOUNDED, reply="测试答复")
        recorded = control.listings.record_event(listing_id, kind, **grounds, principal=AUTHORITY, facts=facts)
    return gateway.run(recorded)[0]


def records(gateway: RunningGateway) -> dict[str, dict[str, Any]]:
    """Return the inquiry records by id."""
    gateway.run(gateway.inner.control.inquiries.load())
    rows = gateway.run(gateway.inner.control.ledger.call(Ledger.inquiries, 10_000, 0))
    return {row.decision_id: json.loads(row.record) for row in rows}


@contextlib.contextmanager
def held_disk(gateway: RunningGateway) -> Iterator[Callable[[], None]]:
    """Until the end of the block no record reaches the disk; gives what waits until one more is on its way."""
    writer, released = gateway.inner.worker.records, threading.Event()
    to_disk, written = writer._sync, writer._sequence

    def sync() -> None:
        assert released.wait(30)
        to_disk()

    def one_waits() -> None:
        deadline = time.monotonic() + 20
        while writer._sequence == written:
            assert time.monotonic() < deadline, "nobody asked"
            time.sleep(0.002)

    writer._sync = sync  # type: ignore[method-assign]
    try:
        yield one_waits
    finally:
        released.set()
        writer._sync = to_disk  # type: ignore[method-assign]

"""What departments asked about natural persons, as both databases keep it."""

import dataclasses
import datetime
from pathlib import Path

from lanjie_gateway.adapters.ledger import InquiryRow, LimitDay
from lanjie_gateway.domain import packed
from lanjie_gateway.domain.records import digest, instant, leaf, row_fields
from tests.support.ledger import NOON, open_ledger

DAY = LimitDay(
    department="tax",
    day=739_000,
    off_hours=2,
    hours=[0, 5, *[0] * 22],
    trips=[{"level": "ALARM"}],
    lifted_by="",
    rate=0.02,
)


def test_a_day_is_kept_together_with_what_another_host_keeps(tmp_path: Path, ledger_url: str) -> None:
    ledger = open_ledger(tmp_path, url=ledger_url)
    ledger.keep_limit_days([DAY])
    fewer = dataclasses.replace(
        DAY, off_hours=1, hours=[1] * 4 + [0] * 20, trips=[{"level": "STOP"}], lifted_by="a/b", rate=0.5
    )
    ledger.keep_limit_days([fewer])
    (kept,) = ledger.limit_days()
    assert (kept.off_hours, sum(kept.hours), kept.lifted_by, kept.rate) == (2, 5, "a/b", 0.02)
    assert list(kept.trips) == [{"level": "ALARM"}, {"level": "STOP"}]
    ledger.keep_limit_days([DAY])
    assert ledger.limits_lifted_by("tax", DAY.day) == "a/b"
    assert ledger.limits_lifted_by("court", DAY.day) == ""
    assert len(ledger.limit_days()[0].trips) == 2
    later = dataclasses.replace(DAY, day=DAY.day + 100)
    ledger.keep_limit_days([later])
    assert [each.day for each in ledger.limit_days()] == [later.day]
    ledger.close()


def test_the_answers_of_a_day_are_found_behind_uploads_and_late_segments(tmp_path: Path, ledger_url: str) -> None:
    ledger = open_ledger(tmp_path, url=ledger_url)

    def row(number: int, kind: str, at: datetime.datetime) -> InquiryRow:
        fields = {"id": f"{kind}-{number}", "kind": kind, "at": instant(at), "department": "tax", "outcome": "PASS"}
        record = leaf(fields)
        return InquiryRow(**row_fields(record), record=record, digest=digest(record))

    hour = datetime.timedelta(hours=1)
    days = [row(number, "gateway", NOON - 30 * hour + number * hour) for number in range(31)]
    ledger.add_inquiries("a", 1, days[:20])
    ledger.add_inquiries("b", 1, [row(number, "local", NOON - 48 * hour) for number in range(7)])
    ledger.add_inquiries("c", 1, days[20:])
    since = packed.micros(NOON - 12 * hour)
    found: list[bytes] = []
    before: int | None = None
    pages = 0
    while True:
        records, before = ledger.answered_since(since, before, 4)
        found += records
        pages += 1
        if before is None:
            break
    assert sorted(found) == sorted(each.record for each in days if packed.micros(each.decided_at) >= since)
    assert pages == 5
    ledger.close()

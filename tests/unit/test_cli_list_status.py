"""What `lanjie status` shows of the lists: every source, and in words what is wrong."""

import datetime
import io
import json

from rich.console import Console

from lanjie.v1 import ledger_pb2 as pb
from lanjie_gateway.cli import list_status


def source(name, **facts):
    made = pb.SourceStatus(
        **({"list_type": "WAGE", "source": name, "vouched_date": "2026-03-01", "max_age_days": 3} | facts)
    )
    if made.vouched_date:
        made.delivered_time.FromDatetime(datetime.datetime(2026, 3, 1, 1, tzinfo=datetime.UTC))
    return made


def status(*sources, **facts):
    return pb.GetListStatusResponse(revision=9, today_date="2026-03-09", sources=sources, **facts)


def shown(told):
    stream = io.StringIO()
    Console(file=stream, width=140, markup=False).print(list_status.lists_view(told))
    return stream.getvalue()


def test_all_is_well():
    told = status(source("人社", age_days=3, live_listings=1_234))
    assert list_status.troubles(told) == []
    text = shown(told)
    for part in ("人社", "1,234", "2026-03-01", "3 d", "2026-03-01 09:00:00 +08:00"):
        assert part in text
    assert shown(status()) == "No source has delivered yet.\n"


def test_what_is_wrong_is_said_in_words():
    told = status(
        source("a", age_days=8, overdue=True),
        source("by hand", vouched_date="", live_listings=2),
        undelivered=[
            pb.UndeliveredListType(list_type="TAX", max_age_days=7),
            pb.UndeliveredListType(list_type="DUTY"),
        ],
        waiting=2,
        duties=[
            pb.DutyCount(rule="objection-reply", bound="the provider", open=3, overdue=1),
            pb.DutyCount(rule="contested", bound="who acted", open=1),
            pb.DutyCount(rule="repair-decision", bound="the department", open=2),
        ],
        missing_year=2027,
        feedback_alarms={"refused-without-interception": 2, "applied-on-advice": 0},
    )
    told.oldest_waiting_time.FromDatetime(datetime.datetime(2026, 3, 8, 16, tzinfo=datetime.UTC))
    old = (
        "a has vouched for WAGE up to 2026-03-01 only, 8 days ago; 3 days allowed: new listings may be missing, "
        "answers say verify-at-source"
    )
    waits = "2 imports and acts wait for a second person, the oldest since 2026-03-09 00:00:00 +08:00: "
    assert list_status.troubles(told) == [
        old,
        "no delivery is known for TAX, which must be kept fresh: listings may be missing",
        "no delivery is known for DUTY",
        waits + "`lanjie list waiting`",
        "objection-reply: 1 of 3 overdue: the provider; `lanjie duties --overdue`",
        "1 acts are contested by a second person: who acted",
        "the working days of 2027 are not published here: last days beyond are provisional; `lanjie calendar publish`",
        "2 reports since the start: a case was refused where the answer did not intercept; ask the department",
    ]
    for part in ("objection-reply", "repair-decision"):
        assert part in shown(told)
    assert "not known" in shown(told)


def test_the_same_as_json():
    values = list_status.lists_dict(status(source("a", age_days=8, overdue=True), waiting=0))
    assert values["sources"][0]["overdue"] is True
    assert values["oldest_waiting_time"] is None
    assert len(values["troubles"]) == 1
    assert json.loads(json.dumps(values)) == values

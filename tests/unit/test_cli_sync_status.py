"""What `lanjie status` shows of the sync: the worst first, and in words what is wrong."""

import datetime
import io
import json

import pytest
from rich.console import Console

from lanjie.v1 import ledger_pb2 as pb
from lanjie_gateway.cli import sync_status

NOW = datetime.datetime(2026, 3, 2, 1, 30, tzinfo=datetime.UTC)


def sdk(letter, *, heard=3.0, **facts):
    made = pb.SdkStatus(**({"sdk_id": letter * 32, "department": "local", "connected": True, "revision": 7} | facts))
    made.last_contact_time.FromDatetime(NOW - datetime.timedelta(seconds=heard))
    return made


def status(*sdks, **counts):
    return pb.GetSyncStatusResponse(
        revision=1_234, epoch=2, generation=3, count=56, journal_from_revision=9, sdks=sdks, counts=counts
    )


def shown(told, width=100):
    stream = io.StringIO()
    Console(file=stream, width=width, markup=False, highlight=False, emoji=False).print(
        sync_status.sync_view(told, NOW)
    )
    return stream.getvalue()


WELL = sdk("a")
BEHIND = sdk("b", lag_revisions=3, lag_seconds=61.0)
SILENT = sdk("c", connected=False, heard=5_000, lag_revisions=2, lag_seconds=80_000.0, department="南京市测试中心")
GONE = sdk("d", connected=False, heard=90_000)
REFUSING = sdk("e", last_refusal="root")


def test_the_worst_stand_first():
    order = sync_status.worst_first([WELL, BEHIND, SILENT, GONE, REFUSING], NOW)
    assert [each.sdk_id[0] for each in order] == ["e", "c", "d", "b", "a"]


@pytest.mark.parametrize(
    ("sdks", "lines"),
    [
        ([], []),
        ([WELL], []),
        ([sdk("f", heard=45)], []),
        ([sdk("f", heard=-5)], []),
        ([REFUSING], ["1 SDK refuses updates: root"]),
        (
            [REFUSING, REFUSING, sdk("f", last_refusal="expired")],
            ["3 SDKs refuse updates: root (2), expired"],
        ),
        ([SILENT], ["1 SDK has not been heard of for more than 45 s: stopped, or cut off"]),
        ([SILENT, GONE], ["2 SDKs have not been heard of for more than 45 s: stopped, or cut off"]),
        ([BEHIND], ["1 SDK has not got a commit that is older than 45 s"]),
    ],
)
def test_what_is_wrong_is_said_in_words(sdks, lines):
    assert sync_status.troubles(status(*sdks), NOW) == lines


@pytest.mark.parametrize("width", [80, 100])
def test_a_person_sees_the_view_and_each_sdk_on_one_line(width):
    text = shown(status(WELL, BEHIND, SILENT, GONE, REFUSING, heartbeat=4_000, delta=2, **{"refused-root": 1}), width)
    assert all(len(line) <= width for line in text.splitlines())
    for part in (
        "revision 1,234",
        "epoch 2",
        "generation 3",
        "4,000 heartbeat",
        "2 delta",
        "1 root",
        "from revision 9",
    ):
        assert part in text
    assert "4 connected" not in text
    assert "3 connected of 5 known" in text
    if width == 100:
        rows = [line.split() for line in text.splitlines() if line.strip()[:12] in {"a" * 12, "b" * 12, "c" * 12}]
        assert rows[0] == ["c" * 12, "南京市测试中心", "no", "7", "2", "22", "h", "1", "h", "ago"]
        assert rows[1] == ["b" * 12, "local", "yes", "7", "3", "1", "min", "3", "s", "ago"]
        assert rows[2] == ["a" * 12, "local", "yes", "7", "-", "-", "3", "s", "ago"]


def test_of_many_only_the_worst_are_shown():
    text = shown(status(*[sdk("a") for _ in range(50)], REFUSING))
    assert text.count("a" * 12) == 19
    assert "the worst 20 of 51; --json gives all" in text


def test_no_sdk_yet():
    assert "No SDK has come yet" in shown(status())


def test_a_program_is_told_everything():
    told = status(*[sdk("a") for _ in range(50)], REFUSING, delta=2)
    values = json.loads(json.dumps(sync_status.sync_dict(told, NOW)))
    assert values["counts"] == {"delta": 2}
    assert len(values["sdks"]) == 51
    assert values["sdks"][0]["sdk_id"] == "e" * 32
    assert values["troubles"] == ["1 SDK refuses updates: root"]

"""List files through the import service, with the real parser process and a real ledger."""

import asyncio
import contextlib
import datetime
import hashlib
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from lanjie_gateway.adapters.ledger import Ledger
from lanjie_gateway.domain.access import Role
from lanjie_gateway.domain.errors import GatewayError, Refused
from lanjie_gateway.domain.events import EventKind
from lanjie_gateway.domain.import_rules import Counts, FileFormat, ImportHeader, ImportMode, ImportState
from tests.support.catalogues import catalogues, edition, list_type
from tests.support.core import citizen, uscc
from tests.support.ledger import COLUMNS, cells, chunks, csv_file, desk, jsonl_file, person

MANY = 200


def many(count=MANY, **changes):
    return [cells(number, **changes) for number in range(count)]


async def test_a_file_is_taken_whole(tmp_path):
    async with desk(tmp_path) as at:
        receipt = await at.take(csv_file([*many(), cells(999, id_number="9132****")]))
        assert receipt.state is ImportState.COMMITTED
        assert receipt.counts == Counts(rows=MANY + 1, added=MANY, quarantined=1)
        assert [(row.line, row.column, row.rule) for row in receipt.quarantine] == [(MANY + 2, "id_number", "masked")]
        assert at.published == [receipt.revision] == [1]
        (view,) = await at.find(7)
        assert view.masked_identifiers == (f"uscc:{uscc(7)[:4]}**********{uscc(7)[-4:]}",)
        assert view.name == "示例企业7号"
        assert (view.not_in_force, view.revision) == ("", 1)


async def test_a_retry_returns_the_first_receipt(tmp_path):
    async with desk(tmp_path) as at:
        file = csv_file(many())
        first = await at.take(file)
        orders: list[dict[str, Any]] = [{}, {"sha256": hashlib.sha256(file).digest(), "file_name": "again.csv"}]
        for order in orders:
            again = await at.take(file, **order)
            assert again.repeated
            assert (again.receipt_id, again.file_name, again.revision) == (first.receipt_id, "list.csv", 1)
        assert at.published == [1]
        other = await at.take(file, source="another")
        assert not other.repeated
        assert other.receipt_id != first.receipt_id


async def test_a_source_is_the_same_with_a_blank_about_it(tmp_path):
    async with desk(tmp_path) as at:
        rows = [cells(n, source_record_id=str(n)) for n in range(10)]
        await at.take(csv_file([{**row, "source": " tax"} for row in rows]))
        again = await at.full(csv_file(rows), source="tax ")
        assert again.counts == Counts(rows=10, unchanged=10)
        with pytest.raises(Refused) as error:
            await at.full(csv_file(rows), source=" ")
        assert error.value.metadata["rule"] == "required"


async def test_jsonl_says_what_csv_says(tmp_path):
    async with desk(tmp_path) as at:
        rows: list[dict[str, Any]] = [
            cells(1, other_ids=["registration_no:320100000000001"], related_persons=["某甲", "某乙"]),
            {"id_kind": "uscc", "id_number": uscc(2), "list_type": "TAX", "decision_no": None, "source_version": 3},
            {"id_kind": "uscc", "id_number": 1.5},
        ]
        twice = f'{{"id_kind": "uscc", "id_number": "{uscc(3)}", "id_number": "{uscc(4)}", "list_type": "TAX"}}\n'
        file = jsonl_file(rows) + b"[]\n\n" + twice.encode()
        receipt = await at.take(file, format=FileFormat.JSONL, file_name="list.jsonl")
        assert receipt.state is ImportState.WAITING
        assert [(row.line, row.column, row.rule) for row in receipt.quarantine] == [
            (3, "id_number", "type"),
            (4, "", "json"),
            (6, "", "json"),
        ]
        receipt = await at.imports.confirm(receipt.receipt_id, person("bert"))
        assert receipt.counts.added == 2
        (view,) = await at.find(1)
        assert view.related_persons == 2


async def test_corrections_and_removals(tmp_path):
    async with desk(tmp_path) as at:
        await at.take(csv_file(many()))
        receipt = await at.take(csv_file([cells(1, reason="corrected"), cells(2, op="D"), cells(3)]))
        assert receipt.counts == Counts(rows=3, amended=1, removed=1, unchanged=1)
        (view,) = await at.find(2)
        assert view.not_in_force == "removed"
        _, told = await at.listings.get(view.listing.id, "audit", person("anna"))
        assert [event.kind for event in told] == [EventKind.LISTED, EventKind.REMOVED]
        assert told[-1].document == "file list.csv"
        receipt = await at.take(csv_file([cells(n, op="D") for n in range(3, MANY)]))
        assert (receipt.state, receipt.counts.removed) == (ImportState.COMMITTED, MANY - 3)


async def test_a_large_change_waits_for_another_person(tmp_path):
    async with desk(tmp_path) as at:
        await at.take(csv_file(many()))
        file = csv_file(many(5, reason="corrected"))
        receipt = await at.take(file)
        assert (receipt.state, receipt.revision) == (ImportState.WAITING, 0)
        assert "5 of 200" in receipt.reasons[0]
        assert (await at.take(file)).repeated
        assert (await at.find(1))[0].listing.reason == ""
        with pytest.raises(Refused) as error:
            await at.imports.confirm(receipt.receipt_id, person("anna"))
        assert error.value.reason == "SECOND_PERSON_REQUIRED"
        with pytest.raises(Refused) as error:
            await at.imports.confirm("nothing", person("bert"))
        assert error.value.reason == "NOT_FOUND"
        done = await at.imports.confirm(receipt.receipt_id, person("bert"))
        assert (done.state, done.revision) == (ImportState.COMMITTED, 2)
        assert await at.imports.confirm(receipt.receipt_id, person("bert")) == done
        assert (await at.find(1))[0].listing.reason == "corrected"
        assert at.published == [1, 2]


async def test_a_file_that_takes_listings_to_another_list_type_alters_both(tmp_path):
    known = catalogues(edition(list_types=(list_type("TAX"), list_type("WAGE"))))
    async with desk(tmp_path, known) as at:
        small = [cells(n, source_record_id=str(n)) for n in range(20)]
        large = [cells(n, source_record_id=str(n), list_type="WAGE") for n in range(1_000, 2_000)]
        await at.take(csv_file([*small, *large]))
        receipt = await at.take(csv_file([{**row, "list_type": "WAGE"} for row in small[:9]]))
        assert (receipt.state, receipt.counts.amended) == (ImportState.WAITING, 9)
        assert [reason.partition(" live")[0] for reason in receipt.reasons] == ["It alters or ends 9 of 20"]


async def test_a_waiting_file_that_was_overtaken_is_outdated(tmp_path):
    async with desk(tmp_path) as at:
        bad = [cells(300 + n, id_number="*" * 18) for n in range(5)]
        file = csv_file([cells(1), *bad])
        waiting = await at.take(file)
        assert waiting.state is ImportState.WAITING
        await at.take(csv_file([cells(1)]))
        with pytest.raises(Refused) as error:
            await at.imports.confirm(waiting.receipt_id, person("bert"))
        assert error.value.reason == "IMPORT_OUTDATED"
        again = await at.take(file)
        assert not again.repeated
        assert again.receipt_id != waiting.receipt_id
        assert again.counts.unchanged == 1


async def test_a_list_type_under_a_new_code_is_the_same_list_type(tmp_path):
    first = edition(revision=1)
    async with desk(tmp_path, catalogues(first)) as at:
        await at.take(csv_file(many()))
        renamed = list_type("TAXES", aliases=("TAX",))
        at.known = catalogues(first, edition(edition="2027", revision=2, list_types=(renamed,)))
        removed = await at.take(csv_file([cells(1, op="D"), cells(2, op="D", list_type="TAXES")]))
        assert removed.counts == Counts(rows=2, removed=2)
        changed = await at.take(csv_file(many(MANY)[3:]), list_type="TAXES")
        assert (changed.state, changed.counts.added) == (ImportState.WAITING, 0)
        changed = await at.imports.confirm(changed.receipt_id, person("bert"))
        assert changed.counts.amended == MANY - 3
        assert [view.listing.list_type for view in await at.find(3)] == ["TAXES"]
        gone = await at.full(csv_file(many(MANY)[3:]), list_type="TAXES")
        assert gone.counts.absent == 1
        await at.imports.confirm(gone.receipt_id, person("bert"))
        assert [view.not_in_force for view in await at.find(0)] == ["removed"]


async def test_a_complete_list_that_comes_late_brings_back_nothing_that_was_corrected_since(tmp_path):
    async with desk(tmp_path) as at:

        def rows(second, **changes):
            return [cells(second if n == 1 else n, source_record_id=str(n), **changes) for n in range(MANY)]

        async def listed():
            return [len(await at.find(n)) for n in (1, 301, 302, 303)]

        monday = at.clock.now
        await at.take(csv_file(rows(1)))
        at.clock.pass_by(days=2)
        await at.take(csv_file(rows(301)))
        # The list is from before the correction: company 1 was listed by mistake.
        late = await at.full(csv_file(rows(1)), as_of=monday + datetime.timedelta(days=1))
        assert [(row.line, row.rule) for row in late.quarantine] == [(3, "stale-version")]
        assert (late.state, late.counts.absent, await listed()) == (ImportState.WAITING, 0, [0, 1, 0, 0])
        newer = await at.full(csv_file(rows(302)), as_of=at.clock.now)
        assert (newer.counts.amended, await listed()) == (1, [0, 0, 1, 0])
        # Lists of several days that come on one day, in their order, and out of it.
        at.clock.pass_by(days=9)
        await at.full(csv_file(rows(301)), as_of=at.clock.now - datetime.timedelta(days=5))
        await at.full(csv_file(rows(303)), as_of=at.clock.now - datetime.timedelta(days=3))
        assert await listed() == [0, 0, 0, 1]
        late = await at.full(csv_file(rows(302)), as_of=at.clock.now - datetime.timedelta(days=4))
        assert (late.counts.quarantined, await listed()) == (1, [0, 0, 0, 1])


async def test_a_complete_list_ends_what_it_no_longer_holds(tmp_path):
    async with desk(tmp_path) as at:
        await at.take(csv_file([*many(), cells(900, source="another")]))
        receipt = await at.full(csv_file(many(MANY - 2)))
        assert receipt.state is ImportState.COMMITTED
        assert receipt.counts == Counts(rows=MANY - 2, absent=2, unchanged=MANY - 2)
        assert [(await at.find(n))[0].not_in_force for n in (0, MANY - 1, 900)] == ["", "removed", ""]
        shrunk = await at.full(csv_file(many(100)))
        assert (shrunk.state, shrunk.counts.absent) == (ImportState.WAITING, 98)
        empty = await at.full(csv_file([]))
        assert (empty.state, empty.counts.absent) == (ImportState.WAITING, MANY - 2)


async def test_a_complete_list_with_a_bad_row_waits(tmp_path):
    async with desk(tmp_path) as at:
        await at.take(csv_file(many()))
        receipt = await at.full(csv_file([*many(MANY - 1), cells(MANY - 1, region="x")], (*COLUMNS, "region")))
        assert receipt.state is ImportState.WAITING
        assert "complete list" in receipt.reasons[0]


async def test_a_complete_list_does_not_resurrect(tmp_path):
    async with desk(tmp_path) as at:
        await at.take(csv_file(many()))
        (view,) = await at.find(0)
        await at.listings.remove(view.listing.id, "paid up", "No. 9", "", person("anna"))
        receipt = await at.full(csv_file(many()))
        assert [row.rule for row in receipt.quarantine] == ["ended-not-resurrected"]
        assert (await at.find(0))[0].not_in_force == "removed"


async def test_a_removal_while_a_file_is_on_its_way_stands(tmp_path):
    async with desk(tmp_path) as at:
        await at.take(csv_file(many()))
        (view,) = await at.find(0)
        file = csv_file([cells(0, reason="corrected")])

        async def slowly():
            yield file
            await at.listings.remove(view.listing.id, "paid up", "No. 9", "", person("bert"))
            yield b""

        header = ImportHeader(file_name="late.csv", format=FileFormat.CSV, list_type="TAX", source="tax")
        receipt = await at.imports.run(header, slowly(), person("anna"))
        assert [row.rule for row in receipt.quarantine] == ["ended-not-resurrected"]
        assert (await at.find(0))[0].not_in_force == "removed"


async def test_a_dry_run_tells_and_commits_nothing(tmp_path):
    async with desk(tmp_path) as at:
        file = csv_file([*many(), cells(999, id_number="123")])
        receipt = await at.take(file, dry_run=True)
        assert (receipt.state, receipt.revision) == (ImportState.DRY_RUN, 0)
        assert receipt.counts == Counts(rows=MANY + 1, added=MANY, quarantined=1)
        assert [row.rule for row in receipt.quarantine] == ["identifier-length"]
        assert await at.find(1) == []
        assert at.published == []
        taken = await at.take(file)
        assert (taken.state, taken.revision, taken.repeated) == (ImportState.COMMITTED, 1, False)


async def test_a_strict_file_with_a_bad_row_is_refused(tmp_path):
    async with desk(tmp_path) as at:
        file = csv_file([*many(), cells(999, id_number="123")])
        receipt = await at.take(file, strict=True)
        assert receipt.state is ImportState.REFUSED
        assert receipt.counts.quarantined == 1
        assert receipt.quarantine
        assert await at.thread.call(Ledger.head) == 0


HEADER = b"id_kind,id_number,list_type\n"
ROW = f"uscc,{uscc(1)},TAX\n".encode()
BAD_FILES = [
    (b"", "empty", "0"),
    (HEADER, "no-rows", "0"),
    (HEADER + ROW + b"uscc,\xd6\xd0,TAX\n", "encoding", "3"),
    (HEADER + ROW + b"x" * 70_000, "line-too-long", "3"),
    (HEADER + b'uscc,"' + ROW * 5_000, "csv", "2"),
    (ROW * 2, "column-unknown", "1"),
    (b"id_kind,id_number,list_type,blood_type\n" + ROW, "column-prohibited", "1"),
    (b"id_kind,list_type\n" + ROW, "column-missing", "1"),
]


@pytest.mark.parametrize(("file", "rule", "line"), BAD_FILES, ids=[f"{rule}-{line}" for _, rule, line in BAD_FILES])
async def test_a_bad_file_is_refused_with_rule_and_line_and_loses_nothing(tmp_path, file, rule, line):
    async with desk(tmp_path) as at:
        with pytest.raises(Refused) as error:
            await at.take(file)
        assert error.value.reason == "FILE_REFUSED"
        assert error.value.metadata == {"rule": rule, "line": line}
        assert uscc(1) not in str(error.value)
        assert (await at.take(csv_file([cells(1)]))).revision == 1


async def test_an_endless_line_ends_early(tmp_path):
    taken = 0

    async def endless():
        nonlocal taken
        while taken < 100 << 20:
            taken += 1 << 16
            yield b"x" * (1 << 16)

    async with desk(tmp_path) as at:
        header = ImportHeader(file_name="endless.csv", format=FileFormat.CSV, list_type="TAX")
        with pytest.raises(Refused) as error:
            await at.imports.run(header, endless(), person("anna"))
        assert error.value.metadata["rule"] == "line-too-long"
    assert taken < 10 << 20


async def test_unknown_columns_and_byte_order_marks_in_real_files(tmp_path):
    async with desk(tmp_path) as at:
        file = b"\xef\xbb\xbf" + csv_file([cells(1)]).replace(b"\r\n", b"\n") + b"\n"
        receipt = await at.take(file)
        assert receipt.counts == Counts(rows=1, added=1)
        receipt = await at.take(HEADER + ROW + b"uscc,short\n")
        assert [row.rule for row in receipt.quarantine] == ["cells"]


async def test_a_file_must_be_the_announced_one(tmp_path):
    async with desk(tmp_path) as at:
        for order in ({"sha256": b"x" * 32}, {"size": 5}):
            with pytest.raises(Refused) as error:
                await at.take(csv_file([cells(1)]), **order)
            assert error.value.metadata["rule"] == "digest"
        assert await at.find(1) == []


async def test_orders_are_checked(tmp_path):
    async with desk(tmp_path) as at:
        file = csv_file([cells(1)])
        for order, reason in (
            ({"list_type": "NONE"}, "FILE_REFUSED"),
            ({"mode": ImportMode.FULL, "source": ""}, "ARGUMENT_INVALID"),
            ({"mode": ImportMode.FULL, "as_of": at.clock.now + datetime.timedelta(days=1)}, "ARGUMENT_INVALID"),
            ({"file_name": ""}, "ARGUMENT_INVALID"),
            ({"sha256": b"x"}, "ARGUMENT_INVALID"),
        ):
            with pytest.raises(Refused) as error:
                await at.take(file, **order)
            assert error.value.reason == reason
        header = ImportHeader(file_name="list.csv", format=FileFormat.CSV, list_type="TAX")
        with pytest.raises(Refused) as error:
            await at.imports.run(header, chunks(file), person("ina", Role.AGENCY))
        assert error.value.reason == "NOT_PERMITTED"


async def test_list_types_require_their_columns_and_have_aliases(tmp_path):
    known = catalogues(
        edition(list_types=(list_type(required_fields=("authority",), aliases=("TAX-OLD",)), list_type("WAGE")))
    )
    async with desk(tmp_path, known) as at:
        columns = (*COLUMNS, "authority")
        rows = [cells(1, list_type="TAX-OLD", authority="税务局"), *many(30, list_type="WAGE"), cells(3)]
        receipt = await at.take(csv_file(rows, columns), list_type="")
        assert [(row.column, row.rule) for row in receipt.quarantine] == [("authority", "required-field")]
        assert {view.listing.list_type for view in await at.find(1)} == {"TAX", "WAGE"}


async def test_a_broken_stream_leaves_nothing(tmp_path):
    async with desk(tmp_path) as at:
        file = csv_file(many(5_000))

        async def broken():
            yield file[:200_000]
            raise ConnectionResetError("gone")

        header = ImportHeader(file_name="list.csv", format=FileFormat.CSV, list_type="TAX", source="tax")
        with pytest.raises(ConnectionResetError):
            await at.imports.run(header, broken(), person("anna"))
        assert await at.find(1) == []
        assert (await at.take(file)).counts.added == 5_000


async def test_a_cancelled_import_ends_its_parser(tmp_path):
    async with desk(tmp_path) as at:
        begun = asyncio.Event()

        async def stuck():
            yield csv_file(many())
            begun.set()
            await asyncio.Event().wait()

        header = ImportHeader(file_name="list.csv", format=FileFormat.CSV, list_type="TAX", source="tax")
        task = asyncio.create_task(at.imports.run(header, stuck(), person("anna")))
        await begun.wait()
        children = parsers()
        assert len(children) == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert parsers() == []
        assert (await at.take(csv_file(many()))).revision == 1


async def test_a_commit_is_told_to_the_workers_even_if_the_caller_leaves(tmp_path):
    async with desk(tmp_path) as at:
        telling, told = asyncio.Event(), asyncio.Event()
        publish = at.imports._published

        async def slowly(revision):
            telling.set()
            await told.wait()
            await publish(revision)

        at.imports._published = slowly
        task = asyncio.create_task(at.take(csv_file(many())))
        await telling.wait()
        task.cancel()
        await asyncio.sleep(0.01)
        assert not task.done()
        told.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert at.published == [1]
        assert (await at.take(csv_file(many()))).repeated


async def test_a_killed_parser_is_an_error_and_leaves_nothing(tmp_path):
    async with desk(tmp_path) as at:

        async def killing():
            yield csv_file(many())
            for child in parsers():
                os.kill(child, signal.SIGKILL)
            await asyncio.sleep(0.1)
            yield csv_file(many())

        header = ImportHeader(file_name="list.csv", format=FileFormat.CSV, list_type="TAX", source="tax")
        with pytest.raises(GatewayError) as error:
            await at.imports.run(header, killing(), person("anna"))
        assert error.value.reason == "INTERNAL"
        assert (await at.take(csv_file(many()))).revision == 1


def parsers():
    """Process ids of our parser processes."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and "lanjie_gateway.adapters.list_parser" in (entry / "cmdline").read_text():
                found.append(int(entry.name))
    return found


async def test_events_need_grounds_and_a_day_that_has_come(tmp_path):
    async with desk(tmp_path) as at:
        await at.take(csv_file([cells(1)]))
        (view,) = await at.find(1)
        for reason, document, day, field in (
            ("", "No. 9", "", "reason"),
            ("paid", " ", "", "document"),
            ("paid", "No. 9", "2026-11-03", "effective_date"),
            ("paid", "No. 9", "2026-1-3", "effective_date"),
            ("paid", "No. 9", "2026-02-30", "effective_date"),
            # Its 00:00 in Shanghai is no instant in UTC: the listing could not be read any more.
            ("paid", "No. 9", "0001-01-01", "effective_date"),
        ):
            with pytest.raises(Refused) as error:
                await at.listings.remove(view.listing.id, reason, document, day, person("anna"))
            assert error.value.metadata["field"] == field
        revision, view = await at.listings.remove(view.listing.id, "paid", "No. 9", "2026-11-01", person("anna"))
        assert (revision, view.not_in_force) == (2, "removed")
        assert view.listing.removed_at == datetime.datetime(2026, 10, 31, 16, tzinfo=datetime.UTC)
        assert at.published == [1, 2]
        with pytest.raises(Refused) as error:
            await at.listings.remove(view.listing.id, "paid", "No. 9", "", person("anna"))
        assert error.value.reason == "TRANSITION_ILLEGAL"
        with pytest.raises(Refused) as error:
            await at.listings.remove("0" * 16, "paid", "No. 9", "", person("anna"))
        assert error.value.reason == "NOT_FOUND"


async def test_other_events_by_name(tmp_path):
    async with desk(tmp_path) as at:
        await at.take(csv_file([cells(1)]))
        (view,) = await at.find(1)
        grounds: dict[str, Any] = {"reason": "r", "document": "d", "effective_date": "", "principal": person("anna")}
        for kind, why in (
            (EventKind.OBJECTION_OPENED, ""),
            (EventKind.STAYED, "stayed"),
            (EventKind.STAY_LIFTED, ""),
            (EventKind.REPAIRED, "repaired"),
            (EventKind.REINSTATED, ""),
            (EventKind.ANNULLED, "annulled"),
        ):
            at.clock.pass_by(minutes=1)
            view = await at.record(view.listing.id, kind, **grounds)
            assert view.not_in_force == why
        # Annulled: what was objected to is gone.
        assert not view.listing.objection
        with pytest.raises(Refused) as error:
            await at.listings.record_event(view.listing.id, EventKind.LISTED, **grounds)
        assert error.value.reason == "ARGUMENT_INVALID"


async def test_reading_needs_role_and_purpose_and_masks_persons(tmp_path):
    async with desk(tmp_path) as at:
        await at.take(csv_file([cells(1, id_kind="citizen", id_number=citizen(1), name="某甲乙")]))
        text = f"citizen:{citizen(1)}"
        (view,) = await at.listings.find(text, "audit", person("anna"))
        assert view.name == "某**"
        assert citizen(1) not in repr(view)
        for identifier, purpose, who, reason in (
            (text, " ", person("anna"), "ARGUMENT_INVALID"),
            (text, "audit", person("ina", Role.INQUIRER), "NOT_PERMITTED"),
            ("citizen:1", "audit", person("anna"), "IDENTIFIER_INVALID"),
        ):
            with pytest.raises(Refused) as error:
                await at.listings.find(identifier, purpose, who)
            assert error.value.reason == reason

"""Years in the ledger, on both databases: the newest of a year counts, on every host, and no listing is touched."""

import asyncio
import datetime
from pathlib import Path
from typing import Any, Self

import pytest

from lanjie_gateway.adapters.ledger import LedgerThread
from lanjie_gateway.domain.access import Role
from lanjie_gateway.domain.catalogue_yaml import CatalogueRefused
from lanjie_gateway.domain.errors import Refused
from lanjie_gateway.domain.signing import Signed, SignedKind
from lanjie_gateway.services.calendar import CalendarService
from lanjie_gateway.services.catalogue import CatalogueService
from lanjie_gateway.services.follower import Follower
from lanjie_matcher.workdays import Due
from tests.support.ledger import Clock, cells, open_ledger, person, take
from tests.support.signing import KEY, signed, signed_year
from tests.support.years import BUNDLED, CALENDAR, INVENTED, INVENTED_TEXT

MANAGER = person("mara", Role.MANAGER)
BY = Signed(actor="tax/mara", key=KEY.public, value=b"a signature")
OTHER = INVENTED_TEXT.replace("# Invented", "# Invented anew").replace("2027-05-08", "2027-05-09").encode()
NATIONAL = (Path(__file__).parents[1] / "data" / "national.yaml").read_bytes()
CROSSING = datetime.date(2026, 12, 29)


def test_the_newest_file_of_a_year_counts_and_the_same_again_is_no_commit(tmp_path, ledger_url):
    ledger = open_ledger(tmp_path, url=ledger_url)
    take(ledger, cells(1))
    bucket = ledger.changed(1, 0, 100)
    files = [(INVENTED, "2027.yaml"), (INVENTED, "again.yaml"), (OTHER, "b.yaml"), (BUNDLED["2026.yaml"], "c.yaml")]
    years = [2027, 2027, 2027, 2026]
    done = [ledger.publish_year(year, "虚构", file, name, BY) for year, (file, name) in zip(years, files, strict=True)]
    assert done == [2, 2, 3, 4]
    # Back to the first: a correction that was none.
    assert ledger.publish_year(2027, "虚构", INVENTED, "2027.yaml", BY) == 5
    assert [(each.year, each.revision, each.file_name) for each in ledger.years()] == [
        (2027, 2, "2027.yaml"),
        (2027, 3, "b.yaml"),
        (2026, 4, "c.yaml"),
        (2027, 5, "2027.yaml"),
    ]
    assert [each.kind for each in ledger.commits_after(0, 10)] == ["listings"] + ["calendar"] * 4
    assert [ledger.changed(each, 0, 100) for each in (2, 3, 4, 5)] == [([], None)] * 4
    assert ledger.changed(1, 0, 100) == bucket
    ledger.close()


class Desk:
    """A ledger's thread and the calendar over it."""

    def __init__(self, state: Path, url: str, clock: Clock | None = None, *, allow_examples: bool = True) -> None:
        self.told: list[int] = []
        self.clock = clock or Clock()
        self.thread = LedgerThread(lambda: open_ledger(state, self.clock, url))
        self.service = CalendarService(self.thread, self._told, self.clock, allow_examples=allow_examples)

    async def _told(self, revision: int) -> None:
        self.told.append(revision)

    async def __aenter__(self) -> Self:
        await self.thread.start()
        await self.service.load_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.thread.close()


async def test_a_provisional_term_is_counted_anew_when_the_year_arrives(tmp_path, ledger_url):
    async with Desk(tmp_path, ledger_url) as desk:
        service = desk.service
        assert service.current() == CALENDAR
        assert service.due("revocation-notice", CROSSING) == Due(datetime.date(2027, 1, 6), provisional=True)
        record, warnings = await service.publish(INVENTED, "2027.yaml", MANAGER, dry_run=True)
        assert (record.stored, warnings, desk.told, service.current()) == (None, (), [], CALENDAR)
        record, _ = await service.publish(INVENTED, "2027.yaml", MANAGER, signature=signed_year(INVENTED))
        assert record.stored is not None
        assert (record.stored.revision, record.stored.actor, desk.told) == (1, "tax/mara", [1])
        assert service.due("revocation-notice", CROSSING) == Due(datetime.date(2027, 1, 6), provisional=False)
        assert (await service.publish(INVENTED, "2027.yaml", MANAGER, signature=signed_year(INVENTED)))[0] == record
    async with Desk(tmp_path, ledger_url) as desk:
        assert sorted(desk.service.current().years) == [2025, 2026, 2027]
        assert desk.service.newest == 1


async def test_a_year_of_the_ledger_prevails_over_the_bundled_one(tmp_path):
    worked = datetime.date(2026, 10, 10)
    corrected = BUNDLED["2026.yaml"].replace(b"2026-10-10", b"2026-10-11")
    async with Desk(tmp_path, "") as desk:
        assert desk.service.current().is_working_day(worked)
        await desk.service.publish(corrected, "2026.yaml", MANAGER, signature=signed_year(corrected))
        assert not desk.service.current().is_working_day(worked)


async def test_hosts_that_publish_at_once_make_one_commit_of_one_file(tmp_path, shared_url):
    async with Desk(tmp_path, shared_url) as one, Desk(tmp_path, shared_url) as two:
        both = await asyncio.gather(
            *(
                host.service.publish(INVENTED, "2027.yaml", MANAGER, signature=signed_year(INVENTED))
                for host in (one, two)
            )
        )
        assert [record.stored.revision for record, _ in both if record.stored] == [1, 1]
        await asyncio.gather(
            one.service.publish(OTHER, "a.yaml", MANAGER, signature=signed_year(OTHER)),
            two.service.publish(BUNDLED["2025.yaml"], "b.yaml", MANAGER, signature=signed_year(BUNDLED["2025.yaml"])),
        )
        await asyncio.gather(one.service.load_all(), two.service.load_all())
        assert one.service.current() == two.service.current()
        assert one.service.newest == two.service.newest == 3


async def test_a_year_of_another_host_is_not_missed_behind_a_catalogue_of_ones_own(tmp_path, shared_url):
    async with Desk(tmp_path, shared_url) as one, Desk(tmp_path, shared_url) as two:
        catalogues = CatalogueService(one.thread, one._told, one.clock, allow_examples=True)
        nobody: Any = None
        follower = Follower(
            *(one.thread, None),
            catalogues=catalogues,
            calendar=one.service,
            grants=nobody,
            views=nobody,
            hub=nobody,
            shared=nobody,
        )
        await two.service.publish(INVENTED, "2027.yaml", MANAGER, signature=signed_year(INVENTED))
        done = await catalogues.publish(NATIONAL, "national.yaml", MANAGER, signature=signed(NATIONAL))
        assert 2027 not in one.service.current().years
        await follower._follow_files(done.revision)
        assert 2027 in one.service.current().years


async def test_only_a_manager_publishes(tmp_path):
    async with Desk(tmp_path, "") as desk:
        for role in set(Role) - {Role.MANAGER}:
            with pytest.raises(Refused) as refused:
                await desk.service.publish(INVENTED, "2027.yaml", person("anna", role), signature=signed_year(INVENTED))
            assert refused.value.reason == "NOT_PERMITTED"
            assert len(await desk.service.get(0, person("anna", role))) == 2
        with pytest.raises(Refused) as unknown:
            await desk.service.get(2027, MANAGER)
        assert unknown.value.reason == "NOT_FOUND"


async def test_an_invented_year_needs_a_gateway_that_takes_examples(tmp_path):
    async with Desk(tmp_path, "", allow_examples=False) as desk:
        with pytest.raises(CatalogueRefused) as refused:
            await desk.service.publish(INVENTED, "2027.yaml", MANAGER, signature=signed_year(INVENTED))
        assert refused.value.metadata["rule"] == "example-refused"
        assert await desk.thread.call(lambda ledger: ledger.head()) == 0
    async with Desk(tmp_path, "") as desk:
        await desk.service.publish(INVENTED, "2027.yaml", MANAGER, signature=signed_year(INVENTED))
    with pytest.raises(CatalogueRefused):
        async with Desk(tmp_path, "", allow_examples=False):
            pass


async def test_the_next_year_is_due_sixty_days_before_the_newest_ends(tmp_path):
    async with Desk(tmp_path, "") as desk:
        for now, year in (
            ("2026-10-31T23:59:59+08:00", 0),
            ("2026-11-01T00:00:00+08:00", 2027),
            ("2027-01-10T00:00:00+08:00", 2027),
        ):
            desk.clock.now = datetime.datetime.fromisoformat(now)
            assert desk.service.due_year() == year


async def test_a_later_year_does_not_hide_that_one_before_it_is_missing(tmp_path):
    later = INVENTED.partition(b"working_days")[0].replace(b"2027", b"2028") + b"working_days: []\n"
    moved = {b"02-05": b"01-25", b"02-11": b"01-31", b"06-09": b"05-28", b"10-07}": b"10-08}"}
    for day, other in moved.items():
        later = later.replace(b"2028-" + day, b"2028-" + other)
    async with Desk(tmp_path, "") as desk:
        desk.clock.now = datetime.datetime.fromisoformat("2026-12-15T00:00:00+08:00")
        await desk.service.publish(later, "2028.yaml", MANAGER, signature=signed_year(later))
        assert desk.service.due_year() == 2027
        await desk.service.publish(INVENTED, "2027.yaml", MANAGER, signature=signed_year(INVENTED))
        assert desk.service.due_year() == 0


async def test_a_year_bears_the_signature_of_who_publishes_it(tmp_path: Path) -> None:
    async with Desk(tmp_path, "") as desk:
        for signature, rule in (
            (None, "signature-missing"),
            (signed_year(INVENTED + b" "), "signature-invalid"),
            # What was signed as a measure list is no signed year.
            (signed(INVENTED, kind=SignedKind.CATALOGUE), "signature-invalid"),
        ):
            with pytest.raises(CatalogueRefused) as refused:
                await desk.service.publish(INVENTED, "2027.yaml", MANAGER, signature=signature)
            assert [fault.rule for fault in refused.value.faults] == [rule]
        record, _ = await desk.service.publish(INVENTED, "2027.yaml", MANAGER, signature=signed_year(INVENTED))
        assert record.stored is not None
        assert record.stored.signed is not None
        assert record.stored.signed.signature == signed_year(INVENTED)

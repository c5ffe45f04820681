"""What every ledger keeps to: revisions without gaps, nothing seen before its commit, nothing readable at rest."""

import dataclasses
import datetime

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from lanjie_gateway.adapters.keys import KeysLostError, open_keys
from lanjie_gateway.adapters.ledger import InquiryRow, Ledger, LedgerError, migrations
from lanjie_gateway.adapters.ledger.database import NEWEST, migrate
from lanjie_gateway.adapters.ledger.tables import METADATA
from lanjie_gateway.domain.errors import Refused
from lanjie_gateway.domain.events import Act, EventKind
from lanjie_gateway.domain.import_rules import Counts, ImportState, QuarantinedRow
from lanjie_gateway.domain.packed import unpack_bucket
from lanjie_matcher.fingerprints import IndexKey, ViewKey
from lanjie_matcher.identifiers import parse
from lanjie_matcher.listings import ended_by_event
from tests.support.catalogues import edition
from tests.support.core import citizen, org_code, uscc
from tests.support.ledger import NOON, Clock, cells, open_ledger, receipt, stage, staged, take, to_second_schema


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def reopen(tmp_path, clock, ledger_url):
    """Opens the ledger of the test, as often as it is called; what the test leaves open is closed."""
    opened = []

    def one():
        opened.append(open_ledger(tmp_path, clock, ledger_url))
        return opened[-1]

    yield one
    for each in opened:
        each.close()


@pytest.fixture
def ledger(reopen):
    return reopen()


def find(ledger, text):
    return ledger.find(parse(text))


def company(number):
    return f"uscc:{uscc(number)}"


def everything(ledger):
    return [state for shard in ledger.shards(range(256)) for state in shard]


def remove(ledger, listing_id, kind=EventKind.REMOVED, at=None):
    return ledger.record(
        listing_id, Act(kind=kind, effective_at=at, actor="tax/bert", reason="paid up", document="No. 9")
    )


def bucket(ledger, text):
    return IndexKey(ledger.keys.index).token(parse(text).key)


def test_revisions_have_no_gaps_over_all_kinds_of_commits(ledger, clock):
    assert ledger.head() == 0
    assert take(ledger, cells(1), cells(2)).revision == 1
    assert ledger.publish_edition(edition(), b"a: 1", "a.yaml", "tax/mara", known=0) == 2
    clock.pass_by(minutes=1)
    assert remove(ledger, find(ledger, company(1))[0].id) == 3
    with pytest.raises(Refused):
        remove(ledger, find(ledger, company(1))[0].id)
    stage(ledger, cells(3))
    assert take(ledger, cells(4)).revision == 4
    infos = ledger.commits_after(0, 10)
    assert [info.revision for info in infos] == [1, 2, 3, 4]
    assert [info.kind for info in infos] == ["listings", "catalogue", "listings", "listings"]
    assert (infos[2].actor, infos[2].committed_at) == ("tax/bert", clock.now)
    assert [info.revision for info in ledger.commits_after(1, 2)] == [2, 3]
    assert ledger.head() == 4


def test_a_batch_is_invisible_until_its_commit(ledger):
    batch, done = stage(ledger, cells(1))
    assert done.added == {"TAX": 1}
    assert find(ledger, company(1)) == []
    assert everything(ledger) == []
    assert ledger.commits_after(0, 10) == []
    assert ledger.changed(1, 0, 10) == ([], None)
    assert ledger.get(f"{batch << 32 | 2:016x}") is None
    with pytest.raises(Refused):
        remove(ledger, f"{batch << 32 | 2:016x}")
    assert ledger.live_counts(["TAX"]) == {}
    ledger.commit_import(receipt(batch))
    assert len(find(ledger, company(1))) == 1
    assert ledger.live_counts(["TAX"]) == {"TAX": 1}


def test_a_restart_while_staging_leaves_nothing(reopen):
    ledger = reopen()
    take(ledger, cells(1))
    lineage = ledger.lineage
    stage(ledger, cells(2), cells(1, reason="corrected"))
    ledger.close()
    ledger = reopen()
    assert ledger.lineage == lineage
    assert ledger.head() == 1
    assert find(ledger, company(2)) == []
    with ledger._engine.begin() as connection:
        for table in ("staged_change", "staged_key", "seen"):
            assert connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar() == 0
        assert connection.exec_driver_sql("SELECT count(*) FROM listing").scalar() == 1
        assert connection.exec_driver_sql("SELECT count(*) FROM event").scalar() == 1
        assert connection.exec_driver_sql("SELECT count(*) FROM batch").scalar() == 1
    assert take(ledger, cells(2)).revision == 2


def test_a_removal_while_a_correction_is_staged_stands(ledger, clock):
    take(ledger, cells(1), cells(2))
    batch, done = stage(ledger, cells(1, reason="corrected"), cells(2, reason="corrected"))
    assert done.amended == {"TAX": 2}
    clock.pass_by(minutes=1)
    remove(ledger, find(ledger, company(1))[0].id)
    done = ledger.commit_import(receipt(batch, counts=Counts(rows=2, amended=2)))
    assert (done.counts.amended, done.counts.quarantined) == (1, 1)
    assert [(row.line, row.rule) for row in done.quarantine] == [(2, "ended-not-resurrected")]
    (stored,) = find(ledger, company(1))
    assert stored.packed.listing.removed_at == clock.now
    assert stored.packed.listing.reason == ""
    assert find(ledger, company(2))[0].packed.listing.reason == "corrected"


def test_an_objection_while_a_correction_is_staged_is_kept(ledger):
    take(ledger, cells(1))
    batch, _ = stage(ledger, cells(1, reason="corrected"))
    remove(ledger, find(ledger, company(1))[0].id, EventKind.OBJECTION_OPENED)
    ledger.commit_import(receipt(batch))
    listing = find(ledger, company(1))[0].packed.listing
    assert (listing.objection, listing.reason) == (True, "corrected")


def test_a_file_that_waited_too_long_is_outdated(ledger):
    take(ledger, cells(1))
    batch, _ = stage(ledger, cells(2), cells(1, reason="one"))
    waiting = ledger.park_import(receipt(batch))
    take(ledger, cells(2))
    with pytest.raises(Refused) as error:
        ledger.commit_import(waiting)
    assert error.value.reason == "IMPORT_OUTDATED"
    other, _ = stage(ledger, cells(1, reason="two"))
    waiting = ledger.park_import(receipt(other))
    take(ledger, cells(1, reason="three"))
    with pytest.raises(Refused, match="corrected"):
        ledger.commit_import(waiting)
    assert ledger.head() == 3


def test_a_waiting_file_survives_a_restart(reopen):
    ledger = reopen()
    batch, _ = stage(ledger, cells(1))
    ledger.park_import(receipt(batch))
    ledger.close()
    ledger = reopen()
    while ledger.purge():
        pass
    waiting = ledger.receipt(f"r{batch}")
    assert waiting is not None
    assert waiting.state is ImportState.WAITING
    assert ledger.commit_import(waiting, "tax/bert").revision == 1
    assert len(find(ledger, company(1))) == 1


def test_what_was_ended_is_never_resurrected(ledger):
    take(ledger, cells(1))
    remove(ledger, find(ledger, company(1))[0].id)
    _, done = stage(ledger, cells(1), cells(1, reason="again"))
    assert [row.rule for row in done.bad] == ["ended-not-resurrected", "duplicate-key"]
    take(ledger, cells(1, op="U", reason="again"))
    assert find(ledger, company(1))[0].packed.listing.removed_at is not None


def test_the_same_key_twice_in_a_file(ledger):
    take(ledger, cells(5))
    _, done = stage(
        ledger,
        cells(1),
        cells(1),
        cells(1, reason="other"),
        cells(5),
        cells(5, reason="other"),
        cells(6, op="D"),
    )
    assert [(row.line, row.rule) for row in done.bad] == [
        (4, "duplicate-key"),
        (6, "duplicate-key"),
        (7, "delete-unknown"),
    ]
    assert (done.added, done.unchanged) == ({"TAX": 1}, 2)


def test_keys_are_followed_over_chunks(ledger):
    take(ledger, cells(5))
    batch, _ = stage(ledger, cells(1), cells(5))
    rows = staged(ledger, batch, [cells(1, reason="x"), cells(5, reason="x"), cells(1)], first_line=10)
    done = ledger.stage(
        batch, rows, actor="tax/anna", received_at=NOON, document="file list.csv", generation=ledger.generation
    )
    assert [(row.line, row.rule) for row in done.bad] == [(10, "duplicate-key"), (11, "duplicate-key")]
    assert done.unchanged == 1


def test_a_correction_amends_and_moves_the_bucket(ledger):
    take(ledger, cells(1, source_record_id="7", source_version="1"))
    (before,) = find(ledger, company(1))
    take(ledger, cells(2, source_record_id="7", source_version="2", reason="corrected"))
    assert find(ledger, company(1)) == []
    (after,) = find(ledger, company(2))
    assert (after.id, after.packed.listing.reason, after.source_version) == (before.id, "corrected", "2")
    states, more = ledger.changed(2, 0, 10)
    assert more is None
    assert {state.bucket: (bool(state.value), state.listed) for state in states} == {
        bucket(ledger, company(1)): (False, False),
        bucket(ledger, company(2)): (True, True),
    }
    take(ledger, cells(1, source_record_id="7", source_version="3"))
    assert [stored.id for stored in find(ledger, company(1))] == [before.id]
    assert [event.kind for event in ledger.get(before.id)[1]] == ["listed", "amended", "amended"]


def test_buckets_tell_what_is_in_them(ledger):
    rows = [
        cells(1),
        cells(1, decision_no="another"),
        cells(2, id_kind="citizen", id_number=citizen(2)),
        cells(3, other_ids="registration_no:320100000000003"),
    ]
    take(ledger, *rows)
    whole = everything(ledger)
    assert [state.bucket for state in whole] == sorted(state.bucket for state in whole)
    by_bucket = {state.bucket: state for state in whole}
    assert len(by_bucket) == 4
    assert ledger.buckets([*by_bucket, bytes(16)]) == whole
    assert {state.revision for state in whole} == {1}
    view = ViewKey(ledger.keys.view, 40)
    both = by_bucket[bucket(ledger, company(1))]
    assert len(unpack_bucket(both.value)) == 2
    assert both.view_digest == view.digest64(parse(company(1)).key)
    assert both.listed
    one = by_bucket[bucket(ledger, f"citizen:{citizen(2)}")]
    assert one.view_digest is None
    assert len(find(ledger, "registration_no:320100000000003")) == 1
    assert len(find(ledger, f"org_code:{org_code(1)}")) == 2
    other_branch = uscc(1, "92320102")
    assert find(ledger, f"uscc:{other_branch}") == []


def test_each_company_of_a_listing_is_found_by_every_code_of_its_own(ledger):
    named = {"id_kind": "org_code", "id_number": org_code(1), "other_ids": f"uscc:{uscc(2)}; org_code:{org_code(3)}"}
    take(ledger, cells(1, **named))
    for number in (1, 2, 3):
        assert len(find(ledger, company(number))) == 1
        assert len(find(ledger, f"org_code:{org_code(number)}")) == 1
    assert find(ledger, f"uscc:{uscc(2, '92320102')}") == [], "the code that is known of it is another"
    assert find(ledger, company(4)) == []


def test_an_ended_listing_leaves_the_view_and_an_annulled_one_the_index(ledger):
    take(ledger, cells(1), cells(1, decision_no="another"), cells(2))
    first, second = find(ledger, company(1))
    remove(ledger, first.id)
    states, _ = ledger.changed(2, 0, 10)
    assert [(len(unpack_bucket(state.value)), state.listed) for state in states] == [(2, True)]
    remove(ledger, second.id)
    states, _ = ledger.changed(3, 0, 10)
    assert [(len(unpack_bucket(state.value)), state.listed) for state in states] == [(2, False)]
    remove(ledger, first.id, EventKind.ANNULLED)
    states, _ = ledger.changed(4, 0, 10)
    assert [len(unpack_bucket(state.value)) for state in states] == [1]
    remove(ledger, find(ledger, company(2))[0].id, EventKind.ANNULLED)
    states, _ = ledger.changed(5, 0, 10)
    assert [(state.value, state.listed) for state in states] == [(b"", False)]
    assert [state.revision for state in everything(ledger)] == [4]


def test_changes_come_in_pages(ledger):
    take(ledger, *(cells(number) for number in range(25)))
    seen: set[bytes] = set()
    cursor: int | None = 0
    while cursor is not None:
        states, cursor = ledger.changed(1, cursor, 10)
        assert len(states) <= 10
        seen.update(state.bucket for state in states)
    assert len(seen) == 25


def test_events_are_told_with_their_grounds(ledger, clock):
    take(ledger, cells(1))
    (stored,) = find(ledger, company(1))
    day = datetime.datetime(2026, 11, 1, 16, tzinfo=datetime.UTC)
    clock.pass_by(hours=1)
    remove(ledger, stored.id, EventKind.REPAIRED, day)
    _, told = ledger.get(stored.id)
    assert [event.kind for event in told] == [EventKind.LISTED, EventKind.REPAIRED]
    last = told[-1]
    assert (last.actor, last.reason, last.document) == ("tax/bert", "paid up", "No. 9")
    assert (last.effective_at, last.recorded_at, last.revision) == (day, clock.now, 2)
    assert ledger.get("x") is None
    assert ledger.get("0" * 16) is None


def test_a_complete_list_ends_what_is_absent(ledger, clock):
    take(ledger, cells(1), cells(2), cells(3, source="another"))
    clock.pass_by(minutes=5)
    take(ledger, cells(4))
    clock.pass_by(minutes=5)
    batch, _ = stage(ledger, cells(1))
    as_of = NOON + datetime.timedelta(minutes=3)
    gone = ledger.stage_absent(batch, "TAX", "tax", as_of=as_of, document="file full.csv", limit=10)
    assert gone == 1
    assert ledger.stage_absent(batch, "TAX", "tax", as_of=as_of, document="file full.csv", limit=10) == 0
    ledger.commit_import(receipt(batch))
    removed = [find(ledger, company(n))[0].packed.listing.removed_at for n in (1, 2, 3, 4)]
    assert removed == [None, as_of, None, None]


def test_a_complete_list_that_comes_late_does_not_end_what_was_corrected_since(ledger, clock):
    take(ledger, cells(1), cells(2), cells(3))
    as_of = clock.now + datetime.timedelta(minutes=2)
    clock.pass_by(minutes=1)
    take(ledger, cells(3, reason="corrected before"))
    clock.pass_by(minutes=2)
    take(ledger, cells(2, reason="corrected since"))
    late, _ = stage(ledger, cells(1))
    assert ledger.stage_absent(late, "TAX", "tax", as_of=as_of, document="file full.csv", limit=10) == 1
    ledger.commit_import(receipt(late))
    assert [ended_by_event(find(ledger, company(n))[0].packed.listing) for n in (1, 2, 3)] == [False, False, True]


def test_a_file_from_before_a_reinstatement_does_not_end_the_listing_again(ledger, clock):
    take(ledger, cells(1), cells(2), cells(3))
    as_of = clock.now + datetime.timedelta(minutes=2)
    clock.pass_by(minutes=1)
    remove(ledger, find(ledger, company(1))[0].id)
    waiting, _ = stage(ledger, cells(2, op="D"), cells(3, reason="corrected"))
    parked = ledger.park_import(receipt(waiting, counts=Counts(rows=2, amended=1, removed=1)))
    remove(ledger, find(ledger, company(2))[0].id)
    clock.pass_by(minutes=2)
    for number in (1, 2):
        remove(ledger, find(ledger, company(number))[0].id, EventKind.REINSTATED)
    # It was complete when company 1 was not listed, and it came late.
    late, _ = stage(ledger, cells(2), cells(3))
    assert ledger.stage_absent(late, "TAX", "tax", as_of=as_of, document="file full.csv", limit=10) == 0
    ledger.commit_import(receipt(late))
    done = ledger.commit_import(parked, "tax/bert")
    assert (done.counts.removed, done.counts.unchanged) == (0, 1)
    assert [ended_by_event(find(ledger, company(number))[0].packed.listing) for number in (1, 2)] == [False, False]
    # A complete list of now does end it.
    clock.pass_by(minutes=1)
    batch, _ = stage(ledger, cells(2), cells(3, reason="corrected"))
    assert ledger.stage_absent(batch, "TAX", "tax", as_of=clock.now, document="file full.csv", limit=10) == 1


def test_a_file_that_waited_does_not_bring_an_older_version_back(ledger):
    first, second = ({"source_record_id": "7", "source_version": version} for version in ("1", "2"))
    take(ledger, cells(1, source_record_id="7", reason="a"))
    batch, _ = stage(ledger, cells(1, **first, reason="b"))
    parked = ledger.park_import(receipt(batch))
    for changes in ({**second, "reason": "c"}, {"source_record_id": "7", "reason": "a"}):
        take(ledger, cells(1, **changes))
    with pytest.raises(Refused) as refused:
        ledger.commit_import(parked, "tax/bert")
    assert refused.value.reason == "IMPORT_OUTDATED"


def test_nothing_can_be_read_at_rest(reopen, tmp_path, ledger_url, request):
    ledger = reopen()
    take(
        ledger,
        cells(1, name="某某贸易有限公司", related_persons="某甲"),
        cells(2, id_kind="citizen", id_number=citizen(2), name="某乙"),
    )
    take(ledger, cells(1, name="某某贸易有限公司", reason="corrected"))
    assert find(ledger, company(1))[0].details.name == "某某贸易有限公司"
    ledger.close()
    if ledger.shared:
        files = request.getfixturevalue("postgres").files(ledger_url)
    else:
        files = list(tmp_path.glob("ledger*"))
        assert [file for file in files if file.stat().st_mode & 0o077] == []
    everything = [file.read_bytes() for file in files]
    assert any(b"corrected" in held for held in everything)
    secrets = [uscc(1), uscc(1)[8:17], citizen(2), "某某贸易有限公司", "某甲", "某乙"]
    assert [secret for secret in secrets if any(secret.encode() in held for held in everything)] == []


def test_other_keys_are_refused(reopen, tmp_path, ledger_url):
    reopen().close()
    with pytest.raises(LedgerError, match="keys"):
        Ledger.open(
            ledger_url, lambda generation, fresh: open_keys(tmp_path / "other", generation, fresh=True), Clock()
        )
    (tmp_path / "keys" / "index").unlink()
    with pytest.raises(KeysLostError, match="from the host that has it"):
        reopen()


def test_migrations_make_the_tables(ledger):
    with ledger._engine.begin() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, METADATA) == []
    assert ScriptDirectory(str(migrations.DIRECTORY)).get_current_head() == NEWEST


def test_a_ledger_of_the_second_schema_keeps_its_view_key(reopen, tmp_path, ledger_url):
    ledger = reopen()
    take(ledger, cells(1), cells(2), cells(3, id_kind="citizen", id_number=citizen(3)))
    digests = ledger.listed_digests()
    with ledger._engine.begin() as connection:
        to_second_schema(connection)
        connection.exec_driver_sql("UPDATE head SET epoch = 1700000000")
    ledger.close()
    (tmp_path / "keys" / "view-1").rename(tmp_path / "keys" / "view-1700000000")
    assert migrate(ledger_url) == ("0002", NEWEST)
    ledger = reopen()
    assert (ledger.epoch, ledger.generation, ledger.keys.view_key_id) == (1700000000, 1700000000, "view-1700000000")
    assert ledger.listed_digests() == digests
    assert len(digests) == 2
    assert take(ledger, cells(4)).revision == 2
    ledger.close()
    # The first start has noted what tells this key from others.
    (tmp_path / "keys" / "view-1700000000").write_bytes(bytes(32))
    with pytest.raises(KeysLostError, match="not the view key"):
        reopen()


def test_a_newer_schema_is_refused(reopen, ledger_url):
    ledger = reopen()
    with ledger._engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    ledger.close()
    with pytest.raises(LedgerError, match=r"run the newer one|not of this version"):
        reopen()
    with pytest.raises(LedgerError, match="version"):
        migrate(ledger_url)


def test_migrating_what_is_at_the_newest_schema_changes_nothing(reopen, ledger_url):
    take(reopen(), cells(1))
    at = NEWEST
    assert migrate(ledger_url) == (at, at)
    assert len(find(reopen(), company(1))) == 1


@pytest.mark.parametrize(
    "url", ["sqlite://", "mysql://host/db", "postgresql://host/db", "no address", "postgresql+psycopg://"]
)
def test_other_addresses_are_refused(url):
    with pytest.raises(LedgerError, match="postgresql"):
        Ledger.open(url, lambda epoch, fresh: pytest.fail("no keys"), Clock())


def test_an_edition_is_kept_as_it_was_handed_in(ledger):
    assert ledger.publish_edition(edition(), b"a: 1", "a.yaml", "tax/mara", known=0) == 1
    assert ledger.publish_edition(edition(), b"a: 1", "b.yaml", "tax/mara", known=0) == 1
    with pytest.raises(Refused) as error:
        ledger.publish_edition(edition(), b"a: 2", "a.yaml", "tax/mara", known=1)
    assert error.value.reason == "CATALOGUE_REFUSED"
    assert error.value.metadata["rule"] == "edition-published"
    (held,) = ledger.editions()
    assert (held.catalogue_id, held.edition, held.file, held.revision) == ("national", "2026", b"a: 1", 1)
    assert ledger.changed(1, 0, 10) == ([], None)
    # Judged without the one above.
    assert ledger.publish_edition(edition(edition="2027"), b"a: 3", "c.yaml", "tax/mara", known=0) is None
    assert ledger.head() == 1


def inquiry(sequence):
    return InquiryRow(
        sequence=sequence,
        decision_id=f"d{sequence}",
        decided_at=NOON,
        department="tax",
        matter="procurement.supplier",
        outcome="PASS",
        kind="gateway",
        subject_token=b"t" * 16,
        record=b"leaf",
        digest=b"d" * 32,
    )


def test_inquiries_and_position_move_together_and_only_once(ledger):
    assert ledger.inquiry_position("worker-0") == 0
    ledger.add_inquiries("worker-0", 100, [inquiry(1), inquiry(2)])
    ledger.add_inquiries("worker-0", 150, [inquiry(2), inquiry(3)])
    ledger.add_inquiries("sdk", 1, [inquiry(1)])
    ledger.add_inquiries("sdk", 2, [])
    assert (ledger.inquiry_position("worker-0"), ledger.inquiry_position("sdk")) == (150, 2)
    rows = ledger.inquiries(10)
    assert [row.sequence for row in rows] == [1, 2, 3, 1]
    assert rows[0] == inquiry(1)
    assert [row.sequence for row in ledger.inquiries(2, 2)] == [3, 1]


def test_texts_of_any_kind_are_kept(ledger):
    """What one database takes the other takes: lengths at their limits, characters outside the first plane, a NUL."""
    longest = "名" * 64
    take(ledger, cells(1, source=longest, source_version=longest, reason="𠮷" * 100, source_record_id="7"))
    (stored,) = find(ledger, company(1))
    assert stored.source_version == longest
    document = "苏人社 〔2026〕 '9\"; \\ %s %(x)s 𠮷"
    ledger.record(stored.id, Act(kind=EventKind.OBJECTION_OPENED, actor="a", reason=document, document=document))
    assert ledger.get(stored.id)[1][-1].document == document
    batch, _ = stage(ledger)
    ledger.quarantine(batch, [QuarantinedRow(2, longest * 2, "characters", document)])
    (kept,) = ledger.commit_import(receipt(batch, file_name="名" * 255)).quarantine
    assert (kept.column, kept.message) == (longest, document)
    ledger.add_inquiries("sdk", 1, [dataclasses.replace(inquiry(1), matter="a\0b", record=b"\0leaf")])
    (row,) = ledger.inquiries()
    assert (row.matter, row.record) == ("a\ufffdb", b"\0leaf")

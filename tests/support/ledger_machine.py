"""The machine that does whatever comes to its mind to a ledger and its model; `ledger_checks` compares the two."""

import contextlib
import dataclasses
import datetime
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from lanjie_gateway.adapters.keys import make_view_key
from lanjie_gateway.domain.errors import Refused
from lanjie_gateway.domain.events import Act, EventKind
from lanjie_gateway.domain.import_rules import FileFormat, ImportHeader, ImportMode, ImportState, Receipt, Tally
from lanjie_gateway.services.imports import _Work
from lanjie_gateway.services.pruning import _rule
from lanjie_matcher.catalogues import newly_ended
from lanjie_matcher.civil_time import day_of, start_of
from lanjie_matcher.fingerprints import ViewKey
from lanjie_matcher.listings import EndsWith
from tests.support.catalogues import edition, list_type
from tests.support.ledger import open_ledger, person
from tests.support.ledger_checks import Checked
from tests.support.ledger_model import DAY, KINDS, TICK, Entry, Outdated, Plan, Row
from tests.support.ledger_world import (
    BURDENS,
    FIRST,
    IDENTIFIERS,
    MIDNIGHTS,
    PEOPLE,
    PLACES,
    SPANS,
    TYPES,
    Imports,
    Inline,
    Order,
    World,
    acts,
    agos,
    empty_world,
    endings,
    few,
    files,
    named,
    no_bytes,
    nothing,
    parsed,
    people,
    picks,
    rows,
)


@dataclasses.dataclass
class Waiting:
    """A file that waits, as the model has it; `plan` is `None` once it waits no longer."""

    receipt: Receipt
    plan: Plan | None


class LedgerMachine(Checked):
    """What happens to a ledger, one rule each."""

    def __init__(self, made: World, state: Path | None = None) -> None:
        super().__init__(made, state)
        self.rotating = self.left = False
        self.waiting: list[Waiting] = []
        self.proposed: list[tuple[str, Entry, Act, object]] = []
        self.orders: list[tuple[ImportHeader, int, Receipt]] = []
        self.sent = 1_000 if state is None else 0
        self.imports = Imports(Inline(lambda: self.ledger), self.known, self.clock, nothing)  # type: ignore[arg-type]

    @rule(span=st.sampled_from((*SPANS, *MIDNIGHTS)))
    def pass_by(self, span: datetime.timedelta | int) -> None:
        """Time passes, or it is midnight, or one microsecond before."""
        now = self.clock.now
        midnight = start_of(day_of(now) + DAY)
        self.clock.now = now + span if isinstance(span, datetime.timedelta) else max(now, midnight - span * TICK)

    @rule(act=acts)
    def act_of(self, act: Order) -> None:
        """An event, legal or not."""
        self.act(act)

    @rule(pick=picks, span=st.sampled_from(SPANS[:3]))
    def overturn(self, pick: int, span: datetime.timedelta) -> None:
        """A removal that a document undoes after a while."""
        running = [each for each in self.model.entries.values() if not each.ended]
        for kind in (EventKind.REMOVED, EventKind.REINSTATED) if running else ():
            self._act(*self._order(running[pick % len(running)], kind, None))
            self.pass_by(span if kind is EventKind.REMOVED else datetime.timedelta(0))

    def act(self, order: Order) -> None:
        """An event, on a listing that takes it three times out of four."""
        self._act(*self._ordered(order))

    def _act(self, entry: Entry, act: Act) -> None:
        at = act.effective_at or self.clock.now
        expected = self.model.refusal(entry, act.kind, at, act.detail)
        refused = ""
        try:
            self.ledger.record(entry.id, act)
        except Refused as error:
            refused = error.reason
        assert refused == expected, f"{act.kind} of {entry}: {refused or 'recorded'}, not {expected or 'recorded'}"
        if not refused:
            self._happened(entry, act)

    def _ordered(self, order: Order) -> tuple[Entry, Act]:
        pick, kind, earlier, variant = order
        entries = list(self.model.entries.values())
        likely = [each for each in entries if not each.annulled and KINDS[kind].allowed(each, self.clock.now)]
        some = likely if likely and pick % 4 else entries
        return self._order(some[pick % len(some)], kind, earlier, variant)

    def _order(
        self, entry: Entry, kind: EventKind, earlier: datetime.timedelta | None, variant: int = 0
    ) -> tuple[Entry, Act]:
        at = None if earlier is None else start_of(day_of(self.clock.now)) - earlier
        if at is not None and entry.back is not None and at < entry.back and "stay" in kind.value:
            at = None  # of a stay in a time without effect nobody can say what it means
        outcome = ("unfounded", "corrected", "deleted")[variant]
        details: dict[EventKind, dict[str, Any]] = {
            EventKind.STAYED: {"until": str(day_of(at or self.clock.now) + variant * DAY)} if variant else {},
            EventKind.OBJECTION_CLOSED: {"outcome": outcome, "reply": "so it is"},
            EventKind.NOTICED: {"what": "altered", "instrument_date": "2026-10-30"},
            EventKind.REVIEWED: {"revision": entry.reviews[-1] if entry.reviews else 1, "verdict": "agreed"},
        }
        actor = "tax/carl" if kind is EventKind.REVIEWED else "tax/bert"
        detail = details.get(kind, {})
        return entry, Act(kind=kind, effective_at=at, actor=actor, reason="because", document="No. 9", detail=detail)

    def _happened(self, entry: Entry, act: Act) -> None:
        self.model.revision += 1
        today, own = day_of(self.clock.now), 0 if act.second else self.model.revision
        if act.kind is EventKind.REVIEWED:
            entry.reviews.pop()
        if act.kind is EventKind.AMENDED:
            entry.amended = self.clock.now
        entry.tell(act.kind, act.effective_at or self.clock.now, act.detail, by_hand=own, today=today)

    @rule(order=acts)
    def propose(self, order: Order) -> None:
        """What may put a burden on the subject waits for a second person, and does nothing until then."""
        entry, act = self._ordered((order[0], BURDENS[order[0] % len(BURDENS)], *order[2:]))
        expected, refused = self.model.refusal(entry, act.kind, act.effective_at or self.clock.now, act.detail), ""
        try:
            self.proposed.append((self.ledger.propose(entry.id, act, None).id, entry, act, entry.base(act.kind)))
        except Refused as error:
            refused = error.reason
        assert refused == expected

    @precondition(lambda self: self.proposed)
    @rule(pick=picks, who=st.sampled_from(("tax/bert", "tax/carl", "")))
    def settle(self, pick: int, who: str) -> None:
        """A second person confirms, the first one tries to, or it is declined."""
        place = pick % len(self.proposed)
        name, entry, act, base = self.proposed[place]
        if not who and not entry.erased:
            self.ledger.decline_proposal(name, "tax/bert", "no")
            del self.proposed[place]
            return
        expected = self.model.refusal(entry, act.kind, act.effective_at or self.clock.now, act.detail)
        if not expected and base != entry.base(act.kind):
            expected = "IMPORT_OUTDATED"
        refused = ""
        try:
            self.ledger.confirm_proposal(name, who)
        except Refused as error:
            refused = error.reason
        if who == act.actor:
            assert refused == "SECOND_PERSON_REQUIRED"
        elif entry.erased:
            assert refused == "IMPORT_OUTDATED"
        else:
            assert refused == expected
        if not refused:
            del self.proposed[place]
            self._happened(entry, dataclasses.replace(act, second=who))

    @precondition(lambda self: not self.rotating)
    @rule(file=files, meanwhile=few, who=people)
    def deliver_some(self, file: list[Row], meanwhile: list[Any], who: str) -> None:
        """A file of changes."""
        self.deliver(file, None, meanwhile, who)

    @precondition(lambda self: not self.rotating)
    @rule(pick=picks, who=people)
    def correct(self, pick: int, who: str) -> None:
        """The source of a listing that runs says something else of it."""
        said = [each.said for each in self.model.entries.values() if not each.ended]
        if said:
            row = said[pick % len(said)]
            reason = "y" if row["reason"] == "x" else "x"
            self.deliver([{**row, "op": "U", "source_version": "10", "reason": reason}], None, [], who)

    @precondition(lambda self: not self.rotating)
    @rule(
        file=st.lists(rows, max_size=2),
        place=st.tuples(st.sampled_from(PLACES), st.integers(0, 7)),
        ago=agos,
        meanwhile=few,
        who=people,
    )
    def deliver_all(self, file: list[Row], place: Any, ago: Any, meanwhile: list[Any], who: str) -> None:
        """A complete list, of now or of earlier."""
        self.deliver(file, (*place, ago), meanwhile, who)

    def deliver(self, file: list[Row], complete: Any, meanwhile: list[Order], who: str) -> None:
        """A list file is brought; events go on while it is read."""
        now = self.clock.now
        complete_of: tuple[str, str] | None = None
        as_of = now
        header: dict[str, Any] = {"file_name": "list.csv", "format": FileFormat.CSV, "source": who}
        if complete is not None:
            (code, source), kept, ago = complete
            as_of = now - (ago or datetime.timedelta(0))
            complete_of = (code, source)
            header |= {"mode": ImportMode.FULL, "list_type": code, "source": source, "as_of": as_of}
            file = [*self._most_of(code, source, kept), *file]
        plan = self.model.read(file, now, complete_of, None if complete is None else as_of)
        self.sent += 1
        order = ImportHeader(**header)
        refused, receipt = self._bring(order, self.sent, file, meanwhile, who)
        if complete_of is not None:
            self.model.end_absent(plan, *complete_of, as_of)
        if self.model.waits(plan, complete=complete_of is not None):
            assert receipt is not None, refused
            assert receipt.state is ImportState.WAITING, "a file that should wait did not"
            self.waiting.append(Waiting(receipt, plan))
        else:
            self._committed(plan, refused, receipt)
        if receipt is not None:
            assert {(row.line, row.rule) for row in receipt.quarantine} == plan.bad
            self.orders.append((order, self.sent, receipt))

    def _most_of(self, code: str, source: str, kept: int) -> list[Row]:
        """Rows of a source's listings; `kept` has a bit for each of the first three."""
        said = [each.said for each in self.model.entries.values()]
        mine = [row for row in said if (row["list_type"], row["source"]) == (code, source)]
        return [{**row, "op": "I"} for place, row in enumerate(mine) if kept >> place & 1 or place > 2]

    def _bring(
        self, order: ImportHeader, salt: int, file: list[Row], meanwhile: list[Order], who: str
    ) -> tuple[str, Receipt | None]:
        def happen() -> None:
            for each in meanwhile:
                self.act(each)

        self.imports.rows, self.imports.salt, self.imports.meanwhile = file, salt, happen
        self.left = False
        return self._run(self.imports.run(order, no_bytes(), person(who)))

    @precondition(lambda self: self.orders and not self.rotating)
    @rule(pick=picks)
    def repeat(self, pick: int) -> None:
        """A file is sent again: its first receipt, if it was taken or still waits."""
        header, salt, first = self.orders[pick % len(self.orders)]
        now = self.ledger.receipt(first.receipt_id)
        assert now is not None
        if header.mode is ImportMode.DELTA and day_of(first.received_at) != day_of(self.clock.now):
            return  # another day's delivery
        if now.state in (ImportState.COMMITTED, ImportState.WAITING):
            refused, receipt = self._bring(header, salt, [], [], "carl")
            assert refused == ""
            assert receipt == dataclasses.replace(now, repeated=True)

    @precondition(lambda self: self.waiting and not self.rotating)
    @rule(pick=picks, who=st.sampled_from((*PEOPLE, *PEOPLE, "")))
    def confirm(self, pick: int, who: str) -> None:
        """Somebody confirms a file that waits, or waits no longer; or it is given up."""
        if not who:
            self.give_up(pick)
            return
        found = self.waiting[pick % len(self.waiting)]
        state = self.ledger.receipt(found.receipt.receipt_id)
        # Who may not confirm, or confirms what waits no longer, takes nobody's turn.
        self.left = self.left and (found.plan is None or found.receipt.importer == f"tax/{who}")
        refused, receipt = self._run(self.imports.confirm(found.receipt.receipt_id, person(who)))
        if found.receipt.importer == f"tax/{who}":
            assert refused == "SECOND_PERSON_REQUIRED"
        elif found.plan is None:
            assert state is not None
            assert refused == ("" if state.state is ImportState.COMMITTED else "IMPORT_OUTDATED")
        else:
            plan, found.plan = found.plan, None
            self._committed(plan, refused, receipt)

    def give_up(self, pick: int) -> None:
        found = self.waiting[pick % len(self.waiting)]
        self.ledger.give_up_import(found.receipt.batch)
        found.plan = None

    @precondition(lambda self: not self.rotating)
    @rule(file=files, then=st.sampled_from(("go on", "restart")))
    def leave(self, file: list[Row], then: str) -> None:
        """An import is left half-way."""
        self.left = False
        batch = self.ledger.begin_import("tax/anna")
        assert batch is not None
        self.left = True
        header = ImportHeader(file_name="a", format=FileFormat.CSV)
        work = _Work(header, "tax/anna", self.clock.now, batch, Tally(), self.ledger.keys, person("anna"))
        good, _ = parsed(self.imports._order(work), file, 2)
        document, generation = "file a", self.ledger.generation
        self.ledger.stage(
            batch, good, actor="tax/anna", received_at=self.clock.now, document=document, generation=generation
        )
        if then == "restart":
            self.reopen()

    def publish(self, ends: dict[str, EndsWith], ahead: int) -> None:
        """An edition that ends list types otherwise, at once or later."""
        first = day_of(self.clock.now) + ahead * DAY
        revision = self.model.revision + 1
        types = tuple(list_type(code, ends_with=each) for code, each in ends.items())
        made = edition(
            edition=str(revision), effective_from=first, publication_date=first, list_types=types, revision=revision
        )
        until = day_of(self.clock.now) + 2 * DAY
        told = self.ledger.publish_edition(
            *(made, b"%d" % revision, "a.yaml", "tax/mara"),
            known=len(self.editions),
            unprune=newly_ended(self.known(), made, until),
        )
        self.editions.append(made)
        self.model.editions.append((first, revision, ends))
        self.model.revision += 1
        assert told == revision

    def prune(self, limit: int = 4) -> None:
        """The daily look: whatever has ended by date for a whole day leaves the view."""
        after: int | None = 0
        today = day_of(self.clock.now)
        while after is not None:
            done = self.ledger.prune(after, limit, _rule(self.known(), today), known=len(self.editions))
            assert done is not None
            after = done.after
            self.model.revision += done.revision is not None
        self.follow()
        left = {
            text
            for each in self.model.entries.values()
            if not each.ended and not self.model.past(each, today - DAY)
            for text in named(each)
        }
        assert self.in_view() == {IDENTIFIERS[text].key for text in left if not IDENTIFIERS[text].is_person}
        self._erase(today)

    def _erase(self, today: datetime.date) -> None:
        """And what is retained no longer is erased."""
        after: int | None = 0
        while after is not None:
            done = self.ledger.erase(after, 4, today)
            after = done.after
            self.model.revision += done.revision is not None
        self.ledger.tidy()
        for entry in self.model.entries.values():
            if self.model.erasable(entry, today):
                entry.tell(EventKind.ERASED, self.clock.now)
                entry.annulled = entry.erased = True

    @rule(chore=st.sampled_from(("publish", "prune", "publish", "prune", "purge", "reopen")), data=st.data())
    def chore(self, chore: str, data: Any) -> None:
        ends = data.draw(endings) if chore == "publish" else ()
        getattr(self, chore)(*ends)

    def reopen(self) -> None:
        """The gateway is restarted, whatever is under way."""
        self.ledger.close()
        self.rotating, self.left, self.switched = False, False, []
        self.ledger = open_ledger(self.state, self.clock)

    def purge(self) -> None:
        while self.ledger.purge():
            pass

    @rule(limit=st.sampled_from((3, 50)))
    def rotate(self, limit: int) -> None:
        """The next part of a rotation of the view key: begin, some slices, the switch, the end of the grace."""
        if not self.rotating:
            begun = self.ledger.begin_rotation(functools.partial(make_view_key, self.state / "keys"))
            assert begun is not self.left
            self.rotating, self.left = begun, self.left
        elif self.switched:
            assert self.ledger.begin_import("tax/anna") is None
            self.ledger.end_rotation()
            self.rotating, self.switched = False, []
        elif self.ledger._rotating.complete:
            old = ViewKey(self.ledger.keys.view, 24)
            self.model.revision += 1
            assert self.ledger.switch_generation("tax/anna") == self.model.revision
            self.switched = [old]
        else:
            assert self.ledger.begin_import("tax/anna") is None
            self.ledger.rotate(limit)

    def _committed(self, plan: Plan, refused: str, receipt: Receipt | None) -> None:
        batch = receipt.batch if receipt is not None else 0
        try:
            self.model.commit(plan, self.clock.now, batch)
        except Outdated:
            assert refused == "IMPORT_OUTDATED"
            return
        assert refused == ""
        assert receipt is not None
        assert (receipt.state, receipt.revision) == (ImportState.COMMITTED, self.model.revision)

    def _run(self, act: Any) -> tuple[str, Receipt | None]:
        """Run an act of the service; return the name of its refusal, or the receipt."""
        try:
            return "", self.world.loop.run_until_complete(act)
        except Refused as error:
            return error.reason, None


@contextlib.contextmanager
def world() -> Iterator[World]:
    """Make a world: a ledger with an edition and a few listings."""
    with empty_world() as made:
        first = LedgerMachine(made, made.first)
        first.publish(dict(zip(TYPES, (EndsWith.TERM, EndsWith.PUBLICITY), strict=True)), -200)
        for row in FIRST:
            first.deliver([row], None, [], "anna")
        first.follow()
        first.ledger.close()
        made.model, made.editions, made.mirror = first.model, first.editions, first.mirror
        yield made

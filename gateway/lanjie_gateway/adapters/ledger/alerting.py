"""Makes alerts out of commits, days and passes, in small steps, each a transaction with its position.

1. The position is a row: revision, place within its commit, and day. Whoever takes a step holds it, so two hosts never
   do the same step, and what a crash undoes is done again from where it was: nothing is lost, nothing is told twice.
2. A watch is first looked at when it begins, and knows what stands then.
3. With each day, and with each edition, every running watch is looked at again: what the last step knew against what
   is now. A day that nobody looked at is not told apart from the next. What a clock that was days ahead has looked at
   is looked at again on its day: else no day would be looked at until then, and no new watch would begin.
4. Each event of a commit reaches the watches of its subject, by what the listing was after that very commit.
5. A listing that may bear from now on is held against the passes told of its subject (see `passes`), and one that
   begins later is looked at on its day.
"""

import datetime
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

import sqlalchemy as sa

from lanjie_gateway.adapters.ledger import database, inquiries, lives, passes, watches
from lanjie_gateway.adapters.ledger.lives import BucketsOf, Life
from lanjie_gateway.adapters.ledger.rows import InquiryRow
from lanjie_gateway.adapters.ledger.tables import (
    ALERT,
    BATCH,
    BEGINS_LATER,
    EVENT,
    HEAD,
    LISTING_KEY,
    WATCH,
    WATCH_LISTING,
    WATCH_POSITION,
)
from lanjie_gateway.domain import alerts, packed
from lanjie_gateway.domain.alerts import Alert, AlertKind, Borne, Known, Watch
from lanjie_gateway.domain.history import state_at
from lanjie_gateway.domain.records import SALT_BYTES, VERSION, instant, leaf
from lanjie_gateway.domain.retention import erased
from lanjie_matcher.catalogues import CatalogueSet
from lanjie_matcher.civil_time import day_of, start_of

EVENTS: Final = 500
"""Events of a commit that one step looks at."""
WATCHES: Final = 25
"""Watches that one step looks at: whoever writes waits for one step at the most."""
REACHED: Final = 10
"""Events on watches that one step tells of, unless one event reaches more."""
_AT_ONCE: Final = datetime.timedelta(minutes=1)
"""A question that was judged as of no earlier was one about its own present."""
_NEW: Final = sa.text("NOT watch.looked")
"""Spelled as in the index of new watches: SQLite uses it for no other spelling."""
_TOLD: Final = (*alerts.BY_EVENT, "erased")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a step is to be taken by.

    Attributes:
        catalogues: every edition up to `upto`.
        upto: newest revision to look at.
        now: aware instant.
        retro: how far back passes are looked for; 0 for not at all.
        lineage: of the ledger, for the records.
    """

    catalogues: CatalogueSet
    upto: int
    now: datetime.datetime
    retro: datetime.timedelta
    lineage: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Began:
    """A listing that begins by its date, as if by an event."""

    listing_id: int
    kind: str = "listed"


class Alerting:
    """One step; see `step`.

    Args:
        connection: inside a transaction of its own.
        order: what to go by.
        buckets_of: reads the buckets of older facts.
        older: makes view digests under older generations of the key.
        search: what the step before left of a search for passes; a crash begins it anew.

    Attributes:
        told: departments that were told something.
        search: for the next step, once this one is committed.
    """

    def __init__(
        self,
        connection: sa.Connection,
        order: Order,
        buckets_of: BucketsOf,
        older: passes.OlderKeys,
        search: passes.Search | None,
    ) -> None:
        self._connection = connection
        self._order = order
        self._buckets_of = buckets_of
        self._older = older
        self.search = search
        self._known_sets: dict[int, CatalogueSet] = {}
        self.told: set[str] = set()

    def step(self) -> bool:
        """Do the next piece of work; return whether there is more."""
        connection, order = self._connection, self._order
        at = self._position()  # (1)
        if self._begin(at):  # (2)
            return True
        if at.looking_at is not None:  # (3)
            return self._look(at)
        commit = connection.execute(
            sa.select(BATCH.c.id, BATCH.c.revision, BATCH.c.kind, BATCH.c.committed_at).where(
                BATCH.c.revision == at.revision + 1, BATCH.c.revision <= order.upto
            )
        ).first()
        day = day_of(order.now if commit is None else packed.instant(commit.committed_at)).toordinal()
        if (day > at.day or _was_ahead(at.day, day)) and not at.seq:
            # The day that was looked at last stays in place until its successor was.
            return self._move(looking_at=packed.micros(start_of(datetime.date.fromordinal(day))), looked=-1)
        if commit is not None:
            if commit.kind == "catalogue":
                return self._move(revision=commit.revision, looking_at=commit.committed_at, looked=0)
            return self._events(at, commit)  # (4)
        return bool(order.retro) and (self._late(at) or self._searched(at))

    def _position(self) -> Any:
        query = sa.select(WATCH_POSITION).with_for_update()
        found = self._connection.execute(query).first()
        if found is None:
            first = database.insert(self._connection, WATCH_POSITION).values(
                id=1,
                revision=sa.select(HEAD.c.revision).scalar_subquery(),
                seq=0,
                day=day_of(self._order.now).toordinal(),
                looked=0,
            )
            self._connection.execute(first.on_conflict_do_nothing())
            found = self._connection.execute(query).one()
        return found

    def _move(self, **values: Any) -> bool:
        self._connection.execute(WATCH_POSITION.update().values(**values))
        return True

    # (2), (3)

    def _begin(self, at: Any) -> bool:
        """Look at watches that begin, at what was followed so far."""
        if at.seq or at.looking_at is not None:
            return False
        fresh = _running(at.day).where(_NEW).order_by(WATCH.c.id).limit(WATCHES)
        rows = self._connection.execute(fresh).all()
        for row in rows:
            watch = watches.watch_of(row)
            moment = max(watch.made_at, start_of(watch.from_on))
            self._look_at(watch, at, moment, first=True)
        self._connection.execute(WATCH.update().where(WATCH.c.id.in_([row.id for row in rows])).values(looked=True))
        return bool(rows)

    def _look(self, at: Any) -> bool:
        """Look at some watches, after what begins on the day was held against the passes."""
        moment = packed.instant(at.looking_at)
        if at.looked < 0 and (self._begun(at, moment) or self._purge()):
            return True
        old = _running(day_of(moment).toordinal()).where(WATCH.c.looked.is_(True), WATCH.c.id > at.looked)
        rows = self._connection.execute(old.order_by(WATCH.c.id).limit(WATCHES)).all()
        for row in rows:
            self._look_at(watches.watch_of(row), at, moment, first=False)
        if len(rows) == WATCHES:
            return self._move(looked=rows[-1].id)
        day = day_of(moment).toordinal()
        return self._move(day=day if _was_ahead(at.day, day) else max(at.day, day), looking_at=None, looked=0)

    def _look_at(self, watch: Watch, at: Any, moment: datetime.datetime, *, first: bool) -> None:
        known = self._known(watch)
        found = self._borne(watch, at.revision, moment)
        before = datetime.date.fromordinal(at.day)
        for listing_id, now in found.items():
            was = known.get(listing_id)
            later = alerts.begins_later(now.listing, before)
            began = later is not None and later <= day_of(moment)
            kind = alerts.seen(was, now, first=first, began=began)
            if kind is not None:
                self._tell(_alert(watch, kind, was, now), at.revision, moment)
            self._keep(watch, listing_id, was, alerts.after(was, now))
        for listing_id in known.keys() - found.keys():
            self._keep(watch, listing_id, known[listing_id], None)

    def _begun(self, at: Any, moment: datetime.datetime) -> bool:
        """Hold listings that begin on this day, or began since the last one, against the passes (5)."""
        due = BEGINS_LATER.c.day <= day_of(moment).toordinal()
        rows = self._connection.execute(sa.select(BEGINS_LATER).where(due).limit(WATCHES)).all()
        began = [_Began(listing_id=row.listing_id) for row in rows]
        self._hold_against_passes(began, at.revision, moment)
        for row in rows:
            own = (BEGINS_LATER.c.day == row.day) & (BEGINS_LATER.c.listing_id == row.listing_id)
            self._connection.execute(BEGINS_LATER.delete().where(own))
        return bool(rows)

    # (4)

    def _events(self, at: Any, commit: Any) -> bool:
        page = (
            sa.select(EVENT.c.seq, EVENT.c.listing_id, EVENT.c.kind)
            .where(EVENT.c.batch_id == commit.id, EVENT.c.seq > at.seq, EVENT.c.kind.in_(_TOLD))
            .order_by(EVENT.c.seq)
            .limit(EVENTS)
        )
        rows = self._connection.execute(page).all()
        full = len(rows) == EVENTS
        moment = packed.instant(commit.committed_at)
        reached = self._reached(rows, day_of(moment))
        seqs = sorted(each.seq for events in reached for each in events)
        if len(seqs) > REACHED:
            # The rest of the page comes with the next step.
            last, full = seqs[REACHED - 1], True
            rows = [row for row in rows if row.seq <= last]
            reached = [left for events in reached if (left := [each for each in events if each.seq <= last])]
        for events in reached:
            watch = watches.watch_of(events[0])
            found = self._borne(watch, commit.revision, moment)
            known = self._known(watch)
            for listing_id, kind in dict.fromkeys((each.listing_id, each.event_kind) for each in events):
                name = f"{listing_id:016x}"
                now = found.get(name)
                was = known.get(name)
                if now is None:
                    # It is about the subject no longer, or was erased.
                    now = self._gone(listing_id, commit.revision, watch, moment) if was is not None else None
                if now is None:
                    self._keep(watch, name, was, None)
                    continue
                if kind in alerts.BY_EVENT and alerts.tells(was, now):
                    self._tell(_alert(watch, alerts.BY_EVENT[kind], was, now), commit.revision, moment)
                still = alerts.after(was, now)
                self._keep(watch, name, was, still)
                known = {**known, name: still} if still is not None else {k: v for k, v in known.items() if k != name}
        if self._order.retro:
            self._hold_against_passes(rows, commit.revision, moment)
        if full:
            return self._move(seq=rows[-1].seq)
        return self._move(revision=commit.revision, seq=0)

    def _reached(self, rows: Iterable[Any], day: datetime.date) -> list[list[Any]]:
        """Return the events of a page for each running watch that they reach."""
        rows = list(rows)
        seqs = [row.seq for row in rows]
        if not seqs:
            return []
        query = (
            _running(day.toordinal())
            .add_columns(EVENT.c.listing_id, EVENT.c.kind.label("event_kind"), EVENT.c.seq)
            .join(LISTING_KEY, LISTING_KEY.c.bucket == WATCH.c.bucket)
            .join(EVENT, EVENT.c.listing_id == LISTING_KEY.c.listing_id)
            .where(EVENT.c.seq.in_(seqs), WATCH.c.looked.is_(True))
            .order_by(WATCH.c.id, EVENT.c.seq)
        )
        found: dict[int, list[Any]] = {}
        for row in self._connection.execute(query):
            found.setdefault(row.id, []).append(row)
        return list(found.values())

    def _gone(self, number: int, revision: int, watch: Watch, moment: datetime.datetime) -> Borne | None:
        """Return what a listing is that a correction took from the subject: nothing of it bears on that any more."""
        (life,) = lives.of_listings(self._connection, [number]) or (None,)
        state = None if life is None or erased(life.now) else state_at(life.now, life.happened, revision)
        if state is None:
            return None
        now = alerts.borne(state.listing, self._catalogues(revision), watch.question, moment)
        return Borne(outcome=alerts.NOTHING.outcome, measures=(), stands=now.stands, listing=state.listing)

    # (5)

    def _hold_against_passes(self, rows: Iterable[Any], revision: int, moment: datetime.datetime) -> None:
        """Look back for the events of a page, and note what begins later."""
        rows = list(rows)
        numbers = {row.listing_id for row in rows if row.kind in alerts.LOOKED_BACK}
        changed = numbers | {row.listing_id for row in rows if row.kind == "stayed"}
        states = self._states(changed, revision)
        for number, state in states.items():
            day = None if state is None else alerts.begins_later(state.listing, day_of(moment))
            if day is not None:
                put = database.insert(self._connection, BEGINS_LATER).values(day=day.toordinal(), listing_id=number)
                self._connection.execute(put.on_conflict_do_nothing())
        since = packed.micros(self._order.now - self._order.retro)
        found = passes.told(self._connection, numbers, since, self._older)
        for number in sorted(found):
            state = states.get(number)
            if state is not None:
                for each in found[number]:
                    self._overtake(each, state, revision, moment)

    def _states(self, numbers: set[int], revision: int) -> dict[int, packed.PackedListing | None]:
        # A big list is full of listings to which nothing has happened since: their lives need not be read.
        same = lives.unchanged(self._connection, numbers, revision)
        states = {number: None if erased(now) else now for number, now in same.items()}
        for life in lives.of_listings(self._connection, numbers - same.keys()):
            states[int(life.listing_id, 16)] = _state_of(life, revision)
        return states

    def _late(self, at: Any) -> bool:
        """Hold passes that were kept since against the listings that stand by now."""
        rows, any_left = passes.fresh(self._connection, WATCHES)
        since = packed.micros(self._order.now - self._order.retro)
        # What begins by its date comes with no revision.
        begun = packed.micros(start_of(datetime.date.fromordinal(at.day)))
        for each in rows:
            if each.decided_at >= since and (each.revision < at.revision or each.decided_at < begun):
                for life in self._lives_of(each, at.revision):
                    self._overtake(each, life, at.revision, self._order.now)
        return any_left

    def _searched(self, at: Any) -> bool:
        """Do the same for passes of a generation that has gone, some listings at a time."""
        search = self.search or passes.search(self._connection)
        if search is None:
            return False
        since = packed.micros(self._order.now - self._order.retro)
        views = self._older.views({each.generation for each in search.passes})
        numbers = passes.companies(self._connection, search.after, EVENTS) if views else []
        digests = {number: self._older.digests(number, views) for number in numbers}
        wanted = {each.key for each in search.passes if each.decided_at >= since}
        for life in lives.of_listings(self._connection, [number for number in numbers if digests[number] & wanted]):
            state = _state_of(life, at.revision)
            own = digests[int(life.listing_id, 16)] & wanted
            for each in search.passes:
                if state is not None and each.key in own:
                    self._overtake(each, state, at.revision, self._order.now)
        if len(numbers) == EVENTS:
            self.search = replace(search, after=numbers[-1])
        else:
            passes.looked(self._connection, search.rows)
            self.search = None
        return True

    def _lives_of(self, each: passes.Passed, revision: int) -> list[packed.PackedListing]:
        found = passes.lives_of(self._connection, each, revision, self._buckets_of)
        return [state for life in found if (state := _state_of(life, revision)) is not None]

    def _overtake(
        self, each: passes.Passed, state: packed.PackedListing, revision: int, moment: datetime.datetime
    ) -> None:
        """Tell a department whose pass no longer holds, while the case is open."""
        if each.asked is not None and not state.concerns(each.asked.kind, each.asked.subject, each.asked.bucket):
            return
        decided_at = packed.instant(each.decided_at)
        closed_at = watches.closed_at(self._connection, each.department, each.matter, each.case_no)
        if not alerts.is_open(each.case_no, decided_at, closed_at, self._order.now):
            return
        # A question about a past instant stays one about it.
        past = each.as_of is not None and decided_at - each.as_of > _AT_ONCE
        judged = each.as_of if past and each.as_of is not None else max(moment, decided_at)
        now = alerts.borne(state.listing, self._catalogues(revision), each.question, judged)
        if now.bears:
            alert = Alert(
                department=each.department,
                kind=AlertKind.PASS_OVERTAKEN,
                matter=each.matter,
                case_no=each.case_no,
                listing=state.listing,
                outcome_before=alerts.NOTHING.outcome,
                outcome=now.outcome,
                decision_id=each.decision_id,
                bucket=b"" if each.person else passes.bucket_of(self._connection, each, state.listing.id),
                subject=each.subject,
            )
            self._tell(alert, revision, moment)

    # What is known and what is.

    def _borne(self, watch: Watch, revision: int, moment: datetime.datetime) -> dict[str, Borne]:
        found = lives.of_bucket(self._connection, watch.bucket, revision, self._buckets_of)
        states = (_state_of(life, revision) for life in found if life.keyed is not False)
        own = alerts.subjects_listings(states, watch.kind, watch.subject, watch.bucket)
        catalogues = self._catalogues(revision)
        return {state.listing.id: alerts.borne(state.listing, catalogues, watch.question, moment) for state in own}

    def _catalogues(self, revision: int) -> CatalogueSet:
        made = self._known_sets.get(revision)
        if made is None:
            every = self._order.catalogues
            known = [each for each in every.editions if each.revision <= revision]
            whole = len(known) == len(every.editions)
            made = every if whole else CatalogueSet.of(known, every.region_overrides)
            self._known_sets[revision] = made
        return made

    def _known(self, watch: Watch) -> dict[str, Known]:
        rows = self._connection.execute(sa.select(WATCH_LISTING).where(WATCH_LISTING.c.watch_id == watch.number))
        return {f"{row.listing_id:016x}": Known(outcome=row.outcome, measures=tuple(row.measures)) for row in rows}

    def _keep(self, watch: Watch, listing_id: str, was: Known | None, now: Known | None) -> None:
        if was == now:
            return
        key = {"watch_id": watch.number, "listing_id": int(listing_id, 16)}
        if now is None:
            own = (WATCH_LISTING.c.watch_id == key["watch_id"]) & (WATCH_LISTING.c.listing_id == key["listing_id"])
            self._connection.execute(WATCH_LISTING.delete().where(own))
            return
        values = {"outcome": now.outcome, "measures": list(now.measures)}
        put = database.insert(self._connection, WATCH_LISTING).values(**key, **values)
        self._connection.execute(put.on_conflict_do_update(index_elements=["watch_id", "listing_id"], set_=values))

    def _tell(self, alert: Alert, revision: int, moment: datetime.datetime) -> None:
        """Keep an alert with its inquiry record: somebody was told something about a subject (Art. 39, 63)."""
        number = watches.tell(self._connection, alert, revision, packed.micros(moment))
        if number is None:
            return
        self.told.add(alert.department)
        record = leaf(
            {
                "v": VERSION,
                "salt": os.urandom(SALT_BYTES).hex(),
                "id": f"alert-{alert.department}-{number}",
                "kind": "alert",
                "at": instant(self._order.now),
                "department": alert.department,
                "matter": alert.matter,
                "case_no": alert.case_no,
                "subject": alert.subject.hex(),
                "about": alert.decision_id or f"w{alert.watch}",
                "told": [alert.kind.value, alert.outcome_before, alert.outcome],
                "listings": [alert.listing.id],
                "lineage": self._order.lineage,
                "revision": revision,
                "outcome": "ALERT",
            }
        )
        inquiries.add(self._connection, f"alerts-{alert.department}", number, [InquiryRow.of(record)])

    def _purge(self) -> bool:
        """Forget what was acknowledged long ago, and some of the old passes; return whether there are more."""
        old = packed.micros(self._order.now - alerts.KEPT)
        self._connection.execute(ALERT.delete().where(ALERT.c.acknowledged_at < old))
        return passes.forget(self._connection, packed.micros(self._order.now - self._order.retro))


def _was_ahead(looked: int, day: int) -> bool:
    """Whether a day that was looked at has not come; hosts may be on two sides of a midnight."""
    return day < looked - 1


def _running(day: int) -> Any:
    """Select the watches that run on a day."""
    return sa.select(WATCH).where(WATCH.c.ended_at.is_(None), WATCH.c.from_on <= day, WATCH.c.until_on >= day)


def _state_of(life: Life, revision: int) -> packed.PackedListing | None:
    return None if erased(life.now) else state_at(life.now, life.happened, revision)


def _alert(watch: Watch, kind: AlertKind, was: Known | None, now: Borne) -> Alert:
    return Alert(
        department=watch.department,
        kind=kind,
        matter=watch.question.matter,
        case_no=watch.case_no,
        listing=now.listing,
        outcome_before=(was or alerts.NOTHING).outcome,
        outcome=now.outcome,
        watch=watch.number,
        bucket=watch.bucket,
        subject=watch.subject,
    )

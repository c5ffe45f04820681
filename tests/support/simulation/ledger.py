"""A model of the ledger, to judge by. It shares nothing with the code under test: plain lists and sets.

A commit is a revision with its instant; after each the model keeps who stands in the view and every listing as it was.
A restore begins a new epoch at an older revision, and gives the revisions after it again.
"""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, replace

SHANGHAI = datetime.timezone(datetime.timedelta(hours=8))


def day_of(unix: float) -> datetime.date:
    """The day in Asia/Shanghai."""
    return datetime.datetime.fromtimestamp(unix, SHANGHAI).date()


@dataclass(frozen=True, slots=True)
class Entry:
    """One listing of a subject, from the first day to the last; `since` is the instant from which it stands."""

    subject: int
    first: datetime.date
    last: datetime.date | None
    since: float
    ended: bool = False
    annulled: bool = False
    stayed: bool = False

    def in_force(self, day: datetime.date) -> bool:
        """Whether it counts on a day."""
        gone = self.ended or self.annulled or self.stayed
        return not gone and self.first <= day and (self.last is None or day <= self.last)


@dataclass(frozen=True, slots=True)
class Policy:
    """What a catalogue says of a matter."""

    high_consequence: bool
    stale_pass: bool


@dataclass(frozen=True, slots=True)
class Commit:
    """The ledger after a revision."""

    revision: int
    at: float
    touched: frozenset[int]
    listed: frozenset[int]
    entries: Mapping[int, Entry]
    catalogue: int
    policies: Mapping[str, Policy]


def standing(entry: Entry) -> bool:
    """Whether a listing puts its subject into the view: no event ended it. Not yet effective and stayed ones do."""
    return not (entry.ended or entry.annulled)


class LedgerModel:
    """See the module.

    Attributes:
        epoch: epoch.
        past: the commits of every epoch, by revision.
        restored_at: instant at which an epoch ended.
        generation: generation of the view key.
        rotated_at: instant at which it began.
    """

    def __init__(self, now: float, policies: Mapping[str, Policy]) -> None:
        self.epoch = 1
        nothing: dict[int, Entry] = {}
        start = Commit(0, now, frozenset(), frozenset(), nothing, 0, policies)
        self.past: dict[int, list[Commit]] = {1: [start]}
        self.restored_at: dict[int, float] = {}
        self.generation = 1
        self.rotated_at = now
        self._next = 1

    @property
    def commits(self) -> list[Commit]:
        """Those of the present epoch."""
        return self.past[self.epoch]

    @property
    def head(self) -> Commit:
        """The newest commit."""
        return self.commits[-1]

    def known(self, epoch: int, revision: int) -> Commit | None:
        """The ledger as it was at a revision of an epoch; `None` if there never was one."""
        commits = self.past.get(epoch, [])
        return commits[revision] if 0 <= revision < len(commits) else None

    def superseded_at(self, epoch: int, revision: int) -> float | None:
        """The instant from which a revision is not the newest; `None` while it is."""
        following = self.known(epoch, revision + 1)
        return following.at if following is not None else self.restored_at.get(epoch)

    def add(self, now: float, subject: int, first: datetime.date, last: datetime.date | None) -> None:
        """List a subject."""
        entry = Entry(subject, first, last, now)
        self._commit(now, {**self.head.entries, self._next: entry}, {subject})
        self._next += 1

    def amend(self, now: float, number: int, **changes: object) -> None:
        """Change a listing; one that stands again, or of another subject, stands from now."""
        before = self.head.entries[number]
        after = replace(before, **changes)  # type: ignore[arg-type]
        if standing(after) and (not standing(before) or after.subject != before.subject):
            after = replace(after, since=now)
        self._commit(now, {**self.head.entries, number: after}, {before.subject, after.subject})

    def prune(self, now: float) -> None:
        """End what ended by date."""
        today = day_of(now)
        over = [n for n, each in self.head.entries.items() if standing(each) and each.last and each.last < today]
        if over:
            entries = {n: replace(each, ended=n in over or each.ended) for n, each in self.head.entries.items()}
            self._commit(now, entries, {entries[number].subject for number in over})

    def publish(self, now: float, policies: Mapping[str, Policy]) -> None:
        """Publish a catalogue."""
        head, revision = self.head, self.head.revision + 1
        commit = replace(head, revision=revision, at=now, touched=frozenset(), catalogue=revision, policies=policies)
        self.commits.append(commit)

    def restore(self, now: float, revision: int) -> None:
        """Go back to a backup: what came after it is lost."""
        self.restored_at[self.epoch] = now
        kept = self.commits[: revision + 1]
        self.epoch += 1
        self.past[self.epoch] = kept

    def rotate(self, now: float) -> None:
        """Begin a generation of the view key."""
        self.generation += 1
        self.rotated_at = now

    def _commit(self, now: float, entries: dict[int, Entry], touched: set[int]) -> None:
        listed = frozenset(each.subject for each in entries.values() if standing(each))
        head = self.head
        commit = replace(
            head, revision=head.revision + 1, at=now, touched=frozenset(touched), listed=listed, entries=entries
        )
        self.commits.append(commit)

"""Invented subjects whose right answers are known, and a model of the list that shares no code with what is loaded.

The mix is that of a city that published its own: 3,357 approvals made 17,954 checks, and 12 of 2,027 firms that one
department checked were listed. That one check in ten is about a person is an assumption.
"""

import bisect
import datetime
import random
from collections.abc import Iterable, Iterator, Sequence

from lanjie_gateway.cli import invented

CHECKS = 17_954 / 3_357
"""Checks an approval."""
HITS = 12 / 2_027
PERSONS = 0.1
MATTERS = ("tendering.bidder", "procurement.supplier", "land.transfer")
WAGE, COURT = "TQNMGGZ", "SXBZXR"
EFFECTS = {
    (WAGE, "tendering.bidder"): "RESTRICT",
    (WAGE, "procurement.supplier"): "RESTRICT",
    (COURT, "tendering.bidder"): "RESTRICT",
    (COURT, "procurement.supplier"): "INTERCEPT",
}
"""What `examples/catalogues/national-example.yaml` says of the two list types in these matters, read by hand."""
STRENGTH = ("PASS", "RESTRICT", "INTERCEPT")
Row = dict[str, str]
BORN_BY = datetime.date(2026, 1, 1)
"""Ages count from a day that stays, or a seed would give other persons tomorrow."""
Live = tuple[str, ...]
"""List types of the listings of a subject that are in force."""


def expected(live: Iterable[str], matter: str) -> str:
    """Return the right outcome for a subject with these listings in force."""
    return max((EFFECTS.get((each, matter), "PASS") for each in live), key=STRENGTH.index, default="PASS")


class Population:
    """Listed and unlisted subjects.

    Args:
        seed: the same seed and counts give the same subjects.
        listed: how many subjects are listed; one in ten is a person, one in twenty has been ended by its date.
        free: how many unlisted companies there are, and as many unlisted persons.
        today: the day of its rows, which says nothing of who is in them.
    """

    def __init__(self, seed: int, listed: int, free: int = 5_000, today: datetime.date | None = None) -> None:
        rng = random.Random(seed)
        self._today = today or datetime.datetime.now(datetime.UTC).date()
        self._seed = seed
        # By id, so that nobody is drawn twice: there are few numbers for persons.
        everybody = dict.fromkeys(self._subject(rng, person=rng.random() < PERSONS) for _ in range(listed))
        self.live: dict[str, Live] = {each: () if rng.random() < 0.05 else (WAGE,) for each in everybody}
        self.listed = list(self.live)
        self.companies = self._unlisted(rng, free, person=False)
        self.persons = self._unlisted(rng, free, person=True)
        self._templates = _templates(self._today)

    def _unlisted(self, rng: random.Random, count: int, *, person: bool) -> list[str]:
        drawn = (self._subject(rng, person=person) for _ in range(count))
        return [each for each in dict.fromkeys(drawn) if each not in self.live]

    def _subject(self, rng: random.Random, *, person: bool) -> str:
        number = invented.citizen_number(rng, BORN_BY) if person else invented.uscc(rng)
        return f"{'citizen' if person else 'uscc'}:{number}"

    def rows(self) -> Iterator[Row]:
        """Yield the wage list."""
        for place, (subject, live) in enumerate(self.live.items()):
            yield self.row(subject, WAGE, f"{self._seed}-{place:07d}", ended=not live)

    def row(self, subject: str, list_type: str, number: str, *, ended: bool = False) -> Row:
        """Return a row of a list file; `number` names the decision."""
        kind, _, digits = subject.partition(":")
        row = self._templates[list_type] | {
            "id_kind": kind,
            "id_number": digits,
            "decision_no": f"示例列〔2026〕{number}号",
            "source_record_id": f"L{list_type}{number}",
        }
        if kind == "citizen":
            row |= {"subject_kind": "natural_person", "name": "示云帆"}
        if ended:
            row |= {"expires_on": (self._today - datetime.timedelta(days=3)).isoformat()}
        return row

    def draw(self, rng: random.Random) -> str:
        """Return the subject of an approval, as the mix has it."""
        if rng.random() < HITS:
            return rng.choice(self.listed)
        return rng.choice(self.persons if rng.random() < PERSONS else self.companies)

    def approval(self, rng: random.Random) -> list[tuple[str, str]]:
        """Return the checks of one approval, subject and matter each."""
        subject = self.draw(rng)
        return [(subject, rng.choice(MATTERS)) for _ in range(int(CHECKS) + (rng.random() < CHECKS % 1))]

    def outcome(self, subject: str, matter: str) -> str:
        """Return the right outcome."""
        return expected(self.live.get(subject, ()), matter)


def _templates(today: datetime.date) -> dict[str, Row]:
    rows = list(invented.listings(11, 2_000, today=today))
    fitting = {
        row["list_type"]: row for row in rows if row["subject_kind"] == "enterprise" and invented.in_force(row, today)
    }
    return {each: fitting[each] | {"other_ids": "", "related_persons": ""} for each in (WAGE, COURT)}


class Model:
    """What is listed of whom since which revision, from acknowledgements alone."""

    def __init__(self) -> None:
        self._since: dict[str, list[int]] = {}
        self._live: dict[str, list[Live]] = {}
        self.revision = 0
        """Newest one that was acknowledged."""

    def change(self, subject: str, revision: int, live: Live) -> None:
        """Take an acknowledged change."""
        self._since.setdefault(subject, []).append(revision)
        self._live.setdefault(subject, []).append(live)
        self.revision = max(self.revision, revision)

    def outcome(self, subject: str, matter: str, revision: int) -> str:
        """Return the right outcome at a revision."""
        place = bisect.bisect_right(self._since.get(subject, ()), revision)
        return expected(self._live[subject][place - 1] if place else (), matter)

    def differences(self, answers: Iterable[tuple[str, str, int, str]]) -> list[str]:
        """Return the wrong ones among answers (subject, matter, revision, outcome), as text without identifiers."""
        return [
            f"{outcome} instead of {right} at revision {revision}"
            for subject, matter, revision, outcome in answers
            if outcome != (right := self.outcome(subject, matter, revision))
        ]


def sample(population: Population, rng: random.Random, count: int) -> Sequence[tuple[str, str]]:
    """Return so many checks of the mix."""
    checks: list[tuple[str, str]] = []
    while len(checks) < count:
        checks += population.approval(rng)
    return checks[:count]

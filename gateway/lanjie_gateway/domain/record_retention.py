"""How long inquiry records are kept (Art. 39, 60, 61, 63; PIPL 19, 47), and what is left of one.

1. Every record ends by one of three rules: a pass about a natural person who is not listed, any other pass, and all
   else, of which effects are the most. Records of erasures end by none: they say what is missing, and of whom nothing.
2. Its time runs from the first signed checkpoint that vouches for it. So everybody who verifies can tell that nothing
   was erased before 180 days were over, which is the least (Cybersecurity Law 21), whatever a clock or a column says.
3. Nothing is erased while something about it is open, nor where it is not as it was kept: that is for its audit.
4. What is left says nothing about anybody: place, digest, id, day, department and kind.
"""

import datetime
import enum
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from lanjie_gateway.domain.feedback import is_person
from lanjie_matcher.civil_time import start_of

FLOOR: Final = datetime.timedelta(days=180)
"""No setting is shorter, and no earlier erasure is believed."""
ERASURE: Final = "erasure"
"""Kind of the record of an erasure."""
ERASED: Final = "ERASED"
"""What an erased record has as its outcome."""
ENDED: Final = "the record's retention has ended: what it said was erased"
RIGHTS: Final = "rights"
"""Stands for a rule in the record of an erasure of authorisations, complaints, watches and closed cases."""


class Rule(enum.StrEnum):
    """By which rule a record ends (1)."""

    PERSON_PASSES = "person-passes"
    PASSES = "passes"
    EFFECTS = "effects"


@dataclass(frozen=True, slots=True, kw_only=True)
class Periods:
    """Days for which each is kept.

    Attributes:
        effects: answers with an effect, undetermined ones, and every other act that leaves a record.
        passes: passes but for the next.
        person_passes: passes about natural persons who were not listed.
        rights: authorisations from their last day, complaints from their reply, watches and closed cases from their
            end.
    """

    effects: int = 3_653
    passes: int = 3_653
    person_passes: int = 1_096
    rights: int = 3_653

    def of(self, rule: Rule) -> int:
        """Return the days of a rule."""
        days: int = getattr(self, rule.name.lower())
        return days

    def require(self, retro_days: int) -> None:
        """Raise unless each is long enough.

        Raises:
            ValueError: it names the rule that is broken.
        """
        for name in ("effects", "passes", "person_passes", "rights"):
            days = getattr(self, name)
            if days < FLOOR.days:
                raise ValueError(f"retain_{name}_days: records are kept {FLOOR.days} days at least (rule retain-floor)")
            if days < retro_days:
                raise ValueError(
                    f"retain_{name}_days: passes are looked back at for {retro_days} days (retro_days) and have to be "
                    "there (rule retain-retro)"
                )


def rule_of(record: bytes) -> Rule | None:
    """Return the rule by which a record ends; `None` for one that does not (1).

    Raises:
        KeyError, TypeError, ValueError, AttributeError: it is no leaf.
    """
    fields = json.loads(record)
    kind = fields.get("kind", "gateway")
    if kind == ERASURE:
        return None
    if kind not in ("gateway", "local") or fields["outcome"] != "PASS":
        return Rule.EFFECTS
    unlisted = not fields.get("listings")
    return Rule.PERSON_PASSES if unlisted and is_person(fields.get("id_kind", "")) else Rule.PASSES


def before(today: datetime.date, days: int) -> datetime.datetime:
    """Return the instant that a record must have been vouched for by then, to have ended on a day."""
    return start_of(today - datetime.timedelta(days=days))


def ranges(places: Iterable[int]) -> list[list[int]]:
    """Return ascending places as ranges [first, behind the last]."""
    found: list[list[int]] = []
    for place in places:
        if found and found[-1][1] == place:
            found[-1][1] = place + 1
        else:
            found.append([place, place + 1])
    return found

"""Authorisations of subjects (授权查询, Art. 39, 69): what one allows, and whether an inquiry fits it.

1. One department, one subject, named matters, one purpose, one document: nothing bundled or for life (Art. 69).
2. It ends with its last day, at most a year after its document; with its uses, one unless stated; with the subject's
   word.
3. An inquiry fits all of it or is refused, and the refusal does not tell why.
4. The same question under the same request id within ten minutes is the same use: an answer that was lost on its way
   must not cost the subject another one. Nor may it be asked for ever: ten times are enough, and count retries of the
   connection.
"""

import datetime
import enum
import hashlib
import re
from dataclasses import dataclass, field
from typing import Final

from lanjie_matcher.subjects import normalise_name

NAME: Final = re.compile(r"[A-Za-z0-9._\-]{1,64}")
"""Ids of authorisations, and names that callers give to their questions."""
MAX_USES: Final = 10
MAX_MATTERS: Final = 20
RETRY_WITHIN: Final = datetime.timedelta(minutes=10)
MAX_TRIES: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorisation:
    """One authorisation as it stands (1, 2).

    Attributes:
        department: that may ask.
        subject: index token of the subject's full identifier; `identifier` is the identifier itself, never shown.
        document_sha256: digest of the document; a department registers a document once.
        valid_until: last day in Shanghai, inclusive.
        uses: how many inquiries it allows; `used` were made.
        registered_by: actor.
        withdrawn_at: when the subject took it back.
    """

    id: str
    department: str
    subject: bytes = field(repr=False)
    identifier: str = field(repr=False)
    matters: tuple[str, ...]
    purpose: str = field(repr=False)
    document_no: str
    document_date: datetime.date
    document_sha256: bytes = field(repr=False)
    valid_until: datetime.date
    uses: int = 1
    used: int = 0
    registered_at: datetime.datetime
    registered_by: str
    withdrawn_at: datetime.datetime | None = None

    def says_the_same(self, other: "Authorisation") -> bool:
        """Whether two registrations of one document say the same."""
        return (self.subject, self.matters, self.purpose, self.document_no, self.document_date) == (
            *(other.subject, other.matters, other.purpose, other.document_no, other.document_date),
        ) and (self.valid_until, self.uses) == (other.valid_until, other.uses)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """An inquiry that says it is authorised.

    Attributes:
        request: the caller's own name of the question.
        person: actor.
        name: index token of the name that is stated of the subject; empty for none.
        as_of: instant that is asked about; empty for now.
    """

    authorisation: str
    request: str
    department: str
    person: str
    subject: bytes = field(repr=False)
    matter: str
    purpose: str = field(repr=False)
    case_no: str = field(repr=False, default="")
    role: str = ""
    region: str = ""
    name: bytes = field(repr=False, default=b"")
    as_of: str = ""

    @property
    def question(self) -> bytes:
        """What makes two inquiries under one authorisation one question: a digest of all an answer turns on."""
        asked = (self.matter, normalise_name(self.purpose), self.case_no, self.role, self.region, self.as_of)
        said = "\x1f".join((*asked, self.name.hex()))
        return hashlib.sha256(said.encode()).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """The newest use under a request id; `number` counts the uses of its authorisation from 1."""

    number: int
    question: bytes = field(repr=False)
    at: datetime.datetime
    tries: int


class Spending(enum.Enum):
    """What an inquiry does to an authorisation."""

    NEW = enum.auto()
    AGAIN = enum.auto()
    REFUSED = enum.auto()


def latest(document_date: datetime.date) -> datetime.date:
    """Return the last day that an authorisation of a document may have (2)."""
    try:
        return document_date.replace(year=document_date.year + 1)
    except ValueError:
        return document_date + datetime.timedelta(days=365)


def spend(
    authorisation: Authorisation, wanted: Wanted, last: Use | None, now: datetime.datetime, today: datetime.date
) -> Spending:
    """Return what an inquiry does to the authorisation that it names (3, 4).

    Args:
        authorisation: of that id.
        wanted: the inquiry.
        last: the newest use under the same request id.
        now: instant of the inquiry.
        today: its day in Shanghai.
    """
    fits = (
        authorisation.department == wanted.department
        and authorisation.subject == wanted.subject
        and wanted.matter in authorisation.matters
        and normalise_name(authorisation.purpose) == normalise_name(wanted.purpose)
        and authorisation.withdrawn_at is None
        and today <= authorisation.valid_until
    )
    if not fits:
        return Spending.REFUSED
    if last is not None and last.question == wanted.question and now - last.at <= RETRY_WITHIN:
        return Spending.AGAIN if last.tries < MAX_TRIES else Spending.REFUSED
    return Spending.NEW if authorisation.used < authorisation.uses else Spending.REFUSED

"""Kinds of subjects, and what the first two characters of a USCC tell about them.

The kind belongs to the listing. Real files often say only "legal person or other organisation"; then the code tells
(GB 32100: registering authority and kind), and where it does not, the kind stays `SubjectKind.ORGANISATION` and a
measure that needs to know more leads to an undetermined answer, never to a guess.
"""

import enum
import unicodedata
from typing import Final

from lanjie_matcher.identifiers import Identifier, IdentifierKind


class SubjectKind(enum.StrEnum):
    """Kind of a subject (信用主体, Art. 3)."""

    ORGANISATION = "organisation"
    ENTERPRISE = "enterprise"
    PUBLIC_INSTITUTION = "public_institution"
    SOCIAL_ORG = "social_org"
    COOPERATIVE = "cooperative"
    OTHER_ORG = "other_org"
    INDIVIDUAL_BUSINESS = "individual_business"
    NATURAL_PERSON = "natural_person"


ORGANISATION_KINDS: Final = frozenset(
    {
        SubjectKind.ENTERPRISE,
        SubjectKind.PUBLIC_INSTITUTION,
        SubjectKind.SOCIAL_ORG,
        SubjectKind.COOPERATIVE,
        SubjectKind.OTHER_ORG,
    }
)
"""The kinds that `SubjectKind.ORGANISATION` holds."""

_BY_CODE: Final = {
    "11": SubjectKind.OTHER_ORG,
    "12": SubjectKind.PUBLIC_INSTITUTION,
    "13": SubjectKind.OTHER_ORG,
    "19": SubjectKind.OTHER_ORG,
    "51": SubjectKind.SOCIAL_ORG,
    "52": SubjectKind.SOCIAL_ORG,
    "53": SubjectKind.SOCIAL_ORG,
    "59": SubjectKind.SOCIAL_ORG,
    "91": SubjectKind.ENTERPRISE,
    "92": SubjectKind.INDIVIDUAL_BUSINESS,
    "93": SubjectKind.COOPERATIVE,
}
"""Registering authority and kind that name one kind of subject for certain."""

_BY_AUTHORITY: Final = dict.fromkeys("234678", SubjectKind.OTHER_ORG)
"""Authorities all of whose subjects are other organisations: foreign affairs, justice (law firms), culture, tourism,
religious affairs, trade unions. Letters, and kinds not in `_BY_CODE`, tell nothing."""


def kind_by_code(identifier: Identifier) -> SubjectKind | None:
    """Return the kind of subject that a USCC tells, `None` where it tells none or there is no USCC."""
    if identifier.is_person:
        return SubjectKind.NATURAL_PERSON
    if identifier.kind is not IdentifierKind.USCC:
        return None
    code = identifier.reveal().partition(":")[2][:2]
    return _BY_CODE.get(code) or _BY_AUTHORITY.get(code[0])


def normalise_name(name: str) -> str:
    """Return a name as it is compared: NFKC, case folded, without blanks. Never a key (Art. 34)."""
    return "".join(unicodedata.normalize("NFKC", name).casefold().split())

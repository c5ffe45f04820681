"""Masking (Art. 40, PIPL 51): what a reader sees of a number, a name, a text. The one place for it.

| who reads                                          | a person's number | a company's number | a person's name |
|----------------------------------------------------|-------------------|--------------------|-----------------|
| anybody: answers, explanations, logs, errors, repr | 1 + * + 1         | 4 + * + 4          | first + *       |
| the department whose listing it is                 | 6 + * + 4         | 4 + * + 4          | first + *       |

* 6 + 4 is for numbers of 18 places only; of a shorter one it would leave too little to guess.
* Names of organisations are published and stay whole. `Identifier.reveal` alone gives a full number.
* In texts that people write (reasons, purposes) numbers of persons are masked wherever they stand, and the names that
  the same row states. Names that nobody states cannot be told from other words.
"""

import enum
import re
from collections.abc import Iterable
from typing import Final

from lanjie_matcher.identifiers import (
    PERSON_KINDS,
    Identifier,
    IdentifierError,
    IdentifierKind,
    make,
    normalise,
)


class Reader(enum.StrEnum):
    """Who reads."""

    ANYBODY = "anybody"
    DEPARTMENT = "department"


def masked_number(identifier: Identifier, reader: Reader = Reader.ANYBODY) -> str:
    """Return the text form with its number masked as `reader` may see it."""
    if reader is Reader.DEPARTMENT and identifier.is_person:
        kind, _, number = identifier.reveal().partition(":")
        if len(number) == _LONG and number.isalnum():
            return f"{kind}:{number[:6]}{'*' * 8}{number[-4:]}"
    return identifier.masked


def masked_name(name: str) -> str:
    """Return a person's name as its first character and asterisks; a name of one character shows nothing."""
    return name[:1] + "*" * (len(name) - 1) if len(name) > 1 else "*" * len(name)


def masked_text(text: str, own: Iterable[str] = ()) -> str:
    """Return a text without the numbers of persons in it, and without what a row states of its own persons.

    Args:
        text: as somebody wrote it.
        own: names of natural persons and numbers without their kind that the same row or question states.
    """
    for each in own:
        if len(each) > 1 and each in text:
            text = text.replace(each, _inner(each) if each[-1].isascii() else masked_name(each))
    if _HINT.search(text) is None or _DIGITS_OR_KIND.search(text) is None:
        return text
    return _OF_PERSON.sub(_kind_only, _WRITTEN.sub(_if_personal, text))


def masked_line(text: str) -> str:
    """Return a line of a log or an error without anything that looks like a number of a subject, sound or not."""
    if _HINT.search(text) is None or _DIGITS_OR_KIND.search(text) is None:
        return text
    return _OF_ANY.sub(_kind_only, _CODE.sub(_hidden, _WRITTEN.sub(_if_so_long, text)))


def holds_personal_number(text: str) -> bool:
    """Whether a sound citizen number of 18 places stands in a text."""
    if _HINT.search(text) is None:
        return False
    return any(len(normalise(found[0])) == _LONG and _personal(found[0]) for found in _WRITTEN.finditer(text))


def _personal(written: str) -> bool:
    try:
        return not make(IdentifierKind.CITIZEN, written).warnings
    except IdentifierError:
        return False


def _if_personal(found: re.Match[str]) -> str:
    return _hidden(found) if _personal(found[0]) else found[0]


def _if_so_long(found: re.Match[str]) -> str:
    # Ids of listings have sixteen places, and an operator has to read them.
    return found[0] if len(normalise(found[0])) == _LISTING_ID else _hidden(found)


def _hidden(found: re.Match[str]) -> str:
    return _inner(found[0])


def _inner(number: str) -> str:
    return number[0] + "*" * (len(number) - 2) + number[-1]


def _kind_only(found: re.Match[str]) -> str:
    return f"{found[1]}:*"


def _of_kinds(kinds: Iterable[str]) -> re.Pattern[str]:
    # Without a digit it is a form that somebody is told, such as 'uscc:...', and no number. The bound keeps a text of
    # nothing but kinds from being read to its end from each of them.
    rest = r"[^\s,;，；。、()（）'\"]"
    return re.compile(
        rf"(?i)(?<![a-z_])({'|'.join(sorted(kinds))})\s*[:：]\s*(?={rest}{{0,64}}[0-9０-９]){rest}+(?:[ \-][0-9Xx]+)*"
    )


_LONG: Final = 18
_LISTING_ID: Final = 16
_HINT: Final = re.compile("[0-9０-９:：]")
_BETWEEN: Final = r"[\s\-－\u00ad\u2010-\u2015\u2212\u200b-\u200d\u2060\ufeff]"
"""What `normalise` drops: a number that is read with it in between is masked with it in between."""
_DIGITS_OR_KIND: Final = re.compile(
    rf"[0-9０-９]{{5}}|[0-9０-９]{_BETWEEN}{{0,2}}[0-9０-９]{_BETWEEN}{{1,2}}[0-9０-９]|[A-Za-z_]{{4}}\s*[:：]"
)
"""Quick looks, the quicker one first: nothing that is masked is without one of each."""
_WRITTEN: Final = re.compile(
    rf"(?<![0-9A-Za-z０-９])[0-9０-９](?:{_BETWEEN}{{0,2}}[0-9０-９]){{14,16}}"
    rf"(?:{_BETWEEN}{{0,2}}[0-9０-９XxＸｘ])?(?![0-9A-Za-z０-９])"
)
"""15 to 18 digits as people write them, the last perhaps an X."""
_CODE: Final = re.compile(r"(?i)(?<![0-9A-Z])[1-9ANY][0-9A-Z][0-9]{6}[0-9A-HJ-NPQRTUWXY]{10}(?![0-9A-Z])")
_OF_PERSON: Final = _of_kinds(PERSON_KINDS)
_OF_ANY: Final = _of_kinds(IdentifierKind)

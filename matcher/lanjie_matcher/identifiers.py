"""Identifiers of subjects (Art. 34): one parser and one normaliser for the SDK and the gateway, byte for byte.

Invariants:

* The caller states the kind. ``362322198709086409`` is sound both as a company code and as a citizen number, so no kind
  is ever inferred from digits.
* Normalising is NFKC, upper case, blanks and hyphens dropped, 15-digit citizen numbers lengthened to 18. A difference
  between two normalisers would be a silent miss, so there is one (`NORMALISATION`).
* A check digit warns, it does not gate: codes that fail GB 32100 were lawfully issued. Refused is only what cannot be
  an identifier at all, with the name of the rule. Nothing is repaired or guessed (no O for 0).
* ``repr`` and ``str`` are masked. The full number leaves through `Identifier.reveal` alone.

Example:
    >>> company = parse("uscc: 9132 0102-MA1ABCDE0X")
    >>> company.masked
    'uscc:9132**********DE0X'
    >>> company.key == parse("org_code:MA1ABCDE0").key
    True
"""

import datetime
import enum
import re
import string
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import mul
from typing import Any, Final

NORMALISATION: Final = 1
"""Version of the normalisation; part of every signed manifest."""

MAX_TEXT: Final = 128
"""Longest text form taken, in characters; a bound against hostile input."""

USCC_ALPHABET: Final = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_USCC_VALUE: Final = {character: value for value, character in enumerate(USCC_ALPHABET)}
_USCC_WEIGHTS: Final = tuple(pow(3, place, 31) for place in range(17))
_ORG_VALUE: Final = {character: int(character, 36) for character in string.digits + string.ascii_uppercase}
_ORG_WEIGHTS: Final = (3, 7, 9, 10, 5, 8, 4, 2)
_CITIZEN_WEIGHTS: Final = tuple(pow(2, 17 - place, 11) for place in range(17))
_CITIZEN_CHECKS: Final = "10X98765432"
_USCC_DIGITS: Final = bytes(
    ord("0123456789abcdefghijklmnopqrstu"[_USCC_VALUE[chr(code)]]) if chr(code) in _USCC_VALUE else ord("!")
    for code in range(256)
)
PLAIN: Final = "uscc:"
PLAIN_LENGTH: Final = len(PLAIN) + 18
"""Of a USCC in its plain form."""
USCC_CHECKS: Final = "".join(USCC_ALPHABET[-rest % 31] for rest in range(31))
ORG_CHECKS: Final = "".join("0123456789X"[-2 * rest % 11] for rest in range(11))
"""Check characters by the rest that the other places leave, as `sound_organisation` reckons."""
_USCC_CHECK_BYTES: Final = USCC_CHECKS.encode()
_ORG_CHECK_BYTES: Final = ORG_CHECKS.encode()
_PROVINCES: Final = frozenset(
    "11 12 13 14 15 21 22 23 31 32 33 34 35 36 37 41 42 43 44 45 46 50 51 52 53 54 61 62 63 64 65 71 81 82 83".split()
)


class IdentifierKind(enum.StrEnum):
    """Kinds of identifiers (标识). The value is the prefix of the text form."""

    USCC = "uscc"
    ORG_CODE = "org_code"
    REGISTRATION_NO = "registration_no"
    TAX_NO = "tax_no"
    INSTITUTION_NO = "institution_no"
    SOCIAL_ORG_NO = "social_org_no"
    CITIZEN = "citizen"
    PERMANENT_RESIDENT = "permanent_resident"
    PASSPORT = "passport"
    HK_MACAO_PASS = "hk_macao_pass"
    TAIWAN_PASS = "taiwan_pass"
    OFFICER_CARD = "officer_card"

    # That of an Enum is a call into Python.
    __hash__ = str.__hash__


_USCC: Final = IdentifierKind.USCC
PERSON_KINDS: Final = frozenset(
    {
        IdentifierKind.CITIZEN,
        IdentifierKind.PERMANENT_RESIDENT,
        IdentifierKind.PASSPORT,
        IdentifierKind.HK_MACAO_PASS,
        IdentifierKind.TAIWAN_PASS,
        IdentifierKind.OFFICER_CARD,
    }
)
_SECONDARY_KINDS: Final = frozenset(
    {
        IdentifierKind.REGISTRATION_NO,
        IdentifierKind.TAX_NO,
        IdentifierKind.INSTITUTION_NO,
        IdentifierKind.SOCIAL_ORG_NO,
    }
)


class IdentifierError(ValueError):
    """The text cannot be an identifier.

    Attributes:
        rule: name of the broken rule: ``kind-missing``, ``kind-unknown``, ``empty``, ``too-long``, ``length``,
            ``alphabet``, ``date``, ``masked``, ``country``.
    """

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


@dataclass(frozen=True, slots=True)
class Identifier:
    """A parsed identifier. Made by `parse` or `make` only.

    Attributes:
        kind: stated kind.
        key: canonical key for fingerprint and index bucket. For companies it is the organisation code (characters 9-17
            of the USCC), so that one entry serves ``uscc:`` and ``org_code:``.
        warnings: doubts that change nothing: ``check-digit``, ``org-check-digit``, ``region``,
            ``secondary-identifier``.
    """

    kind: IdentifierKind
    _number: str = field(repr=False)
    key: str = field(repr=False)
    warnings: tuple[str, ...]

    def reveal(self) -> str:
        """Return the full text form, ``kind:number``. The one way a full number leaves (Art. 40)."""
        return f"{self.kind.value}:{self._number}"

    @property
    def is_person(self) -> bool:
        """Whether this kind names natural persons."""
        return self.kind in PERSON_KINDS

    @property
    def masked(self) -> str:
        """The text form as anybody may see it: persons 1 + * + 1, companies 4 + * + 4. See `lanjie_matcher.masking`."""
        number = self._number
        # A person's number that was stated as a company's is still a person's, and it may be an own taxpayer number.
        mistaken = (
            (self.kind is not _USCC or "check-digit" in self.warnings)
            and _CITIZEN.fullmatch(number)
            and citizen_check(number[:17]) == number[17]
        )
        shown = 1 if self.is_person or mistaken else 4
        if len(number) <= 2 * shown:
            return f"{self.kind.value}:{'*' * len(number)}"
        return f"{self.kind.value}:{number[:shown]}{'*' * (len(number) - 2 * shown)}{number[-shown:]}"

    def __repr__(self) -> str:
        return f"Identifier({self.masked})"

    __str__ = __repr__


class _Open(Identifier):
    """An identifier that is being made: a frozen dataclass takes three times as long to set its fields."""

    __slots__ = ()
    __setattr__ = object.__setattr__
    __delattr__ = object.__delattr__

    def __init__(self: Any, kind: IdentifierKind, number: str, key: str, warnings: tuple[str, ...]) -> None:
        self.kind = kind
        self._number = number
        self.key = key
        self.warnings = warnings


def parse(text: str) -> Identifier:
    """Parse a text form, ``kind:number``.

    Args:
        text: for instance ``uscc:91320102MA1ABCDE82`` or ``passport:USA:A1234567``; at most `MAX_TEXT` characters.

    Raises:
        IdentifierError: the kind is missing or unknown, or the number breaks a rule of its kind.
    """
    organisation = sound_organisation(text)
    if organisation:
        made: Identifier = _Open(_USCC, text[5:], "org:" + organisation, ())
        made.__class__ = Identifier
        return made
    return _parse_any(text)


def _parse_any(text: str) -> Identifier:
    if len(text) > MAX_TEXT:
        raise IdentifierError("too-long", f"an identifier has at most {MAX_TEXT} characters")
    kind_text, separator, number = unicodedata.normalize("NFKC", text).partition(":")
    if not separator:
        raise IdentifierError("kind-missing", "state the kind: 'uscc:...', 'citizen:...', 'org_code:...'")
    return make(kind_text, number)


def sound_organisation(text: str) -> str:
    """Return the organisation code of a USCC in its plain form, ``uscc:`` and 18 places, that bears no warning.

    A short cut of `parse` for what nearly all texts are; for any other it is empty. The weights are powers, so each
    check is one number: 3^i mod 31 are the digits backwards in base 34, 2^(8-i) mod 11 those in base 35. What is not of
    the alphabet becomes ``!``, which `int` refuses.
    """
    if len(text) != 23 or text[:5] != "uscc:":
        return ""
    try:
        backwards = int(text.encode().translate(_USCC_DIGITS)[21:4:-1], 34)
    except ValueError:
        return ""
    if text[22] != USCC_CHECKS[backwards % 31] or text[21] != ORG_CHECKS[int(text[13:21], 35) % 11]:
        return ""
    return text[13:22]


def sound_organisations(texts: Sequence[str]) -> list[bytes]:
    """Return `sound_organisation` of many texts of `PLAIN_LENGTH` characters."""
    joined = "".join(texts).encode("ascii", "replace")
    digits = joined.translate(_USCC_DIGITS)
    found = []
    for start in range(0, len(joined), PLAIN_LENGTH):
        try:
            backwards = int(digits[start + 21 : start + 4 : -1], 34)
        except ValueError:
            found.append(b"")
            continue
        organisation = joined[start + 13 : start + 22]
        sound = (
            joined[start : start + 5] == b"uscc:"
            and joined[start + 22] == _USCC_CHECK_BYTES[backwards % 31]
            and joined[start + 21] == _ORG_CHECK_BYTES[int(organisation[:8], 35) % 11]
        )
        found.append(organisation if sound else b"")
    return found


def make(kind_text: str, number_text: str) -> Identifier:
    """Parse a kind and a number that stand apart, as the columns of a list file do.

    Raises:
        IdentifierError: see `parse`.
    """
    try:
        kind = IdentifierKind(kind_text.strip().lower())
    except ValueError:
        known = ", ".join(IdentifierKind)
        raise IdentifierError("kind-unknown", f"unknown kind of identifier; known are {known}") from None
    if len(number_text) > MAX_TEXT:
        raise IdentifierError("too-long", f"an identifier has at most {MAX_TEXT} characters")
    number = normalise(number_text)
    if not number:
        raise IdentifierError("empty", "the number is empty")
    if "*" in number:
        raise IdentifierError("masked", "the number is masked with '*': it identifies nobody")
    return _RULES[kind](kind, number)


def normalise(text: str) -> str:
    """Return the number as it is hashed: NFKC, upper case, without blanks and hyphens."""
    if text.isascii():
        if text.isalnum():
            return text.upper()
    else:
        text = unicodedata.normalize("NFKC", text)
    # Only ASCII letters are raised: "ı" and "ß" would become an I and an SS that nobody wrote.
    return _DROPPED.sub("", text).translate(_UPPER)


_UPPER: Final = str.maketrans(string.ascii_lowercase, string.ascii_uppercase)
_DROPPED: Final = re.compile(r"[\s\-\u00ad\u2010-\u2015\u2212\u200b-\u200d\u2060\ufeff]+")


def uscc_check(body: str) -> str:
    """Return the check character of the first 17 characters of a USCC (GB 32100-2015)."""
    total = sum(map(mul, map(_USCC_VALUE.__getitem__, body), _USCC_WEIGHTS))
    return USCC_ALPHABET[-total % 31]


def org_code_check(body: str) -> str:
    """Return the check character of the first 8 characters of an organisation code (GB 11714-1997)."""
    total = sum(map(mul, map(_ORG_VALUE.__getitem__, body), _ORG_WEIGHTS))
    return "0123456789X"[-total % 11]


def citizen_check(body: str) -> str:
    """Return the check character of 17 digits (GB 11643-1999, ISO 7064 MOD 11-2)."""
    total = sum(map(mul, map(int, body), _CITIZEN_WEIGHTS))
    return _CITIZEN_CHECKS[total % 11]


def birth_date(identifier: Identifier) -> datetime.date | None:
    """Return the birth date a citizen number carries, `None` for other kinds (Art. 3: minors)."""
    if identifier.kind is not IdentifierKind.CITIZEN:
        return None
    number = identifier.reveal().partition(":")[2]
    return _date(number[6:14])


def _date(digits: str) -> datetime.date:
    try:
        return datetime.date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        raise IdentifierError("date", "the number holds a birth date that does not exist") from None


def _uscc(kind: IdentifierKind, number: str) -> Identifier:
    _length(number, 18)
    if not _USCC_VALUE.keys() >= set(number):
        raise IdentifierError("alphabet", "a USCC has digits and capital letters without I, O, S, V, Z")
    organisation = number[8:17]
    warnings = []
    if uscc_check(number[:17]) != number[17]:
        warnings.append("check-digit")
    if org_code_check(organisation[:8]) != organisation[8]:
        warnings.append("org-check-digit")
    return Identifier(kind, number, f"org:{organisation}", tuple(warnings))


def _org_code(kind: IdentifierKind, number: str) -> Identifier:
    _length(number, 9)
    _matches(number, _ORG_CODE, "an organisation code has eight digits or letters and a check character 0-9 or X")
    warnings = () if org_code_check(number[:8]) == number[8] else ("check-digit",)
    return Identifier(kind, number, f"org:{number}", warnings)


def _citizen(kind: IdentifierKind, number: str) -> Identifier:
    if len(number) == 15:
        _matches(number, _DIGITS, "a 15-digit citizen number has digits only")
        body = f"{number[:6]}19{number[6:]}"
        number = body + citizen_check(body)
    _length(number, 18, "18 (or 15)")
    _matches(number, _CITIZEN, "a citizen number has 17 digits and a digit or X")
    _date(number[6:14])
    warnings = []
    if citizen_check(number[:17]) != number[17]:
        warnings.append("check-digit")
    if number[:2] not in _PROVINCES:
        warnings.append("region")
    return Identifier(kind, number, f"citizen:{number}", tuple(warnings))


def _permanent_resident(kind: IdentifierKind, number: str) -> Identifier:
    # Since 2023-12 the card has 18 places, the first a 9; cards from before have three letters and twelve digits.
    warnings: tuple[str, ...] = ()
    if len(number) == 18:
        _matches(number, _RESIDENT_NEW, "a permanent resident's number starts with 9: 17 digits and a digit or X")
        if citizen_check(number[:17]) != number[17]:
            warnings = ("check-digit",)
    else:
        _length(number, 15, "18 or 15")
        _matches(number, _RESIDENT_OLD, "an older permanent resident's number has three letters and twelve digits")
    return Identifier(kind, number, f"{kind.value}:{number}", warnings)


def _passport(kind: IdentifierKind, number: str) -> Identifier:
    country, separator, rest = number.partition(":")
    if not separator or not _COUNTRY.fullmatch(country):
        raise IdentifierError("country", "a passport states its country in three letters: 'passport:USA:...'")
    if not 5 <= len(rest) <= 15:
        raise IdentifierError("length", "a passport number has 5 to 15 characters")
    _matches(rest, _ALNUM, "a passport number has letters and digits")
    return Identifier(kind, number, f"passport:{number}", ())


def _patterned(kind: IdentifierKind, number: str) -> Identifier:
    lengths, pattern, message = _PATTERNS[kind]
    if len(number) not in lengths:
        raise IdentifierError("length", message)
    _matches(number, pattern, message)
    warnings = ("secondary-identifier",) if kind in _SECONDARY_KINDS else ()
    return Identifier(kind, number, f"{kind.value}:{number}", warnings)


def _length(number: str, wanted: int, words: str = "") -> None:
    if len(number) != wanted:
        raise IdentifierError("length", f"the number has {len(number)} characters where {words or wanted} are due")


def _matches(number: str, pattern: re.Pattern[str], message: str) -> None:
    if not pattern.fullmatch(number):
        raise IdentifierError("alphabet", message)


_DIGITS: Final = re.compile(r"[0-9]+")
_ALNUM: Final = re.compile(r"[0-9A-Z]+")
_ORG_CODE: Final = re.compile(r"[0-9A-Z]{8}[0-9X]")
_CITIZEN: Final = re.compile(r"[0-9]{17}[0-9X]")
_RESIDENT_NEW: Final = re.compile(r"9[0-9]{16}[0-9X]")
_RESIDENT_OLD: Final = re.compile(r"[A-Z]{3}[0-9]{12}")
_COUNTRY: Final = re.compile(r"[A-Z]{3}")
_CERTIFICATE: Final = re.compile(r"[0-9A-Z\u4e00-\u9fff()]+")
_PATTERNS: Final = {
    IdentifierKind.REGISTRATION_NO: ((13, 15), _DIGITS, "a business registration number has 15 (older: 13) digits"),
    IdentifierKind.TAX_NO: (range(15, 21), _ALNUM, "a taxpayer number has 15 to 20 letters and digits"),
    IdentifierKind.INSTITUTION_NO: (range(4, 33), _CERTIFICATE, "an institution certificate has 4 to 32 characters"),
    IdentifierKind.SOCIAL_ORG_NO: (
        range(4, 33),
        _CERTIFICATE,
        "a social organisation certificate has 4 to 32 characters",
    ),
    IdentifierKind.HK_MACAO_PASS: (
        (9, 11),
        re.compile(r"[HM][0-9]+"),
        "a Hong Kong or Macao pass is H or M and 8 or 10 digits",
    ),
    IdentifierKind.TAIWAN_PASS: (
        (8, 10, 11),
        re.compile(r"[0-9]{8}([0-9]{2}[A-Z]?)?"),
        "a Taiwan pass has 8 or 10 digits",
    ),
    IdentifierKind.OFFICER_CARD: (range(4, 33), _CERTIFICATE, "an officer's card has 4 to 32 characters"),
}
_RULES: Final = {
    IdentifierKind.USCC: _uscc,
    IdentifierKind.ORG_CODE: _org_code,
    IdentifierKind.CITIZEN: _citizen,
    IdentifierKind.PERMANENT_RESIDENT: _permanent_resident,
    IdentifierKind.PASSPORT: _passport,
    **dict.fromkeys(_PATTERNS, _patterned),
}

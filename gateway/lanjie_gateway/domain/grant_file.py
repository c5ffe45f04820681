"""The grant file (TOML): what `lanjie grant set` takes. docs/operations.md has the form.

A fault refuses the whole file, by its key and rule; `domain.grants` has the obligations (1, 2, 3).
"""

import datetime
import re
import tomllib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeVar

from lanjie_gateway.domain.departments import LOCAL
from lanjie_gateway.domain.errors import Refused
from lanjie_gateway.domain.grants import MAX_DAYS, Grant, Limits, Mode, Officer, Unit
from lanjie_gateway.domain.identities import parse_identity
from lanjie_gateway.domain.signing import ED25519, PublicKey
from lanjie_matcher.masking import holds_personal_number
from lanjie_matcher.regions import REGION, covers

MAX_BYTES: Final = 1 << 20
MAX_TEXT: Final = 200
_CODE: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_MATTER: Final = re.compile(r"[\w.\-]{1,64}")
_MAX_LIMIT: Final = 10_000_000
_KEYS: Final = (
    "department name unit region regions matters modes implementer_kinds identities officers officers_required"
    " counter_key reads_listings limits valid_from valid_until document"
).split()
_T = TypeVar("_T")


def parse(file: bytes) -> Grant:
    """Read a grant file.

    Args:
        file: its bytes, at most 1 MiB.

    Raises:
        Refused: ARGUMENT_INVALID; field and rule are named: ``too-large``, ``toml``, ``key-unknown``, ``key-missing``,
            ``type``, ``code``, ``local``, ``unit-kind``, ``region``, ``empty``, ``mode-unknown``, ``identity``,
            ``identity-twice``, ``key``, ``range``, ``term``, ``date``.
    """
    if len(file) > MAX_BYTES:
        raise _fault("", "too-large", "it has more than 1 MiB")
    try:
        root = tomllib.loads(file.decode("utf-8"))
    except (ValueError, RecursionError):
        # Not UTF-8, not TOML, a number of thousands of digits, tables in tables without end.
        raise _fault("", "toml", "it is no TOML in UTF-8") from None
    _known("", root, ("grant",))
    table = _read(root, "grant", _table)
    _known("", table, _KEYS)
    regions = _read(table, "regions", _each(_region))
    grant = Grant(
        department=_read(table, "department", _department),
        name=_read(table, "name", _text),
        unit=_read(table, "unit", _unit),
        region=_read(table, "region", _region, regions[0] if len(regions) == 1 else None),
        regions=frozenset(regions),
        matters=frozenset(_read(table, "matters", _each(_matter))),
        modes=frozenset(_read(table, "modes", _each(_mode))),
        # Due, because a measure that names implementers passes by a unit that is of no kind.
        implementer_kinds=frozenset(_read(table, "implementer_kinds", _each(_text, least=0))),
        identities=MappingProxyType(_read(table, "identities", _identities, {})),
        officers=_read(table, "officers", _officers, ()),
        officers_required=_read(table, "officers_required", _flag, default=False),
        counter_key=_read(table, "counter_key", _key, b""),
        reads_listings=_read(table, "reads_listings", _flag, default=False),
        limits=_read(table, "limits", _limits, Limits()),
        valid_from=_read(table, "valid_from", _day),
        valid_until=_read(table, "valid_until", _day),
        document=_read(_read(table, "document", _document), "number", _text),
        document_date=_read(_read(table, "document", _document), "date", _day),
    )
    return _whole(grant)


def _whole(grant: Grant) -> Grant:
    """Refuse what no single key shows."""
    if not any(covers(each, grant.region) for each in grant.regions):
        raise _fault("region", "region", "it lies within one of the regions")
    days = (grant.valid_until - grant.valid_from).days
    if not 0 <= days <= MAX_DAYS:
        raise _fault("valid_until", "term", "it is the last day, at most five years after the first (Art. 61)")
    unsigned = not grant.counter_key and not all(officer.key for officer in grant.officers)
    if grant.officers_required and (unsigned or not (grant.counter_key or grant.officers)):
        raise _fault("officers_required", "key-missing", "somebody's key signs: counter_key, or a key for each officer")
    return grant


def _fault(key: str, rule: str, message: str) -> Refused:
    place = f"grant.{key}" if key else "grant"
    return Refused("ARGUMENT_INVALID", f"grant file: {key + ': ' if key else ''}{message}", field=place, rule=rule)


class _Bad(Exception):
    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


def _read(table: Mapping[str, Any], key: str, read: Callable[[Any], _T], default: _T | None = None) -> _T:
    if key not in table:
        if default is None:
            raise _fault(key, "key-missing", "it is due")
        return default
    try:
        return read(table[key])
    except _Bad as bad:
        raise _fault(key, bad.rule, str(bad)) from None


def _known(at: str, table: Mapping[str, Any], known: "tuple[str, ...] | list[str]") -> None:
    for key in table:
        if key not in known:
            raise _fault(at, "key-unknown", f"there is a key that is not known; known are {', '.join(known)}")


def _table(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _Bad("type", "it is a table")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > MAX_TEXT or "\0" in value:
        raise _Bad("type", f"it is a text of 1 to {MAX_TEXT} characters, without NUL")
    if holds_personal_number(value):
        raise _Bad("number", "it holds the number of a person (Art. 40)")
    return value.strip()


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _Bad("type", "it is true or false")
    return value


def _each(read: Callable[[Any], _T], least: int = 1) -> Callable[[Any], tuple[_T, ...]]:
    def read_all(value: Any) -> tuple[_T, ...]:
        if not isinstance(value, list):
            raise _Bad("type", "it is a list")
        if len(value) < least:
            raise _Bad("empty", "it names something: nothing is granted by leaving it out")
        return tuple(map(read, value))

    return read_all


def _matched(pattern: re.Pattern[str], rule: str, message: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise _Bad(rule, message)
        return value

    return read


_code = _matched(_CODE, "code", "it has 1 to 32 small letters, digits and hyphens")
_matter = _matched(_MATTER, "code", "a code of a matter has 1 to 64 letters, digits, dots and hyphens")
_region = _matched(REGION, "region", 'a region has six digits in quotes, as in "320100" (GB/T 2260)')


def _department(value: Any) -> str:
    if value == LOCAL:
        raise _Bad("local", "the embedded department has everything; no grant is set for it")
    return _code(value)


def _unit(value: Any) -> Unit:
    if not isinstance(value, str) or value not in set(Unit):  # (1)
        known = ", ".join(Unit)
        raise _Bad("unit-kind", f"it is one of {known}; market bodies get no interception interface (Art. 49)")
    return Unit(value)


def _mode(value: Any) -> Mode:
    if not isinstance(value, str) or value not in set(Mode):
        raise _Bad("mode-unknown", f"modes are {', '.join(Mode)}")
    return Mode(value)


def _identities(value: Any) -> dict[str, str]:
    table = _table(value)
    try:
        found = {parse_identity(san): _code(who) for san, who in table.items()}
    except ValueError as error:
        raise _Bad("identity", str(error)) from None
    if len(found) < len(table):
        raise _Bad("identity-twice", "an identity is one person's, once")
    return found


def _officers(value: Any) -> tuple[Officer, ...]:
    found = []
    for number, key in sorted(_table(value).items()):
        if not number.strip() or len(number) > 64 or "\0" in number:
            raise _Bad("code", "an officer's number has 1 to 64 characters, without NUL")
        if holds_personal_number(number):
            raise _Bad("number", "an officer's number is the department's own, no citizen number (Art. 40)")
        found.append(Officer(id=number, key=_key(key) if key else b""))
    return tuple(found)


def _key(value: Any) -> bytes:
    try:
        key = PublicKey.parse(_text(value))
    except ValueError as error:
        raise _Bad("key", str(error)) from None
    if key.algorithm != ED25519:
        raise _Bad("key", "it is an Ed25519 key")
    return key.raw


def _limits(value: Any) -> Limits:
    table = _table(value)
    _known("limits", table, ("checks_per_minute", "persons_per_day"))
    for number in table.values():
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= _MAX_LIMIT:
            raise _Bad("range", f"a limit is a number from 0 to {_MAX_LIMIT}; 0 is the gateway's default")
    return Limits(**table)


def _document(value: Any) -> Mapping[str, Any]:
    table = _table(value)
    _known("document", table, ("number", "date"))
    return table


def _day(value: Any) -> datetime.date:
    if not isinstance(value, datetime.date) or isinstance(value, datetime.datetime):
        raise _Bad("date", "it is a day, YYYY-MM-DD without quotes")
    return value

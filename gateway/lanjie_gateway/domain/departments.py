"""The departments file (TOML): departments other than `local`, their persons, and what each may write and publish.

docs/operations.md has the form. A fault refuses the whole file: half a file could leave a manager without bounds.

1. Art. 19-21: every person has one of the four roles, stated.
2. Art. 26-31, 61: a department with an authority states the list types and the region it writes.
3. Art. 45: a manager states level, region and the keys of his signature; a key is one person's.
4. Art. 66: the department's name, and the further names and USCCs that decision documents give it.
5. Art. 39, 43: the names of certificates by which a person calls; an identity is one person's.
"""

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from lanjie_gateway.domain.access import Management, Principal, Role, WriteScope, unit_key
from lanjie_gateway.domain.catalogue_rules import region_fits
from lanjie_gateway.domain.identities import parse_identity
from lanjie_gateway.domain.signing import PublicKey
from lanjie_matcher.catalogues import Level
from lanjie_matcher.regions import REGION, covers

LOCAL: Final = "local"
"""Code of the embedded department, which no file describes."""
MAX_BYTES: Final = 1 << 20
_CODE: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_LIST_TYPE: Final = re.compile(r"[\w.\-]{1,64}")
_LEVELS: Final = {level.name.lower(): level for level in Level}
_T = TypeVar("_T")


def asking(department: str) -> str | None:
    """Return a department as `Question` names it: `local` stands for every unit."""
    return None if department == LOCAL else department


class DepartmentsRefused(ValueError):
    """The departments file breaks a rule.

    Attributes:
        department: code; empty where the whole file is at fault.
        key: path of the key at fault below the department.
        rule: ``toml``, ``encoding``, ``too-large``, ``key-unknown``, ``key-missing``, ``type``, ``code``, ``local``,
            ``role-unknown``, ``region``, ``level``, ``list-types``, ``key``, ``key-twice``, ``identity``,
            ``identity-twice``, ``empty``.
    """

    def __init__(self, department: str, key: str, rule: str, message: str) -> None:
        place = " ".join(part for part in (f"department {department}" if department else "", key) if part)
        super().__init__(f"departments file: {place + ': ' if place else ''}{message} ({rule})")
        self.department = department
        self.key = key
        self.rule = rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A person of a department; `manages` and `signing_keys` are a manager's, `identities` names of certificates."""

    name: str
    roles: frozenset[Role]
    identities: tuple[str, ...] = ()
    manages: Management | None = None
    signing_keys: tuple[PublicKey, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Department:
    """One department.

    Attributes:
        code: the one in sources, actors and paths of token files.
        units: see `WriteScope.units`; the name is among them.
        list_types: what its authorities write.
    """

    code: str
    name: str
    region: str
    units: frozenset[str]
    list_types: frozenset[str]
    persons: tuple[Person, ...]

    def principals(self, home: str) -> Iterator[Principal]:
        """Yield its persons as callers.

        Args:
            home: region of department `local`.
        """
        # Never `None`, which is everything.
        writes = WriteScope(list_types=self.list_types, region=self.region, units=self.units, home=home)
        for person in self.persons:
            yield Principal(
                department=self.code,
                person=person.name,
                roles=person.roles,
                region=self.region,
                writes=writes,
                manages=person.manages,
                signing_keys=person.signing_keys,
            )


def parse(content: bytes) -> tuple[Department, ...]:
    """Read a departments file.

    Args:
        content: its bytes, at most 1 MiB; empty for no departments.

    Raises:
        DepartmentsRefused: it breaks a rule; the first fault is told.
    """
    if len(content) > MAX_BYTES:
        raise DepartmentsRefused("", "", "too-large", "it has more than 1 MiB")
    try:
        root = tomllib.loads(content.decode("utf-8"))
    except UnicodeDecodeError:
        raise DepartmentsRefused("", "", "encoding", "it is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise DepartmentsRefused("", "", "toml", str(error)) from None
    top = _Table("", "", root, ("departments",))
    found = top.get("departments", _table) or {}
    departments = tuple(_department(code, value) for code, value in found.items())
    owners: set[PublicKey | str] = set()
    for department in departments:
        for person in department.persons:
            place = f"persons.{person.name}"
            if owners.intersection(person.signing_keys):
                key = f"{place}.signing_keys"
                raise DepartmentsRefused(department.code, key, "key-twice", "a signing key is one person's")
            if owners.intersection(person.identities) or len(set(person.identities)) < len(person.identities):  # (5)
                key = f"{place}.identities"
                raise DepartmentsRefused(department.code, key, "identity-twice", "an identity is one person's, once")
            owners.update(person.signing_keys)
            owners.update(person.identities)
    return departments


class _Table:
    """A table of the file; every fault names department and key."""

    def __init__(self, department: str, path: str, value: Any, known: tuple[str, ...] | None) -> None:
        self.department = department
        self._path = path
        self._values = _checked(lambda: _table(value), department, path)
        for key in self._values:
            if known is not None and key not in known:
                raise self.fault(key, "key-unknown", f"there is no such key; known are {', '.join(known)}")

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def due(self, key: str, read: Callable[[Any], _T]) -> _T:
        if key not in self._values:
            raise self.fault(key, "key-missing", "it is due")
        return _checked(lambda: read(self._values[key]), self.department, self._at(key))

    def get(self, key: str, read: Callable[[Any], _T]) -> _T | None:
        return self.due(key, read) if key in self._values else None

    def fault(self, key: str, rule: str, message: str) -> DepartmentsRefused:
        return DepartmentsRefused(self.department, self._at(key), rule, message)

    def _at(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key


class _Fault(Exception):
    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


def _checked(read: Callable[[], _T], department: str, key: str) -> _T:
    try:
        return read()
    except _Fault as fault:
        raise DepartmentsRefused(department, key, fault.rule, str(fault)) from None


def _department(code: str, value: Any) -> Department:
    if code == LOCAL:
        raise DepartmentsRefused(code, "", "local", "the embedded department is not described by a file")
    if not _CODE.fullmatch(code):
        raise DepartmentsRefused(code[:64], "", "code", "a code has 1 to 32 small letters, digits and hyphens")
    table = _Table(code, "", value, ("name", "region", "units", "list_types", "persons"))
    name = table.due("name", _text)
    region = table.due("region", _region)
    persons = tuple(_person(code, who, each, region) for who, each in table.due("persons", _table).items())
    list_types = table.get("list_types", _texts) or ()
    for list_type in list_types:
        if not _LIST_TYPE.fullmatch(list_type):
            raise table.fault("list_types", "list-types", "a code of a list type has 1 to 64 letters and digits")
    if not persons:
        raise table.fault("persons", "empty", "a department has persons")
    if not list_types and any(Role.AUTHORITY in person.roles for person in persons):  # (2)
        raise table.fault("list_types", "list-types", "a department with an authority names the list types it writes")
    return Department(
        code=code,
        name=name,
        region=region,
        units=frozenset(map(unit_key, (name, *(table.get("units", _texts) or ())))),  # (4)
        list_types=frozenset(list_types),
        persons=persons,
    )


def _person(department: str, name: str, value: Any, own_region: str) -> Person:
    if not _CODE.fullmatch(name):
        message = "a person is named by 1 to 32 small letters, digits and hyphens"
        raise DepartmentsRefused(department, f"persons.{name[:64]}", "code", message)
    table = _Table(department, f"persons.{name}", value, ("roles", "identities", "level", "region", "signing_keys"))
    roles = frozenset(table.due("roles", _roles))  # (1)
    identities = table.get("identities", _identities) or ()
    if Role.MANAGER not in roles:
        for key in ("level", "region", "signing_keys"):
            if key in table:
                raise table.fault(key, "key-unknown", "only a manager has it")
        return Person(name=name, roles=roles, identities=identities)
    level = table.due("level", _level)  # (3)
    region = table.get("region", _region) or own_region
    if not region_fits(level, region) or not covers(own_region, region):
        message = "a region is one of its level, and lies within the department's"
        raise table.fault("region", "region", message)
    keys = table.due("signing_keys", _keys)
    manages = Management(level=level, region=region)
    return Person(name=name, roles=roles, identities=identities, manages=manages, signing_keys=keys)


def _table(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _Fault("type", "it is a table")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > 256:
        raise _Fault("type", "it is a text of 1 to 256 characters")
    return value.strip()


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise _Fault("type", "it is a list of texts")
    return tuple(map(_text, value))


def _region(value: Any) -> str:
    if not isinstance(value, str) or not REGION.fullmatch(value):
        raise _Fault("region", 'a region has six digits in quotes, as in "320100" (GB/T 2260)')
    return value


def _roles(value: Any) -> tuple[Role, ...]:
    texts = _texts(value)
    known = ", ".join(Role)
    if not texts or not set(texts) <= set(Role):
        raise _Fault("role-unknown", f"roles are one or more of {known}")
    return tuple(map(Role, texts))


def _level(value: Any) -> Level:
    if not isinstance(value, str) or value not in _LEVELS:
        raise _Fault("level", f"a level is one of {', '.join(_LEVELS)}")
    return _LEVELS[value]


def _identities(value: Any) -> tuple[str, ...]:
    try:
        return tuple(map(parse_identity, _texts(value)))
    except ValueError as error:
        raise _Fault("identity", str(error)) from None


def _keys(value: Any) -> tuple[PublicKey, ...]:
    try:
        keys = tuple(PublicKey.parse(text) for text in _texts(value))
    except ValueError as error:
        raise _Fault("key", str(error)) from None
    if not keys:
        raise _Fault("key", "a manager has a signing key")
    return keys

"""The text of a catalogue file and its fields, read with every fault noted instead of the first one raised.

YAML is a small language here: no merge keys and few aliases (they can make a few lines into gigabytes), no key twice in
a mapping (the second would silently win), dates are read as text (so that a bad one is reported with its entry), and no
more nesting than the format has.
"""

import datetime
import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import yaml

from lanjie_gateway.domain.errors import Refused

MAX_BYTES: Final = 4 * 1024 * 1024
MAX_DEPTH: Final = 12
MAX_ALIASES: Final = 1_000
MAX_TEXTS: Final = 1_000
"""Longest list of texts in one field."""
MAX_TEXT: Final = 4_000
"""Longest text of one field, in characters."""
_SHOWN: Final = 10
"""Faults named in a message; statuses travel in headers of a few KiB."""

_CODE: Final = re.compile(r"[\w.\-]{1,64}")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Fault:
    """One broken rule: the entry that breaks it (its code, or its place), the rule's name, the rule in words."""

    entry: str
    rule: str
    message: str


class CatalogueRefused(Refused):
    """A catalogue file breaks rules; nothing of it is published.

    Attributes:
        faults: every broken rule, in the order of the file. The first is in the metadata, too.
    """

    def __init__(self, file_name: str, faults: tuple[Fault, ...]) -> None:
        first = faults[0]
        shown = "; ".join(f"{fault.entry}: {fault.rule}: {fault.message}" for fault in faults[:_SHOWN])
        more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        super().__init__(
            "CATALOGUE_REFUSED",
            f"{file_name}: {shown}{more}",
            file=file_name,
            entry=first.entry,
            rule=first.rule,
        )
        self.faults = faults


class YamlError(ValueError):
    """The bytes are not the YAML a catalogue file is written in.

    Attributes:
        rule: ``yaml`` or ``duplicate-key``.
    """

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[misc]  # which of two bases is known at run time only
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002  as PyYAML has it
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise YamlError("yaml", f"line {key.start_mark.line + 1}: a key is a word")
            if key.value in seen:
                raise YamlError("duplicate-key", f"line {key.start_mark.line + 1}: the key {key.value!r} stands twice")
            if key.value == "<<" or key.tag == "tag:yaml.org,2002:merge":
                raise YamlError("yaml", f"line {key.start_mark.line + 1}: merge keys are not used here")
            seen.add(key.value)
        made: dict[Hashable, Any] = super().construct_mapping(node, deep=deep)
        return made


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_yaml(file: bytes) -> object:
    """Return what a YAML document says, in plain Python values.

    Raises:
        YamlError: not UTF-8, not YAML, more than one document, an alias, a key twice, too deep or too long.
    """
    if len(file) > MAX_BYTES:
        raise YamlError("yaml", f"a catalogue file has at most {MAX_BYTES} bytes")
    try:
        text = file.decode("utf-8-sig")
        _bounded(text)
        return yaml.load(text, Loader=_Loader)  # noqa: S506  derived from the safe loader
    except UnicodeDecodeError:
        raise YamlError("yaml", "the file is not UTF-8") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else 1
        raise YamlError("yaml", f"line {line}: {error.problem or 'cannot be read'}") from None
    except YamlError:
        raise
    except (yaml.YAMLError, ValueError, LookupError, AttributeError) as error:
        # A value that is not what its tag says is met by whatever the constructor of the tag stumbles over.
        raise YamlError("yaml", f"cannot be read ({type(error).__name__})") from None


def _bounded(text: str) -> None:
    # The event stream is flat, so it can be looked at before anything nests or multiplies.
    depth = aliases = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):
            aliases += 1
            if aliases > MAX_ALIASES:
                raise YamlError("yaml", f"more than {MAX_ALIASES} aliases")
        elif isinstance(event, yaml.ScalarEvent):
            if "\0" in event.value:
                line = event.start_mark.line + 1 if event.start_mark is not None else 1
                raise YamlError("yaml", f"line {line}: a text holds no NUL")
        elif isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise YamlError("yaml", f"more than {MAX_DEPTH} levels deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


class Fields:
    """One mapping of the file, read field by field. What is wrong with it goes to `faults`, and a stand-in comes back.

    Args:
        value: what the file holds in this place.
        place: where that is, e.g. ``measures[3]``; the entry's name if it has no code.
        known: the fields it may have; any other is a fault.
        faults: takes what is wrong.
    """

    def __init__(self, value: object, place: str, known: frozenset[str], faults: list[Fault]) -> None:
        self._values: Mapping[str, object] = {}
        self._faults = faults
        self.entry = place
        if not isinstance(value, dict):
            self.fault("field-type", "this is a mapping of fields")
            return
        self._values = {str(key): each for key, each in value.items()}
        code = self._values.get("code")
        if isinstance(code, str) and _CODE.fullmatch(code):
            self.entry = code
        for name in self._values:
            if name not in known:
                self.fault("field-unknown", f"no field is called {name[:40]!r}")

    def fault(self, rule: str, message: str) -> None:
        """Note a broken rule of this entry."""
        self._faults.append(Fault(self.entry, rule, message))

    def has(self, name: str) -> bool:
        """Whether a field is there and not empty."""
        return self._values.get(name) not in (None, "", [], {})

    def raw(self, name: str) -> object:
        """Return a field as it stands in the file; `None` where it is absent."""
        return self._values.get(name)

    def text(self, name: str, *, missing: str | None = None) -> str:
        """Return a text without surrounding blanks, "" where there is none.

        Args:
            name: the field.
            missing: rule that an absent or blank field breaks; `None` where it may be absent.
        """
        value = self._values.get(name)
        if value is None:
            value = ""
        if not isinstance(value, str):
            self.fault("field-type", f"{name} is a text; put it in quotes")
            return ""
        if len(value) > MAX_TEXT:
            self.fault("field-type", f"{name} has at most {MAX_TEXT} characters")
        if not value.strip() and missing is not None:
            self.fault(missing, f"{name} is due")
        return value.strip()

    def code(self, name: str = "code") -> str:
        """Return a code: letters, digits, dots, hyphens and underscores."""
        value = self.text(name, missing="field-missing")
        if value and not _CODE.fullmatch(value):
            self.fault("code-form", f"{name} has 1 to 64 letters, digits, dots, hyphens and underscores")
        return value

    def texts(self, name: str, *, missing: str | None = None) -> tuple[str, ...]:
        """Return a list of texts; each of them once."""
        value = self._values.get(name)
        if value is None:
            value = []
        if not isinstance(value, list) or not all(isinstance(each, str) and each.strip() for each in value):
            self.fault("field-type", f"{name} is a list of texts")
            return ()
        if len(value) > MAX_TEXTS:
            self.fault("field-type", f"{name} has at most {MAX_TEXTS} texts")
            return ()
        if not value and missing is not None:
            self.fault(missing, f"{name} names at least one")
        return tuple(dict.fromkeys(each.strip() for each in value))

    def number(self, name: str, lowest: int, highest: int) -> int | None:
        """Return a whole number within bounds, `None` where there is none."""
        value = self._values.get(name)
        if value is None:
            return None
        # bool is an int to Python, not to a reader of the file.
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
            self.fault("field-type", f"{name} is a whole number from {lowest} to {highest}")
            return None
        return value

    def flag(self, name: str) -> bool:
        """Return yes or no; no where it is not stated."""
        value = self._values.get(name)
        if value is not None and not isinstance(value, bool):
            self.fault("field-type", f"{name} is true or false")
        return value is True

    def day(self, name: str, *, missing: str | None = None) -> datetime.date | None:
        """Return a date written YYYY-MM-DD."""
        value = self._values.get(name)
        if value is None:
            if missing is not None:
                self.fault(missing, f"{name} is due")
            return None
        if isinstance(value, str) and _DATE.fullmatch(value):
            try:
                return datetime.date.fromisoformat(value)
            except ValueError:
                pass
        self.fault("field-type", f"{name} is a date that exists, written YYYY-MM-DD")
        return None

    def choice(self, name: str, choices: Mapping[str, _T], *, default: _T | None = None) -> _T | None:
        """Return what one of several words stands for; `default` where the field is absent, a fault without one."""
        value = self._values.get(name)
        if value is None and default is not None:
            return default
        if isinstance(value, str) and value in choices:
            return choices[value]
        rule = "field-missing" if value is None else "field-type"
        self.fault(rule, f"{name} is one of {', '.join(choices)}")
        return default

    def parts(self, name: str, known: frozenset[str]) -> "Fields | None":
        """Return a mapping inside this one, `None` where it is absent."""
        value = self._values.get(name)
        if value is None:
            return None
        return Fields(value, self.entry, known, self._faults)

"""The gateway's own deadlines (TOML, ``LANJIE_DEADLINES``): periods that another text sets than the one we know.

[objection-reply]
working_days = 15                  # or: days = 15
source = "the text, with its number and article"
valid_from = 2027-01-01            # optional; what started before keeps the period before
"""

import datetime
import tomllib
from collections.abc import Mapping
from typing import Final, NoReturn

from lanjie_gateway.domain.errors import Refused
from lanjie_matcher.deadlines import DEADLINES, Deadline, Period, Source, Unit, deadlines_with

MAX_BYTES: Final = 64 * 1024
MAX_NUMBER: Final = 366
_UNITS: Final = {unit.value: unit for unit in Unit}
_KEYS: Final = frozenset({*_UNITS, "source", "valid_from"})


def load(file: bytes) -> Mapping[str, Deadline]:
    """Return the table of deadlines with the periods of a file.

    Args:
        file: its bytes.

    Raises:
        Refused: ARGUMENT_INVALID, with rule and key in `field`.
    """
    if len(file) > MAX_BYTES:
        _refuse("", "too-large", f"at most {MAX_BYTES} bytes")
    try:
        content = tomllib.loads(file.decode("utf-8-sig"))
    except UnicodeDecodeError:
        _refuse("", "encoding", "the file is not UTF-8")
    except (ValueError, RecursionError) as error:
        _refuse("", "toml", str(error))
    return deadlines_with([(code, _period(code, value)) for code, value in content.items()])


def _period(code: str, value: object) -> Period:
    if code not in DEADLINES:
        _refuse(code[:40], "rule-unknown", f"no deadline has this name; known are {', '.join(DEADLINES)}")
    if not isinstance(value, dict):
        _refuse(code, "type", "this is a table of keys")
    for key in value:
        if key not in _KEYS:
            _refuse(f"{code}.{key[:40]}", "key-unknown", f"known are {', '.join(sorted(_KEYS))}")
    units = [name for name in _UNITS if name in value]
    if len(units) != 1:
        _refuse(code, "unit", f"one of {', '.join(_UNITS)} is due")
    number, source, valid_from = value[units[0]], value.get("source"), value.get("valid_from")
    # bool is an int to Python, not to a reader of the file.
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= MAX_NUMBER:
        _refuse(f"{code}.{units[0]}", "value", f"a whole number from 1 to {MAX_NUMBER}")
    if not isinstance(source, str) or not source.strip():
        _refuse(f"{code}.source", "key-missing", "the text that sets the period is due")
    if valid_from is not None and type(valid_from) is not datetime.date:
        _refuse(f"{code}.valid_from", "type", "a date, written 2027-01-01 without quotes")
    return Period(number=number, unit=_UNITS[units[0]], source=Source(law=source.strip()), valid_from=valid_from)


def _refuse(field: str, rule: str, message: str) -> NoReturn:
    place = f"deadlines, {field}" if field else "deadlines"
    raise Refused("ARGUMENT_INVALID", f"{place}: {message}", field=field or "deadlines", rule=rule)

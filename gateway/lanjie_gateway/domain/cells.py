"""What one cell of a list file says: a text, or a day. Nothing is repaired or guessed.

A workbook hands over numbers, dates and truth values where the author of the file saw texts; a number has lost its
leading zeros and all digits beyond the fifteenth. What could have been another text is refused.
"""

import datetime
import functools
import math
import re
import unicodedata
from collections.abc import Sequence
from typing import Final

from lanjie_gateway.domain.list_file import RowRefused


class CellError:
    """A cell whose formula failed (``#N/A``, ``#REF!``)."""


ERROR: Final = CellError()

Cell = str | int | float | bool | datetime.date | datetime.time | datetime.timedelta | CellError | None
"""A cell as a workbook, a CSV line or a JSON object holds it; `None` and the empty text are empty."""

DATE_FORMS: Final = ("yyyymmdd", "yyyy-mm-dd", "yyyy年m月d日", "serial")
"""Ways a day is written. The second takes ``/`` and ``.`` too, and months and days of one digit; the year stands first
and has four digits in all of them, so that no two read one text differently. A serial is a workbook's day number."""

_EXACT_DIGITS: Final = 15
_LONGEST_DAY: Final = 64
"""Characters of a day with its midnight; to bring a long text into one form may take for ever."""
_MIDNIGHT: Final = re.compile(r"[ T]?0?0:00(:00(\.0+)?)?")
_PATTERNS: Final = {
    "yyyymmdd": re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})"),
    "yyyy-mm-dd": re.compile(r"([0-9]{4})([-/.])([0-9]{1,2})\2([0-9]{1,2})"),
    "yyyy年m月d日": re.compile(r"([0-9]{4})年([0-9]{1,2})月([0-9]{1,2})日"),
}
_SERIAL: Final = re.compile(r"[0-9]{5}")
_EPOCHS: Final = {False: datetime.date(1899, 12, 30), True: datetime.date(1904, 1, 1)}
_FIRST: Final = datetime.date(1990, 1, 1)
"""No list is older. It keeps the stump of a day, ``20260``, from being read as a serial of 1955."""


def text_of(cell: Cell, column: str, *, identifier: bool = False) -> str:
    """Return the text of a cell, without blanks about it; empty where it is empty.

    Args:
        cell: the cell.
        column: column as the report is to name it.
        identifier: the column holds numbers of subjects: a workbook's number is none, for its leading zeros are gone.

    Raises:
        RowRefused: ``cell-error``, ``lost-precision``, or ``type``: a date, a truth value or the like.
    """
    if isinstance(cell, str):
        return cell.strip()
    if cell is None:
        return ""
    if isinstance(cell, float):
        text = str(int(cell)) if cell.is_integer() else repr(cell)
        if (
            identifier
            or not math.isfinite(cell)
            or "e" in text
            or len(text.lstrip("-0.").replace(".", "")) > _EXACT_DIGITS
        ):
            raise RowRefused(column, "lost-precision", "the cell is a number, not text: zeros or digits may be gone")
        return text
    if isinstance(cell, CellError):
        raise RowRefused(column, "cell-error", "the formula of the cell failed")
    if isinstance(cell, int) and not isinstance(cell, bool):
        return str(cell)
    raise RowRefused(column, "type", "the cell holds neither text nor a whole number")


def day_of_cell(cell: Cell, column: str, forms: Sequence[str], *, since_1904: bool = False) -> str:
    """Return the day of a cell as yyyy-mm-dd; empty where the cell is empty.

    Args:
        cell: the cell; a workbook's date needs no form.
        column: column as the report is to name it.
        forms: which of `DATE_FORMS` the column is written in. A time of day is taken if it is midnight.
        since_1904: serials count from 1904, as the workbook says.

    Raises:
        RowRefused: ``date``; ``cell-error``.
    """
    if isinstance(cell, str):
        text = cell.strip()
        return _day_of_text(text, tuple(forms), since_1904, column) if text else ""
    if isinstance(cell, datetime.datetime):
        if cell.time() == datetime.time():
            return cell.date().isoformat()
    elif isinstance(cell, datetime.date):
        return cell.isoformat()
    elif cell is None or isinstance(cell, CellError):
        return text_of(cell, column)
    elif (isinstance(cell, int) and not isinstance(cell, bool)) or (isinstance(cell, float) and cell.is_integer()):
        return _day_of_text(str(int(cell)), tuple(forms), since_1904, column)
    raise _no_day(column, forms)


@functools.lru_cache(maxsize=8192)
def _day_of_text(text: str, forms: tuple[str, ...], since_1904: bool, column: str) -> str:  # noqa: FBT001
    if len(text) > _LONGEST_DAY:
        raise _no_day(column, forms)
    plain = text if text.isascii() else unicodedata.normalize("NFKC", text)
    for form in forms:
        if form == "serial":
            if _SERIAL.fullmatch(plain):
                day = _EPOCHS[since_1904] + datetime.timedelta(days=int(plain))
                if day >= _FIRST:
                    return day.isoformat()
            continue
        match = _PATTERNS[form].match(plain)
        if match is None or (match.end() != len(plain) and not _MIDNIGHT.fullmatch(plain, match.end())):
            continue
        year, month, day_of_month = (int(part) for part in match.groups() if part.isdecimal())
        try:
            return datetime.date(year, month, day_of_month).isoformat()
        except ValueError:
            break
    raise _no_day(column, forms)


def _no_day(column: str, forms: Sequence[str]) -> RowRefused:
    return RowRefused(column, "date", f"no such day, or not written as {', '.join(forms)}")

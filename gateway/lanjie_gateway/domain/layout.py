"""A header of a real file under a profile, and its rows as canonical cells.

A row's errors name the column as the file does, so that a person finds the cell. No message carries a value.
"""

import hashlib
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from lanjie_gateway.domain.cells import Cell, day_of_cell, text_of
from lanjie_gateway.domain.list_file import (
    REMOVED_BY,
    REMOVES,
    FileRefused,
    RowRefused,
    prohibited_word,
    read_identifier,
)
from lanjie_gateway.domain.profile import USCC_OR_ORG_CODE, Certificate, Column, Profile, Related, plain_header
from lanjie_matcher import identifiers as ids

_LONGEST_COUNT: Final = 6
_LONGEST_CODE: Final = 256
"""A total may stand below a column of numbers; nothing longer is passed over with its row."""
_LONGEST_HEADER: Final = 64
_SEPARATORS: Final = re.compile("[;；]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How one column of the file is read, for people: place from 1, header of the file, what it becomes."""

    place: int
    header: str
    becomes: str


def missing_columns(profile: Profile, cells: Sequence[Cell]) -> tuple[int, tuple[str, ...]]:
    """Return how many columns of the profile a row names, and the headers of required columns that it does not."""
    found = {plain_header(cell) for cell in cells if isinstance(cell, str)}
    needed = [column.headers for column in profile.columns if column.required]
    needed += [each.headers for each in profile.identifiers if each.required]
    if not any(each.required for each in profile.identifiers):
        # Any one identifier will do.
        needed.append(tuple(header for each in profile.identifiers for header in each.headers))
    missing = tuple(headers[0] for headers in needed if not found & {plain_header(header) for header in headers})
    known = {plain_header(header) for column in profile.columns for header in column.headers}
    return len(found & known) + len(needed) - len(missing), missing


class Layout:
    """Where a file has the columns of a profile.

    Args:
        profile: the profile.
        cells: the header row.
        line: its line.
        list_type_given: whether the order names the list type.
        whole: required columns must be there; false for one JSON object among many.
        since_1904: the workbook counts days from 1904.

    Raises:
        FileRefused: ``column-prohibited``, ``column-unknown``, ``column-twice``, ``column-missing``. A header that the
            profile does not know is told by its place only.
    """

    def __init__(
        self,
        profile: Profile,
        cells: Sequence[Cell],
        line: int,
        *,
        list_type_given: bool,
        whole: bool = True,
        since_1904: bool = False,
    ) -> None:
        self._profile = profile
        self._line = line
        self._whole = whole
        self._since_1904 = since_1904
        # Blanks and line breaks within a header are no part of its name.
        self._headers = [" ".join(cell.split())[:_LONGEST_HEADER] if isinstance(cell, str) else "" for cell in cells]
        self._places = self._placed(cells)
        self._empty = {"", *profile.empty_values}
        self._constants = {name: text for name, text in profile.constants.items() if text}
        self.readings: list[Reading] = []
        self._columns = [read for column in profile.columns if (read := self._column(column)) is not None]
        self._identifiers = [number for one in profile.identifiers if (number := self._certificate(one)) is not None]
        self._related = [(one, *places) for one in profile.related if (places := self._person(one)) is not None]
        self._named = {name: self._headers[place] for name, place, _ in self._columns}
        for place in self._places_of(profile.ignore):
            self.readings.append(Reading(place=place + 1, header=self._headers[place], becomes="left out"))
        self.readings.sort(key=lambda reading: reading.place)
        self._outside = [place for place, header in enumerate(self._headers) if not header]
        self._read_places = sorted({reading.place - 1 for reading in self.readings if reading.becomes != "left out"})
        self._texts = {header for header in (*self._headers, *self._spelled()) if header}
        self._numbers: list[_Number] = []
        if whole and not (list_type_given or "list_type" in self._constants or "list_type" in self._named):
            raise FileRefused("column-missing", line, "neither the order nor the profile names the list type")

    def read(self, cells: Sequence[Cell]) -> dict[str, str] | None:
        """Return the canonical cells of a row that say something; `None` for a row that is none of the list's.

        Raises:
            RowRefused: with the column as the file names it.
        """
        width = len(self._headers)
        full: Sequence[Cell] = cells if len(cells) >= width else [*cells, *[""] * (width - len(cells))]
        if self._is_none(full):
            return None
        numbers = [(one, text) for one in self._identifiers if (text := one.text(full)) not in self._empty]
        if len(cells) != width:
            raise RowRefused("", "cells", f"the row has {len(cells)} cells, the header {width}")
        if any(full[place] not in {"", None} for place in self._outside):
            raise RowRefused("", "cells", "a cell stands in a column without a header")
        self._numbers = [one for one, _ in numbers]
        row = dict(self._constants)
        op = next((convert(full[place]) for name, place, convert in self._columns if name == "op"), row.get("op", ""))
        for name, place, convert in self._columns:
            if op in REMOVES and name not in REMOVED_BY:
                continue
            text = convert(full[place])
            if text not in self._empty:
                row[name] = text
        self._identify(row, full, numbers)
        if self._related:
            persons = [text for one, place, number in self._related if (text := self._mark(one, full, place, number))]
            if persons:
                row["related_persons"] = ";".join(persons)
        return row

    def blame(self, error: RowRefused) -> RowRefused:
        """Return an error about the row read last with its canonical column named as the file names it."""
        column = error.column
        if column in {"id_number", "id_kind"} and self._identifiers:
            one = (self._numbers or self._identifiers)[0]
            column = (column == "id_kind" and self._numbers and one.kind_header) or one.header
        elif column == "other_ids":
            column = "; ".join(one.header for one in self._numbers[1:])
        return RowRefused(self._named.get(column, column)[:_LONGEST_HEADER], error.rule, str(error))

    def _placed(self, cells: Sequence[Cell]) -> dict[str, int]:
        known = {plain_header(header) for header in (*self._spelled(), *self._profile.ignore)}
        places: dict[str, int] = {}
        for place, cell in enumerate(cells):
            if cell is None or cell == "":
                continue
            plain = plain_header(cell) if isinstance(cell, str) else ""
            if word := prohibited_word(plain):
                message = f"column {_letter(place)} ({word}): such data may not be kept (Art. 4, 62)"
                raise FileRefused("column-prohibited", self._line, message)
            if plain not in known:
                raise FileRefused("column-unknown", self._line, f"column {_letter(place)} is unknown to the profile")
            if plain in places:
                raise FileRefused("column-twice", self._line, f"column {_letter(place)} stands twice")
            places[plain] = place
        return places

    def _spelled(self) -> list[str]:
        profile = self._profile
        certificates = [*profile.identifiers, *(each.certificate for each in profile.related if each.certificate)]
        groups = [each.headers for each in profile.columns] + [each.headers for each in profile.related]
        groups += [group for each in certificates for group in (each.headers, each.kind_headers, each.country_headers)]
        return [header for group in groups for header in group]

    def _places_of(self, headers: Sequence[str]) -> list[int]:
        return [place for each in headers if (place := self._places.get(plain_header(each))) is not None]

    def _place(self, headers: Sequence[str], *, required: bool, becomes: str) -> int | None:
        found = sorted(set(self._places_of(headers)))
        if not found:
            if required and self._whole:
                raise FileRefused("column-missing", self._line, f"the column {headers[0]} is missing")
            return None
        if len(found) > 1:
            raise FileRefused("column-twice", self._line, f"column {_letter(found[1])} says what another one says")
        self.readings.append(Reading(place=found[0] + 1, header=self._headers[found[0]], becomes=becomes))
        return found[0]

    def _column(self, column: Column) -> tuple[str, int, Callable[[Cell], str]] | None:
        name = column.column
        how = f"{name} ({', '.join(column.dates)})" if column.dates else name
        place = self._place(column.headers, required=column.required, becomes=how)
        if place is None:
            return None
        header = self._headers[place]
        if column.dates:

            def day(cell: Cell) -> str:
                if isinstance(cell, str) and cell.strip() in self._empty:
                    return ""
                return day_of_cell(cell, header, column.dates, since_1904=self._since_1904)

            return name, place, day
        if not column.values:
            return name, place, lambda cell: text_of(cell, header)

        def mapped(cell: Cell) -> str:
            text = _code(cell, header)
            if text in self._empty:
                return ""
            # Operations and kinds of subject have rules of their own, and may be written canonically.
            value = column.values.get(text, text if name in {"op", "subject_kind"} else None)
            if value is None:
                raise RowRefused(header, "value-unknown", "the profile does not know this value of the column")
            return value

        return name, place, mapped

    def _certificate(self, one: Certificate, becomes: str = "identifier") -> "_Number | None":
        kind = one.kind or f"kind by {one.scheme or 'code'}"
        place = self._place(one.headers, required=one.required, becomes=f"{becomes} ({kind})")
        if place is None:
            return None
        told = self._place(one.kind_headers, required=True, becomes="kind of identifier") if one.kind_headers else None
        country = self._place(one.country_headers, required=False, becomes="country of a passport")
        return _Number(one, place, told, country, self._headers)

    def _person(self, one: Related) -> "tuple[int | None, _Number | None] | None":
        place = self._place(one.headers, required=False, becomes=f"mark: {one.role}")
        number = self._certificate(one.certificate, f"mark: {one.role}") if one.certificate else None
        return None if place is None and number is None else (place, number)

    def _is_none(self, cells: Sequence[Cell]) -> bool:
        texts = [
            text for one in self._identifiers if isinstance(cell := cells[one.place], str) and (text := cell.strip())
        ]
        if texts and texts[0] in self._texts:
            # Exports repeat their header, some under the codes of the columns.
            return True
        if all(len(text) <= _LONGEST_COUNT for text in texts):
            first = next((cell for cell in cells if cell not in {"", None}), "")
            if isinstance(first, str) and first.strip().startswith(self._profile.skip_rows_where):
                return True
        return not texts and all(cells[place] in {"", None} for place in self._read_places)

    def _identify(self, row: dict[str, str], cells: Sequence[Cell], numbers: "list[tuple[_Number, str]]") -> None:
        known: dict[str, str] = {}
        others = []
        for one, text in numbers:
            kind = one.kind(cells, text)
            number = one.with_country(cells, kind, text)
            known.setdefault(kind, ids.normalise(number))
            if "id_kind" in row:
                # The rules of a row would see them as one cell; alone each error has its own column.
                read_identifier(kind, number, one.header)
                others.append(f"{kind}:{number}")
            else:
                row["id_kind"], row["id_number"] = kind, number
        if others:
            row["other_ids"] = ";".join(others)
        parts = [known.get(part) or row.get(part, "") for part in self._profile.record_id]
        if parts and all(parts):
            joined = self._profile.separator.join(parts)
            # It is the source's own key, and no secret: persons' numbers are never part of it.
            # Half of a surrogate is no text, as the rules of a row then say.
            key = joined.encode(errors="surrogatepass")
            row["source_record_id"] = hashlib.md5(key, usedforsecurity=False).hexdigest()

    def _mark(self, one: Related, cells: Sequence[Cell], place: int | None, number: "_Number | None") -> str:
        name = text_of(cells[place], self._headers[place]) if place is not None else ""
        paper = number.mark(cells, self._empty) if number is not None else ""
        said = [part for part in ("" if name in self._empty else name, paper) if part]
        return _SEPARATORS.sub("、", ":".join((one.role, *said))) if said else ""


class _Number:
    """A column of numbers with its kind and country."""

    def __init__(
        self, one: Certificate, place: int, kind_place: int | None, country_place: int | None, headers: Sequence[str]
    ) -> None:
        self._one = one
        self.place = place
        self._kind_place = kind_place
        self._country_place = country_place
        self.header = headers[place]
        self.kind_header = headers[kind_place] if kind_place is not None else ""

    def text(self, cells: Sequence[Cell]) -> str:
        text = text_of(cells[self.place], self.header, identifier=True)
        if len(text) > ids.MAX_TEXT:
            # Before it is brought into one form, which takes a long text of combining marks for ever.
            message = f"an identifier has at most {ids.MAX_TEXT} characters"
            raise RowRefused(self.header, "identifier-too-long", message)
        return text

    def kind(self, cells: Sequence[Cell], number: str) -> str:
        kind = self._one.kind or self._by_code(cells)
        if kind == USCC_OR_ORG_CODE:
            # Both name one company, and no text can be both.
            return "uscc" if len(ids.normalise(number)) == 18 else "org_code"
        return kind

    def _by_code(self, cells: Sequence[Cell]) -> str:
        code = self._code(cells)
        if not code:
            raise RowRefused(self.kind_header, "identifier-kind-missing", "the kind of the certificate is not stated")
        kind = self._one.codes.get(code, "")
        if not kind:
            raise RowRefused(self.kind_header, "certificate-code", "no kind of identifier has this code")
        return kind

    def _code(self, cells: Sequence[Cell]) -> str:
        place = self._kind_place
        return "" if place is None else _code(cells[place], self.kind_header)

    def with_country(self, cells: Sequence[Cell], kind: str, number: str) -> str:
        if kind != "passport" or self._country_place is None or ":" in number:
            return number
        country = _code(cells[self._country_place], self.header)
        country = self._one.countries.get(country, country)
        return f"{country}:{number}" if country else number

    def mark(self, cells: Sequence[Cell], empty: set[str]) -> str:
        # A mark has no effect, so a code without a kind of ours stays what it is: scheme and code.
        number = text_of(cells[self.place], self.header)
        if number in empty:
            return ""
        code = self._code(cells)
        kind = self._one.kind or self._one.codes.get(code, "") or "-".join(filter(None, (self._one.scheme, code)))
        return ":".join(filter(None, (kind, number)))


def _code(cell: Cell, header: str) -> str:
    # As the profile's own codes: full-width digits and brackets are those of everybody.
    text = text_of(cell, header)
    if len(text) > _LONGEST_CODE:
        raise RowRefused(header, "too-long", f"the cell has more than {_LONGEST_CODE} characters")
    return unicodedata.normalize("NFKC", text)


def _letter(place: int) -> str:
    """Return a place from 0 as a person counts and as a sheet names it: ``28 (AB)``."""
    letters, rest = "", place + 1
    while rest:
        rest, digit = divmod(rest - 1, 26)
        letters = chr(ord("A") + digit) + letters
    return f"{place + 1} ({letters})"

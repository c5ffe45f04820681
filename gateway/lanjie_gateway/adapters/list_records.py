"""Records of a list file: CSV, JSON lines and workbooks, in canonical columns or under a profile.

The parser child and `lanjie profile try` read through this module, so that what is tried is what is imported. Memory
does not grow with a text file; a workbook's sheet is in memory as a whole (see `workbook`).
"""

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, Final

from lanjie_gateway.domain.cells import Cell, day_of_cell, text_of
from lanjie_gateway.domain.layout import Layout, missing_columns
from lanjie_gateway.domain.list_file import (
    DATE_COLUMNS,
    FileRefused,
    RowRefused,
    read_header,
)
from lanjie_gateway.domain.profile import ENCODINGS, Profile

MAX_LINE: Final = 64 * 1024
"""Longest line, and longest cell, in bytes."""
_KNOWN_SHAPES: Final = 1_000
_NUMBERS: Final = frozenset({"id_number", "other_ids"})

Record = tuple[int, Mapping[str, str] | RowRefused]
"""A line and its canonical cells, or why it cannot be read."""


class ListReader:
    """Reads the records of one file.

    Args:
        source: its bytes.
        file_format: ``csv``, ``jsonl`` or ``xlsx``.
        profile: how its shape is read; `None` for canonical columns, their header in the first row.
        list_type_given: whether the order names the list type, so that the column may be missing.

    Attributes:
        sheet: name of the sheet that is read; empty for other files.
        header_line: line of the header; 0 before it was found, and where every line names its columns.
        layout: where the file has the profile's columns; for JSON lines those of the line read last.
    """

    def __init__(
        self, source: BinaryIO, file_format: str, *, profile: Profile | None = None, list_type_given: bool
    ) -> None:
        self._source = source
        self._format = file_format
        self._profile = profile
        self._given = list_type_given
        self._since_1904 = False
        self.sheet = ""
        self.header_line = 0
        self.layout: Layout | None = None

    def __iter__(self) -> Iterator[Record]:
        """Yield the records.

        Raises:
            FileRefused: the file cannot be taken.
        """
        if self._format == "xlsx":
            return self._of_workbook()
        if self._format == "jsonl":
            return self._of_objects()
        rows = _csv_rows(_lines(self._source, self._encoding), self._profile.delimiter if self._profile else ",")
        return self._of_rows(rows) if self._profile else self._of_texts(rows)

    def blame(self, error: RowRefused) -> RowRefused:
        """Return an error of `read_row` about the record yielded last, its column named as the file names it."""
        return self.layout.blame(error) if self.layout is not None else error

    @property
    def _encoding(self) -> str:
        return self._profile.encoding if self._profile else "utf-8"

    def _of_texts(self, rows: Iterable[tuple[int, list[str]]]) -> Iterator[Record]:
        # Canonical CSV: the way a million rows come.
        names: list[str] | None = None
        for line, cells in rows:
            if names is None:
                names = read_header(cells, line, list_type_given=self._given)
                self.header_line = line
            elif len(cells) == len(names):
                yield line, dict(zip(names, cells, strict=True))
            elif cells:
                yield line, RowRefused("", "cells", f"the row has {len(cells)} cells, the header {len(names)}")
        if names is None:
            raise FileRefused("empty", 0, "the file is empty")

    def _of_rows(self, rows: Iterable[tuple[int, Sequence[Cell]]]) -> Iterator[Record]:
        if self._profile is None:
            yield from self._of_canonical(rows)
            return
        rows = iter(rows)
        layout = self.layout = self._found(rows, self._profile)
        for line, cells in rows:
            try:
                row = layout.read(cells)
            except RowRefused as error:
                yield line, error
            else:
                if row is not None:
                    yield line, row

    def _of_canonical(self, rows: Iterable[tuple[int, Sequence[Cell]]]) -> Iterator[Record]:
        names: list[str] | None = None
        for line, cells in rows:
            if names is None:
                names = self._canonical_names(cells, line)
                self.header_line = line
            elif any(cell not in {"", None} for cell in cells):
                try:
                    yield line, {name: self._cell(name, cell) for name, cell in zip(names, cells, strict=True)}
                except RowRefused as error:
                    yield line, error
        if names is None:
            raise FileRefused("empty", 0, "the file is empty")

    def _canonical_names(self, cells: Sequence[Cell], line: int) -> list[str]:
        return read_header([cell if isinstance(cell, str) else "" for cell in cells], line, list_type_given=self._given)

    def _cell(self, name: str, cell: Cell) -> str:
        if name in DATE_COLUMNS and not isinstance(cell, str | int | float):
            return day_of_cell(cell, name, ())
        return text_of(cell, name, identifier=name in _NUMBERS)

    def _found(self, rows: Iterator[tuple[int, Sequence[Cell]]], profile: Profile) -> Layout:
        """Go to the header: the first row that names all columns the profile requires."""
        best: tuple[int, int, tuple[str, ...]] = (0, 0, ())
        for line, cells in rows:
            known, missing = missing_columns(profile, cells)
            if not missing:
                self.header_line = line
                return Layout(profile, cells, line, list_type_given=self._given, since_1904=self._since_1904)
            if known > best[0]:
                best = (known, line, missing)
            if line >= profile.header_within:
                break
        if not best[0]:
            message = f"none of the first {profile.header_within} rows is a header of this profile"
            raise FileRefused("header-missing", 0, message)
        raise FileRefused("column-missing", best[1], f"columns are missing: {', '.join(best[2])}")

    def _of_workbook(self) -> Iterator[Record]:
        from lanjie_gateway.adapters.workbook import Workbook  # noqa: PLC0415  text files need none of it

        with Workbook(self._source) as book:
            self._since_1904 = book.since_1904
            wanted = _pattern(self._profile.sheet) if self._profile and self._profile.sheet else None
            names = [name for name in book.sheets if wanted is None or wanted.fullmatch(name)]
            if not names:
                raise FileRefused("sheet", 0, "the workbook has no sheet of the name that the profile gives")
            found = names[:1]
            if len(names) > 1:
                found = [name for name in names if self._fits(book.rows(name))] or found
            if len(found) > 1:
                # Half a list read in silence would let the other half pass.
                raise FileRefused("sheet", 0, "several sheets hold such a list; name one as `sheet` of a profile")
            (self.sheet,) = found
            yield from self._of_rows(book.rows(self.sheet))

    def _fits(self, rows: Iterable[tuple[int, Sequence[Cell]]]) -> bool:
        for line, cells in rows:
            if self._profile is None:
                try:
                    self._canonical_names(cells, line)
                except FileRefused:
                    return False
                return True
            if not missing_columns(self._profile, cells)[1]:
                return True
            if line >= self._profile.header_within:
                break
        return False

    def _of_objects(self) -> Iterator[Record]:
        shapes: dict[tuple[str, ...], list[str] | Layout] = {}
        for line, text in enumerate(_lines(self._source, self._encoding), 1):
            if not text.strip():
                continue
            try:
                value = json.loads(text, object_pairs_hook=_object_of)
            except (ValueError, RecursionError):
                value = None
            if not isinstance(value, dict):
                yield line, RowRefused("", "json", "the line is not a JSON object, or a key of it stands twice")
                continue
            keys = tuple(value)
            shape = shapes.get(keys)
            if shape is None:
                shape = self._shape(keys, line)
                if len(shapes) < _KNOWN_SHAPES:
                    shapes[keys] = shape
            try:
                row = self._object(shape, value)
            except RowRefused as error:
                yield line, error
            else:
                if row is not None:
                    yield line, row

    def _shape(self, keys: tuple[str, ...], line: int) -> list[str] | Layout:
        if self._profile is not None:
            return Layout(self._profile, keys, line, list_type_given=self._given, whole=False)
        # What stands nowhere is empty here; only names that are not ours refuse the file.
        absent = [name for name in ("id_kind", "id_number", "list_type") if name not in keys]
        return read_header((*keys, *absent), line, list_type_given=self._given)[: len(keys)]

    def _object(self, shape: list[str] | Layout, value: Mapping[str, Any]) -> Mapping[str, str] | None:
        if isinstance(shape, Layout):
            self.layout = shape
            return shape.read([_plain(cell) for cell in value.values()])
        return {name: _json_cell(name, cell) for name, cell in zip(shape, value.values(), strict=True)}


def _lines(source: BinaryIO, encoding: str) -> Iterator[str]:
    number = 0
    while raw := source.readline(MAX_LINE + 1):
        number += 1
        if len(raw) > MAX_LINE:
            raise FileRefused("line-too-long", number, f"the line has more than {MAX_LINE} bytes")
        try:
            # No byte of a GB 18030 character is a line feed, so lines can be told before they are decoded.
            yield raw.decode(ENCODINGS[encoding] if number == 1 else encoding)
        except UnicodeDecodeError:
            raise FileRefused("encoding", number, f"the line is not {encoding.upper()}") from None
    if number == 0:
        raise FileRefused("empty", 0, "the file is empty")


def _csv_rows(lines: Iterator[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(MAX_LINE)
    reader = csv.reader(lines, strict=True, delimiter=delimiter)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error:
            # Once quoting is broken nobody can tell where rows begin.
            raise FileRefused("csv", line, "a quoted cell does not end as it must (RFC 4180)") from None
        if cells is None:
            return
        yield line, cells


def _json_cell(name: str, cell: Any) -> str:
    if isinstance(cell, str):
        return cell
    if cell is None:
        return ""
    if isinstance(cell, int) and not isinstance(cell, bool):
        return str(cell)
    if isinstance(cell, list) and name in {"other_ids", "related_persons"}:
        parts = [part for part in cell if isinstance(part, str) and ";" not in part]
        if len(parts) == len(cell):
            return ";".join(parts)
    raise RowRefused(name, "type", "the value is neither text nor a whole number")


def _object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        # The second would win in silence, as the number of another subject.
        raise ValueError("a key stands twice")
    return made


def _plain(cell: Any) -> Cell:
    # Of arrays and objects it is enough that they are no text: what a profile leaves out may hold them.
    return cell if cell is None or isinstance(cell, str | int | float) else True


def _pattern(sheet: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, sheet.split("*"))))

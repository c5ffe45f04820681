"""Workbooks (Office Open XML), read by calamine after their package was checked.

Calamine holds a whole sheet in memory and keeps silent about two things: a sheet whose two cells lie far apart costs as
much as a full one, and a formula that failed is an empty cell. So every part is unpacked once before, by pieces: that
proves the sizes the directory states, bounds rows and columns, and finds the failed formulas.
"""

import mmap
import re
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import IO, BinaryIO, Final, Self
from xml.parsers import expat

from python_calamine import (
    CalamineError,
    CalamineSheet,
    CalamineWorkbook,
    SheetTypeEnum,
    SheetVisibleEnum,
)

from lanjie_gateway.domain.cells import ERROR, Cell
from lanjie_gateway.domain.list_file import FileRefused

MAX_FILE: Final = 128 << 20
MAX_UNPACKED: Final = 512 << 20
MAX_RATIO: Final = 200
"""Unpacked bytes of a part for one packed, from a mebibyte on; real sheets stay below 60."""
MAX_PARTS: Final = 2_000
MAX_ROWS: Final = 299_999
MAX_COLUMNS: Final = 64
"""Calamine lays a sheet out as rows times columns."""

_PIECE: Final = 1 << 20
_BEYOND: Final = re.compile(
    rb"""\sr\s*=\s*["'](?:[A-Za-z]{3}|[C-Zc-z][A-Za-z][0-9]|[Bb][M-Zm-z][0-9]|[A-Za-z]*(?:[0-9]{7}|[3-9][0-9]{5}\b))"""
)
_FAILED: Final = re.compile(rb"""<(?:\w+:)?c\s([^>]*\bt\s*=\s*["']e["'][^>]*)>""")
_REFERENCE: Final = re.compile(rb"""\br\s*=\s*["']([A-Za-z]+)([0-9]+)["']""")
_DAMAGED: Final = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    RuntimeError,
    ValueError,
    LookupError,
    expat.ExpatError,
    CalamineError,
)
"""What the readers of packages raise at damage, parts under a password and unknown compression."""
_OLE: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED: Final = "EncryptedPackage".encode("utf-16-le")


class Workbook:
    """A workbook from a stream; its bytes lie in a file that has no name.

    Args:
        source: its bytes.

    Raises:
        FileRefused: ``workbook``, ``workbook-encrypted``, ``workbook-old``, ``workbook-size``.
    """

    def __init__(self, source: BinaryIO) -> None:
        self._file = _spooled(source)
        self._loaded: CalamineSheet | None = None
        try:
            self._failed, self.since_1904 = _checked(self._file)
            # By path calamine reads the file piece by piece; of an object it would copy all of it.
            self._book = CalamineWorkbook.from_path(f"/dev/fd/{self._file.fileno()}")
        except _DAMAGED:
            self._file.close()
            raise _none() from None
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._book.close()
        self._file.close()

    @property
    def sheets(self) -> list[str]:
        """Names of the sheets that a person sees, in order."""
        seen = (SheetTypeEnum.WorkSheet, SheetVisibleEnum.Visible)
        return [each.name for each in self._book.sheets_metadata if (each.typ, each.visible) == seen]

    def rows(self, sheet: str) -> Iterator[tuple[int, Sequence[Cell]]]:
        """Yield the rows of a sheet with their numbers, as a person sees them; all have the same width.

        Raises:
            FileRefused: ``workbook``.
        """
        try:
            # Kept: the sheet that was looked at for its header is most often the one that is read.
            if self._loaded is None or self._loaded.name != sheet:
                self._loaded = self._book.get_sheet_by_name(sheet)
            found = self._loaded
        except CalamineError:
            raise _none() from None
        failed = self._failed.get(sheet, {})
        blank: list[Cell] = [""] * (found.start[1] if found.start else 0)
        for number, cells in enumerate(found.iter_rows(), 1):
            row: list[Cell] = [*blank, *cells] if blank else [*cells]
            for place in failed.get(number, ()):
                if place < len(row):
                    row[place] = ERROR
            yield number, row


def _none() -> FileRefused:
    return FileRefused("workbook", 0, "the file is no workbook (.xlsx), or a damaged one")


def _spooled(source: BinaryIO) -> IO[bytes]:
    # Closed by its owner, the workbook.
    file = tempfile.TemporaryFile()  # noqa: SIM115
    while piece := source.read(_PIECE):
        file.write(piece)
        if file.tell() > MAX_FILE:
            file.close()
            raise FileRefused("workbook-size", 0, f"the workbook has more than {MAX_FILE >> 20} MiB; send CSV")
    file.flush()
    return file


def _checked(file: IO[bytes]) -> tuple[dict[str, dict[int, list[int]]], bool]:
    """Check the package; return the places of failed formulas by sheet and row, and whether days count from 1904."""
    file.seek(0)
    if file.read(len(_OLE)) == _OLE:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
            if whole.find(_ENCRYPTED) >= 0:
                raise FileRefused("workbook-encrypted", 0, "the workbook is protected by a password; take it off")
        raise FileRefused("workbook-old", 0, "an .xls workbook does not tell failed formulas; save it as .xlsx")
    with zipfile.ZipFile(file) as package:
        parts = package.infolist()
        if len({part.filename for part in parts}) != len(parts):
            # Two readers might each take another one.
            raise _none()
        too_large = len(parts) > MAX_PARTS or sum(part.file_size for part in parts) > MAX_UNPACKED
        if too_large or any(part.file_size > max(MAX_RATIO * part.compress_size, _PIECE) for part in parts):
            raise FileRefused("workbook-size", 0, "the workbook unpacks to more than it may; send CSV")
        sheets, since_1904 = _sheets(package)
        failed: dict[str, dict[int, list[int]]] = {}
        for part in parts:
            # To the end: then the size the directory states is the true one.
            with package.open(part) as content:
                if part.filename in sheets:
                    failed[sheets[part.filename]] = _scanned(content)
                else:
                    while content.read(_PIECE):
                        pass
    return failed, since_1904


def _scanned(content: IO[bytes]) -> dict[int, list[int]]:
    """Bound a sheet, and return the places from 0 of its failed formulas by row."""
    failed: dict[int, list[int]] = {}
    rest = b""
    while piece := content.read(_PIECE):
        text = rest + piece
        if b"\0" in piece or len(rest) > _PIECE:
            raise _none()
        if _BEYOND.search(text):
            message = f"a sheet reaches beyond {MAX_ROWS} rows or {MAX_COLUMNS} columns; send CSV"
            raise FileRefused("workbook-size", 0, message)
        # A tag that the piece cuts in two is looked at with the next.
        cut = text.rfind(b"<")
        rest = text[cut:]
        for attributes in _FAILED.findall(text[:cut]):
            reference = _REFERENCE.search(attributes)
            if reference is None:
                raise _none()
            place = 0
            for letter in reference[1].upper():
                place = place * 26 + letter - ord("A") + 1
            failed.setdefault(int(reference[2]), []).append(place - 1)
    return failed


def _sheets(package: zipfile.ZipFile) -> tuple[dict[str, str], bool]:
    """Return the names of the sheets by part, and whether days count from 1904."""
    elements = _elements(package, "xl/workbook.xml")
    targets = {each["Id"]: each["Target"] for name, each in _elements(package, "xl/_rels/workbook.xml.rels")}
    sheets = {}
    for name, attributes in elements:
        if name == "sheet":
            target = targets[next((value for key, value in attributes.items() if key.endswith(":id")), "")]
            sheets[target[1:] if target.startswith("/") else f"xl/{target}"] = attributes["name"]
    since_1904 = any(name == "workbookPr" and each.get("date1904") in {"1", "true"} for name, each in elements)
    return sheets, since_1904


def _elements(package: zipfile.ZipFile, part: str) -> list[tuple[str, dict[str, str]]]:
    """Return the elements of a small part, their prefixes left out, with their attributes."""
    if package.getinfo(part).file_size > _PIECE:
        raise _none()
    found: list[tuple[str, dict[str, str]]] = []
    parser = expat.ParserCreate()

    def start(name: str, attributes: dict[str, str]) -> None:
        found.append((name.rpartition(":")[2], attributes))

    def doctype(*_: object) -> None:
        raise _none()

    parser.StartElementHandler = start
    parser.StartDoctypeDeclHandler = doctype
    parser.Parse(package.read(part), True)
    return [(name, each) for name, each in found if name in {"sheet", "workbookPr", "Relationship"}]

"""The parser of list files: a child process, so that a large file never takes the interpreter of a serving one.

Run as ``python -m lanjie_gateway.adapters.list_parser``. On stdin: the order (one frame), then the bytes of the file
to its end. On stdout: frames ``("rows", good, bad)``, then one of ``("done", rows)``, ``("refused", rule, line,
message)``, ``("failed", kind of error)``. A frame is four bytes of length, big-endian, and msgpack.

Nothing is written to stderr: a traceback could quote a row. Memory does not grow with the file.
"""

import contextlib
import csv
import ctypes
import datetime
import fcntl
import gc
import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, Final

import msgpack

from lanjie_gateway.adapters.sealing import Sealer
from lanjie_gateway.domain.list_file import (
    FileRefused,
    FileRules,
    ListingDraft,
    ListTypeRule,
    Op,
    RowRefused,
    read_header,
    read_row,
)
from lanjie_gateway.domain.staged import StagedRow, listing_id
from lanjie_matcher.fingerprints import IndexKey, ViewKey
from lanjie_matcher.identifiers import Identifier
from lanjie_matcher.subjects import normalise_name

MAX_LINE: Final = 64 * 1024
"""Longest line, and longest cell, in bytes."""
CHUNK_ROWS: Final = 1_000
"""Rows of one frame, good and bad."""
_DIE_WITH_PARENT: Final = 1  # PR_SET_PDEATHSIG
_ANY_BITS: Final = 56


class _Maker:
    """Makes staged rows of drafts: hashed, packed, sealed."""

    def __init__(self, order: Mapping[str, Any]) -> None:
        self._batch: int = order["batch"]
        self._day = datetime.date.fromordinal(order["today"])
        self._index = IndexKey(order["index_key"])
        # A digest is the same at any width; only fingerprints cut it.
        self._view = ViewKey(order["view_key"], _ANY_BITS)
        self._sealer = Sealer(order["store_key"])

    def row(self, draft: ListingDraft) -> StagedRow:
        """Return the staged row of a draft."""
        token = self._index.token
        natural_key = token(draft.key_text())
        version = draft.texts["source_version"]
        if draft.op is Op.DELETE:
            return StagedRow(
                draft.line, draft.op, natural_key, b"", draft.list_type, draft.source, version, b"", b"", b"", ()
            )
        identities = [(each.kind.value, token(each.reveal())) for each in draft.identifiers]
        name_token = token(normalise_name(draft.name)) if draft.name else None
        sealed, wrapped = self._sealer.seal(draft.details(), natural_key)
        return StagedRow(
            draft.line,
            draft.op,
            natural_key,
            token(draft.content_text()),
            draft.list_type,
            draft.source,
            version,
            draft.packed(listing_id(self._batch, draft.line), self._day, identities, name_token),
            sealed,
            wrapped,
            self._keys(draft.identifiers),
        )

    def _keys(self, identifiers: tuple[Identifier, ...]) -> tuple[tuple[bytes, int | None], ...]:
        if len(identifiers) == 1:
            (only,) = identifiers
            return ((self._index.token(only.key), None if only.is_person else self._view.digest64(only.key)),)
        keys = {each.key: None if each.is_person else self._view.digest64(each.key) for each in identifiers}
        return tuple((self._index.token(key), digest) for key, digest in keys.items())


def main() -> None:
    """Parse one file from stdin to stdout."""
    source, answers = sys.stdin.buffer, sys.stdout.buffer
    order = read_frame(source)
    _die_with(order["parent"])
    # Rows make no cycles; looking for some among thousands of them costs a fifth of the time.
    gc.freeze()
    gc.set_threshold(200_000, 20, 20)
    with contextlib.suppress(AttributeError, OSError):
        fcntl.fcntl(answers, fcntl.F_SETPIPE_SZ, 1 << 20)
    try:
        rows = _parse(order, source, answers)
        answer: tuple[Any, ...] = ("done", rows)
    except FileRefused as error:
        answer = ("refused", error.rule, error.line, str(error))
    except BrokenPipeError:
        return
    except Exception as error:  # noqa: BLE001 - its text could quote a row, so only its kind leaves
        answer = ("failed", type(error).__name__)
    try:
        _send(answers, answer)
    except BrokenPipeError:
        return


def read_frame(source: BinaryIO) -> Any:
    """Read one frame."""
    size = int.from_bytes(source.read(4), "big")
    return msgpack.unpackb(source.read(size), use_list=False)


def frame(value: Any) -> bytes:
    """Return the frame of a value."""
    body = msgpack.packb(value)
    return len(body).to_bytes(4, "big") + bytes(body)


def _parse(order: Mapping[str, Any], source: BinaryIO, answers: BinaryIO) -> int:
    rules = FileRules(
        list_types={
            text: ListTypeRule(code=code, required_fields=required)
            for text, (code, required) in order["list_types"].items()
        },
        list_type=order["list_type"],
        source=order["source"],
        complete=order["complete"],
        today=datetime.date.fromordinal(order["today"]),
        source_as_of=datetime.date.fromordinal(order["source_as_of"]) if order["source_as_of"] else None,
    )
    maker = _Maker(order)
    records = _csv_records if order["format"] == "csv" else _jsonl_records
    good: list[StagedRow] = []
    bad: list[tuple[int, str, str, str]] = []
    count = 0
    for line, record in records(source, list_type_given=bool(rules.list_type)):
        count += 1
        if isinstance(record, RowRefused):
            bad.append((line, record.column, record.rule, str(record)))
        else:
            try:
                good.append(maker.row(read_row(record, line, rules)))
            except RowRefused as error:
                bad.append((line, error.column, error.rule, str(error)))
        if len(good) + len(bad) >= CHUNK_ROWS:
            _send(answers, ("rows", good, bad))
            good, bad = [], []
    if count == 0 and not rules.complete:
        raise FileRefused("no-rows", 0, "the file has a header and no rows")
    if good or bad:
        _send(answers, ("rows", good, bad))
    return count


def _lines(source: BinaryIO) -> Iterator[str]:
    number = 0
    while raw := source.readline(MAX_LINE + 1):
        number += 1
        if len(raw) > MAX_LINE:
            raise FileRefused("line-too-long", number, f"the line has more than {MAX_LINE} bytes")
        try:
            yield raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise FileRefused("encoding", number, "the line is not UTF-8") from None
    if number == 0:
        raise FileRefused("empty", 0, "the file is empty")


def _csv_records(source: BinaryIO, *, list_type_given: bool) -> Iterator[tuple[int, Mapping[str, str] | RowRefused]]:
    csv.field_size_limit(MAX_LINE)
    reader = csv.reader(_lines(source), strict=True)
    names: list[str] | None = None
    line = 1
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error:
            # Once quoting is broken nobody can tell where rows begin.
            raise FileRefused("csv", line, "a quoted cell does not end as it must (RFC 4180)") from None
        if cells is None:
            break
        if names is None:
            names = read_header(cells, line, list_type_given=list_type_given)
        elif len(cells) == len(names):
            yield line, dict(zip(names, cells, strict=True))
        elif cells:
            yield line, RowRefused("", "cells", f"the row has {len(cells)} cells, the header {len(names)}")
    if names is None:
        raise FileRefused("empty", 0, "the file is empty")


def _jsonl_records(source: BinaryIO, *, list_type_given: bool) -> Iterator[tuple[int, Mapping[str, str] | RowRefused]]:
    headers: dict[tuple[str, ...], list[str]] = {}
    for line, text in enumerate(_lines(source), 1):
        if not text.strip():
            continue
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            yield line, RowRefused("", "json", "the line is not a JSON object")
            continue
        keys = tuple(value)
        names = headers.get(keys)
        if names is None:
            # What stands nowhere is empty here; only names that are not ours refuse the file.
            absent = [name for name in ("id_kind", "id_number", "list_type") if name not in keys]
            names = read_header((*keys, *absent), line, list_type_given=list_type_given)[: len(keys)]
            if len(headers) < CHUNK_ROWS:
                headers[keys] = names
        try:
            yield line, {name: _json_cell(name, cell) for name, cell in zip(names, value.values(), strict=True)}
        except RowRefused as error:
            yield line, error


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


def _send(answers: BinaryIO, value: Any) -> None:
    answers.write(frame(value))
    answers.flush()


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


if __name__ == "__main__":
    main()

"""The parser of list files: a child process, so that a large file never takes the interpreter of a serving one.

Run as ``python -m lanjie_gateway.adapters.list_parser``. On stdin: the order (one frame), then the bytes of the file
to its end. On stdout: frames ``("rows", good, bad)``, then one of ``("done", rows)``, ``("refused", rule, line,
message)``, ``("failed", kind of error)``. A frame is four bytes of length, big-endian, and msgpack.

Nothing is written to stderr: a traceback could quote a row. Memory does not grow with a text file; the sheet of a
workbook is held whole.
"""

import contextlib
import ctypes
import datetime
import fcntl
import gc
import os
import resource
import signal
import sys
from collections.abc import Mapping
from typing import Any, BinaryIO, Final

import msgpack

from lanjie_gateway.adapters.list_records import ListReader
from lanjie_gateway.adapters.sealing import Sealer
from lanjie_gateway.domain import packed
from lanjie_gateway.domain.access import WriteScope
from lanjie_gateway.domain.list_file import (
    FileRefused,
    FileRules,
    ListingDraft,
    ListTypeRule,
    Op,
    RowRefused,
    read_row,
)
from lanjie_gateway.domain.profile import Profile, ProfileRefused
from lanjie_gateway.domain.staged import StagedRow, listing_id
from lanjie_matcher.fingerprints import IndexKey, ViewKey
from lanjie_matcher.identifiers import Identifier
from lanjie_matcher.subjects import normalise_name

CHUNK_ROWS: Final = 500
"""Rows of one frame, good and bad."""
_WORKBOOK_MEMORY: Final = 3 << 30
"""Bytes of address space: the last bound, should all others have a gap."""
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
        identities = packed.identities(draft.identifiers, self._index)
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
            text: ListTypeRule(code=code, required_fields=required, first_code=first_code)
            for text, (code, required, first_code) in order["list_types"].items()
        },
        list_type=order["list_type"],
        source=order["source"],
        complete=order["complete"],
        today=datetime.date.fromordinal(order["today"]),
        source_as_of=datetime.date.fromordinal(order["source_as_of"]) if order["source_as_of"] else None,
        writes=_scope(order["writes"]),
        department=order["department"],
    )
    maker = _Maker(order)
    if order["format"] == "xlsx":
        _bound_memory()
    reader = ListReader(
        source, order["format"], profile=_profile(order["profile"]), list_type_given=bool(rules.list_type)
    )
    good: list[StagedRow] = []
    bad: list[tuple[int, str, str, str]] = []
    count = 0
    for line, record in reader:
        count += 1
        if isinstance(record, RowRefused):
            bad.append((line, record.column, record.rule, str(record)))
        else:
            try:
                good.append(maker.row(read_row(record, line, rules)))
            except RowRefused as refused:
                error = reader.blame(refused)
                bad.append((line, error.column, error.rule, str(error)))
        if len(good) + len(bad) >= CHUNK_ROWS:
            _send(answers, ("rows", good, bad))
            good, bad = [], []
    if count == 0 and not rules.complete:
        raise FileRefused("no-rows", 0, "the file has a header and no rows")
    if good or bad:
        _send(answers, ("rows", good, bad))
    return count


def _scope(writes: tuple[tuple[str, ...], str] | None) -> WriteScope | None:
    return None if writes is None else WriteScope(list_types=frozenset(writes[0]), region=writes[1])


def _profile(data: bytes) -> Profile | None:
    try:
        return Profile.load(data) if data else None
    except ProfileRefused as error:
        raise FileRefused(f"profile-{error.rule}", 0, str(error)) from None


def _bound_memory() -> None:
    # What the library of workbooks cannot get ends this process, never the host.
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (_WORKBOOK_MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))


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

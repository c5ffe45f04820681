"""Inquiry records into the ledger (Art. 39): from the workers' segments, and from the spools of SDKs."""

import asyncio
import datetime
import itertools
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from lanjie_gateway.adapters.ledger import InquiryRow, Ledger, LedgerThread
from lanjie_gateway.adapters.segments import is_closed, read_records, segments
from lanjie_gateway.domain.access import Principal, Role
from lanjie_gateway.domain.errors import invalid_argument
from lanjie_gateway.domain.records import VERSION, digest, instant, leaf, row_fields
from lanjie_gateway.domain.spool_chain import UNCHAINED, Block, judge

LOAD_SECONDS: Final = 1.0
MAX_UPLOAD: Final = 1_000
_log = structlog.get_logger("lanjie.records")


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadedPass:
    """A local pass as an SDK reports it; fields as in audit.proto."""

    sequence: int
    at: datetime.datetime
    view_digest: int
    epoch: int
    generation: int
    revision: int
    set_age: int
    matter: str
    purpose: str
    case_no: str = ""
    role: str = ""
    region: str = ""
    officer: str = ""
    message: bytes = b""
    """As it was serialised, for the chain."""


class InquiryService:
    """Loads segments and takes uploads.

    Attributes:
        spool_faults: gaps and breaks in the spools of SDKs since the start.

    Args:
        ledger: the ledger's thread.
        directory: ``DIR/inquiry``.
        clock: aware instants.
    """

    def __init__(self, ledger: LedgerThread, directory: Path, clock: Callable[[], datetime.datetime]) -> None:
        self._ledger = ledger
        self._directory = directory
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        # Who explains an answer loads too: two at once would delete the same segment.
        self._one_at_a_time = asyncio.Lock()
        self._name = secrets.token_hex(6)
        self._faults_told = 0
        self.spool_faults = 0

    async def start(self) -> None:
        """Begin to load segments every second."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop, after a last load."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.load()

    async def load(self) -> int:
        """Load what the segments hold beyond what the ledger has; return the number of records."""
        async with self._one_at_a_time:
            return await self._loaded()

    async def _loaded(self) -> int:
        loaded = 0
        for path in segments(self._directory):
            closed = is_closed(path)
            position = await self._ledger.call(Ledger.inquiry_position, path.stem)
            while True:
                records, after = await asyncio.to_thread(read_records, path, position)
                if not records:
                    break
                await self._ledger.call(Ledger.add_inquiries, path.stem, after, [_row(r) for r in records])
                loaded += len(records)
                position = after
            if closed:
                path.unlink()
        return loaded

    async def upload(
        self, asker: Principal, sdk_id: str, lineage: str, passes: Sequence[UploadedPass], block: Block = UNCHAINED
    ) -> tuple[int, int]:
        """Take local passes of one SDK spool, in order and idempotent; return (acknowledged sequence, gap).

        Raises:
            Refused: NOT_PERMITTED, ARGUMENT_INVALID.
        """
        asker.require(Role.INQUIRER)
        if len(passes) > MAX_UPLOAD:
            raise invalid_argument("passes", "count", f"at most {MAX_UPLOAD} passes an upload")
        if len(sdk_id) != 32 or not all(character in "0123456789abcdef" for character in sdk_id):
            raise invalid_argument("sdk_id", "format", "a spool is named by 32 hexadecimal digits")
        for before, after in itertools.pairwise(passes):
            if after.sequence != before.sequence + 1:
                raise invalid_argument("passes", "sequence", "sequence numbers are consecutive")
        source = f"sdk-{sdk_id}"
        held = await self._ledger.call(Ledger.inquiry_position, source)
        new = [each for each in passes if each.sequence > held]
        if not new:
            return held, 0
        gap = new[0].sequence - held - 1
        if gap:
            _log.error("spool_gap", spool=sdk_id, missing=gap, before=new[0].sequence)
        known = await self._ledger.call(Ledger.inquiry_chain, source)
        chain, fault = judge(sdk_id, held, known, block, [(each.sequence, each.message) for each in passes])
        if fault:
            _log.error("spool_chain_broken", spool=sdk_id, fault=fault.value, before=new[0].sequence)
        first = {"gap": gap or None, "chain": fault.value if fault else ""}
        rows = [_local_row(asker, sdk_id, lineage, each, first if each is new[0] else {}) for each in new]
        await self._ledger.call(Ledger.add_inquiries, source, new[-1].sequence, rows, chain)
        if gap or fault:
            self.spool_faults += 1
            await self._tell(asker, rows[0], {"spool": sdk_id, "before": new[0].sequence, **first})
        return new[-1].sequence, gap

    async def _tell(self, asker: Principal, row: InquiryRow, said: Mapping[str, object]) -> None:
        """Keep a record of its own of a gap or a break (Art. 39)."""
        self._faults_told += 1
        own_id = f"{self._name}-{self._faults_told}"
        fields = {"v": VERSION, "id": own_id, "kind": "spool", "at": instant(self._clock()), "matter": row.matter}
        record = leaf({**fields, "department": asker.department, "person": asker.person, "outcome": "GAP", **said})
        own = _row(record)
        await self._ledger.call(Ledger.add_inquiries, f"control-{self._name}", own.sequence, [own])

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOAD_SECONDS)
            try:
                await self.load()
            except Exception as error:  # noqa: BLE001  counters go on; the operator hears of it, and the segments stay
                _log.error("segments_not_loaded", error=type(error).__name__)


def _row(record: bytes) -> InquiryRow:
    return InquiryRow(**row_fields(record), record=record, digest=digest(record))


def _local_row(
    asker: Principal, sdk_id: str, lineage: str, each: UploadedPass, first: Mapping[str, object]
) -> InquiryRow:
    return _row(
        leaf(
            {
                "v": VERSION,
                "id": f"{sdk_id[:12]}-{each.sequence}",
                "kind": "local",
                "spool": sdk_id,
                **first,
                "at": instant(each.at),
                "department": asker.department,
                "person": asker.person,
                "officer": each.officer,
                "mode": "ex_officio",
                "matter": each.matter,
                "purpose": each.purpose,
                "case_no": each.case_no,
                "role": each.role,
                "region": each.region or asker.region,
                "subject": each.view_digest.to_bytes(8, "big").hex(),
                "lineage": lineage,
                "epoch": each.epoch,
                "generation": each.generation,
                "revision": each.revision,
                "set_age": each.set_age,
                "outcome": "PASS",
            }
        )
    )

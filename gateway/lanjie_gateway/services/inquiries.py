"""Inquiry records into the ledger (Art. 39): from the workers' segments, and from the spools of SDKs."""

import asyncio
import datetime
import itertools
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from lanjie_gateway.adapters.ledger import InquiryRow, Ledger, LedgerThread
from lanjie_gateway.adapters.segments import is_closed, read_records, segments
from lanjie_gateway.domain.access import Principal, Role, not_granted
from lanjie_gateway.domain.errors import invalid_argument
from lanjie_gateway.domain.grants import Mode
from lanjie_gateway.domain.packed import micros
from lanjie_gateway.domain.records import SALT_BYTES, VERSION, instant, leaf
from lanjie_gateway.domain.spool_chain import UNCHAINED, Block, ChainFault, fork, judge
from lanjie_gateway.services.grants import GrantService
from lanjie_gateway.services.own_records import OwnRecords
from lanjie_gateway.services.screening import MAX_CODE, MAX_PURPOSE
from lanjie_matcher.civil_time import day_of
from lanjie_matcher.grants import Case, Claim
from lanjie_matcher.masking import masked_text

LOAD_SECONDS: Final = 1.0
LOADED: Final = 500
"""Records of a segment that one transaction takes: whoever writes waits for one at the most."""
MAX_UPLOAD: Final = 1_000
_log = structlog.get_logger("lanjie.records")


_NO_OFFICER: Final = Claim(officer="")


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
    mode: str = Mode.EX_OFFICIO
    officer: Claim = _NO_OFFICER
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
        grants: what was granted, now and then.
    """

    def __init__(
        self, ledger: LedgerThread, directory: Path, clock: Callable[[], datetime.datetime], grants: GrantService
    ) -> None:
        self._ledger = ledger
        self._directory = directory
        self._clock = clock
        self._grants = grants
        self._task: asyncio.Task[None] | None = None
        # Who explains an answer loads too: two at once would delete the same segment.
        self._one_at_a_time = asyncio.Lock()
        self._uploading: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._records = OwnRecords(ledger, clock)
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
            more = True
            while more:
                records, after = await asyncio.to_thread(read_records, path, position, LOADED)
                # What is written meanwhile comes with the next look: a few at a time each would cost tenfold.
                more = len(records) == LOADED
                if records:
                    rows = [InquiryRow.of(each) for each in records]
                    await self._ledger.call(Ledger.add_inquiries, path.stem, after, rows)
                loaded += len(records)
                position = after
            if closed:
                if left := path.stat().st_size - position:
                    # Of a power cut: passes of its last second, if any. Of a damaged disk: more may be missing.
                    _log.error("segment_cut", segment=path.stem, at=position, bytes=left)
                path.unlink()
        return loaded

    async def upload(
        self, asker: Principal, sdk_id: str, lineage: str, passes: Sequence[UploadedPass], block: Block = UNCHAINED
    ) -> tuple[int, int]:
        """Take local passes of one SDK spool, in order and idempotent; return (acknowledged sequence, gap).

        A department that was never granted anything brings nothing. One whose grant has ended still does: the inquiries
        were made, and every inquiry leaves a record (Art. 39). A pass that ought not to have been given, by the grant
        as it stood at its instant or by the officer's claim, is told by its record and to the operator, never lost.

        Raises:
            Refused: NOT_PERMITTED, ARGUMENT_INVALID.
        """
        asker.require(Role.INQUIRER)
        if not self._grants.ever(asker.department):
            raise not_granted("grant")
        _require_sound(sdk_id, lineage, passes)
        # One at a time of each department: whoever writes waits behind those that wait for the ledger (Art. 65).
        async with self._uploading[asker.department]:
            return await self._upload(asker, sdk_id, lineage, passes, block)

    async def _upload(
        self, asker: Principal, sdk_id: str, lineage: str, passes: Sequence[UploadedPass], block: Block
    ) -> tuple[int, int]:
        source = f"sdk-{sdk_id}"
        held = await self._ledger.call(Ledger.inquiry_position, source)
        await self._take_others(asker, sdk_id, lineage, [each for each in passes if each.sequence <= held])
        new = [each for each in passes if each.sequence > held]
        if not new:
            return held, 0
        gap = new[0].sequence - held - 1
        if gap:
            _log.error("spool_gap", spool=sdk_id, missing=gap, before=new[0].sequence)
        known = await self._ledger.call(Ledger.inquiry_chain, source)
        chain, broken = judge(sdk_id, held, known, block, [(each.sequence, each.message) for each in passes])
        if broken:
            _log.error("spool_chain_broken", spool=sdk_id, fault=broken.value, before=new[0].sequence)
        name = await self._ledger.call(Ledger.spool_name, sdk_id)
        judged = [self._judge(asker, each) for each in new]
        for fault, count in Counter(each["not_granted"] for each in judged if each["not_granted"]).items():
            _log.error("local_pass_not_granted", spool=sdk_id, fault=fault, passes=count)
        first = {"gap": gap or None, "chain": broken.value if broken else ""}
        common = {"spool": sdk_id, "lineage": lineage}
        rows = [
            _local_row(asker, each, {"id": f"{name}-{each.sequence}", **common, **said, **(first if not place else {})})
            for place, (each, said) in enumerate(zip(new, judged, strict=True))
        ]
        await self._ledger.call(Ledger.add_inquiries, source, new[-1].sequence, rows, chain)
        if gap or broken:
            await self._tell(asker, {"matter": rows[0].matter, "spool": sdk_id, "before": new[0].sequence, **first})
        return new[-1].sequence, gap

    async def _take_others(self, asker: Principal, sdk_id: str, lineage: str, known: Sequence[UploadedPass]) -> None:
        """Take passes whose numbers stand for others: a machine was set back, or two spools bear one name.

        Each is kept under a name of its own, so that it is taken once, however often and together with what it comes.
        """
        said = {each.sequence: (micros(each.at), _subject(each)) for each in known}
        others = await self._ledger.call(Ledger.not_kept, f"sdk-{sdk_id}", said) if said else ()
        apart = {}
        for each in known:
            if each.sequence in others:
                name = fork(sdk_id, each.message)
                told = {"id": f"{name}-{each.sequence}", "spool": name, "lineage": lineage, "forked": sdk_id}
                apart[f"sdk-{name}"] = _local_row(asker, each, {**told, **self._judge(asker, each)})
        taken = await self._ledger.call(Ledger.add_apart, apart) if apart else ()
        if taken:
            fault, before = ChainFault.FORKED.value, taken[0].sequence
            _log.error("spool_chain_broken", spool=sdk_id, fault=fault, before=before)
            await self._tell(asker, {"matter": taken[0].matter, "spool": sdk_id, "before": before, "chain": fault})

    async def _tell(self, asker: Principal, said: Mapping[str, Any]) -> None:
        self.spool_faults += 1
        await self._records.leave("spool", "GAP", department=asker.department, person=asker.person, fields=said)

    def _judge(self, asker: Principal, each: UploadedPass) -> dict[str, Any]:
        """Return what the record says of the right to a pass, of who vouches for the officer, and where."""
        grant = self._grants.at(asker.department, each.at)
        region = each.region or asker.granted(grant).handling_region
        if grant is None:
            return {"not_granted": "grant", "region": masked_text(region)}
        day = day_of(each.at)
        case = Case(each.matter, each.case_no, each.purpose)
        officer = grant.officer_fault(each.officer, case, int(each.at.timestamp()))
        fault = grant.fault(self._grants.lineage(each.matter, day), each.mode, region, day)
        if not fault and each.mode != Mode.EX_OFFICIO:
            # The other modes rest on the subject's word, which the gateway alone can see: whatever is granted.
            fault = "mode"
        return {
            "region": masked_text(region),
            "not_granted": fault or officer,
            "officer_verified": bool(each.officer.signature and not officer) or None,
            "grant": grant.revision or None,
        }

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOAD_SECONDS)
            try:
                await self.load()
            except Exception as error:  # noqa: BLE001  counters go on; the operator hears of it, and the segments stay
                _log.error("segments_not_loaded", error=type(error).__name__)


def _subject(each: UploadedPass) -> bytes:
    return each.view_digest.to_bytes(8, "big")


def _require_sound(sdk_id: str, lineage: str, passes: Sequence[UploadedPass]) -> None:
    """Raise for what no SDK writes."""
    if len(passes) > MAX_UPLOAD:
        raise invalid_argument("passes", "count", f"at most {MAX_UPLOAD} passes an upload")
    if len(sdk_id) != 32 or not all(character in "0123456789abcdef" for character in sdk_id):
        raise invalid_argument("sdk_id", "format", "a spool is named by 32 hexadecimal digits")
    for before, after in itertools.pairwise(passes):
        if after.sequence != before.sequence + 1:
            raise invalid_argument("passes", "sequence", "sequence numbers are consecutive")
    if passes and not 1 <= passes[0].sequence <= passes[-1].sequence < 1 << 63:
        raise invalid_argument("passes", "sequence", "sequence numbers begin at 1 and are below 2^63")
    # What is not bounded would be kept once for each pass.
    _require_short("lineage", lineage, MAX_CODE)
    for each in passes:
        _require_short("purpose", each.purpose, MAX_PURPOSE)
        for field in ("matter", "case_no", "role", "region"):
            _require_short(field, getattr(each, field), MAX_CODE)
        _require_short("officer", each.officer.officer, MAX_CODE)


def _require_short(field: str, text: str, most: int) -> None:
    if len(text) > most:
        raise invalid_argument(field, "length", f"{field} has at most {most} characters")


def _local_row(asker: Principal, each: UploadedPass, told: Mapping[str, Any]) -> InquiryRow:
    return InquiryRow.of(
        leaf(
            {
                "v": VERSION,
                "salt": os.urandom(SALT_BYTES).hex(),
                "kind": "local",
                **told,
                "at": instant(each.at),
                "department": asker.department,
                "person": asker.person,
                "officer": masked_text(each.officer.officer),
                "mode": each.mode,
                "matter": masked_text(each.matter),
                "purpose": masked_text(each.purpose),
                "case_no": masked_text(each.case_no),
                "role": masked_text(each.role),
                "subject": _subject(each).hex(),
                "epoch": each.epoch,
                "generation": each.generation,
                "revision": each.revision,
                "set_age": each.set_age,
                "outcome": "PASS",
            }
        )
    )

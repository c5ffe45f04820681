"""SyncService and InquiryService: what SDKs take, and what they bring back."""

import asyncio
import contextlib
import datetime
import functools
import hashlib
import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

from google.protobuf import duration_pb2

from lanjie.v1 import audit_pb2, audit_pb2_grpc, sync_pb2_grpc
from lanjie.v1 import sync_pb2 as pb
from lanjie_gateway.api.auth import caller
from lanjie_gateway.api.messages import timestamp
from lanjie_gateway.api.screening import MODES, officer_claim
from lanjie_gateway.domain.access import Principal
from lanjie_gateway.domain.errors import invalid_argument
from lanjie_gateway.domain.spool_chain import Block
from lanjie_gateway.domain.view import BITS, Changes
from lanjie_gateway.domain.watching import Delta, Offer, Position, Step, Wait, Whole
from lanjie_gateway.services.inquiries import InquiryService, UploadedPass
from lanjie_gateway.services.sync import Report, SyncService
from lanjie_gateway.services.views import COMPANIES, MatterSpans, ViewService
from lanjie_matcher.catalogues import MatterSpan
from lanjie_matcher.civil_time import day_of
from lanjie_matcher.shards import encode_values
from lanjie_matcher.views import SIGNED_PREFIX, Manifest

MIN_WAIT_SECONDS: Final = 1.0
_SDK_ID: Final = re.compile(r"[0-9a-f]{32}")
_MAX_LINEAGE: Final = 64
_ROOT_BYTES: Final = 32
_KNOWN_SCOPES: Final = 256
_MOST_UNREAD: Final = 4
"""Answers of a client that nobody has read yet; it owes one to an update."""
PARTS: Final = 16
"""Messages of a snapshot; each holds as many shards, 170 KB for a million fingerprints."""
_REFUSALS: Final[dict[int, str]] = {
    value: name.removeprefix("REFUSAL_REASON_").lower()
    for name, value in pb.RefusalReason.items()
    if value != pb.REFUSAL_REASON_UNSPECIFIED
}
REFUSALS: Final = (*_REFUSALS.values(), "unknown")
"""Names of all reasons there can be for a refusal, as they are counted."""
_KINDS: Final = {
    pb.UPDATE_KIND_HEARTBEAT: "heartbeat",
    pb.UPDATE_KIND_DELTA: "delta",
    pb.UPDATE_KIND_SNAPSHOT: "snapshot",
    pb.UPDATE_KIND_WAIT: "wait",
}


class SyncServicer(sync_pb2_grpc.SyncServiceServicer):
    """Serves pulls and watches to departments with a grant that stands (Art. 39, 48).

    Args:
        service: says what is sent.
        views: what there is to send.
        grants: gives a caller with what is granted now.
        clock: aware instants.
    """

    def __init__(
        self,
        service: SyncService,
        views: ViewService,
        grants: Callable[[Principal], Principal],
        clock: Callable[[], datetime.datetime],
    ) -> None:
        self._service = service
        self._grants = grants
        self._clock = clock
        self._updates = UpdateEncoder(views.manifest, views.sign, views.matters)

    async def Pull(self, request: pb.PullRequest, context: Any) -> AsyncIterator[pb.PullResponse]:
        """Send the one update that leads the client to the newest set."""
        asker = self._standing(caller(context))
        report = _report(request.state, 0)
        async with contextlib.aclosing(self._service.pull(report, asker.department)) as steps:
            async for step in steps:
                for update in self._updates.of(step, report.position, self._standing(asker)):
                    self._count(update)
                    yield pb.PullResponse(update=update)

    async def Watch(
        self, request_iterator: AsyncIterator[pb.WatchRequest], context: Any
    ) -> AsyncIterator[pb.WatchResponse]:
        """Send updates one after the other, each when the client has answered the one before."""
        asker = self._standing(caller(context))
        told: asyncio.Queue[Report | None] = asyncio.Queue()
        reader = asyncio.create_task(_read(request_iterator, told))
        try:
            async with contextlib.aclosing(self._service.watch(told, asker.department)) as steps:
                async for step, position in steps:
                    # Anew each time: every change of a grant is news to all who watch.
                    for update in self._updates.of(step, position, self._standing(asker)):
                        self._count(update)
                        yield pb.WatchResponse(update=update)
            if reader.done() and (fault := reader.exception()) is not None:
                raise fault
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    def _standing(self, asker: Principal) -> Principal:
        """Return a caller with what is granted now; refused where nothing is."""
        now = self._grants(asker)
        now.require_standing(day_of(self._clock()))
        return now

    def _count(self, update: pb.Update) -> None:
        self._service.sent_bytes[_KINDS[update.kind]] += update.ByteSize()


class UpdateEncoder:
    """Puts steps into wire form.

    Args:
        manifest: gives the head of a view, as of now.
        sign: gives (key id, signature) of a message.
        matters: gives every matter ever defined.
    """

    def __init__(
        self,
        manifest: Callable[[Offer], Manifest],
        sign: Callable[[bytes], tuple[str, bytes]],
        matters: Callable[[], list[MatterSpans]],
    ) -> None:
        self._manifest = manifest
        self._sign = sign
        self._matters = matters
        self._scopes: dict[tuple[object, ...], bytes] = {}

    def of(self, step: Step, position: Position, asker: Principal) -> Iterator[pb.Update]:
        """Yield a step in wire form; everything of it is of one revision, so it is made before the first await."""
        if isinstance(step, Wait):
            return iter((pb.Update(kind=pb.UPDATE_KIND_WAIT, min_wait=_duration(step.seconds)),))
        offer = step.offer
        scope = self._scope_of(offer, asker)
        update = pb.Update(head=self._head(offer, scope), min_wait=_duration(MIN_WAIT_SECONDS))
        if isinstance(step, Whole) or position.catalogue_revision != offer.catalogue_revision:
            update.scope = scope
        if isinstance(step, Whole):
            return self._parts(offer, update)
        if isinstance(step, Delta):
            update.kind = pb.UPDATE_KIND_DELTA
            update.base_root = step.base_root
            _put(update, step.changes)
        else:
            update.kind = pb.UPDATE_KIND_HEARTBEAT
        return iter((update,))

    def _parts(self, offer: Offer, first: pb.Update) -> Iterator[pb.Update]:
        snapshot, changes = offer.view.snapshot()
        parts = [pb.Update(kind=pb.UPDATE_KIND_SNAPSHOT) for _ in range(PARTS)]
        parts[0].MergeFrom(first)
        for shard in snapshot.shards:
            part = parts[shard.number * PARTS // len(snapshot.shards)]
            part.shards.add(number=shard.number, count=shard.count, planes=shard.planes)
        _put(parts[-1], changes)
        parts[-1].last = True
        return iter(parts)

    def _head(self, offer: Offer, scope: bytes) -> pb.SignedManifest:
        manifest = self._manifest(offer)
        raw = pb.Manifest(
            view=manifest.view,
            lineage=manifest.lineage,
            epoch=manifest.epoch,
            generation=manifest.generation,
            revision=manifest.revision,
            root=manifest.root,
            count=manifest.count,
            bits=manifest.bits,
            prf=pb.PRF_ALGORITHM_BLAKE2B_64,
            digest=pb.DIGEST_ALGORITHM_SHA256,
            key_id=manifest.key_id,
            key_check=manifest.key_check,
            normalisation=manifest.normalisation,
            canaries_hit=manifest.canaries_hit,
            canaries_miss=manifest.canaries_miss,
            issued_time=timestamp(manifest.issued_at),
            expires_time=timestamp(manifest.expires_at),
            scope_digest=hashlib.sha256(scope).digest(),
            bounds=pb.AgeBounds(
                fresh_seconds=int(manifest.bounds.fresh),
                soft_seconds=int(manifest.bounds.soft),
                stale_seconds=int(manifest.bounds.stale),
                purge_seconds=int(manifest.bounds.purge),
            ),
        ).SerializeToString(deterministic=True)
        key_id, value = self._sign(SIGNED_PREFIX + raw)
        signature = pb.Signature(key_id=key_id, algorithm=pb.SIGNATURE_ALGORITHM_ED25519, value=value)
        return pb.SignedManifest(manifest=raw, signatures=[signature])

    def _scope_of(self, offer: Offer, asker: Principal) -> bytes:
        # The same for all who watch for a department, until a catalogue is published, a grant or the key is another.
        made_of = (offer.epoch, offer.view.raw_key, offer.catalogue_revision, asker.department, asker.handling_region)
        scope = self._scopes.get(made_of)
        if scope is None:
            if len(self._scopes) >= _KNOWN_SCOPES:
                self._scopes.clear()
            scope = self._scopes[made_of] = self._made(offer, asker).SerializeToString(deterministic=True)
        return scope

    def _made(self, offer: Offer, asker: Principal) -> pb.ViewScope:
        matters = [
            pb.MatterScope(code=each.code, rules=[_rules(span) for span in each.spans]) for each in self._matters()
        ]
        return pb.ViewScope(
            key=offer.view.raw_key,
            covers=["company"],
            matters=matters,
            catalogue_revision=offer.catalogue_revision,
            grant=_grant(asker),
        )


def _grant(asker: Principal) -> pb.GrantScope | None:
    grant = asker.grant
    if grant is None:
        return None
    return pb.GrantScope(
        department=grant.department,
        all_matters=grant.matters is None,
        matters=sorted(grant.matters or ()),
        modes=sorted(number for number, mode in MODES.items() if number and mode in grant.modes),
        regions=sorted(grant.regions),
        home_region=asker.handling_region,
        days=pb.DateSpan(start_date=grant.valid_from.isoformat(), end_date=grant.valid_until.isoformat()),
        officers_required=grant.officers_required,
        counter_key=grant.counter_key,
        officers=[pb.GrantedOfficer(officer_id=each.id, public_key=each.key) for each in grant.officers],
    )


def _rules(span: MatterSpan) -> pb.MatterRules:
    days = pb.DateSpan(start_date=span.first.isoformat(), end_date=span.last.isoformat() if span.last else "")
    return pb.MatterRules(
        days=days,
        case_no_required=span.matter.case_no_required,
        high_consequence=span.matter.high_consequence,
        stale_pass=span.matter.stale_pass,
        broader=span.matter.broader or "",
    )


async def _read(requests: AsyncIterator[pb.WatchRequest], told: "asyncio.Queue[Report | None]") -> None:
    try:
        async for request in requests:
            if told.qsize() >= _MOST_UNREAD:
                raise invalid_argument("state", "turn", "an update is answered once")
            told.put_nowait(_report(request.state, request.refusal))
    finally:
        told.put_nowait(None)


def _report(state: pb.ClientState, refusal: int) -> Report:
    if state.view not in ("", COMPANIES):
        raise invalid_argument("view", "unknown", f"the only view is {COMPANIES}")
    if not _SDK_ID.fullmatch(state.sdk_id):
        raise invalid_argument("sdk_id", "format", "an SDK is named by 32 hexadecimal digits")
    if len(state.lineage) > _MAX_LINEAGE:
        raise invalid_argument("lineage", "too-long", f"the identity of a ledger has at most {_MAX_LINEAGE} characters")
    if len(state.root) not in (0, _ROOT_BYTES):
        raise invalid_argument("root", "format", f"a root has {_ROOT_BYTES} bytes")
    return Report(
        sdk_id=state.sdk_id,
        position=Position(
            lineage=state.lineage,
            epoch=state.epoch,
            generation=state.generation,
            revision=state.revision,
            root=state.root,
            catalogue_revision=state.catalogue_revision,
        ),
        refusal=_REFUSALS.get(refusal, "unknown") if refusal else "",
    )


def _put(update: pb.Update, changes: Changes) -> None:
    for target, values in ((update.adds, changes.adds), (update.removals, changes.removals)):
        if values:
            target.count, target.planes = len(values), _planes(values)


@functools.lru_cache(maxsize=8)
def _planes(values: tuple[int, ...]) -> bytes:
    # All who watch are sent the same changes at once.
    return encode_values(values, BITS)


def _duration(seconds: float) -> duration_pb2.Duration:
    made = duration_pb2.Duration()
    made.FromMilliseconds(int(seconds * 1000))
    return made


class InquiryServicer(audit_pb2_grpc.InquiryServiceServicer):
    """Takes inquiry records from SDKs."""

    def __init__(self, service: InquiryService) -> None:
        self._service = service

    async def UploadLocalPasses(
        self, request: audit_pb2.UploadLocalPassesRequest, context: Any
    ) -> audit_pb2.UploadLocalPassesResponse:
        """Take records of local passes."""
        passes = [_pass(each) for each in request.passes]
        block = Block(number=request.block, before=request.chain_before, after=request.chain_after)
        sequence, gap = await self._service.upload(caller(context), request.sdk_id, request.lineage, passes, block)
        return audit_pb2.UploadLocalPassesResponse(acknowledged_sequence=sequence, gap=gap)


def _pass(each: audit_pb2.LocalPass) -> UploadedPass:
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return UploadedPass(
        sequence=each.sequence,
        at=epoch + datetime.timedelta(microseconds=each.unix_nanos // 1_000),
        view_digest=each.view_digest,
        epoch=each.epoch,
        generation=each.generation,
        revision=each.revision,
        set_age=each.set_age_seconds,
        matter=each.context.matter,
        purpose=each.context.purpose,
        case_no=each.context.case_no,
        role=each.context.role.strip(),
        region=each.context.handling_region,
        mode=MODES.get(each.context.mode, "unknown"),
        officer=officer_claim(each.context),
        message=each.SerializeToString(deterministic=True),
    )

"""LedgerService over gRPC: the ledger as a whole, and who holds its view, for those who run it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Final, TypeVar

from lanjie.v1 import ledger_pb2 as pb
from lanjie.v1 import ledger_pb2_grpc
from lanjie_gateway.adapters.certificates import Certificates
from lanjie_gateway.api.auth import caller
from lanjie_gateway.api.messages import timestamp
from lanjie_gateway.domain.access import Role
from lanjie_gateway.domain.limits import DepartmentLimits
from lanjie_gateway.domain.source_ages import SourceAge
from lanjie_gateway.services.backups import BackupService
from lanjie_gateway.services.limits import LimitService
from lanjie_gateway.services.list_status import ListStatusService
from lanjie_gateway.services.rotation import RotationService
from lanjie_gateway.services.sync import SyncService
from lanjie_gateway.services.views import ViewService

_SLICE: Final = 200
_T = TypeVar("_T")


class LedgerServicer(ledger_pb2_grpc.LedgerServiceServicer):
    """Backups, the rotation of the view key, the state of the sync and of the lists.

    Args:
        backups: makes backups.
        rotation: rotates the key.
        views: of the SDKs.
        sync: knows the SDKs.
        lists: knows the sources.
        certificates: of the listeners; `None` without TLS.
        limits: on natural persons.
    """

    def __init__(
        self,
        backups: BackupService,
        rotation: RotationService,
        views: ViewService,
        sync: SyncService,
        *,
        lists: ListStatusService,
        certificates: Certificates | None,
        limits: LimitService,
    ) -> None:
        self._limits = limits
        self._views = views
        self._lists = lists
        self._certificates = certificates
        self._backups = backups
        self._rotation = rotation
        self._sync = sync

    async def GetSyncStatus(self, request: pb.GetSyncStatusRequest, context: Any) -> pb.GetSyncStatusResponse:
        """Say which SDKs are known, what they have, and what was sent and refused."""
        del request
        caller(context).require(Role.AGENCY)
        offer = self._views.newest()
        status = pb.GetSyncStatusResponse(
            revision=offer.view.revision,
            epoch=offer.epoch,
            generation=offer.generation,
            count=offer.view.head()[1],
            journal_from_revision=offer.view.journal_from,
            counts=self._sync.counts,
        )
        for place, sdk in enumerate(self._sync.sdks()):
            if place % _SLICE == 0:
                # Thousands of them may not hold up the others.
                await asyncio.sleep(0)
            revisions, seconds = self._sync.lag(sdk)
            status.sdks.add(
                sdk_id=sdk.sdk_id,
                department=sdk.department,
                connected=sdk.watching > 0,
                revision=sdk.position.revision,
                generation=sdk.position.generation,
                last_contact_time=timestamp(sdk.last_contact),
                lag_revisions=revisions,
                lag_seconds=seconds,
                last_refusal=sdk.last_refusal,
            )
        return status

    async def GetListStatus(self, request: pb.GetListStatusRequest, context: Any) -> pb.GetListStatusResponse:
        """Say how old the sources of the lists are, what waits, and which clocks of the law have run out."""
        del request
        status = await self._lists.get(caller(context))
        told = pb.GetListStatusResponse(
            revision=status.revision,
            today_date=status.today.isoformat(),
            sources=map(_source, status.ages.sources),
            waiting=status.waiting,
            oldest_waiting_time=None if status.waiting_since is None else timestamp(status.waiting_since),
            missing_year=status.missing_year,
            feedback_alarms={alarm.value: number for alarm, number in status.feedback_alarms.items()},
        )
        for each in status.ages.undelivered:
            limit = each.source_max_age_days or 0
            told.undelivered.add(list_type=each.code, list_type_name=each.name, max_age_days=limit)
        for rule, count in status.duties.items():
            if count.open or count.late:
                told.duties.add(
                    rule=rule.value,
                    bound=count.bound,
                    open=count.open,
                    overdue=count.overdue,
                    provisional=count.provisional,
                    late=count.late,
                )
        return told

    async def GetCertificateStatus(
        self, request: pb.GetCertificateStatusRequest, context: Any
    ) -> pb.GetCertificateStatusResponse:
        """Say how long the certificates of the listeners are good for."""
        del request
        caller(context).require(Role.AGENCY)
        if self._certificates is None:
            return pb.GetCertificateStatusResponse()
        now = self._certificates.now
        return pb.GetCertificateStatusResponse(
            tls=True,
            end_time=timestamp(now.ends_at),
            days_left=self._certificates.days_left(now.ends_at),
            client_ca_end_time=timestamp(now.client_ca_ends_at),
            client_ca_days_left=self._certificates.days_left(now.client_ca_ends_at),
            fault=self._certificates.fault,
        )

    async def GetLimits(self, request: pb.GetLimitsRequest, context: Any) -> pb.GetLimitsResponse:
        """Say how many natural persons each department asked about today, and which limits were reached."""
        found = self._limits.get(caller(context), request.department)
        return pb.GetLimitsResponse(today_date=self._limits.day().isoformat(), departments=map(self._told, found))

    async def LiftLimits(self, request: pb.LiftLimitsRequest, context: Any) -> pb.LiftLimitsResponse:
        """Lift a department's limits for the day."""
        asker = caller(context)
        record = await self._limits.lift(request.department, request.reason, request.document, asker)
        (limits,) = self._limits.get(asker, request.department)
        return pb.LiftLimitsResponse(record_id=record, limits=self._told(limits))

    def _told(self, limits: DepartmentLimits) -> pb.DepartmentLimits:
        return pb.DepartmentLimits(
            department=limits.department,
            persons=limits.persons,
            persons_per_day=limits.cap,
            off_hours=limits.tally.off_hours,
            usual_persons=limits.usual,
            level=limits.level.name,
            lifted_by=limits.lifted_by,
            trips=[
                pb.LimitTrip(
                    trip_time=timestamp(each.at),
                    person=each.person,
                    officer=each.officer,
                    scope=each.scope,
                    detector=each.detector,
                    level=each.level.name,
                    score=each.score,
                    persons=each.persons,
                )
                for each in limits.trips
            ],
        )

    async def Backup(self, request: pb.BackupRequest, context: Any) -> AsyncIterator[pb.BackupResponse]:
        """Make a backup; a caller that hangs up ends it."""
        del request
        asker = caller(context)
        work, steps = _begin(lambda told: self._backups.run(asker, told), context)
        try:
            async for part, done, total in steps:
                yield pb.BackupResponse(part=part, done=done, total=total)
            made = await work
            yield pb.BackupResponse(path=str(made.path), revision=made.revision, sha256=made.sha256)
        finally:
            work.cancel()

    async def RotateViewKey(
        self, request: pb.RotateViewKeyRequest, context: Any
    ) -> AsyncIterator[pb.RotateViewKeyResponse]:
        """Rotate the view key; a caller that hangs up before the switch ends it."""
        del request
        asker = caller(context)
        work, steps = _begin(lambda told: self._rotation.run(asker, told), context)
        try:
            async for done, total in steps:
                yield pb.RotateViewKeyResponse(done=done, total=total)
            generation, revision = await work
            yield pb.RotateViewKeyResponse(generation=generation, revision=revision)
        finally:
            work.cancel()


def _source(age: SourceAge) -> pb.SourceStatus:
    word = age.delivery
    return pb.SourceStatus(
        list_type=age.list_type,
        list_type_name=age.list_type_name,
        source=age.source,
        vouched_date=word.vouched_on.isoformat() if word else "",
        age_days=age.age_days or 0,
        max_age_days=age.max_age_days or 0,
        overdue=age.overdue,
        live_listings=age.live,
        delivered_time=timestamp(word.delivered_at) if word else None,
        revision=word.revision if word else 0,
    )


def _begin(
    run: Callable[[Callable[..., None]], Coroutine[Any, Any, _T]], context: Any
) -> tuple[asyncio.Task[_T], AsyncIterator[tuple[Any, ...]]]:
    """Begin an act; return its task, cancelled when the caller hangs up, and what it tells until it ends."""
    told: asyncio.Queue[tuple[Any, ...] | None] = asyncio.Queue()
    work = asyncio.create_task(run(lambda *step: told.put_nowait(step)))
    work.add_done_callback(lambda _: told.put_nowait(None))
    context.add_done_callback(lambda _: work.cancel())

    async def steps() -> AsyncIterator[tuple[Any, ...]]:
        while (step := await told.get()) is not None:
            yield step

    return work, steps()

"""AccessService: grants to messages."""

from typing import Any

from lanjie.v1 import access_pb2 as pb
from lanjie.v1 import access_pb2_grpc
from lanjie_gateway.adapters.ledger import StoredGrantAct
from lanjie_gateway.api.auth import caller
from lanjie_gateway.api.messages import date_text, timestamp
from lanjie_gateway.api.screening import MODES
from lanjie_gateway.domain.grants import Grant, key_text
from lanjie_gateway.services.grants import GrantService


class AccessServicer(access_pb2_grpc.AccessServiceServicer):
    """Serves grants.

    Args:
        service: sets, ends and reads them.
    """

    def __init__(self, service: GrantService) -> None:
        self._service = service

    async def SetGrant(self, request: pb.SetGrantRequest, context: Any) -> pb.SetGrantResponse:
        """Set a grant, or let it wait."""
        done = await self._service.bring(request.file, request.reason, caller(context))
        return pb.SetGrantResponse(act=_act(done.act), widens=done.widens, warnings=done.warnings)

    async def EndGrant(self, request: pb.EndGrantRequest, context: Any) -> pb.EndGrantResponse:
        """End a grant at once."""
        act = await self._service.end(request.department, request.reason, request.document, caller(context))
        return pb.EndGrantResponse(act=_act(act))

    async def GetGrants(self, request: pb.GetGrantsRequest, context: Any) -> pb.GetGrantsResponse:
        """Read what stands."""
        found = await self._service.standing(request.department, caller(context))
        return pb.GetGrantsResponse(acts=map(_act, found))

    async def GetGrantHistory(self, request: pb.GetGrantHistoryRequest, context: Any) -> pb.GetGrantHistoryResponse:
        """Read every act on one grant."""
        found = await self._service.history(request.department, caller(context))
        return pb.GetGrantHistoryResponse(acts=map(_act, found))

    async def GetWaitingGrants(self, request: pb.GetWaitingGrantsRequest, context: Any) -> pb.GetWaitingGrantsResponse:
        """Read what waits."""
        del request
        return pb.GetWaitingGrantsResponse(acts=map(_act, await self._service.waiting(caller(context))))

    async def ConfirmGrant(self, request: pb.ConfirmGrantRequest, context: Any) -> pb.ConfirmGrantResponse:
        """Let a waiting grant work."""
        return pb.ConfirmGrantResponse(act=_act(await self._service.confirm(request.act_id, caller(context))))

    async def DeclineGrant(self, request: pb.DeclineGrantRequest, context: Any) -> pb.DeclineGrantResponse:
        """Give a waiting grant up."""
        act = await self._service.decline(request.act_id, request.reason, caller(context))
        return pb.DeclineGrantResponse(act=_act(act))


def _act(act: StoredGrantAct) -> pb.GrantAct:
    return pb.GrantAct(
        act_id=act.id,
        kind=act.kind,
        state=act.state,
        department=act.department,
        grant=_grant(act.grant) if act.grant is not None else None,
        actor=act.actor,
        second=act.second,
        reason=act.reason,
        document=act.document,
        brought_time=timestamp(act.brought_at),
        settled_time=timestamp(act.settled_at) if act.settled_at is not None else None,
        revision=act.revision,
        declined_reason=act.declined_reason,
    )


def _grant(grant: Grant) -> pb.Grant:
    return pb.Grant(
        department=grant.department,
        name=grant.name,
        unit=grant.unit.value,
        region=grant.region,
        regions=sorted(grant.regions),
        matters=sorted(grant.matters or ()),
        modes=sorted(number for number, mode in MODES.items() if number and mode in grant.modes),
        implementer_kinds=sorted(grant.implementer_kinds or ()),
        identities=grant.identities,
        officers=sorted(officer.id for officer in grant.officers),
        officers_required=grant.officers_required,
        counter_key=key_text(grant.counter_key),
        reads_listings=grant.reads_listings,
        checks_per_minute=grant.limits.checks_per_minute,
        persons_per_day=grant.limits.persons_per_day,
        valid_from_date=date_text(grant.valid_from),
        valid_until_date=date_text(grant.valid_until),
        document=grant.document,
        document_date=date_text(grant.document_date),
    )

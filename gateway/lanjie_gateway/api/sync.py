"""SyncService and InquiryService: what SDKs take, and what they bring back."""

import datetime
from collections.abc import AsyncIterator
from typing import Any

from lanjie.v1 import audit_pb2, audit_pb2_grpc, sync_pb2_grpc
from lanjie.v1 import sync_pb2 as pb
from lanjie_gateway.api.auth import caller
from lanjie_gateway.api.messages import timestamp
from lanjie_gateway.domain.access import Role
from lanjie_gateway.domain.errors import invalid_argument
from lanjie_gateway.services.inquiries import InquiryService, UploadedPass
from lanjie_gateway.services.sync import COMPANIES, SyncService
from lanjie_matcher.views import SHARDS, SIGNED_PREFIX, Manifest

MIN_WAIT_SECONDS = 1


class SyncServicer(sync_pb2_grpc.SyncServiceServicer):
    """Serves pulls."""

    def __init__(self, service: SyncService) -> None:
        self._service = service

    async def Pull(self, request: pb.PullRequest, context: Any) -> AsyncIterator[pb.PullResponse]:
        """Send the signed head, and the whole set when the client's is another."""
        caller(context).require(Role.INQUIRER)
        if request.view not in ("", COMPANIES):
            raise invalid_argument("view", "unknown", f"the only view is {COMPANIES}")
        manifest = self._service.manifest()
        # Everything of this answer is of one revision: the shards are taken before the first await.
        held = (request.lineage, request.epoch, request.root)
        same = held == (manifest.lineage, manifest.epoch, manifest.root)
        shards = [] if same else [self._service.view.shard(number) for number in range(SHARDS)]
        yield pb.PullResponse(
            kind=pb.PULL_KIND_HEARTBEAT if same else pb.PULL_KIND_SNAPSHOT,
            head=self._signed(manifest),
            scope=self._scope(),
            **_first(shards),
            last=same,
        )
        for shard in shards[1:]:
            yield pb.PullResponse(
                kind=pb.PULL_KIND_SNAPSHOT,
                shard=shard.number,
                count=shard.count,
                planes=shard.planes,
                last=shard.number == SHARDS - 1,
            )

    def _signed(self, manifest: Manifest) -> pb.SignedManifest:
        raw = pb.Manifest(
            view=manifest.view,
            lineage=manifest.lineage,
            epoch=manifest.epoch,
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
        ).SerializeToString(deterministic=True)
        key_id, value = self._service.sign(SIGNED_PREFIX + raw)
        signature = pb.Signature(key_id=key_id, algorithm=pb.SIGNATURE_ALGORITHM_ED25519, value=value)
        return pb.SignedManifest(manifest=raw, signatures=[signature])

    def _scope(self) -> pb.ViewScope:
        matters = [
            pb.MatterScope(
                code=matter.code,
                case_no_required=matter.case_no_required,
                as_of_allowed=matter.as_of_allowed,
                in_force=[
                    pb.DateSpan(start_date=first.isoformat(), end_date=last.isoformat() if last else "")
                    for first, last in matter.spans
                ],
            )
            for matter in self._service.matters()
        ]
        return pb.ViewScope(
            key=self._service.view_key, covers=["company"], matters=matters, min_wait_seconds=MIN_WAIT_SECONDS
        )


class InquiryServicer(audit_pb2_grpc.InquiryServiceServicer):
    """Takes inquiry records from SDKs."""

    def __init__(self, service: InquiryService) -> None:
        self._service = service

    async def UploadLocalPasses(
        self, request: audit_pb2.UploadLocalPassesRequest, context: Any
    ) -> audit_pb2.UploadLocalPassesResponse:
        """Take records of local passes."""
        passes = [_pass(each) for each in request.passes]
        sequence, gap = await self._service.upload(caller(context), request.sdk_id, request.lineage, passes)
        return audit_pb2.UploadLocalPassesResponse(acknowledged_sequence=sequence, gap=gap)


def _pass(each: audit_pb2.LocalPass) -> UploadedPass:
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return UploadedPass(
        sequence=each.sequence,
        at=epoch + datetime.timedelta(microseconds=each.unix_nanos // 1_000),
        view_digest=each.view_digest,
        epoch=each.epoch,
        revision=each.revision,
        matter=each.context.matter,
        purpose=each.context.purpose,
        case_no=each.context.case_no,
        role=each.context.role,
        region=each.context.handling_region,
        officer=each.context.officer.officer_id,
    )


def _first(shards: list[Any]) -> dict[str, Any]:
    return {"shard": 0, "count": shards[0].count, "planes": shards[0].planes} if shards else {}

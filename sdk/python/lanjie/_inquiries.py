"""Brings the records of local passes to the gateway (Art. 39): own spool, and those that dead processes left."""

import hashlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from google.protobuf.message import DecodeError

from lanjie._spool import Record, Spool
from lanjie.errors import GatewayFault, LanjieError, Unavailable
from lanjie.v1 import audit_pb2 as pb
from lanjie.v1 import screening_pb2

BATCH: Final = 500
_BREATH: Final = 20
_log = logging.getLogger("lanjie")


class Uploader:
    """Uploads spools in order; what is acknowledged is deleted.

    Args:
        upload: the call; raises `LanjieError`.
    """

    def __init__(self, upload: Callable[[pb.UploadLocalPassesRequest], pb.UploadLocalPassesResponse]) -> None:
        self._upload = upload

    def drain(self, spool: Spool, most_batches: int) -> bool:
        """Upload at most so many batches; return whether the spool is empty.

        Raises:
            LanjieError: the gateway did not take a batch; nothing of it is lost.
        """
        for _ in range(most_batches):
            records = spool.pending(BATCH)
            if not records:
                return True
            request = pb.UploadLocalPassesRequest(sdk_id=spool.sdk_id, lineage=spool.lineage)
            # Where the hash was lost the gateway is told so once, and a new chain begins.
            chain, hashes = spool.chain or spool.first_hash, {}
            for place, record in enumerate(records):
                request.passes.append(_pass(record))
                chain = hashlib.sha256(chain + request.passes[-1].SerializeToString(deterministic=True)).digest()
                hashes[record.sequence] = chain
                if place % _BREATH == 0:
                    # Threads that check need not wait for this one's turn to end.
                    time.sleep(0)
            spool.block += 1
            request.block, request.chain_before, request.chain_after = spool.block, spool.chain or b"", chain
            response = self._upload(request)
            if response.acknowledged_sequence < records[-1].sequence:
                raise GatewayFault("the gateway acknowledged fewer records than it was sent")
            if response.gap:
                _log.error("the gateway misses %d records of spool %s", response.gap, spool.sdk_id[:12])
            spool.acknowledge(records[-1].sequence, hashes)
        return not spool.pending(1)

    def take_over(self, root: Path, lineage: str) -> int:
        """Upload the spools that dead processes of a ledger left; return how many were finished.

        A spool that the gateway refuses, or that cannot be read, stays, and the next one has its turn.

        Raises:
            Unavailable: the gateway cannot be reached.
        """
        finished = 0
        for spool in Spool.left_behind(root, lineage):
            try:
                while not self.drain(spool, 1):
                    pass
                if lost := spool.unreadable:
                    _log.error("spool %s is damaged: passes in its last %d bytes are lost", spool.sdk_id[:12], lost)
                finished += 1
            except Unavailable:
                raise
            except LanjieError as error:
                _log.error("spool %s was not taken: %s", spool.sdk_id[:12], error)
            except (DecodeError, ValueError) as error:
                # Of another version, or damaged in a way that its checksums do not show. Others have their turn.
                _log.error("spool %s cannot be read: %s", spool.sdk_id[:12], type(error).__name__)
            finally:
                spool.close()
        return finished


def _pass(record: Record) -> pb.LocalPass:
    return pb.LocalPass(
        sequence=record.sequence,
        unix_nanos=record.unix_nanos,
        view_digest=record.view_digest,
        epoch=record.epoch,
        generation=record.generation,
        revision=record.revision,
        set_age_seconds=record.set_age,
        context=screening_pb2.InquiryContext.FromString(record.context),
    )

"""LedgerService over gRPC: the ledger as a whole, for those who run it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from lanjie.v1 import ledger_pb2 as pb
from lanjie.v1 import ledger_pb2_grpc
from lanjie_gateway.api.auth import caller
from lanjie_gateway.services.backups import BackupService


class LedgerServicer(ledger_pb2_grpc.LedgerServiceServicer):
    """Backups.

    Args:
        backups: makes them.
    """

    def __init__(self, backups: BackupService) -> None:
        self._backups = backups

    async def Backup(self, request: pb.BackupRequest, context: Any) -> AsyncIterator[pb.BackupResponse]:
        """Make a backup; a caller that hangs up ends it."""
        del request
        told: asyncio.Queue[tuple[str, int, int] | None] = asyncio.Queue()
        work = asyncio.create_task(self._backups.run(caller(context), lambda *step: told.put_nowait(step)))
        work.add_done_callback(lambda _: told.put_nowait(None))
        context.add_done_callback(lambda _: work.cancel())
        try:
            while (step := await told.get()) is not None:
                part, done, total = step
                yield pb.BackupResponse(part=part, done=done, total=total)
            made = await work
            yield pb.BackupResponse(path=str(made.path), revision=made.revision, sha256=made.sha256)
        finally:
            work.cancel()

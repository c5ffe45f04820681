"""The children of `lanjie serve`.

``python -m lanjie_gateway.processes PARENT control``, the same with ``worker``, each with its settings (JSON) on stdin.
"""

import asyncio
import json
import signal
import sys
from typing import Final

from lanjie_gateway.adapters.certificates import CertificateError
from lanjie_gateway.adapters.keys import KeysLostError, newest_generation
from lanjie_gateway.adapters.state_lock import StateInUseError, feed_socket
from lanjie_gateway.bootstrap.shared import places_of, wall_clock
from lanjie_gateway.domain.errors import Refused, Unanswerable
from lanjie_gateway.settings import Settings, configure_logs, log_foreign_by_place
from lanjie_gateway.supervisor import FATAL
from lanjie_gateway.tether import tie

AGAIN: Final = 1
"""Exit code of a child that may fare better the next time."""


class Hopeless(RuntimeError):
    """Starting again would only fail again."""


async def _control(settings: Settings) -> None:
    # Imported here: a worker's process does not pay for the database.
    from lanjie_gateway.adapters.ledger import LedgerError  # noqa: PLC0415
    from lanjie_gateway.bootstrap.control import Control  # noqa: PLC0415

    control = Control(settings, wall_clock)
    try:
        await control.start()
    except LedgerError as error:
        raise Hopeless(str(error)) from error
    await _until_signal()
    await control.close()


async def _worker(settings: Settings) -> None:
    state = settings.state
    # Control makes the keys of a fresh state; its socket may be a leftover, and then the feed's client tries again.
    while not (feed_socket(state).exists() and newest_generation(state / "keys")):  # noqa: ASYNC110  untold files
        await asyncio.sleep(0.02)
    from lanjie_gateway.bootstrap.worker import Worker  # noqa: PLC0415

    worker = Worker(settings, wall_clock)
    await worker.start(places_of(settings, "feed"))
    ready = asyncio.create_task(worker.ready())
    await _until_signal()
    ready.cancel()
    await worker.close()


async def _until_signal() -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()


def main(parent: str, role: str) -> int:
    """Run a child; return its exit code."""
    tie(int(parent))
    settings = Settings(**json.load(sys.stdin))
    configure_logs(settings.log_level)
    log_foreign_by_place()
    try:
        asyncio.run({"control": _control, "worker": _worker}[role](settings))
    except (Hopeless, StateInUseError, KeysLostError, Refused) as error:
        sys.stderr.write(f"error: {error}\n")
        return FATAL
    except (Unanswerable, CertificateError) as error:
        # The database may be back in a moment, and whoever writes certificates finish: the supervisor tries again.
        sys.stderr.write(f"error: {error}\n")
        return AGAIN
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

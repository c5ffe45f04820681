"""Many SDKs in one process, for `loadtests.sync`: says on standard output, as JSON lines, what each came to see.

    python -m loadtests.sync_clients GATEWAY_FILE STATE_DIR COUNT

``{"fresh": [seconds, ...], "errors": [...]}`` when all are fresh; then, for every revision, ``{"revision": r, "seen":
[monotonic seconds, ...]}``, until standard input is closed.
"""

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import lanjie

LOOK_SECONDS = 0.002


def main(file: str, state: str, count: int) -> None:
    """See the module."""
    started = time.monotonic()
    # The sorted set: so many filters of a million, built in one process, would measure nothing but that.
    clients = [
        lanjie.Client.from_file(file, state_dir=Path(state) / f"{number:03d}", filter="sorted")
        for number in range(count)
    ]
    runtimes = [client._handle.running() for client in clients]
    fresh: list[float] = [0.0] * count
    errors: set[str] = set()
    while not all(fresh):
        time.sleep(LOOK_SECONDS)
        for place, client in enumerate(clients):
            if not fresh[place]:
                status = client.sync_status()
                if status.last_error:
                    errors.add(status.last_error)
                if status.state is lanjie.SyncState.FRESH and runtimes[place].local is not None:
                    fresh[place] = time.monotonic() - started
    print(json.dumps({"fresh": fresh, "errors": sorted(errors)}), flush=True)

    stop = threading.Event()

    def listen() -> None:
        sys.stdin.read()
        stop.set()

    threading.Thread(target=listen, daemon=True).start()
    seen: dict[int, dict[int, float]] = {}
    known = [0] * count
    while not stop.is_set():
        now = time.monotonic()
        for place, runtime in enumerate(runtimes):
            local: Any = runtime.local
            revision = local.view.state.manifest.revision if local is not None else 0
            for passed in range(known[place] + 1 if known[place] else revision, revision + 1):
                seen.setdefault(passed, {})[place] = now
            known[place] = max(known[place], revision)
        for revision in [each for each, times in seen.items() if len(times) == count]:
            print(json.dumps({"revision": revision, "seen": list(seen.pop(revision).values())}), flush=True)
        time.sleep(LOOK_SECONDS)
    for client in clients:
        client.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))

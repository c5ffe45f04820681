"""A TCP proxy that misbehaves as told: between a client and a gateway it is the network."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator

_RESET = struct.pack("ii", 1, 0)  # linger for no time: close sends RST


class Proxy:
    """Passes bytes on, in both directions.

    Attributes:
        mode: ``pass``; ``hold``: everything stays open and nothing is passed on; ``bytes``: one byte a segment;
            ``slow``: every piece `delay` seconds late; ``refuse``: a new connection is closed at once.
        delay: seconds.
        address: where it listens.
        accepted: connections so far.
    """

    def __init__(self, target: str) -> None:
        self.mode = "pass"
        self.delay = 0.2
        self.accepted = 0
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def reset(self) -> None:
        """Answer every open connection with RST."""
        for near, far in self._taken():
            near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            for each in (near, far):
                _shut(each, socket.SHUT_RD)
                each.close()

    def half_close(self) -> None:
        """Tell the client of every open connection that nothing more comes, and go on listening to it."""
        for near, _ in tuple(self._pairs):
            _shut(near, socket.SHUT_WR)

    def close(self) -> None:
        """End everything."""
        self.mode = "refuse"
        self._listener.close()
        for pair in self._taken():
            for each in pair:
                _shut(each, socket.SHUT_RDWR)
                each.close()

    def _taken(self) -> list[tuple[socket.socket, socket.socket]]:
        pairs, self._pairs = self._pairs, []
        return pairs

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            if self.mode == "refuse":
                near.close()
                continue
            host, _, port = self._target.rpartition(":")
            try:
                far = socket.create_connection((host, int(port)))
            except OSError:
                near.close()
                continue
            for each in (near, far):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._pairs.append((near, far))
            for ends in ((near, far), (far, near)):
                threading.Thread(target=self._copy, args=ends, daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(1 << 16):
                if self.mode == "slow":
                    time.sleep(self.delay)
                while self.mode == "hold":
                    time.sleep(0.01)
                if self.mode == "bytes":
                    for place in range(len(piece)):
                        sink.sendall(piece[place : place + 1])
                else:
                    sink.sendall(piece)
            _shut(sink, socket.SHUT_WR)


def _shut(each: socket.socket, how: int) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(how)


@contextlib.contextmanager
def proxied(target: str) -> Iterator[Proxy]:
    """Run a proxy before a listener."""
    made = Proxy(target)
    try:
        yield made
    finally:
        made.close()

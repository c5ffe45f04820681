"""A bare grpc.aio server in a process of its own: it answers what it was asked, cut or padded to a size.

What is measured against it does the same over the same transport, and its work besides.
"""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import grpc

METHOD = "/echo.Echo/Echo"


def reply(request: bytes, size: int) -> bytes:
    """Return the right answer."""
    return request[:size].ljust(size, b".")


async def _serve(size: int) -> None:
    async def echo(request: bytes, _: object) -> bytes:
        return reply(request, size)

    server = grpc.aio.server()
    handler: Any = grpc.unary_unary_rpc_method_handler(echo)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("echo.Echo", {"Echo": handler}),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await server.wait_for_termination()


@contextlib.contextmanager
def running(size: int) -> Iterator[tuple[str, int]]:
    """Run one that answers `size` bytes; yield its address and process id."""
    command = [sys.executable, "-m", "loadtests.echo", str(size)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"127.0.0.1:{process.stdout.readline().strip()}", process.pid
        finally:
            process.terminate()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))

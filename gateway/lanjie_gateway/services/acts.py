"""Acts that are carried through once begun, whether or not the caller still waits."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


async def carried_through(act: Coroutine[Any, Any, _T]) -> _T:
    """Await an act that a cancellation must not cut in two: a commit, and telling the workers of it.

    A caller that hangs up in between still leaves when the act is done, so that whatever it holds stays held.
    """
    task = asyncio.ensure_future(act)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.done():
            await asyncio.wait({task})
        if not task.cancelled():
            task.exception()
        raise

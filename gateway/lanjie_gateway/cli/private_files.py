"""Files that a command writes about subjects: whole or not at all, and readable by their owner alone."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lanjie_gateway.cli.gateway_file import CommandError


@contextmanager
def replacing(path: Path, *, marked: bool = False) -> Iterator[io.TextIOWrapper]:
    """Write a file aside and put it in place when all of it is there, whatever stood there before.

    Args:
        path: of the file.
        marked: whether it begins with a byte order mark, for spreadsheets.

    Raises:
        CommandError: it cannot be written.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError as error:
        raise _unwritten(path, error) from None
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8-sig" if marked else "utf-8", newline="") as stream:
            yield stream
        try:
            aside.replace(path)
        except OSError as error:
            raise _unwritten(path, error) from None
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def _unwritten(path: Path, error: OSError) -> CommandError:
    return CommandError(f"{path} cannot be written: {error.strerror}")

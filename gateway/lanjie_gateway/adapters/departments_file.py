"""Where the departments file lies, and its bytes."""

from pathlib import Path
from typing import Final

NAME: Final = "departments.toml"


def read_departments(state: Path, path: Path | None) -> bytes:
    """Return the content of the departments file; empty where there is none.

    Args:
        state: state directory, where it lies unless told otherwise.
        path: where it lies; a file that is named must be there.

    Raises:
        OSError: it cannot be read.
    """
    file = path or state / NAME
    if path is None and not file.exists():
        return b""
    return file.read_bytes()

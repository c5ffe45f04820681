"""Children of `lanjie serve` die with it, whatever ends it.

``python -m lanjie_gateway.tether PARENT COMMAND...`` runs a program that is not ours. It imports little, for it is
in the way of every start.
"""

import ctypes
import os
import resource
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def tie(parent: int) -> None:
    """Have this process killed when its parent, which must be `parent`, is gone; and let it never dump its memory."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)
    # A core dump would hold what is being answered (Art. 40).
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    tie(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606  the supervisor's own choice of program

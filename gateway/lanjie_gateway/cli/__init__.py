"""The command `lanjie`: serving, importing, publishing, checking, and a demonstration on invented data.

Exit codes: 0 done (a check exits 0 whenever it answered), 1 verification failed, 2 refused or wrong usage, 3 done with
quarantine, 4 waiting for confirmation.
"""

from lanjie_gateway.cli.app import main

__all__ = ["main"]

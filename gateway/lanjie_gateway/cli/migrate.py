"""`lanjie migrate`: bring the ledger's database to the schema of this version."""

from pathlib import Path
from typing import Annotated

import typer

from lanjie_gateway.cli.gateway_file import CommandError


def migrate(
    state: Annotated[
        Path | None, typer.Option("--state", help="State directory; needed where the ledger is a file in it.")
    ] = None,
) -> None:
    """Bring the ledger to the newest schema: PostgreSQL of LANJIE_LEDGER_URL, else SQLite below the state.

    Several hosts may do so at once. A file is copied aside first, and only while no gateway uses it.
    """
    from lanjie_gateway.adapters.ledger import LedgerError
    from lanjie_gateway.adapters.ledger.database import migrate as upgrade
    from lanjie_gateway.adapters.state_lock import LEDGER, StateInUseError, hold
    from lanjie_gateway.domain.errors import Unanswerable
    from lanjie_gateway.settings import Settings

    try:
        settings = Settings(state=state or Path())
    except (OSError, ValueError) as error:
        raise CommandError(str(error)) from None
    try:
        if settings.ledger_url.startswith("postgresql"):
            before, after = upgrade(settings.ledger_url)
        elif state is None:
            raise CommandError("give --state DIR, or the PostgreSQL of several hosts in LANJIE_LEDGER_URL")
        elif not state.is_dir():
            raise CommandError(f"{state} is not a directory")
        else:
            with hold(state, LEDGER, wait=1.0):
                before, after = upgrade(settings.ledger)
    except (LedgerError, StateInUseError, Unanswerable) as error:
        raise CommandError(str(error)) from None
    told = f"{before or 'empty'} → {after}" if before != after else f"{after}, nothing to do"
    typer.echo(f"schema: {told}")

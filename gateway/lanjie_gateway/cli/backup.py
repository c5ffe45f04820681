"""`lanjie backup` and `lanjie restore`: the ledger with its keys as one file, and back."""

import datetime
import errno
import hashlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from lanjie_gateway.cli import render
from lanjie_gateway.cli.gateway_file import (
    AsJson,
    CommandError,
    Listener,
    Person,
    Target,
)

if TYPE_CHECKING:
    from lanjie_gateway.adapters.restore import Restored

BACKUP_SECONDS: Final = 3_600.0
DAMAGED: Final = 1
_SHOWN: Final = ("listing", "event", "receipt", "edition", "inquiry")


def backup(
    *,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="File to write; it stays below the state directory when left out."),
    ] = None,
    target: Target,
    as_json: AsJson = False,
) -> None:
    """Write a backup while the gateway serves: ledger, keys, tokens and inquiry records as of one revision.

    The file opens every listing: keep it as the keys themselves are kept.
    """
    from lanjie.v1 import ledger_pb2 as pb
    from lanjie_gateway.cli.admin import connect

    if output is not None:
        _require_free(output)
    last = pb.BackupResponse()
    with connect(target.endpoint(Listener.ADMIN, Person.AGENCY)) as admin, render.steps(hidden=as_json) as step:
        for last in admin.stream(admin.ledger.Backup, pb.BackupRequest(), seconds=BACKUP_SECONDS):
            step(last.part, last.done, last.total)
    path = Path(last.path)
    if output is not None:
        path = _move(path, output, last.sha256)
    facts: dict[str, Any] = {"path": str(path.resolve()), "revision": last.revision, "sha256": last.sha256.hex()}
    if as_json:
        render.emit(facts)
    else:
        render.console().print(render.facts_panel("backup 备份", facts))


def restore(
    file: Annotated[Path, typer.Argument(help="A file that `lanjie backup` wrote.")],
    state: Annotated[Path, typer.Option("--state", help="State directory to restore into: empty, or not there yet.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Restore a backup, with no gateway running, as a new epoch of the same ledger.

    The ledger is the one that LANJIE_LEDGER_URL names, an empty database; SQLite below the state when it is not set.
    Exit codes: 0 done, 1 the file is not a whole backup, 2 it cannot be restored here.
    """
    from lanjie_gateway.adapters import restore as adapter
    from lanjie_gateway.adapters.state_lock import StateInUseError
    from lanjie_gateway.settings import Settings

    state = state.resolve()
    now = datetime.datetime.now(datetime.UTC)
    try:
        settings = Settings(state=state)
    except (OSError, ValueError) as error:
        raise CommandError(str(error)) from None
    try:
        with render.steps(hidden=as_json) as step:
            done = adapter.restore(file, state, settings.ledger, now, step)
    except adapter.BackupDamagedError as error:
        raise CommandError(str(error), DAMAGED) from None
    except (adapter.RestoreRefusedError, StateInUseError) as error:
        raise CommandError(str(error)) from None
    except OSError as error:
        raise CommandError(f"{error.filename or file}: {error.strerror}") from None
    _tell(done, state, as_json=as_json)


def _tell(done: "Restored", state: Path, *, as_json: bool) -> None:
    facts: dict[str, Any] = {
        "lineage": done.lineage,
        "created": done.created,
        "revision": done.revision,
        "old_epoch": done.old_epoch,
        "epoch": done.epoch,
        **{f"{name}_rows": done.rows[name] for name in _SHOWN},
        "inquiry_segments": done.segments,
        "state": str(state),
    }
    if as_json:
        render.emit(facts)
        return
    console = render.console()
    console.print(render.facts_panel("restored 已恢复", facts))
    console.print(
        f"Start it: lanjie serve --state {state}\n"
        "SDKs take the new epoch by themselves. What was committed after this revision is gone: "
        "import and remove it again before counters rely on it."
    )


def _require_free(output: Path) -> None:
    if output.exists():
        raise CommandError(f"{output} is there already; a backup overwrites nothing")
    if not output.absolute().parent.is_dir():
        raise CommandError(f"{output.absolute().parent} is not a directory")


def _move(made: Path, output: Path, sha256: bytes) -> Path:
    """Move a backup to where it is wanted, verified and overwriting nothing.

    Raises:
        CommandError: it cannot be moved; it stays where it was made.
    """
    try:
        _require_digest(made, sha256)
        try:
            os.link(made, output)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP):
                raise
            _copy(made, output, sha256)
        made.unlink()
    except OSError as error:
        raise CommandError(f"{output}: {error.strerror}; the backup is {made}") from None
    return output


def _copy(made: Path, output: Path, sha256: bytes) -> None:
    with made.open("rb") as source, os.fdopen(os.open(output, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as to:
        try:
            shutil.copyfileobj(source, to, 1 << 20)
            to.flush()
            os.fsync(to.fileno())
            _require_digest(output, sha256)
        except BaseException:
            output.unlink()
            raise


def _require_digest(path: Path, sha256: bytes) -> None:
    with path.open("rb") as content:
        if hashlib.file_digest(content, "sha256").digest() != sha256:
            raise CommandError(f"{path} is not what the gateway wrote", DAMAGED)

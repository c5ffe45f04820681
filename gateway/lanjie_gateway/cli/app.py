"""The command tree. Commands import what they need when they run, so that `lanjie --help` is quick."""

import contextlib
import io
import os
import re
import sys
from importlib.metadata import version
from typing import Annotated, NoReturn

import typer
from typer.exceptions import TyperException

from lanjie_gateway.cli import (
    audit,
    backup,
    calendar,
    catalogues,
    checks,
    grants,
    limits,
    list_events,
    lists,
    profiles,
    receipts,
    rights,
    status,
    waiting,
    watches,
)
from lanjie_gateway.cli.demo import demo
from lanjie_gateway.cli.explain import explain
from lanjie_gateway.cli.feedback import feedback, report
from lanjie_gateway.cli.gateway_file import CommandError, with_targets
from lanjie_gateway.cli.migrate import migrate
from lanjie_gateway.cli.rotate import rotate_view_key
from lanjie_gateway.cli.serve import serve
from lanjie_gateway.cli.statistics import statistics

app = typer.Typer(
    name="lanjie",
    help="Checks subjects against the lists of seriously untrustworthy subjects and the published measure lists.",
    no_args_is_help=True,
    add_completion=False,
    # A traceback with local variables would show identifiers (Art. 40).
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(serve)
app.command()(checks.check)
app.command("check-file")(checks.check_file)
for command in (waiting.add, waiting.amend, waiting.waiting, waiting.confirm, waiting.decline):
    lists.app.command()(command)
app.add_typer(lists.app, name="list")
app.command()(list_events.duties)
app.add_typer(profiles.app, name="profile")
app.add_typer(catalogues.app, name="catalogue")
app.add_typer(calendar.app, name="calendar")
app.add_typer(limits.app, name="limits")
app.add_typer(grants.app, name="grant")
app.command()(explain)
app.command()(report)
app.command()(feedback)
app.command()(statistics)
app.add_typer(receipts.app, name="receipt")
for rights_app in (rights.subject, rights.authorisation, rights.complaint):
    app.add_typer(rights_app)
app.add_typer(audit.app, name="audit")
app.add_typer(watches.app, name="watch")
app.add_typer(watches.cases, name="case")
app.command()(watches.alerts)
app.command()(status.status)
app.command()(backup.backup)
app.command()(backup.restore)
app.command("rotate-view-key")(rotate_view_key)
app.command()(migrate)
app.command()(demo)
with_targets(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"lanjie {version('lanjie-gateway')}")  # noqa: T201  it is what was asked for
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; every refusal is one line on standard error and exit code 2."""
    from lanjie.errors import LanjieError

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a character gets its escape, not a crash.
            stream.reconfigure(errors="backslashreplace")
    try:
        code = app(standalone_mode=False)
    except TyperException as error:
        _misused(error)
    except CommandError as error:
        _fail(str(error), error.code)
    except LanjieError as error:
        _fail(describe(error), 2)
    except (typer.Exit, KeyboardInterrupt):
        raise
    except BrokenPipeError:
        # The reader has gone (`| head`). What is still buffered must not raise again at exit.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(2)
    except Exception as error:  # noqa: BLE001  a traceback ends in a message, and that may quote an identifier
        from lanjie_gateway.settings import where

        _fail(f"internal error: {where(error)}", 2)
    else:
        sys.exit(code if isinstance(code, int) else 0)


def _misused(error: TyperException) -> NoReturn:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "lanjie"
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(context.get_help() if context is not None else "", err=True)
        sys.exit(2)
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    # Our words are ASCII; what is not was typed, and may be a name.
    message = re.sub(r"[^\x00-\x7f]+", "…", message)
    if message.startswith("Got unexpected extra argument"):
        # It would repeat what was typed: half of an identifier with a blank in it, for instance.
        message = "Got more arguments than it takes; quote what holds blanks."
    _fail(f"{message} See `{command} --help`.", 2)


def describe(error: Exception) -> str:
    """Return an error of the SDK in one line: what it says, its reason, and the rule with where it was broken."""
    message = " ".join(str(error).split())
    reason = str(getattr(error, "reason", "") or "")
    metadata = dict(getattr(error, "metadata", None) or {})
    details = ", ".join(
        f"{key} {value}" for key, value in sorted(metadata.items()) if value and (key == "rule" or value not in message)
    )
    named = ": ".join(part for part in (reason, details) if part)
    return f"{message} ({named})" if named and named not in message else message


def _fail(message: str, code: int) -> NoReturn:
    from lanjie_matcher.masking import masked_line

    # What was typed in the wrong place may be an identifier.
    print(f"error: {masked_line(message)}", file=sys.stderr)  # noqa: T201  this is the one place for it
    sys.exit(code)

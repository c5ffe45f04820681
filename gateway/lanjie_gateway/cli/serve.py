"""`lanjie serve`: only the arguments; the supervisor does the rest."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from lanjie_gateway.cli.gateway_file import CommandError

_ANY_PORT = "127.0.0.1:0"


def serve(
    state: Annotated[Path, typer.Option("--state", help="State directory: ledger, keys, tokens; made when missing.")],
    *,
    listen: Annotated[str, typer.Option(help="Screening listener, HOST:PORT; port 0 picks one.")] = "127.0.0.1:7700",
    feed: Annotated[str, typer.Option(help="Feed listener: sync and inquiry upload.")] = _ANY_PORT,
    admin: Annotated[str, typer.Option(help="Admin listener: listings and catalogues.")] = _ANY_PORT,
    metrics: Annotated[
        str, typer.Option(envvar="LANJIE_METRICS", help="Metrics listener for Prometheus, HTTP; none by default.")
    ] = "",
    tls_cert: Annotated[
        Path | None,
        typer.Option(
            envvar="LANJIE_TLS_CERT", help="Certificate with its chain, PEM; listeners then want clients' too."
        ),
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(envvar="LANJIE_TLS_KEY", help="Its private key, PEM.")] = None,
    tls_client_ca: Annotated[
        Path | None, typer.Option(envvar="LANJIE_TLS_CLIENT_CA", help="Authorities that vouch for clients, PEM.")
    ] = None,
    advertise: Annotated[
        str, typer.Option(envvar="LANJIE_ADVERTISE", help="Host name by which other machines reach the listeners.")
    ] = "",
    allow_examples: Annotated[
        bool, typer.Option("--allow-examples", help="Take catalogues marked `example: true`: for trying things out.")
    ] = False,
) -> None:
    """Run a gateway until it is told to stop; when it is ready it writes STATE/gateway.json."""
    listeners = {"--listen": listen, "--feed": feed, "--admin": admin} | ({"--metrics": metrics} if metrics else {})
    for option, address in listeners.items():
        host, colon, port = address.rpartition(":")
        if not (colon and host and port.isdecimal() and int(port) < 65_536):
            raise CommandError(f"{option} wants HOST:PORT, for instance 127.0.0.1:7700")
    if state.exists() and not state.is_dir():
        raise CommandError(f"{state} is not a directory")
    from lanjie_gateway import supervisor
    from lanjie_gateway.settings import Settings

    try:
        settings = Settings(
            state=state,
            listen=listen,
            feed=feed,
            admin=admin,
            metrics=metrics,
            tls_cert=tls_cert,
            tls_key=tls_key,
            tls_client_ca=tls_client_ca,
            advertise=advertise,
            allow_examples=allow_examples,
        )
    except (OSError, ValueError) as error:
        raise CommandError(str(error)) from None
    sys.exit(supervisor.serve(settings))

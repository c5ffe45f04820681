"""Which gateway a command talks to, and as whom: `gateway.json` of `serve`, or an explicit address and token file.

`serve` names one token file for each person of the embedded department; a command takes the one its task belongs to.
Tokens are read when they are needed, and never shown. A certificate takes their place, on the listeners with TLS.
A command that talks to a gateway has a parameter `target`; `with_targets` makes options of it.
"""

import enum
import functools
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    import lanjie

VARIABLE: Final = "LANJIE_GATEWAY_FILE"

GatewayFile = Annotated[
    Path | None,
    typer.Option("--gateway-file", envvar=VARIABLE, help="gateway.json that `serve` writes into its state directory."),
]
_OPTIONS: Final[Mapping[str, Any]] = {
    "gateway_file": GatewayFile,
    "address": Annotated[
        str | None, typer.Option("--address", help="HOST:PORT of the listener, instead of the file's.")
    ],
    "token_file": Annotated[
        Path | None, typer.Option("--token-file", help="File with the bearer token, instead of the file's.")
    ],
    "tls_cert": Annotated[
        Path | None,
        typer.Option(
            envvar="LANJIE_CLIENT_CERT",
            help="Own certificate, PEM, in place of a token: goes to the listeners with TLS.",
        ),
    ],
    "tls_key": Annotated[Path | None, typer.Option(envvar="LANJIE_CLIENT_KEY", help="Its private key, PEM.")],
    "tls_ca": Annotated[
        Path | None, typer.Option(envvar="LANJIE_GATEWAY_CA", help="Authority that vouches for the gateway, PEM.")
    ],
}
"""What a command's `target` is made of."""
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


class CommandError(Exception):
    """A command ends with one line on standard error.

    Attributes:
        code: exit code.
    """

    def __init__(self, message: str, code: int = 2) -> None:
        super().__init__(message)
        self.code = code


class Person(enum.StrEnum):
    """Persons of the embedded department whose token files `gateway.json` names."""

    INQUIRER = "inquirer"
    AUTHORITY = "authority"
    REVIEWER = "reviewer"
    AGENCY = "agency"
    CONTROLLER = "controller"
    MANAGER = "manager"


class Listener(enum.StrEnum):
    """Listeners of a gateway, by their keys in `gateway.json`."""

    SCREENING = "screening"
    FEED = "feed"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One listener and the credentials for it."""

    address: str
    token: str | None = None
    tls: "lanjie.Tls | None" = None

    def __repr__(self) -> str:
        return f"Endpoint({self.address})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What the caller said of the gateway: a gateway file, or address and token file; the latter win one by one.

    A certificate says who asks in place of a token.
    """

    gateway_file: Path | None
    address: str | None = None
    token_file: Path | None = None
    tls: "lanjie.Tls | None" = None

    def endpoint(self, listener: Listener, person: Person) -> Endpoint:
        """Return where to go and as whom.

        Raises:
            CommandError: nothing names the gateway, or a file it needs cannot be read.
        """
        if self.tls is not None:
            if self.token_file is not None:
                raise CommandError("a certificate says who asks: leave --token-file out, or --tls-cert")
            return Endpoint(address=self.address or _entry(self.content(), "tls", listener), tls=self.tls)
        if self.address is not None and self.token_file is not None:
            return Endpoint(address=self.address, token=_token(self.token_file))
        content = self.content()
        token_file = self.token_file or Path(_entry(content, "tokens", person))
        return Endpoint(address=self.address or _entry(content, listener), token=_token(token_file))

    def content(self) -> Mapping[str, Any]:
        """Return the content of the gateway file.

        Raises:
            CommandError: no file is named, or it cannot be read.
        """
        if self.gateway_file is None:
            raise CommandError(
                "which gateway? Give --gateway-file DIR/gateway.json, "
                f"set {VARIABLE}, or give --address and --token-file"
            )
        try:
            content = json.loads(self.gateway_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise CommandError(
                f"{self.gateway_file} is missing: `lanjie serve` writes it when the gateway is ready"
            ) from None
        except (OSError, ValueError) as error:
            raise CommandError(f"{self.gateway_file} cannot be read: {type(error).__name__}") from None
        if not isinstance(content, dict):
            raise CommandError(f"{self.gateway_file} is not a gateway file")
        return content

    def arguments(self) -> list[str]:
        """Return the options that name this gateway again, for a command to be typed by another person."""
        return ["--gateway-file", str(self.gateway_file)] if self.gateway_file else ["--address", str(self.address)]


def open_client(target: Target) -> "lanjie.Client":
    """Return an SDK client that asks the gateway every question: one command is not worth pulling a snapshot for."""
    import lanjie

    endpoint = target.endpoint(Listener.SCREENING, Person.INQUIRER)
    return lanjie.Client(endpoint.address, token=endpoint.token, tls=endpoint.tls, local=False)


def with_targets(app: typer.Typer) -> None:
    """Give every command of a tree that has a `target` the options that name one."""
    for command in app.registered_commands:
        if command.callback is not None and "target" in inspect.signature(command.callback).parameters:
            command.callback = _taking_options(command.callback)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            with_targets(group.typer_instance)


def _taking_options(command: Callable[..., Any]) -> Callable[..., Any]:
    own = inspect.signature(command, eval_str=True)
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in _OPTIONS.items()
    ]

    @functools.wraps(command)
    def taking(*args: Any, **kwargs: Any) -> Any:
        files = {name: kwargs.pop(name, None) for name in _OPTIONS}
        tls = _certificate({name: files.pop(name) for name in ("tls_cert", "tls_key", "tls_ca")})
        return command(*args, target=Target(**files, tls=tls), **kwargs)

    parameters = [
        parameter for each in own.parameters.values() for parameter in (options if each.name == "target" else [each])
    ]
    taking.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    taking.__annotations__ = {each.name: each.annotation for each in parameters}
    return taking


def _certificate(files: Mapping[str, Path | None]) -> "lanjie.Tls | None":
    told = {name: path for name, path in files.items() if path is not None}
    if not told:
        return None
    if len(told) < len(files):
        options = " and ".join(f"--{name.replace('_', '-')}" for name in files if name not in told)
        raise CommandError(f"a certificate wants {options} as well")
    import lanjie

    return lanjie.Tls.from_files(ca=told["tls_ca"], cert=told["tls_cert"], key=told["tls_key"])


def unreachable(address: str) -> str:
    """Return the line for a gateway that does not answer."""
    return f"no gateway answers at {address}: is `lanjie serve` running, and is this its address?"


def _entry(content: Mapping[str, Any], *path: str) -> str:
    value: Any = content
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    if not isinstance(value, str):
        raise CommandError(f"the gateway file has no entry {'.'.join(path)}")
    return value


def _token(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise CommandError(f"token file {path} cannot be read: {type(error).__name__}") from None

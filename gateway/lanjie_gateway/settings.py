"""Settings of `serve` and its log: arguments first, then `LANJIE_*`, then these defaults. Built once, frozen."""

import ipaddress
import logging
import os
import sys
import threading
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, Final, Literal, Self

import structlog
from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from lanjie_gateway.domain.record_retention import Periods
from lanjie_matcher.masking import masked_line

MOST_OF_A_SOCKET: Final = 107
"""Bytes that the path of a unix socket may have."""
_KEPT: Final = Periods()
_LONGEST: Final = 36_525


class Settings(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(env_prefix="LANJIE_", frozen=True, extra="ignore", hide_input_in_errors=True)

    state: Path = Field(description="State directory: ledger, keys, tokens, inquiry segments; 0700.")
    listen: str = Field(default="127.0.0.1:7700", description="Screening listener, HOST:PORT.")
    feed: str = Field(default="127.0.0.1:0", description="Feed listener: sync and inquiry upload.")
    admin: str = Field(default="127.0.0.1:0", description="Admin listener: listings and catalogues.")
    metrics: str = Field(
        default="", description="Metrics listener for Prometheus, HTTP, on loopback only; none when empty."
    )
    tls_cert: Path | None = Field(default=None, description="Certificate of the listeners with its chain, PEM.")
    tls_key: Path | None = Field(default=None, description="Its private key, PEM.")
    tls_client_ca: Path | None = Field(default=None, description="Authorities that vouch for clients, PEM.")
    plain_listen: str = Field(
        default="127.0.0.1:0", description="With TLS: screening listener without, for tokens, on loopback only."
    )
    plain_feed: str = Field(default="127.0.0.1:0", description="The same for the feed.")
    plain_admin: str = Field(default="127.0.0.1:0", description="The same for the admin listener.")
    advertise: str = Field(
        default="", description="With TLS: host name by which other machines reach the listeners; theirs when empty."
    )
    sockets: Path | None = Field(
        default=None, description="Directory of unix sockets beside the listeners, for tokens; none when left out."
    )
    allow_examples: bool = Field(default=False, description="Take catalogues marked `example: true`.")
    region: str = Field(default="320000", pattern="^[0-9]{6}$", description="Region of department `local`, GB/T 2260.")
    departments: Path | None = Field(
        default=None, description="Departments file; STATE/departments.toml, if there is one, when left out."
    )
    departments_toml: str | None = Field(
        default=None, repr=False, description="Its content, as `serve` found it at the start; read when left out."
    )
    ledger_url: str = Field(default="", description="Address of the ledger; SQLite below the state when empty.")
    redis_url: str = Field(
        default="",
        description="Valkey or Redis for the shared index: redis://, rediss://, unix://, redis+sentinel:// or "
        "redis+cluster://; a private server when empty; `none` to go without.",
    )
    index: Literal["memory", "redis"] = Field(
        default="memory", description="Where workers keep the records of the exact index."
    )
    workers: int = Field(default=1, ge=1, le=64, description="Screening workers on one port; one a core at most.")
    checks_per_minute: int = Field(default=0, ge=0, description="Checks a department may ask for; 0 for any number.")
    checks_per_minute_credential: int = Field(
        default=0, ge=0, description="The same for each of its persons or credentials."
    )
    checks_per_minute_officer: int = Field(default=0, ge=0, description="The same for each of its officers.")
    persons_per_day: int = Field(
        default=2_000, ge=0, description="Distinct natural persons a department may ask about; 0 for any number."
    )
    persons_per_day_officer: int = Field(default=1_000, ge=0, description="The same for one officer.")
    detectors: Literal["act", "alarm"] = Field(
        default="act", description="What walks through natural persons lead to: an alarm alone, or also a stop."
    )
    objection_channel: str = Field(
        default="", max_length=500, description="Where subjects object to listings whose list type names no channel."
    )
    retro_days: int = Field(
        default=90,
        ge=0,
        le=3_650,
        description="How far back passes are looked for when a listing comes; 0: not at all.",
    )
    retain_effects_days: int = Field(
        default=_KEPT.effects,
        le=_LONGEST,
        description="Days that records of effects are kept for.",
    )
    retain_passes_days: int = Field(default=_KEPT.passes, le=_LONGEST, description="The same for passes.")
    retain_person_passes_days: int = Field(
        default=_KEPT.person_passes, le=_LONGEST, description="The same for passes about persons who are not listed."
    )
    retain_rights_days: int = Field(
        default=_KEPT.rights,
        le=_LONGEST,
        description="The same for authorisations, complaints, watches and closed cases, from their end.",
    )
    erase_archived_only: bool = Field(default=False, description="Erase no record that no archive holds.")
    deadlines: Path | None = Field(default=None, description="TOML file with periods that other texts set.")
    log_level: str = Field(
        default="warning",
        pattern="(?i)^(debug|info|warning|error)$",
        description="Least level that is logged: debug, info, warning, error.",
    )

    @model_validator(mode="before")
    @classmethod
    def _from_files(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Addresses hold passwords: LANJIE_LEDGER_URL_FILE and LANJIE_REDIS_URL_FILE name files that hold them."""
        for name in ("ledger_url", "redis_url"):
            file = os.environ.get(f"LANJIE_{name.upper()}_FILE")
            if file and not values.get(name):
                values[name] = Path(file).read_text().strip()
        return values

    @model_validator(mode="after")
    def _long_enough(self) -> Self:
        """See that nothing is kept for less than it must be, whichever process reads the settings."""
        self.retention.require(self.retro_days)
        return self

    @property
    def retention(self) -> Periods:
        """How long records are kept."""
        return Periods(
            effects=self.retain_effects_days,
            passes=self.retain_passes_days,
            person_passes=self.retain_person_passes_days,
            rights=self.retain_rights_days,
        )

    @property
    def tls(self) -> tuple[Path, Path, Path] | None:
        """Certificate, key and authorities of clients; `None` without TLS.

        Raises:
            ValueError: one is set without the others.
        """
        match self.tls_cert, self.tls_key, self.tls_client_ca:
            case None, None, None:
                return None
            case Path() as cert, Path() as key, Path() as client_ca:
                return cert, key, client_ca
        raise ValueError("TLS wants LANJIE_TLS_CERT, LANJIE_TLS_KEY and LANJIE_TLS_CLIENT_CA together (rule tls-parts)")

    def check_listeners(self) -> None:
        """See that nothing is spoken over a network in the clear (Art. 43).

        Raises:
            ValueError: a listener breaks a rule, which is named.
        """
        if self.sockets is not None:
            if self.workers > 1:
                raise ValueError("a socket is one worker's: LANJIE_SOCKETS goes with one (rule sockets-workers)")
            if len(os.fsencode(self.socket("listen"))) > MOST_OF_A_SOCKET:
                raise ValueError(f"{self.sockets} is too long for a socket's name (rule socket-path)")
        self._check_ports()
        plain = {"metrics": self.metrics}
        if self.tls is None:
            for name in ("listen", "feed", "admin"):
                if not is_loopback(getattr(self, name)):
                    raise ValueError(
                        f"{name} {getattr(self, name)} is not on this machine, and without TLS only loopback is "
                        "listened on: set LANJIE_TLS_CERT, LANJIE_TLS_KEY and LANJIE_TLS_CLIENT_CA (rule tls-required)"
                    )
        else:
            plain |= {f"plain_{name}": getattr(self, f"plain_{name}") for name in ("listen", "feed", "admin")}
            for name in ("listen", "feed", "admin"):
                if not self.advertise and host_of(getattr(self, name)) in ("0.0.0.0", "::"):  # noqa: S104  refused
                    raise ValueError(
                        f"{name} {getattr(self, name)} is every address and none: name the host by which others reach "
                        "it with --advertise (rule advertise)"
                    )
        for name, address in plain.items():
            if address and not is_loopback(address):
                raise ValueError(f"{name} {address} has no TLS and stands on loopback only (rule loopback)")

    def _check_ports(self) -> None:
        names = ["listen", "feed", "admin", "metrics"]
        if self.tls is not None:
            names += [f"plain_{name}" for name in ("listen", "feed", "admin")]
        taken: dict[str, str] = {}
        for name in names:
            address = getattr(self, name)
            port = address.rpartition(":")[2]
            if not address or port == "0":
                continue
            if not (port.isascii() and port.isdecimal() and int(port) < 65_536):
                raise ValueError(f"{name} {address} is not HOST:PORT (rule port)")
            if taken.setdefault(address, name) != name:
                raise ValueError(f"{name} and {taken[address]} are both to listen on {address} (rule port-twice)")

    def advertised(self, address: str) -> str:
        """Return the address of a listener with TLS as other machines write it."""
        if not self.advertise or is_loopback(address):
            return address
        host = f"[{self.advertise}]" if ":" in self.advertise else self.advertise
        return f"{host}:{address.rpartition(':')[2]}"

    def socket(self, name: str) -> Path:
        """Return the path of the unix socket of a listener."""
        return (self.sockets or self.state).resolve() / f"{name}.sock"

    @property
    def has_redis(self) -> bool:
        """Whether there is a Redis to use; `serve` puts its private one's address in."""
        return self.redis_url not in ("", "none")

    @property
    def ledger(self) -> str:
        """Address of the ledger."""
        return self.ledger_url or f"sqlite:///{self.state.resolve() / 'ledger.sqlite3'}"


def where(error: BaseException) -> str:
    """Return what went wrong by kind and place: places name code, a message of a foreign error may hold anything."""
    places = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        places.append(f"{code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}")
        trace = trace.tb_next
    return f"{type(error).__name__} at {' > '.join(places[-6:])}"


def host_of(address: str) -> str:
    """Return the host of HOST:PORT, without the brackets of IPv6."""
    return address.rpartition(":")[0].strip("[]")


def is_loopback(address: str) -> bool:
    """Whether HOST:PORT stands on this machine only. No name but ``localhost`` counts."""
    host = host_of(address)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def configure_logs(level: str) -> None:
    """Log JSON lines to standard error, from `level` on.

    No identifier is ever logged (Art. 40). Nothing of ours tries to; what looks like one is masked all the same.
    """
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _without_numbers,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )


def log_foreign_by_place() -> None:
    """Log what libraries say and what ends a process by kind and place: their messages may quote anything (Art. 40)."""
    logging.basicConfig(level=logging.WARNING, handlers=[_Foreign()], force=True)
    sys.excepthook = lambda _kind, error, _trace: _crashed(error)
    threading.excepthook = lambda caught: _crashed(caught.exc_value)


def _without_numbers(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {name: masked_line(value) if isinstance(value, str) else value for name, value in event.items()}


def _crashed(error: BaseException | None) -> None:
    if error is not None:
        structlog.get_logger("lanjie").error("crashed", error=where(error))


class _Foreign(logging.Handler):
    """What libraries log: who, how bad and where, without the message."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log one record."""
        error = record.exc_info[1] if record.exc_info else None
        structlog.get_logger("lanjie.foreign").log(
            record.levelno,
            "foreign",
            logger=record.name,
            place=f"{record.filename}:{record.lineno}",
            error=where(error) if error is not None else "",
        )

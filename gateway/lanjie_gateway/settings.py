"""Settings of `serve` and its log: arguments first, then `LANJIE_*`, then these defaults. Built once, frozen."""

import logging
import os
import sys
from pathlib import Path
from typing import Any, Literal

import structlog
from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(env_prefix="LANJIE_", frozen=True, extra="ignore")

    state: Path = Field(description="State directory: ledger, keys, tokens, inquiry segments; 0700.")
    listen: str = Field(default="127.0.0.1:7700", description="Screening listener, HOST:PORT; loopback only for now.")
    feed: str = Field(default="127.0.0.1:0", description="Feed listener: sync and inquiry upload.")
    admin: str = Field(default="127.0.0.1:0", description="Admin listener: listings and catalogues.")
    metrics: str = Field(default="", description="Metrics listener for Prometheus, HTTP; none when empty.")
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
    objection_channel: str = Field(
        default="", max_length=500, description="Where subjects object to listings whose list type names no channel."
    )
    deadlines: Path | None = Field(default=None, description="TOML file with periods that other texts set.")
    log_level: str = Field(default="warning", description="Least level that is logged: debug, info, warning, error.")

    @model_validator(mode="before")
    @classmethod
    def _from_files(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Addresses hold passwords: LANJIE_LEDGER_URL_FILE and LANJIE_REDIS_URL_FILE name files that hold them."""
        for name in ("ledger_url", "redis_url"):
            file = os.environ.get(f"LANJIE_{name.upper()}_FILE")
            if file and not values.get(name):
                values[name] = Path(file).read_text().strip()
        return values

    @property
    def has_redis(self) -> bool:
        """Whether there is a Redis to use; `serve` puts its private one's address in."""
        return self.redis_url not in ("", "none")

    @property
    def ledger(self) -> str:
        """Address of the ledger."""
        return self.ledger_url or f"sqlite:///{self.state.resolve() / 'ledger.sqlite3'}"


def configure_logs(level: str) -> None:
    """Log JSON lines to standard error, from `level` on. No identifier is ever logged."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )

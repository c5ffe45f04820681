"""Settings of `serve`: arguments first, then `LANJIE_*`, then these defaults. Built once, passed down, frozen."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(env_prefix="LANJIE_", frozen=True, extra="ignore")

    state: Path = Field(description="State directory: ledger, keys, tokens, inquiry segments; 0700.")
    listen: str = Field("127.0.0.1:7700", description="Screening listener, HOST:PORT; loopback only for now.")
    feed: str = Field("127.0.0.1:0", description="Feed listener: sync and inquiry upload.")
    admin: str = Field("127.0.0.1:0", description="Admin listener: listings and catalogues.")
    allow_examples: bool = Field(default=False, description="Take catalogues marked `example: true`.")
    region: str = Field("320000", pattern="^[0-9]{6}$", description="Region of department `local`, GB/T 2260.")
    ledger_url: str = Field("", description="SQLAlchemy address of the ledger; SQLite below the state when empty.")
    log_level: str = Field("warning", description="Least level that is logged: debug, info, warning, error.")

    @property
    def ledger(self) -> str:
        """Address of the ledger."""
        return self.ledger_url or f"sqlite:///{self.state.resolve() / 'ledger.sqlite3'}"

"""Every setting says what it is for, and the operator's page lists it."""

from pathlib import Path
from typing import Any

import pytest

from lanjie_gateway.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()


def test_every_setting_is_described_and_listed() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert f"LANJIE_{name.upper()}" in PAGE or f"`{name}`" in PAGE, name


def test_a_wrong_setting_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANJIE_WORKERS", "postgresql+psycopg://user:secret@host/db")
    with pytest.raises(ValueError, match="workers") as caught:
        Settings(state=Path("x"))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["effects", "passes", "person_passes", "rights"])
def test_records_are_kept_for_180_days_at_least_and_as_long_as_passes_are_looked_back_at(name: str) -> None:
    days = f"retain_{name}_days"

    def made(count: int, retro: int = 90) -> Settings:
        values: dict[str, Any] = {"state": Path("x"), "retro_days": retro, days: count}
        return Settings(**values)

    with pytest.raises(ValueError, match=f"{days}.*rule retain-floor"):
        made(179)
    assert getattr(made(180).retention, name) == 180
    with pytest.raises(ValueError, match=f"{days}.*rule retain-retro"):
        made(180, retro=181)

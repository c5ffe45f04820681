"""Every setting says what it is for, and the operator's page lists it."""

from pathlib import Path

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

"""Every setting says what it is for, and the operator's page lists it."""

from pathlib import Path

from lanjie_gateway.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()


def test_every_setting_is_described_and_listed() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert f"LANJIE_{name.upper()}" in PAGE or f"`{name}`" in PAGE, name

"""Every command that the operator's page names exists, with the options it names."""

import re
from pathlib import Path

import pytest
import typer.main

from lanjie_gateway.cli.app import app

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
TREE = typer.main.get_command(app)
NAMED = sorted({" ".join(found.split()) for found in re.findall(r"`(?:LANJIE_\S+ )?lanjie ([a-z][^`|]*)`", PAGE)})


@pytest.mark.parametrize("named", NAMED)
def test_a_named_command_exists(named: str) -> None:
    command, words = TREE, named.split()
    while words and hasattr(command, "commands"):
        assert words[0] in command.commands, f"lanjie {named}: no such command as {words[0]}"
        command = command.commands[words.pop(0)]
    known = {option for each in command.params for option in each.opts}
    options = {word for word in words if re.fullmatch(r"--?[a-z][a-z-]*", word)}
    assert options <= known, f"lanjie {named}: no such option as {options - known}"


def test_the_page_names_commands() -> None:
    assert len(NAMED) > 15

"""Every command of both sides says what it does and what each of its arguments and options is."""

from __future__ import annotations

from typing import Any

import pytest
from typer.testing import CliRunner

from datasites.cli.main import app as datasite_app
from docs.generator.commands import every_command
from researcher.__main__ import app as researcher_app

COMMANDS = {
    name: command
    for side, app in (("datasite", datasite_app), ("researcher", researcher_app))
    for name, command in every_command(side, app)
    if not hasattr(command, "commands")
}


@pytest.mark.parametrize("name", COMMANDS)
def test_help_explains_the_command_and_each_argument_and_option(name: str) -> None:
    command: Any = COMMANDS[name]
    side, *words = name.split()
    app = {"datasite": datasite_app, "researcher": researcher_app}[side]
    shown = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "300", "TERM": "dumb"}).output
    assert command.help.split("\n")[0][:60] in shown
    for parameter in command.params:
        assert parameter.help, parameter.name
        assert parameter.help in shown, parameter.name

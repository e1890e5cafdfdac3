from __future__ import annotations

import importlib
import subprocess
import sys

import pytest
import typer

from bento_cli.app import COMMANDS, module_of


@pytest.mark.parametrize("name", COMMANDS)
def test_the_summary_in_the_list_is_the_commands_own(name: str) -> None:
    command = typer.main.get_command(importlib.import_module(module_of(name)).app)

    assert (command.help or "").startswith(COMMANDS[name].rstrip("."))


def test_help_loads_nothing_that_only_a_command_needs() -> None:
    program = (
        "import sys, bento_cli.app as a\n"
        "try: a.app(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'docker', 'fastapi', 'httpx', 'jinja2', 'numpy', 'pydantic', 'rich', 'torch', 'yaml'}\n"
        "print('loaded:', sorted(heavy & set(sys.modules)))"
    )

    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert result.stdout.splitlines()[-1] == "loaded: []"


@pytest.mark.parametrize("name", ["bento", "bentoml"])
def test_both_names_are_the_same_command(name: str) -> None:
    [entry] = importlib.metadata.entry_points(group="console_scripts", name=name)

    assert entry.value == "bento_cli.__main__:main"

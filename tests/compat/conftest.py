"""Both implementations, started once for all tests of this folder, and the matrix that they print."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from tests.compat.faults import fault_of
from tests.compat.matrix import COLUMNS, Matrix, as_text, played
from tests.compat.servers import IMPLEMENTATIONS, THEIRS, serving

_matrix = pytest.StashKey[Matrix]()


@pytest.fixture(scope="session")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Mapping[str, str]]]:
    """The addresses of each implementation's servers, by its name and then by project."""
    assert THEIRS.python.exists(), "there is no .venv-reference: `make test` makes it"
    folder = tmp_path_factory.mktemp("compat")
    with ExitStack() as running, ThreadPoolExecutor() as starting:
        # Side by side: most of a start is reading code.
        started = [starting.submit(running.enter_context, serving(by, folder)) for by in IMPLEMENTATIONS]
        yield {by.name: each.result() for by, each in zip(IMPLEMENTATIONS, started, strict=True)}


@pytest.fixture(scope="session")
def matrix(
    addresses: Mapping[str, Mapping[str, str]],
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Matrix:
    """Every row played by every column."""
    result = played(addresses, tmp_path_factory.mktemp("clients"))
    request.config.stash[_matrix] = result
    return result


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if _matrix in config.stash:
        terminalreporter.section("clients and servers of both implementations")
        terminalreporter.write_line(as_text(config.stash[_matrix], COLUMNS, fault_of))

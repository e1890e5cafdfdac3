"""Log lines: text or JSON, in order, and with the request that they belong to."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import select
from collections.abc import Callable, Iterator

import pytest

from bentoml import _trace
from bentoml._environment import LOG_FORMAT
from bentoml._logging import LogLines
from bentoml._trace import TraceContext

Run = Callable[[str], str]
MakeLines = Callable[..., LogLines]

log = logging.getLogger("a.module")


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def make_lines(stream: io.StringIO) -> Iterator[MakeLines]:
    made: list[LogLines] = []

    def make(*, is_json: bool = False) -> LogLines:
        made.append(LogLines(stream, "Iris:1", is_json=is_json))
        log.addHandler(made[-1])
        log.setLevel(logging.INFO)
        return made[-1]

    yield make
    for handler in made:
        log.removeHandler(handler)


@pytest.fixture
def in_request() -> Iterator[TraceContext]:
    context = TraceContext("a" * 32, "b" * 16)
    token = _trace.current.set(context)
    yield context
    _trace.current.reset(token)


def test_a_text_line_has_time_level_process_and_message(in_new_python: Run) -> None:
    program = (
        "import logging, sys\n"
        "from bentoml._logging import configure_logging\n"
        "sys.stderr = sys.stdout\n"
        "configure_logging('Iris:1')\n"
        "logging.getLogger('mine').warning('careful')\n"
    )

    time, rest = in_new_python(program).split(" ", 1)

    assert (len(time), rest) == (len("2026-11-24T07:07:21+0000"), "WARNING [Iris:1] careful")


def test_with_the_variable_set_every_record_and_warning_is_an_object_on_one_line(in_new_python: Run) -> None:
    program = (
        "import logging, sys, warnings\n"
        "from bentoml._logging import configure_logging\n"
        "sys.stderr = sys.stdout\n"
        f"configure_logging('Iris:1', {{'{LOG_FORMAT}': 'json'}})\n"
        "logging.getLogger('mine').info('two\\nlines')\n"
        "warnings.simplefilter('always')\n"
        "warnings.warn('old')\n"
    )

    records = [json.loads(line) for line in in_new_python(program).splitlines()]

    assert [(record["logger"], record["message"].partition(":")[0]) for record in records] == [
        ("mine", "two\nlines"),
        ("py.warnings", "<string>"),
    ]


def test_a_format_that_does_not_exist_is_named_in_a_text_line(in_new_python: Run) -> None:
    program = (
        "import sys\n"
        "from bentoml._logging import configure_logging\n"
        "sys.stderr = sys.stdout\n"
        f"configure_logging('Iris:1', {{'{LOG_FORMAT}': 'jsno'}})\n"
    )

    assert "BENTOML_LOG_FORMAT: 'jsno' is no format" in in_new_python(program)


def test_a_record_of_a_request_carries_its_trace_and_its_id(
    make_lines: MakeLines, stream: io.StringIO, in_request: TraceContext
) -> None:
    make_lines()

    log.info("classified")

    assert stream.getvalue().endswith(f"classified (trace={'a' * 32},span={'b' * 16})\n")


def test_a_json_record_carries_extra_values_and_the_request(
    make_lines: MakeLines, stream: io.StringIO, in_request: TraceContext
) -> None:
    make_lines(is_json=True)

    log.info("classified %d", 3, extra={"model": "iris:7"})

    record = json.loads(stream.getvalue())
    assert {key: record[key] for key in ("message", "level", "process", "model", "span_id")} == {
        "message": "classified 3",
        "level": "INFO",
        "process": "Iris:1",
        "model": "iris:7",
        "span_id": "b" * 16,
    }


def test_a_json_record_holds_the_traceback_on_its_one_line(
    make_lines: MakeLines, stream: io.StringIO
) -> None:
    make_lines(is_json=True)

    try:
        raise KeyError("missing")
    except KeyError:
        log.exception("failed")

    assert "KeyError: 'missing'" in json.loads(stream.getvalue())["exception"]


def test_lines_that_wait_are_written_before_a_record_that_came_later(
    make_lines: MakeLines, stream: io.StringIO
) -> None:
    lines = make_lines()

    async def serve() -> None:
        lines.write_soon("first\n")
        lines.write_soon("second\n")
        log.error("third")

    asyncio.run(serve())

    assert [line.split()[-1] for line in stream.getvalue().splitlines()] == ["first", "second", "third"]


def test_a_line_that_nothing_follows_is_written_by_the_loop(make_lines: MakeLines) -> None:
    written = asyncio.Event()

    class Stream(io.StringIO):
        def write(self, text: str) -> int:
            written.set()
            return super().write(text)

    stream = Stream()
    lines = LogLines(stream, "Iris:1", is_json=False)

    async def serve() -> str:
        lines.write_soon("alone\n")
        before = stream.getvalue()
        await asyncio.wait_for(written.wait(), 30)
        return before

    assert (asyncio.run(serve()), stream.getvalue()) == ("", "alone\n")


def test_a_line_whose_loop_has_ended_is_written_by_the_next(make_lines: MakeLines) -> None:
    written: asyncio.Queue[str] = asyncio.Queue()

    class Stream(io.StringIO):
        def write(self, text: str) -> int:
            written.put_nowait(text)
            return len(text)

    lines = LogLines(Stream(), "Iris:1", is_json=False)

    async def serve(line: str) -> None:
        lines.write_soon(line)

    async def serve_until_written(line: str) -> str:
        lines.write_soon(line)
        return await asyncio.wait_for(written.get(), 30)

    asyncio.run(serve("first\n"))

    assert asyncio.run(serve_until_written("second\n")) == "first\nsecond\n"


def test_lines_that_wait_are_written_at_the_end_of_the_process(in_new_python: Run) -> None:
    program = (
        "import asyncio, sys\n"
        "from bentoml._logging import configure_logging, log_lines\n"
        "sys.stderr = sys.stdout\n"
        "configure_logging('Iris:1')\n"
        "async def serve():\n"
        "    log_lines().write_soon('last\\n')\n"
        "asyncio.run(serve())\n"
    )

    assert in_new_python(program) == "last"


def test_no_piece_that_is_written_breaks_a_line_or_is_longer_than_a_pipe_takes_whole() -> None:
    pieces: list[str] = []

    class Stream(io.StringIO):
        def write(self, text: str) -> int:
            pieces.append(text)
            return len(text)

    lines = LogLines(Stream(), "Iris:1", is_json=False)

    async def serve() -> None:
        for number in range(300):
            lines.write_soon(f"{number} {'x' * 100}\n")
        lines.flush()

    asyncio.run(serve())

    assert max(len(piece) for piece in pieces) <= select.PIPE_BUF
    assert len(pieces) < 300 / 3
    assert all(piece.endswith("\n") for piece in pieces)


def test_outside_of_a_loop_a_line_is_written_at_once(make_lines: MakeLines, stream: io.StringIO) -> None:
    make_lines().write_soon("now\n")

    assert stream.getvalue() == "now\n"

"""What stands in for the methods of a service with a command: an external HTTP server on this machine."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import httpx

from bentoml.exceptions import BentoMLConfigException, UnservableException

log = logging.getLogger("bentoml")

HEALTH_PATH: Final = "/health"
"""Where the server is asked whether it is ready, unless the configuration names another path."""

# The first process of the command's group. It reads a pipe whose other end the worker holds, so that a worker
# that ends in any way, killed for its memory too, ends the whole group. (A signal for the death of the parent
# would reach the command alone and not what that has started, and Linux only has it.) Text and not a module:
# it stays there beside the server, and takes least with neither `site` nor any package.
_LEASH = """
import os, signal, subprocess, sys, threading

def end_with_the_worker():
    os.read(0, 1)
    os.killpg(0, signal.SIGKILL)

told_to_stop = threading.Event()
signal.signal(signal.SIGTERM, lambda number, frame: told_to_stop.set())  # the command, told too, decides
threading.Thread(target=end_with_the_worker, daemon=True).start()
try:
    command = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
except OSError as error:
    print(f"{sys.argv[1]}: {error.strerror}", file=sys.stderr)
    sys.exit(127)
if told_to_stop.is_set():
    command.terminate()  # that was before the command could get it
code = command.wait()
sys.exit(code if code >= 0 else 128 - code)
"""

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 0.5
_HEALTH_TIMEOUT_S = 5.0
_KEPT_OUTPUT_BYTES = 4000


@dataclass(frozen=True, kw_only=True)
class CustomCommand:
    """How the external HTTP server of a service is started.

    Args:
        command: a program and its arguments, with `$NAME` and `${NAME}` for variables of the environment.
        port: where the server listens on this machine (`http.proxy_port`).
        health_path: what answers once the server is ready (`endpoints.livez`).
        grace_s: how long it may take to end after SIGTERM.
        shares_port: other workers start a server for the same port (`replicate_process`).
    """

    command: Sequence[str]
    port: int
    health_path: str = HEALTH_PATH
    grace_s: float
    shares_port: bool = False

    async def start(self) -> RunningCommand:
        """Start the server, and wait until it is ready, however long that takes.

        Raises:
            BentoMLConfigException: the port is in use, or nothing is at the health path.
            UnservableException: the process ended.
        """
        if not self.shares_port and await _listens(self.port):
            raise BentoMLConfigException(
                f"port {self.port} is in use, and `{self}` is to listen there; free it, or set "
                "`http.proxy_port` to the port that the command uses"
            )
        log.info("starting `%s`", self)
        group = await _ProcessGroup.start([os.path.expandvars(part) for part in self.command])
        running = RunningCommand(self, group)
        try:
            await self._until_ready(running)
        except BaseException:
            await running.stop()
            raise
        return running

    async def _until_ready(self, running: RunningCommand) -> None:
        ready = asyncio.ensure_future(wait_until_ready(self.port, self.health_path))
        ended = asyncio.ensure_future(running.ended())
        try:
            await asyncio.wait({ready, ended}, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                raise ended.result()
            ready.result()
        finally:
            ready.cancel()
            ended.cancel()

    def __str__(self) -> str:
        return " ".join(self.command)  # as it was written: with its variables replaced, it may hold secrets


class RunningCommand:
    """A server that was started."""

    def __init__(self, command: CustomCommand, group: _ProcessGroup) -> None:
        self._command = command
        self._group = group

    async def ended(self) -> UnservableException:
        """Wait until the server ends, which it is not to do by itself, and return what to say about it."""
        await asyncio.wait({self._group.exit_code})
        output = f"; its last output:\n{self._group.output}" if self._group.output else ", without a word"
        code = self._group.exit_code.result()
        return UnservableException(f"`{self._command}` ended with exit code {code}{output}")

    async def stop(self) -> None:
        """End the server and what it has started: with SIGTERM, and with SIGKILL after the time of grace."""
        await self._group.stop(self._command.grace_s)


async def wait_until_ready(port: int, health_path: str = HEALTH_PATH) -> None:
    """Wait until the server on a port of this machine is ready, whichever worker has started it.

    Raises:
        BentoMLConfigException: the server runs, and nothing is at the health path.
    """
    url = f"http://localhost:{port}{health_path}"
    pause_s = _FIRST_PAUSE_S
    async with httpx.AsyncClient(trust_env=False, timeout=_HEALTH_TIMEOUT_S) as client:
        while True:
            with suppress(httpx.TransportError):
                status = (await client.get(url)).status_code
                if status == 404:
                    raise BentoMLConfigException(
                        f"the command's server answers 404 at {url}; set `endpoints.livez` to a path at "
                        "which it answers when it is ready"
                    )
                if status < 500:
                    return
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("localhost", port)
    except OSError:
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True


class _ProcessGroup:
    """A command behind its leash. Nothing of it is left once `exit_code` is known."""

    def __init__(self, process: asyncio.subprocess.Process, lifeline: int, output: _Output) -> None:
        self._process = process
        self._lifeline = lifeline
        self._output = output
        self.exit_code = asyncio.ensure_future(self._wait())

    @classmethod
    async def start(cls, command: Sequence[str]) -> _ProcessGroup:
        output = _Output()
        leash_end, lifeline = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", "-c", _LEASH, *command),
                stdin=leash_end,
                stdout=output.write_end,
                stderr=output.write_end,
                start_new_session=True,
            )
        except BaseException:
            os.close(lifeline)
            output.close()
            raise
        finally:
            os.close(leash_end)
            os.close(output.write_end)
        return cls(process, lifeline, output)

    @property
    def output(self) -> str:
        return self._output.text

    async def stop(self, grace_s: float) -> None:
        if not self.exit_code.done():
            self._signal(signal.SIGTERM)
            await asyncio.wait({self.exit_code}, timeout=grace_s)
        if not self.exit_code.done():
            self._signal(signal.SIGKILL)
            await asyncio.wait({self.exit_code})

    async def _wait(self) -> int:
        code = await self._process.wait()
        self._signal(signal.SIGKILL)  # whatever the command has left behind
        os.close(self._lifeline)
        self._output.close()
        return code

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


class _Output:
    """Passes on what a command writes, as it is, and keeps the end of it."""

    def __init__(self) -> None:
        self._read_end, self.write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        self._end = b""
        asyncio.get_running_loop().add_reader(self._read_end, self._pass_on)

    @property
    def text(self) -> str:
        return self._end.decode(errors="replace").strip()

    def close(self) -> None:
        while self._pass_on():
            pass
        asyncio.get_running_loop().remove_reader(self._read_end)
        os.close(self._read_end)

    def _pass_on(self) -> bool:
        try:
            written = os.read(self._read_end, 65536)
        except BlockingIOError:
            return False
        if not written:
            asyncio.get_running_loop().remove_reader(self._read_end)
        self._end = (self._end + written)[-_KEPT_OUTPUT_BYTES:]
        sys.stderr.buffer.write(written)
        sys.stderr.buffer.flush()
        return bool(written)

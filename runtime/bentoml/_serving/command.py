"""A service with a custom command, as an application: its server's life, and requests passed on to it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from starlette.routing import Mount as StarletteMount

from bentoml._config import ServiceConfig
from bentoml._service import Service
from bentoml._serving.admission import Admission, Admitted
from bentoml._serving.custom_command import HEALTH_PATH, CustomCommand, RunningCommand, wait_until_ready
from bentoml._serving.proxy import ProxyApp

log = logging.getLogger("bentoml")

_GRACE_S: Final = 2.0  # for the server to end by itself; its requests are over by then


class CommandServer:
    """The external server of one worker.

    Args:
        is_first: whether this is the worker that starts it, where there is one for all of them.
        fail: ends the process with an error, since without the server there is no service.
    """

    def __init__(
        self, service: Service[Any], config: ServiceConfig, *, is_first: bool, fail: Callable[[], None]
    ) -> None:
        self._service = service
        self._port = config.http.proxy_port
        self._health_path = config.endpoints.livez or HEALTH_PATH
        self._is_replicated = config.replicate_process
        self._starts_it = is_first or config.replicate_process
        self._fail = fail
        self._proxy = ProxyApp(self._port, timeout_s=config.traffic.timeout)
        self._running: RunningCommand | None = None
        self._watch: asyncio.Task[None] | None = None

    def route(self, admission: Admission) -> StarletteMount:
        """What passes everything on that nothing else answers, as much at once as may run."""
        # Its times are the proxy's own: a body is passed on while it comes, and may come for long.
        return StarletteMount(self._service.path_prefix, app=Admitted(self._proxy, admission))

    async def start(self, instance: Any) -> None:
        """Return once the server answers.

        Raises:
            BentoMLConfigException: it cannot be asked whether it is ready.
            UnservableException: it ended.
        """
        if not self._starts_it:
            await wait_until_ready(self._port, self._health_path)
            return
        command = CustomCommand(
            command=self._service.cmd or instance.__command__(),
            port=self._port,
            health_path=self._health_path,
            grace_s=_GRACE_S,
            shares_port=self._is_replicated,
        )
        self._running = await command.start()
        self._watch = asyncio.create_task(self._fail_with(self._running))

    async def _fail_with(self, running: RunningCommand) -> None:
        log.error("%s", await running.ended())
        self._fail()

    async def stop(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch
        if self._running is not None:
            await self._running.stop()
        await self._proxy.close()

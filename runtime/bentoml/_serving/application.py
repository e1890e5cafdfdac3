"""The ASGI application of one service: its endpoints, probes, documentation and mounts."""

from __future__ import annotations

import functools
import inspect
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from bentoml import _environment as environment
from bentoml._config import Cors, ServiceConfig, load_config
from bentoml._context import describe_server, set_current_service
from bentoml._hooks import hooks_of
from bentoml._monitoring import configure_monitoring
from bentoml._peers.dependencies import connect_peers
from bentoml._peers.remote_endpoint import Limits
from bentoml._service import Service
from bentoml._serving.admission import Admission, Admitted, LocalAdmission
from bentoml._serving.background import BackgroundTasks
from bentoml._serving.command import CommandServer
from bentoml._serving.handler import Handler, Serving
from bentoml._serving.mounts import lifespans, mounted
from bentoml._serving.observer import ServiceObserver
from bentoml._serving.openapi import openapi_document
from bentoml._serving.page import page_routes
from bentoml._serving.running import Runner
from bentoml._serving.schema import service_schema, signatures_of
from bentoml._serving.watch import CutOff, InTime
from bentoml._wire import token_for

log = logging.getLogger("bentoml")

_MOST_TASKS: Final = 64
_USUAL_END_S: Final = 10.0
_FOR_THE_REST_S: Final = 3.0  # of the end: hooks, and an external server


def _end_process() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@dataclass(frozen=True, kw_only=True)
class Replica:
    """What an application knows of the process it runs in.

    Args:
        environ: the variables that say where its peers are, and who depends on it.
        worker_index: which of the replica's processes this is, from 0.
        admission: counts the calls of all of them; this one's alone when not given.
        fail: ends the process with an error, once the reason is in the log.
    """

    config: ServiceConfig
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    worker_index: int = 0
    admission: Admission | None = None
    fail: Callable[[], None] = _end_process


def create_app(
    service: Service[Any], replica: Replica, dependencies: Mapping[str, object] | None = None
) -> Application:
    """The application; its lifespan makes the service's instance.

    Args:
        dependencies: objects that stand in for dependencies, by attribute.

    Raises:
        UnservableException: an endpoint's annotations cannot be resolved, or no request can carry them.
        BentoMLConfigException: a peer has no address.
    """
    return Application(service, replica, dependencies or {})


def configuration_of(service: Service[Any], environ: Mapping[str, str]) -> ServiceConfig:
    """The service's configuration, with what the environment puts over it.

    Raises:
        BentoMLConfigException: names every value that is not valid.
    """
    return load_config(service.name, environment.with_overrides(service.name, service.config, environ))


def from_environment(service: Service[Any], *, is_entry: bool) -> Application:
    """The application that this process's variables describe."""
    environ = dict(os.environ)
    if is_entry:
        environ.pop(environment.DEPENDENTS, None)
    else:
        environ.setdefault(environment.DEPENDENTS, "*")
    return create_app(service, Replica(config=configuration_of(service, environ), environ=environ))


class Application:
    """Endpoints, found by their path alone; everything else is FastAPI's, which is thin here."""

    def __init__(self, service: Service[Any], replica: Replica, dependencies: Mapping[str, object]) -> None:
        self.service = service
        self._replica = replica
        self._runner: Runner | None = None
        self._ends_at: float | None = None
        self._server = f"BentoML Service/{service.name}".encode("latin-1", "replace")
        self._observer = ServiceObserver(service, replica.config, replica.environ, replica.worker_index)
        self._signatures = signatures_of(service)
        for signature in self._signatures.values():
            signature.prepare()
        self.admission = replica.admission or LocalAdmission(replica.config.traffic.max_concurrency)
        own = {name: edge for name, edge in service.dependencies.items() if name not in dependencies}
        traffic = replica.config.traffic
        limits = Limits(answer_s=traffic.timeout, item_s=traffic.item_timeout or traffic.timeout)
        self._peers = connect_peers(service, own, limits, replica.environ)
        self._accepts_frames = bool(environment.names(environment.DEPENDENTS, replica.environ))
        self._attributes = {**self._peers.by_attribute, **service.stand_ins(dependencies)}
        self._handlers = self._make_handlers()
        self._tasks = self._make_tasks()
        self._command = self._make_command()
        self._rest = self._make_rest()
        # What is there by a path of its own; all else belongs to a mount, or to nobody.
        self._paths = {route.path for route in self._rest.router.routes if isinstance(route, Route)}
        self._app = self._wrapped(self._dispatch)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._rest(scope, receive, send)
            return
        if self._runner is not None:
            set_current_service(self._runner.instance)
        path = scope["path"]
        handler = self._handlers.get(path) if scope["type"] == "http" else None
        if handler is not None and scope["method"] == "POST":
            await handler(scope, receive, send)
            return
        route = path if path in self._paths else self._mount_of(path)
        if scope["type"] == "websocket":
            with self._observer.websocket(scope, receive, send, route) as (counted, sent):
                await self._rest(scope, counted, sent)
        else:
            await self._observed(self._rest, scope, receive, send, route)

    def _mount_of(self, path: str) -> str:
        """The path of the mount that a path lies below; empty where it lies below none."""
        prefix = self.service.path_prefix
        mounts = ((prefix + mount.path).rstrip("/") for mount in self.service.mount_apps)
        return next((f"{mount}/" for mount in mounts if f"{path}/".startswith(f"{mount}/")), "")

    async def _observed(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send, route: str) -> None:
        exchange = self._observer.begin(scope, send, route)
        try:
            await app(scope, receive, exchange.watched_send)
        except CutOff as error:
            exchange.error = error  # the server ends the connection, as the response has no end
        except BaseException as error:
            exchange.error = error
            raise
        finally:
            self._observer.end(exchange)

    def _make_handlers(self) -> dict[str, Handler]:
        config = self._replica.config
        serving = Serving(
            config=config,
            runner=self._running,
            admission=self.admission,
            observer=self._observer,
            accepts_frames=self._accepts_frames,
            token=token_for(self.service.name, self._replica.environ),
            server=self._server,
            state={},
        )
        handlers = {}
        for attribute, endpoint in self.service.endpoints.items():
            path = self.service.path_prefix + endpoint.route
            handlers[path] = Handler(endpoint, self._signatures[attribute], serving, path=path)
        return handlers

    def _make_tasks(self) -> BackgroundTasks | None:
        prefix = self.service.path_prefix
        paths = [prefix + endpoint.route for endpoint in self.service.endpoints.values() if endpoint.is_task]
        if not paths:
            return None
        config, environ = self._replica.config, self._replica.environ
        handlers = {path: self._handlers[path] for path in paths}
        # Where all of them need a thread, what has none is left to other workers.
        is_any_async = any(e.is_task and e.is_async for e in self.service.endpoints.values())
        concurrency = config.traffic.concurrency or (_MOST_TASKS if is_any_async else config.threads)
        return BackgroundTasks(self.service.name, handlers, concurrency, environ, self._server)

    def _make_command(self) -> CommandServer | None:
        if not self.service.has_custom_command():
            return None
        replica = self._replica
        is_first = replica.worker_index == 0
        return CommandServer(self.service, replica.config, is_first=is_first, fail=replica.fail)

    @property
    def largest_frame(self) -> int:
        """Bytes of a call from a peer at most; 0 where no other service depends on this one."""
        return self._replica.config.traffic.max_request_size if self._accepts_frames else 0

    def _running(self) -> Runner:
        if self._runner is None:
            raise RuntimeError("a request came before the application's lifespan had begun")
        return self._runner

    def _make_rest(self) -> FastAPI:
        prefix = self.service.path_prefix
        app = FastAPI(
            title=self.service.name,
            lifespan=lambda _: self.lifespan(),
            docs_url=None,
            redoc_url=None,
            openapi_url=None,
            exception_handlers={HTTPException: _http_error},
        )
        document = functools.cache(functools.partial(openapi_document, self.service, self._signatures))
        app.openapi = document  # type: ignore[method-assign]
        routes = app.router.routes
        for start in dict.fromkeys(("", prefix)):
            for path, probe in self._probes().items():
                routes.append(Route(start + path, probe, methods=["GET"]))
            routes.append(Route(f"{start}/schema.json", self._schema, methods=["GET"]))
            if self._replica.config.metrics.enabled:
                routes.append(Route(f"{start}/metrics", self._metrics, methods=["GET"]))
        # Found before they are looked up here; for all that a router says of their paths besides.
        routes += [Route(path, handler, methods=["POST"]) for path, handler in self._handlers.items()]
        if self._tasks is not None:
            routes += self._tasks.routes()
        within = [Middleware(Admitted, self.admission), Middleware(InTime, self._replica.config.traffic)]
        self._mounts = [
            mounted(mount, prefix, self.service.inner, within) for mount in self.service.mount_apps
        ]
        routes += self._mounts
        if self._command is None:
            app.openapi_url = f"{prefix}/docs.json"
            app.setup()
            routes += page_routes(prefix, self.service.name)
        else:
            routes.append(self._command.route(self.admission))
        return app

    def _probes(self) -> dict[str, Any]:
        paths = self._replica.config.endpoints
        live, ready = self._probe("__is_alive__"), self._probe("__is_ready__")
        probes = {"/livez": live, "/healthz": ready, "/readyz": ready}
        return (
            probes
            | ({paths.livez: live} if paths.livez else {})
            | ({paths.readyz: ready} if paths.readyz else {})
        )

    def _probe(self, method: str) -> Any:
        async def probe(request: Request) -> Response:
            return PlainTextResponse("\n", 200 if await self._says(method) else 503)

        return probe

    @property
    def speaks_for_itself(self) -> bool:
        """Whether the service has a say in whether it is live or ready."""
        return any(hasattr(self.service.inner, method) for method in ("__is_alive__", "__is_ready__"))

    async def is_live_and_ready(self) -> tuple[bool, bool]:
        """What the service says of itself; one that fails to say it is neither."""
        try:
            return await self._says("__is_alive__"), await self._says("__is_ready__")
        except Exception:
            log.exception("%s cannot say whether it is live and ready", self.service.name)
            return False, False

    async def _says(self, method: str) -> bool:
        ask = getattr(self._runner and self._runner.instance, method, None)
        answer = True if ask is None else ask()
        return bool(await answer if inspect.isawaitable(answer) else answer)

    async def _schema(self, request: Request) -> Response:
        return JSONResponse(service_schema(self.service, self._signatures))

    async def _metrics(self, request: Request) -> Response:
        body, content_type = self._observer.exposition(request.headers.get("accept", ""))
        rewrite = getattr(self._runner and self._runner.instance, "__metrics__", None)
        if rewrite is not None:
            text = rewrite(body.decode())
            body = (await text if inspect.isawaitable(text) else text).encode()
        return Response(body, headers={"content-type": content_type})

    def _wrapped(self, app: ASGIApp) -> ASGIApp:
        cors = self._replica.config.http.cors
        if cors.enabled:
            app = CORSMiddleware(app, **_cors_options(cors))
        for middleware, options in self.service.middlewares:
            app = middleware(app, **options)
        return app

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Make the instance and begin what belongs to it; end all of it in reverse."""
        describe_server(
            self.service,
            bento=self._replica.environ.get(environment.BENTO, ""),
            is_entry=not environment.names(environment.DEPENDENTS, self._replica.environ),
            worker_index=self._replica.worker_index,
            routes=self._handlers,
        )
        monitoring = self._replica.config.monitoring
        configure_monitoring(enabled=monitoring.enabled, options=monitoring.options)
        os.environ.update(environment.missing_values(self.service.envs))
        try:
            instance = self.service.instantiate(before_init=self._attach)
            self._runner = Runner(instance, self._replica.config.threads)
            set_current_service(instance)
            await _call_hooks(instance, hooks_of(self.service.inner, "on_startup"))
            async with lifespans(self._mounts):
                if self._command is not None:
                    await self._command.start(instance)
                if self._tasks is not None:
                    await self._tasks.start()
                yield
                if self._tasks is not None:
                    await self._tasks.stop(max(0.0, self._time_left() - _FOR_THE_REST_S))
            await _call_hooks(instance, hooks_of(self.service.inner, "on_shutdown"))
        finally:
            if self._command is not None:
                await self._command.stop()
            await self._peers.close()
            await self._observer.close()
            if self._runner is not None:
                self._runner.close()

    def must_end_within(self, seconds: float) -> None:
        """From now on there is that much time for what runs, and for the end of the lifespan.

        No task is begun any more; those that wait are left to other workers, or to the next start.
        """
        self._ends_at = time.monotonic() + seconds
        if self._tasks is not None:
            self._tasks.drain()

    def _time_left(self) -> float:
        return max(0.0, self._ends_at - time.monotonic()) if self._ends_at is not None else _USUAL_END_S

    def _attach(self, instance: object) -> None:
        vars(instance).update(self._attributes)


async def _call_hooks(instance: object, names: list[str]) -> None:
    for name in names:
        result = getattr(instance, name)()
        if inspect.isawaitable(result):
            await result


async def _http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return PlainTextResponse(error.detail, error.status_code, error.headers)


def _cors_options(cors: Cors) -> dict[str, Any]:
    return {
        "allow_origins": cors.access_control_allow_origins,
        "allow_origin_regex": cors.access_control_allow_origin_regex,
        "allow_credentials": cors.access_control_allow_credentials,
        "allow_methods": cors.access_control_allow_methods,
        "allow_headers": cors.access_control_allow_headers,
        "max_age": cors.access_control_max_age,
        "expose_headers": cors.access_control_expose_headers,
    }

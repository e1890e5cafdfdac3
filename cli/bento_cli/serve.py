"""`bento serve`: the graph on this machine, one process tree for each service, as in production."""

from __future__ import annotations

import errno
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from bento_cli.arguments import Arguments
from bento_cli.build import plan_build
from bento_cli.build.named import find_project
from bento_cli.compose import url_scheme
from bento_cli.errors import BentoError, NotHealthyError
from bento_cli.gpus import deal_gpus
from bento_cli.image import service_variables
from bento_cli.project.models import LocalModel, ServiceModel
from bento_cli.store import Store
from bento_cli.store.bento import Bento
from bento_cli.variables import open_variables, require_variables
from bento_cli.yaml_file import YamlFile
from bentoml import _environment as environment
from bentoml._config import ServiceConfig, load_config
from bentoml._gpus import Share, available_gpus, gpus_are_dealt, gpus_text
from bentoml._graph import ServiceGraph
from bentoml._metrics_folder import remove_left_metrics
from bentoml._probe import is_ready
from bentoml.exceptions import BentoMLConfigException

# Below the range from which the system takes the ports of outgoing connections.
_PORTS: Final = range(20000, 32000)
_LOG_TAIL: Final = 20
_GRACE_S: Final = 40


@dataclass(frozen=True, kw_only=True)
class Servable:
    """A graph that can run here, of a project or of a Bento.

    Args:
        project: the folder of its modules.
        variables: what each service is told about itself.
        required: the variables that the project leaves open, by service.
        notes: what a person should know and that stops nothing.
    """

    graph: ServiceGraph
    project: Path
    variables: Mapping[str, Mapping[str, str]]
    required: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...] = ()

    def knowing(self, values: Mapping[str, str]) -> Servable:
        """The same, with values for variables that it may leave open; those of this process win over them."""
        return replace(
            self,
            variables={name: {**values, **own} for name, own in self.variables.items()},
            required={
                name: tuple(variable for variable in names if variable not in values)
                for name, names in self.required.items()
            },
        )


@dataclass(frozen=True, kw_only=True)
class LocalService:
    """One service as it is to run here.

    Args:
        peers: the services that it calls, which outlive it.
        environ: its variables, on top of those of this process.
        shares: what its workers have of the machine's GPUs; none where that is not for this process to say.
    """

    name: str
    peers: tuple[str, ...]
    address: str
    management_port: int
    project: Path
    environ: Mapping[str, str]
    shares: tuple[Share, ...] = ()


def find_servable(text: str, *, folder: Path = Path(), arguments: Arguments | None = None) -> Servable:
    """What a person names: a project's folder, `module:Class` of the one in `folder`, or a Bento's tag.

    Args:
        arguments: what it is filled in with, over its own.

    Raises:
        BentoError: there is no such thing, or it cannot be served.
    """
    named = find_project(text, folder=folder)
    if named is not None:
        return servable_project(named.root, file=named.file, arguments=arguments)
    return servable_bento(Store().get(text), arguments=arguments)


def servable_project(
    root: Path, *, file: YamlFile | None = None, arguments: Arguments | None = None
) -> Servable:
    """A project as it is now.

    Args:
        file: what stands in place of its bentofile.

    Raises:
        NotFoundError: there is no project.
        InputError: everything that is wrong with its files.
    """
    plan = plan_build(root, file=file, arguments=arguments)
    envs = [env.model_dump() for env in plan.bentofile.envs]
    variables = {
        node.name: service_variables(
            node,
            envs,
            arguments=plan.bentofile.args,
            absent=plan.absent[node.name],
            dependents=plan.graph.dependents(node.name),
            declares_all=plan.declares_all(node.name),
        )
        | _model_variable(plan.images[node.name].models)
        for node in plan.graph
    }
    return Servable(
        graph=plan.graph,
        project=plan.root,
        variables=variables,
        required=open_variables(plan.graph, envs),
        notes=plan.notes,
    )


def servable_bento(bento: Bento, *, arguments: Arguments | None = None) -> Servable:
    """A Bento as it was built.

    Raises:
        BentoError: this version does not know the configuration of a service.
    """
    graph = bento.graph
    variables = {}
    for node in graph:
        said = bento.service(node.name)
        own = service_variables(
            node,
            bento.manifest.envs,
            arguments={**bento.manifest.args, **(arguments or {})},
            absent=frozenset(said.absent_modules),
            dependents=graph.dependents(node.name),
            # A decorator may have used an argument that is another one now.
            declares_all=said.declares_all and not arguments,
        )
        own |= _model_variable(said.models, bento.path)
        variables[node.name] = {**own, environment.BENTO: str(bento.tag)}
    try:
        for node in graph:
            load_config(node.name, node.config)
    except BentoMLConfigException as error:
        raise BentoError(f"{bento.tag}: {error}", hint="build it again with this version") from None
    required = open_variables(graph, bento.manifest.envs)
    return Servable(graph=graph, project=bento.source, variables=variables, required=required)


def _model_variable(models: Sequence[ServiceModel], bento: Path | None = None) -> dict[str, str]:
    """Which models a service means, and where those of the store are: in its Bento, if there is one."""
    places: dict[str, environment.ModelPlace] = {}
    for model in models:
        place = environment.ModelPlace(revision=model.pinned)
        if bento is not None and isinstance(model, LocalModel) and (bento / model.path).is_dir():
            place = environment.ModelPlace(path=str((bento / model.path).resolve()))
        places.update(model.at(place))
    return {environment.MODELS: environment.models_text(places)} if places else {}


def plan_serve(
    servable: Servable,
    *,
    host: str | None = None,
    port: int | None = None,
    environ: Mapping[str, str] = os.environ,
    gpu_count: int | None = None,
    command: str = "",
) -> tuple[LocalService, ...]:
    """What runs where: dependencies first, on ports that are free now, and the entry last.

    Args:
        host: of the entry; what its configuration names when not given, else this machine alone.
        port: of the entry, 0 for a free one; what its configuration names when not given.
        environ: of this process: a value in it wins over one that the project declares.
        gpu_count: of this machine, looked up when not given.
        command: what a person typed for this, for hints on what to type instead.

    Raises:
        BentoError: a variable that a service needs is not set, the entry's port is in use, or the services
            want more GPUs than there are.
    """
    require_variables(
        servable.required,
        dict.fromkeys(servable.required, environ),
        lambda names: "`" + " ".join([*(f"{name}=..." for name in names), command]).rstrip() + "`",
    )
    graph = servable.graph
    configs = _configs(graph, environ)
    http = configs[graph.entry].http
    asking = _left_to_deal(servable, configs, environ)
    shares = deal_gpus(asking, len(available_gpus()) if gpu_count is None else gpu_count)
    host = host or (http.host if "host" in http.model_fields_set else "127.0.0.1")
    taken: set[int] = set()
    port = _free_port(taken) if port == 0 else port or http.port
    problem = _why_not_bound(host, port)
    if problem is not None:
        raise BentoError(problem, hint="choose another with `--port` or `--host`")
    taken.add(port)
    ports = {node.name: port if node.name == graph.entry else _free_port(taken) for node in graph}
    secret = environ.get(environment.DEPLOYMENT_SECRET) or secrets.token_hex(32)
    services = []
    for node in graph:
        is_entry = node.name == graph.entry
        management_port = _free_port(taken)
        own_host = host if is_entry else "127.0.0.1"
        scheme = url_scheme(configs[node.name]) if is_entry else "http"
        declared = servable.variables[node.name]
        services.append(
            LocalService(
                name=node.name,
                peers=graph.peers(node.name),
                address=f"{scheme}://{f'[{own_host}]' if ':' in own_host else own_host}:{ports[node.name]}",
                management_port=management_port,
                project=servable.project,
                environ={
                    **{n: v for n, v in declared.items() if environment.is_reserved(n) or n not in environ},
                    environment.SERVICE: node.target,
                    environment.PROJECT: str(servable.project.resolve()),
                    environment.HOST: own_host,
                    environment.PORT: str(ports[node.name]),
                    environment.MANAGEMENT_PORT: str(management_port),
                    environment.DEPLOYMENT_SECRET: secret,
                    **{
                        environment.peer_variable(p): f"http://127.0.0.1:{ports[p]}"
                        for p in graph.peers(node.name)
                    },
                },
                shares=shares.get(node.name, ()),
            )
        )
    return tuple(services)


def _configs(graph: ServiceGraph, environ: Mapping[str, str]) -> dict[str, ServiceConfig]:
    """What the services declare, with what a variable says over it."""
    try:
        return {
            node.name: load_config(node.name, environment.with_overrides(node.name, node.config, environ))
            for node in graph
        }
    except BentoMLConfigException as error:
        raise BentoError(str(error), hint=f"correct {environment.CONFIG_OVERRIDES}") from None


def _left_to_deal(
    servable: Servable, configs: Mapping[str, ServiceConfig], environ: Mapping[str, str]
) -> dict[str, ServiceConfig]:
    """The services of which nobody else says which GPUs they see, the entry first."""
    return {
        node.name: configs[node.name]
        for node in reversed(tuple(servable.graph))
        if not gpus_are_dealt({**servable.variables[node.name], **environ})
    }


def _free_port(taken: set[int]) -> int:
    while True:
        port = random.choice(_PORTS)  # noqa: S311  # any port will do
        if port not in taken and _why_not_bound("127.0.0.1", port) is None:
            taken.add(port)
            return port


def _why_not_bound(host: str, port: int) -> str | None:
    """What keeps a server from listening there; None when nothing does."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            # Two may be bound at once while neither listens.
            probe.listen(1)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return f"port {port} of {host} is in use"
        return f"{host}:{port}: {error.strerror}"
    return None


@dataclass
class _Running:
    service: LocalService
    process: subprocess.Popen[bytes]
    tail: deque[str]
    reader: threading.Thread | None = None


class LocalGraph:
    """The running processes of a graph; leaves nothing behind when the `with` block ends.

    A KeyboardInterrupt that ends the block, or comes after it, waits for no call that runs.

    Args:
        on_log: gets every line that a service writes, with the service's name.
        tail: how many of its last lines an error about a service has; none where `on_log` shows them.
    """

    def __init__(
        self,
        services: tuple[LocalService, ...],
        on_log: Callable[[str, str], None],
        *,
        tail: int = _LOG_TAIL,
    ) -> None:
        self._services = services
        self._on_log = on_log
        self._tail = tail
        self._running: list[_Running] = []

    def __enter__(self) -> LocalGraph:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is KeyboardInterrupt:
            self.kill()
        else:
            self.stop()

    def start(self) -> None:
        """Start all of them; none is ready yet."""
        for service in self._services:
            self._running.append(self._start(service))

    def stop(self) -> None:
        """End all of them once what they run is finished; interrupted while it waits, it kills them."""
        try:
            while self._running:
                # What a service still runs may need those that it calls.
                needed = {peer for running in self._running for peer in running.service.peers}
                self._stop([r for r in self._running if r.service.name not in needed])
                self._running = [r for r in self._running if r.service.name in needed]
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """End all of them at once."""
        self._kill(self._running)
        self._running = []
        remove_left_metrics()

    def wait_ready(self, timeout_s: float) -> None:
        """Return when every service is ready.

        Raises:
            NotHealthyError: one ended or took too long; shows the tail of its log.
        """
        deadline = time.monotonic() + timeout_s
        waiting = list(self._running)
        while waiting:
            waiting = [r for r in waiting if not is_ready(r.service.management_port, timeout_s=1.0)]
            self._raise_for_ended()
            if waiting and time.monotonic() > deadline:
                names = ", ".join(r.service.name for r in waiting)
                raise NotHealthyError(f"{names} not ready after {timeout_s:g} s", details=_tails(waiting))
            time.sleep(0.05)

    def wait(self) -> None:
        """Return never; a service that ends by itself is an error.

        Raises:
            NotHealthyError: shows the tail of its log.
        """
        while True:
            self._raise_for_ended()
            time.sleep(0.2)

    def _raise_for_ended(self) -> None:
        ended = [r for r in self._running if r.process.poll() is not None]
        for running in ended:
            if running.reader is not None:
                # So that its last words are there; a child of its own may hold the pipe for longer.
                running.reader.join(timeout=2)
            code = running.process.returncode
            raise NotHealthyError(
                f"{running.service.name} ended with exit code {code}", details=_tails([running])
            )

    def _start(self, service: LocalService) -> _Running:
        gpus = ["--gpus", gpus_text(service.shares)] if service.shares else []
        process = subprocess.Popen(
            [sys.executable, "-m", "bentoml", "--stop-with-stdin", *gpus],
            cwd=service.project,
            env={**os.environ, **service.environ},
            # Its end tells the service to stop, however this process ends.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # Ctrl-C reaches this process only, which then stops the services in order.
            start_new_session=True,
        )
        running = _Running(service, process, deque(maxlen=self._tail))
        running.reader = threading.Thread(target=self._read_log, args=(running,), daemon=True)
        running.reader.start()
        return running

    def _read_log(self, running: _Running) -> None:
        assert running.process.stdout is not None  # noqa: S101  # a pipe
        for raw in running.process.stdout:
            # What a progress bar wrote over itself is not shown, as on a terminal.
            line = raw.decode(errors="replace").rstrip().rpartition("\r")[2]
            if line:
                running.tail.append(line + "\n")
                self._on_log(running.service.name, line)

    def _stop(self, ending: Sequence[_Running]) -> None:
        for running in ending:
            # No load balancer has to learn first that it ends. One that still loads may not know the signal.
            knows_it = is_ready(running.service.management_port, timeout_s=1.0)
            running.process.send_signal(signal.SIGINT if knows_it else signal.SIGTERM)
        deadline = time.monotonic() + _GRACE_S
        for running in ending:
            with suppress(subprocess.TimeoutExpired):
                running.process.wait(max(0.0, deadline - time.monotonic()))
        self._kill(ending)

    def _kill(self, ending: Sequence[_Running]) -> None:
        """End these and whatever they have left, at once."""
        for running in ending:
            with suppress(ProcessLookupError, PermissionError):  # no longer there; macOS says so of zombies
                os.killpg(running.process.pid, signal.SIGKILL)
        for running in ending:
            running.process.wait()
            if running.reader is not None:
                running.reader.join(timeout=5)
            for pipe in (running.process.stdin, running.process.stdout):
                if pipe is not None:
                    pipe.close()


def _tails(ended: list[_Running]) -> str:
    return "\n".join("".join(running.tail) for running in ended)

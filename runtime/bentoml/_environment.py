"""The environment variables that a running service reads and the toolchain writes."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from bentoml._layers import merge
from bentoml.exceptions import BentoMLConfigException

SERVICE: Final = "BENTOML_SERVICE"
"""Which service this process runs: `module:Class`."""

PROJECT: Final = "BENTOML_PROJECT"
"""The folder that holds the project's modules; the working directory when unset."""

HOST: Final = "BENTOML_HOST"
"""The interface that the public port binds; every one when unset."""

PORT: Final = "BENTOML_PORT"
"""The public port; then `PORT`, then 3000."""

MANAGEMENT_PORT: Final = "BENTOML_MANAGEMENT_PORT"
"""Where the supervisor answers probes; 3001 when unset."""

CONFIG_KEYS: Final = frozenset(
    {
        "traffic", "resources", "workers", "threads", "backlog", "replicate_process", "endpoints", "http",
        "ssl", "metrics", "logging", "tracing", "monitoring", "extra_ports", "max_runner_connections",
        "runner_connection", "runner_probe", "grpc",
    }
)  # fmt: skip
"""The keys of a service's configuration, as `bentoml._config` has them."""

CONFIG_OVERRIDES: Final = "BENTOML_CONFIG_OVERRIDES"
"""JSON, `{"services": {"<Service>": {...}}}`: values that win over those that the service declares.

A key of the configuration directly below `services` is for all, and what one declares wins over it."""

DECLARED: Final = "BENTOML_DECLARED"
"""JSON, `{"name": ..., "config": {...}}`: what the service's source says, so that the supervisor need not
import the project to know how many workers to start; `"runs_command": true` where a command answers."""

ABSENT_MODULES: Final = "BENTOML_ABSENT_MODULES"
"""Comma-separated top-level modules outside this service's slice: placeholders stand in for them."""

DEPENDENTS: Final = "BENTOML_DEPENDENTS"
"""Comma-separated services that depend on this one. Without any, frames are refused."""

DEPLOYMENT_SECRET: Final = "BENTOML_DEPLOYMENT_SECRET"  # noqa: S105  # the name of a variable
"""What the services of one deployment know and nobody else: who shows that it does gets tracebacks."""

BENTO: Final = "BENTOML_BENTO"
"""`name:version` of the Bento that this process runs."""

METRICS_DIRECTORY: Final = "PROMETHEUS_MULTIPROC_DIR"
"""Where the workers of a service leave their counts; set by the supervisor, and the name is Prometheus's."""

RESULT_STORE: Final = "BENTOML_RESULT_STORE"
"""Where the results of tasks are kept: a file, or a `redis://` URL."""

LOG_FORMAT: Final = "BENTOML_LOG_FORMAT"
"""`text`, or `json` for one object a line."""

ARGUMENTS: Final = "BENTOML_ARGUMENTS"
"""JSON object: what `bentoml.use_arguments` returns."""

MODELS: Final = "BENTOML_MODELS"
"""JSON, `{"org/name@main": {"revision": ...}, "name:version": {"path": ...}}`: where models that the source
names are, or which commit a branch of the hub was when the Bento was built."""

PEER_PREFIX: Final = "BENTOML_PEER_"
DEPLOYMENT_PREFIX: Final = "BENTOML_DEPLOYMENT_"
DEPLOYMENT_TOKEN_PREFIX: Final = "BENTOML_TOKEN_OF_"  # noqa: S105  # the name of a variable

DEFAULT_PORT: Final = 3000
DEFAULT_MANAGEMENT_PORT: Final = 3001

# Written by toolchains of this interface that came before; read, never written.
_RUNNER_MAP: Final = "BENTOML_RUNNER_MAP"
_SERVE_DEPENDS: Final = "BENTOML_SERVE_DEPENDS"
_SERVE_SERVICE_NAME: Final = "BENTOML_SERVE_SERVICE_NAME"

_IGNORED: Final = ("BENTOML_CONFIG", "BENTOML_CONFIG_OPTIONS")


_OURS: Final = frozenset(
    {
        SERVICE, PROJECT, HOST, PORT, "PORT", MANAGEMENT_PORT, CONFIG_OVERRIDES, DECLARED, ABSENT_MODULES,
        DEPENDENTS, DEPLOYMENT_SECRET, BENTO, METRICS_DIRECTORY, ARGUMENTS, MODELS,
    }
)  # fmt: skip


def is_reserved(name: str) -> bool:
    """Whether the toolchain writes this variable itself, so that nobody else may."""
    return name in _OURS or name.startswith(PEER_PREFIX)


def variable_part(name: str) -> str:
    """`name` as it stands in a variable: upper case, each character outside A-Z, 0-9 becomes `_`."""
    return re.sub(r"[^A-Z0-9]", "_", name.upper())


def peer_variable(service: str) -> str:
    """The variable that holds the base URLs of a peer, comma-separated."""
    return PEER_PREFIX + variable_part(service)


def deployment_variable(deployment: str, cluster: str | None = None) -> str:
    """The variable that holds the base URLs of an external deployment."""
    return DEPLOYMENT_PREFIX + _deployment_part(deployment, cluster)


def deployment_token_variable(deployment: str, cluster: str | None = None) -> str:
    """The variable that holds the bearer token which an external deployment asks for."""
    return DEPLOYMENT_TOKEN_PREFIX + _deployment_part(deployment, cluster)


def _deployment_part(deployment: str, cluster: str | None) -> str:
    name = variable_part(deployment)
    return name if cluster is None else f"{name}__{variable_part(cluster)}"


def peer_addresses(service: str, environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The base URLs of a peer, without a trailing slash; empty when nothing names it.

    Raises:
        BentoMLConfigException: an address is no `http://` or `https://` URL.
    """
    variable = peer_variable(service)
    if variable in environ:
        return split_addresses(environ[variable], variable)
    if _RUNNER_MAP in environ:
        address = _json_object(environ[_RUNNER_MAP], _RUNNER_MAP).get(service)
        if isinstance(address, str):
            return split_addresses(address.replace("tcp://", "http://", 1), _RUNNER_MAP)
    for pair in environ.get(_SERVE_DEPENDS, "").split():
        name, _, address = pair.partition("=")
        if name == service:
            return split_addresses(address, _SERVE_DEPENDS)
    return ()


def deployment_addresses(
    deployment: str, cluster: str | None = None, environ: Mapping[str, str] = os.environ
) -> tuple[str, ...]:
    """The base URLs of an external deployment; empty when its variable is not set."""
    variable = deployment_variable(deployment, cluster)
    return split_addresses(environ.get(variable, ""), variable)


def split_addresses(text: str, source: str) -> tuple[str, ...]:
    """Comma-separated base URLs; `source` is where they stand, for the error."""
    addresses = tuple(part.strip() for part in text.split(",") if part.strip())
    for address in addresses:
        if not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", address):
            message = f"{source}: {address!r} is no base URL, expected `http://host:port`"
            raise BentoMLConfigException(message)
    return tuple(address.rstrip("/") for address in addresses)


def names(variable: str, environ: Mapping[str, str] = os.environ) -> frozenset[str]:
    """The names that a comma-separated variable holds."""
    return frozenset(part.strip() for part in environ.get(variable, "").split(",") if part.strip())


def port(environ: Mapping[str, str] = os.environ) -> int:
    """The public port of this process."""
    for variable in (PORT, "PORT"):
        if variable in environ:
            return _port(environ[variable], variable)
    return DEFAULT_PORT


def management_port(environ: Mapping[str, str] = os.environ) -> int:
    """The port on which the supervisor answers probes."""
    if MANAGEMENT_PORT in environ:
        return _port(environ[MANAGEMENT_PORT], MANAGEMENT_PORT)
    return DEFAULT_MANAGEMENT_PORT


def with_overrides(
    service: str, declared: Mapping[str, object], environ: Mapping[str, str] = os.environ
) -> dict[str, object]:
    """A service's configuration with what `BENTOML_CONFIG_OVERRIDES` says.

    What stands there for all services is weaker than what this one declares, what is for it alone stronger.

    Raises:
        BentoMLConfigException: it is not `{"services": {...}}`, or a key of it can be nothing that is known.
    """
    services = _overridden(service, environ)
    for name, value in services.items():
        if name in CONFIG_KEYS and name != service:
            continue
        if not isinstance(value, dict | None):
            # A service has an object: this can only be meant as a key for all of them.
            near = difflib.get_close_matches(name, [service, *sorted(CONFIG_KEYS)], n=1)
            hint = "" if name == service else _did_you_mean(near)
            raise BentoMLConfigException(f"{CONFIG_OVERRIDES}: `services.{name}` is no object{hint}")
    for_all = {key: value for key, value in services.items() if key in CONFIG_KEYS and key != service}
    own = services.get(service)
    return merge(for_all, declared, own if isinstance(own, dict) else {})


def unknown_overrides(service: str, environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """A warning for each entry of `BENTOML_CONFIG_OVERRIDES` that is for nobody whom this service knows.

    That is no error: a service knows those that it calls and those that call it, and its graph may be larger.
    """
    known = {service, *names(DEPENDENTS, environ)}
    unknown = [
        name
        for name in _overridden(service, environ)
        if name not in known and name not in CONFIG_KEYS and peer_variable(name) not in environ
    ]
    return tuple(
        f"{CONFIG_OVERRIDES}: `services.{name}` is no service that {service} knows, nor a key of the "
        f"configuration{_did_you_mean(difflib.get_close_matches(name, sorted(known | CONFIG_KEYS), n=1))}"
        for name in unknown
    )


def _overridden(service: str, environ: Mapping[str, str]) -> dict[str, object]:
    """What stands below `services`."""
    overrides = (
        _json_object(environ[CONFIG_OVERRIDES], CONFIG_OVERRIDES) if CONFIG_OVERRIDES in environ else {}
    )
    if overrides.keys() - {"services"}:
        shape = f'{{"services": {{"{service}": {{...}}}}}}'
        found = ", ".join(sorted(overrides.keys()))
        raise BentoMLConfigException(f"{CONFIG_OVERRIDES}: expected `{shape}`, found the keys {found}")
    services = overrides.get("services", {})
    if not isinstance(services, dict):
        raise BentoMLConfigException(f"{CONFIG_OVERRIDES}: `services` is no object of service names")
    return services


def _did_you_mean(near: Sequence[str]) -> str:
    return f", did you mean `{near[0]}`?" if near else ""


def arguments(environ: Mapping[str, str] = os.environ) -> dict[str, object]:
    """What the Bento is filled in with; empty when nothing is."""
    return _json_object(environ[ARGUMENTS], ARGUMENTS) if ARGUMENTS in environ else {}


@dataclass(frozen=True, kw_only=True)
class Declared:
    """What a service's source says of it.

    Args:
        config: the configuration, as written.
        runs_command: whether an external HTTP server answers for the service.
    """

    name: str
    config: dict[str, object]
    runs_command: bool = False


def declared(environ: Mapping[str, str] = os.environ) -> Declared | None:
    """What the toolchain read from the service's source, if it could."""
    return declared_from(environ[DECLARED]) if DECLARED in environ else None


def declared_from(text: str) -> Declared:
    """What `declared_text` wrote."""
    value = _json_object(text, DECLARED)
    name, config = value.get("name"), value.get("config")
    if not isinstance(name, str) or not isinstance(config, dict):
        raise BentoMLConfigException(f"{DECLARED}: expected `name` and `config`, found {', '.join(value)}")
    return Declared(name=name, config=config, runs_command=value.get("runs_command") is True)


def declared_text(service: str, config: Mapping[str, object], *, runs_command: bool = False) -> str:
    """The value of `BENTOML_DECLARED` for one service."""
    said: dict[str, object] = {"name": service, "config": config}
    return _json_text({**said, "runs_command": True} if runs_command else said)


def arguments_text(arguments: Mapping[str, object]) -> str:
    """The value of `BENTOML_ARGUMENTS`."""
    return _json_text(arguments)


@dataclass(frozen=True, kw_only=True)
class ModelPlace:
    """What is known of a model before its service runs.

    Args:
        path: the folder that holds it; None where it is yet to be brought.
        revision: what to bring: a commit or branch of the hub, or a tag of the store.
    """

    path: str | None = None
    revision: str | None = None


def model_places(environ: Mapping[str, str] = os.environ) -> dict[str, ModelPlace]:
    """The models of this service, by what its source calls them.

    Raises:
        BentoMLConfigException: the variable holds something else.
    """
    places = {}
    for name, value in _json_object(environ.get(MODELS, "{}"), MODELS).items():
        if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
            raise BentoMLConfigException(
                f"{MODELS}: expected `path` or `revision` of {name!r}, found {value!r}"
            )
        places[name] = ModelPlace(path=value.get("path"), revision=value.get("revision"))
    return places


def models_text(places: Mapping[str, ModelPlace]) -> str:
    """The value of `BENTOML_MODELS`."""
    known = {name: asdict(place) for name, place in places.items()}
    return _json_text(
        {name: {k: v for k, v in said.items() if v is not None} for name, said in known.items()}
    )


def overrides_text(service: str, overrides: Mapping[str, object]) -> str:
    """The value of `BENTOML_CONFIG_OVERRIDES` for one service."""
    return _json_text({"services": {service: overrides}})


def service_name(environ: Mapping[str, str] = os.environ) -> str | None:
    """`module:Class` of the service to run, or its bare name where an older toolchain wrote it."""
    return environ.get(SERVICE) or environ.get(_SERVE_SERVICE_NAME)


def ignored(environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Set variables that other implementations read and this one does not."""
    return tuple(variable for variable in _IGNORED if environ.get(variable))


def missing_values(
    envs: Iterable[Mapping[str, str]], environ: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """The values that a service's `envs` give to variables which are not set.

    Raises:
        BentoMLConfigException: names those that have to be set, and are not.
    """
    at_run_time = [env for env in envs if env.get("stage", "all") != "build"]
    unset = [env for env in at_run_time if env["name"] not in environ]
    required = [env["name"] for env in unset if not env.get("value")]
    if required:
        raise BentoMLConfigException(f"not set, and the service needs it: {', '.join(required)}")
    return {env["name"]: env["value"] for env in unset}


def _port(text: str, variable: str) -> int:
    if text.isascii() and text.isdigit() and 0 < int(text) < 65536:
        return int(text)
    raise BentoMLConfigException(f"{variable}: {text!r} is no port, expected a number from 1 to 65535")


def _json_text(value: Mapping[str, object]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _json_object(text: str, variable: str) -> dict[str, object]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise BentoMLConfigException(f"{variable}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise BentoMLConfigException(f"{variable}: expected a JSON object, found {type(value).__name__}")
    return value

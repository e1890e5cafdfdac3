"""`python -m bentoml`: runs the service that `BENTOML_SERVICE` names. What a container starts."""

from __future__ import annotations

import argparse
import asyncio
import logging
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from bentoml import _environment as environment
from bentoml._config import load_config, not_used_note
from bentoml._gpus import Gpus, available_gpus, gpus_from, on_the_cpu
from bentoml._layers import merge
from bentoml._loader import split_target
from bentoml._logging import configure_logging
from bentoml._process.supervisor import GRACE_S, STUCK_MARGIN_S, Supervisor
from bentoml._process.task import LAME_DUCK_S, ServiceTask
from bentoml._process.workers import available_cpus, plan_workers
from bentoml.exceptions import BentoMLConfigException, BentoMLException

log = logging.getLogger("bentoml")


def main() -> int:
    """Run until told to stop; the exit code is 0 after that, 1 when the service could not start."""
    parser = argparse.ArgumentParser(prog="python -m bentoml", description=__doc__)
    parser.add_argument("service", nargs="?", default=environment.service_name(), metavar="MODULE:CLASS")
    parser.add_argument("--stop-with-stdin", action="store_true", help="stop when standard input ends")
    parser.add_argument(
        "--grace",
        type=_seconds,
        default=GRACE_S,
        metavar="SECONDS",
        help="how long what runs may take to end after SIGTERM (%(default)g)",
    )
    parser.add_argument(
        "--lame-duck",
        type=_seconds,
        default=LAME_DUCK_S,
        metavar="SECONDS",
        help="how long requests are still taken after SIGTERM, while callers learn of it (%(default)g)",
    )
    parser.add_argument(
        "--gpus",
        type=_gpus,
        metavar="INDEX[:PART],...",
        help="what is this service's of the machine's GPUs; all of them when not given",
    )
    parser.add_argument(
        "--stuck-margin",
        type=_seconds,
        default=STUCK_MARGIN_S,
        metavar="SECONDS",
        help="replace a worker whose loop is silent for longer than `traffic.timeout` and this (%(default)g)",
    )
    arguments = parser.parse_args()
    if arguments.service is None:
        parser.error(f"name a service, `module:Class`, here or in {environment.SERVICE}")
    configure_logging(arguments.service.rpartition(":")[2])
    for variable in environment.ignored():
        log.warning("%s is not read; use %s", variable, environment.CONFIG_OVERRIDES)
    try:
        task = _service_task(arguments.service, arguments.gpus or available_gpus())
        for note in _not_acted_on(task):
            log.warning("%s", note)
        supervisor = Supervisor(
            task,
            stop_at_end_of_stdin=arguments.stop_with_stdin,
            stuck_margin_s=arguments.stuck_margin,
            grace_s=arguments.grace,
            lame_duck_s=arguments.lame_duck,
        )
        return asyncio.run(supervisor.run())
    except BentoMLException as error:
        log.error("%s", error)
        return 1


def _not_acted_on(task: ServiceTask) -> Iterator[str]:
    note = not_used_note(task.service, task.declared)
    if note is not None:
        yield note
    yield from environment.unknown_overrides(task.service)


def _seconds(text: str) -> float:
    with suppress(ValueError):
        if 0 <= (seconds := float(text)) < math.inf:
            return seconds
    raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")


def _gpus(text: str) -> Gpus:
    try:
        return gpus_from(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected `0,1` or `0:0.5`") from None


def _service_task(target: str, gpus: Gpus) -> ServiceTask:
    project = Path(os.environ.get(environment.PROJECT, ".")).resolve()
    target = ":".join(filter(None, split_target(target, project)))
    declared = environment.declared() or _described(target, project)
    layers = environment.with_overrides(declared.name, declared.config)
    config = load_config(declared.name, layers)
    if config.ssl.enabled and environment.names(environment.DEPENDENTS):
        log.warning("`ssl` is for the entry: services call each other without TLS")
        layers = merge(layers, {"ssl": {"enabled": False}})
        config = load_config(declared.name, layers)
    # A variable wins over the configuration.
    port = environment.port({"PORT": str(config.http.port), **os.environ})
    management_port = environment.management_port()
    if port == management_port:
        raise BentoMLConfigException(
            f"port {port} is both the service's and its management's; choose another with {environment.PORT} "
            f"or {environment.MANAGEMENT_PORT}"
        )
    warning = on_the_cpu(config, gpus)
    if warning is not None:
        log.warning("%s %s", declared.name, warning)
    return ServiceTask(
        target=target,
        service=declared.name,
        config=config,
        declared=layers,
        project=project,
        workers=plan_workers(
            config,
            cpu_count=available_cpus(),
            gpus=gpus,
            runs_command=declared.runs_command,
        ),
        host=os.environ.get(environment.HOST, config.http.host),
        port=port,
        management_port=management_port,
    )


def _described(target: str, project: Path) -> environment.Declared:
    """What the service declares, found by importing it in a child: this process stays small.

    Raises:
        SystemExit: the project could not be imported; the child has said why.
    """
    child = subprocess.run(
        [sys.executable, "-m", "bentoml._process.describe", target, str(project)],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if child.returncode != 0:
        raise SystemExit(child.returncode)
    return environment.declared_from(child.stdout)


if __name__ == "__main__":
    sys.exit(main())

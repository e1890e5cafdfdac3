"""`python -m bentoml`: runs the service that `BENTOML_SERVICE` names. What a container starts."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import subprocess
import sys
from pathlib import Path

from bentoml import _environment as environment
from bentoml._config import load_config, merge
from bentoml._logging import configure_logging
from bentoml._process.supervisor import STUCK_MARGIN_S, Supervisor
from bentoml._process.task import ServiceTask
from bentoml._process.workers import available_cpus, available_gpus, plan_workers
from bentoml.exceptions import BentoMLConfigException, BentoMLException

log = logging.getLogger("bentoml")


def main() -> int:
    """Run until told to stop; the exit code is 0 after that, 1 when the service could not start."""
    parser = argparse.ArgumentParser(prog="python -m bentoml", description=__doc__)
    parser.add_argument("service", nargs="?", default=environment.service_name(), metavar="MODULE:CLASS")
    parser.add_argument("--stop-with-stdin", action="store_true", help="stop when standard input ends")
    parser.add_argument(
        "--stuck-margin",
        type=float,
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
        task = _service_task(arguments.service)
        supervisor = Supervisor(
            task, stop_at_end_of_stdin=arguments.stop_with_stdin, stuck_margin_s=arguments.stuck_margin
        )
        return asyncio.run(supervisor.run())
    except BentoMLException as error:
        log.error("%s", error)
        return 1


def _service_task(target: str) -> ServiceTask:
    project = Path(os.environ.get(environment.PROJECT, ".")).resolve()
    declared = environment.declared() or _described(target, project)
    layers = merge(declared.config, environment.config_overrides(declared.name))
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
    return ServiceTask(
        target=target,
        service=declared.name,
        config=config,
        declared=layers,
        project=project,
        workers=plan_workers(
            config,
            cpu_count=available_cpus(),
            gpu_count=available_gpus(),
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

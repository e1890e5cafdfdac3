"""Deploys what a revision says, and ends as if it were killed, at or soon after the step of a number.

`python -m tests.scenarios.killed_deploy NAME GENERATION STEP DELAY_S`
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from dataclasses import replace

from bento_cli.deploy.deployment import Deployment
from bento_cli.engine.docker import DockerEngine


class Killer:
    """Progress that counts the steps it hears of, and ends the process at one of them."""

    def __init__(self, step: int, delay_s: float) -> None:
        self._left = step
        self._delay_s = delay_s

    def at(self, service: str, text: str) -> None:
        print(service, text, flush=True)
        if "ready" in text:
            return  # said again and again while replicas are waited for
        self._left -= 1
        if self._left == 0:
            threading.Timer(self._delay_s, os.kill, [os.getpid(), signal.SIGKILL]).start()

    def done(self, service: str, text: str) -> None:
        print(service, text, flush=True)


def main() -> None:
    name, generation, step, delay_s = sys.argv[1:]
    deployment = Deployment(name, DockerEngine())
    spec = deployment.revision().spec
    services = tuple(
        replace(service, environment={**service.environment, "GENERATION": generation})
        for service in spec.services
    )
    change = deployment.plan(replace(spec, services=services), cause="a test")
    deployment.carry_out(change, timeout_s=120, progress=Killer(int(step), float(delay_s)))


if __name__ == "__main__":
    main()

"""`bento deploy`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from bento_cli.commands._options import ArgFiles, Args, Quiet, built, given_arguments, single
from bento_cli.commands.containerize import make_images
from bento_cli.console import Console
from bento_cli.deploy import plan_deployment, plan_operations, require_gpu, target_of, with_images
from bento_cli.deploy.plan import DeployOptions
from bento_cli.deployment_config import DeploymentConfig, load_deployment_config
from bento_cli.engine.docker import DockerEngine


def deploy(
    bento: Annotated[
        str | None,
        typer.Argument(metavar="[PROJECT|TAG]", help="A project's folder, or a Bento; `.` by default."),
    ] = None,
    config_file: Annotated[
        Path | None, typer.Option("--config-file", "-f", help="The deployment's configuration file.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", "-n", help="Name of the deployment, over the file's.")
    ] = None,
    arg: Args = None,
    arg_file: ArgFiles = None,
    port: Annotated[
        int, typer.Option("--port", "-p", min=1, max=65535, help="Where the entry is published.")
    ] = 3000,
    cpu: Annotated[
        bool, typer.Option("--cpu", help="Go on without GPUs, whatever the services ask for.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until every service is ready.")] = True,
    timeout: Annotated[
        float, typer.Option("--timeout", help="Seconds until all services must be ready.")
    ] = 3600,
    quiet: Quiet = False,
) -> None:
    """Build, containerize and run a project on a container engine.

    \b
    Examples:
      bento deploy . -f config-file.yaml
      bento deploy examples/controlnet -f examples/controlnet/config-file.yaml --cpu
      bento deploy control_net:latest --name staging --port 8080
    """
    console = Console(quiet=quiet)
    config, file = load_deployment_config(config_file) if config_file else (DeploymentConfig(), None)
    cache = os.environ.get("BENTOML_HF_CACHE_DIR")
    options = DeployOptions(
        port=port, use_gpu=not cpu, cache_folder=str(Path(cache).resolve()) if cache else None
    )
    found = built(
        bento or config.bento or ".",
        console,
        arguments=given_arguments(arg, arg_file),
        leave_out=[config_file] if config_file else [],
    )
    deployment = plan_deployment(found, config, file, options, name=name)
    engine = DockerEngine()
    require_gpu(deployment, engine.check())
    for text in deployment.ignored:
        console.warn(f"not acted on yet: {text}")
    deployment = with_images(deployment, make_images(found, engine, console))
    target = target_of(deployment, engine)
    operations = plan_operations(deployment, target)
    for operation in operations:
        console.info(f"  {operation}")
    if not operations:
        console.info("nothing to do: it runs as it should")
    else:
        with console.step(f"start {deployment.name}"):
            target.apply(str(found.tag), found.graph.entry, deployment.services)
    if wait:
        with console.step(f"wait until {deployment.name} is ready") as step:
            target.wait(deployment.services, timeout, lambda service: step.done(f"{service} is ready"))
    console.result(deployment.url)
    project = f"docker compose --project-name {target.project}"
    console.hint(f"{project} logs --follow\n      {project} down")


app = single(deploy)

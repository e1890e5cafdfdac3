"""`bento config`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import typer

from bento_cli.build import plan_build
from bento_cli.build.named import find_project
from bento_cli.commands._deploying import ConfigDict, ConfigFile, said_config
from bento_cli.commands._options import ArgFiles, Args, given_arguments
from bento_cli.commands._output import Output, OutputOption, Table, show
from bento_cli.console import Console
from bento_cli.deploy.config import effective_configs
from bento_cli.deploying import as_deployment_config
from bento_cli.errors import BentoError, NotFoundError, nearest, shown
from bento_cli.explained import Layer, below, explain
from bento_cli.store import Store
from bento_cli.yaml_file import YamlFile
from bentoml._graph import ServiceGraph
from bentoml.exceptions import BentoMLConfigException

app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_DECORATOR: Final = "@service"
_COMMAND_LINE: Final = "--config-dict"


@app.callback()
def config() -> None:
    """Show a service's configuration, and where each value comes from."""


@app.command("explain")
def explain_(
    service: Annotated[str, typer.Argument(metavar="SERVICE", help="A service of the project.")],
    key: Annotated[
        str | None, typer.Argument(metavar="KEY", help="As `traffic.timeout`, or a section: `traffic`.")
    ] = None,
    bento: Annotated[
        str, typer.Option("--bento", metavar="PROJECT|TAG", help="A project's folder, or a Bento.")
    ] = ".",
    config_file: ConfigFile = None,
    config_dict: ConfigDict = None,
    arg: Args = None,
    arg_file: ArgFiles = None,
    output: OutputOption = Output.table,
) -> None:
    """Show every value of a service's configuration, and which place has the last word on it.

    What is said later stands over what was said before: the default, `@bentoml.service`, the deployment's
    configuration file, `--config-dict`.

    \b
    Examples:
      bento config explain ControlNet
      bento config explain ControlNet traffic -f config-file.yaml
      bento config explain ControlNet workers --bento control_net:latest -o json
    """
    console = Console()
    graph, places = _graph(bento, given_arguments(arg, arg_file), console)
    if service not in graph.services:
        raise NotFoundError(f"no service {service!r}{nearest(service, graph.services, 'services')}")
    layers = [Layer(source=lambda _: places[service], values=graph.services[service].config)]
    layers += _said_when_deploying(graph, service, config_file, config_dict)
    try:
        values = explain(service, layers)
    except BentoMLConfigException as error:
        raise BentoError(str(error)) from None
    if key is not None:
        values = below(values, key)

    def table() -> Table:
        return ["key", "value", "from", "over"], [
            [value.key, json.dumps(value.value), value.source, ", ".join(value.over)] for value in values
        ]

    data = {
        value.key: {"value": value.value, "from": value.source, "over": [*value.over]} for value in values
    }
    show(console, output, data, table)


def _graph(
    text: str, arguments: Mapping[str, object], console: Console
) -> tuple[ServiceGraph, dict[str, str]]:
    """The graph of a project or a Bento, and where each of its services says its configuration."""
    named = find_project(text)
    if named is None:
        graph = Store().get(text).graph
        return graph, dict.fromkeys(graph.services, _DECORATOR)
    plan = plan_build(named.root, file=named.file, arguments=arguments)
    for name in sorted(plan.discovery.computed):
        console.warn(f"the source leaves some of the configuration of {name} open until it runs")
    marks = {name: plan.discovery.problem(name, "") for name in plan.graph.services}
    return plan.graph, {name: f"{_DECORATOR} {shown(at.path, at.line)}" for name, at in marks.items()}


def _said_when_deploying(
    graph: ServiceGraph, service: str, path: Path | None, text: str | None
) -> list[Layer]:
    """What the configuration file says of a service, and what the command line says over it."""
    file_said, file = said_config(path, None)
    over, _ = said_config(None, text)
    for said, at in ((file_said, file), (over, YamlFile(Path(_COMMAND_LINE), over, lines={}))):
        effective_configs(graph, as_deployment_config(said), at)
    in_file, on_line = (
        as_deployment_config(said).service(service).config_overrides for said in (file_said, over)
    )
    layers = [Layer(source=partial(_line_in, file, service), values=in_file)] if file is not None else []
    return [*layers, Layer(source=lambda _: _COMMAND_LINE, values=on_line)]


def _line_in(file: YamlFile, service: str, path: Sequence[str]) -> str:
    return shown(file.path, file.line_of(("services", service, "config_overrides", *path)))

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import PROJECTS, WriteProject

from bento_cli.build import plan_build
from bento_cli.build.writing import write_bento
from bento_cli.errors import BentoError, InputError, NotFoundError
from bento_cli.serve import (
    LocalGraph,
    LocalService,
    Servable,
    find_servable,
    plan_serve,
    servable_bento,
    servable_project,
)
from bento_cli.store import Store
from bentoml._gpus import Share
from bentoml._graph import Edge, ServiceGraph, ServiceNode

GRAPH = ServiceGraph(
    entry="Front",
    services={
        "Front": ServiceNode(
            name="Front", target="service:Front", dependencies=(Edge(attribute="leaf", service="Leaf"),)
        ),
        "Leaf": ServiceNode(name="Leaf", target="service:Leaf"),
    },
)
VARIABLES = {"Front": {"A": "1", "BENTOML_ARGUMENTS": "{}"}, "Leaf": {}}
SERVICE = """
    import bentoml

    @bentoml.service
    class Entry: ...

    @bentoml.service
    class Other: ...
    """

# What stands in for a service's process: it notes what it is told, and ends once all that it names are told.
PROCESS = """
    import http.server, os, pathlib, signal, time

    events = pathlib.Path("events")

    def say(text):
        with events.open("a") as file:
            file.write(f"{os.environ['NAME']} {text}\\n")

    def end(number, frame):
        say(signal.Signals(number).name)
        deadline = time.monotonic() + 10
        while not all(f"{name} SIG" in events.read_text() for name in os.environ["ENDS_WITH"].split()):
            if time.monotonic() > deadline:
                break
            time.sleep(0.01)
        say("ended")
        os._exit(0)

    class Ready(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.send_response(200)
            self.end_headers()

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    print("started", flush=True)
    http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Ready).serve_forever()
    """


def stand_in(
    folder: Path,
    name: str,
    *,
    peers: tuple[str, ...] = (),
    ends_with: str = "",
    is_ready: bool = True,
    shares: tuple[Share, ...] = (),
) -> LocalService:
    """A service that is `PROCESS`, as its project's `bentoml/__main__.py`."""
    port = free_port()
    return LocalService(
        name=name,
        peers=peers,
        address="",
        management_port=port,
        project=folder,
        environ={"NAME": name, "ENDS_WITH": ends_with, "PORT": str(port if is_ready else free_port())},
        shares=shares,
    )


def planned(
    folder: Path,
    *,
    config: dict[str, Any] | None = None,
    leaf: dict[str, Any] | None = None,
    required: Mapping[str, tuple[str, ...]] = {},
    environ: Mapping[str, str] = {},
    port: int | None = 0,
    gpu_count: int = 0,
    **options: Any,
) -> tuple[LocalService, ...]:
    """Where the two services would run, of which the entry has `config`."""
    configs = {"Front": config or {}, "Leaf": leaf or {}}
    services = {name: replace(node, config=configs[name]) for name, node in GRAPH.services.items()}
    servable = Servable(
        graph=replace(GRAPH, services=services),
        project=folder,
        variables=VARIABLES,
        required=required,
    )
    return plan_serve(servable, environ=environ, port=port, gpu_count=gpu_count, **options)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_services_find_their_peers_through_the_variables_of_production(tmp_path: Path) -> None:
    port = free_port()

    leaf, front = planned(tmp_path, port=port)

    assert front.environ["BENTOML_PEER_LEAF"] == leaf.address
    assert front.environ["BENTOML_SERVICE"] == "service:Front"
    assert front.environ["A"] == "1"
    assert (front.address, front.environ["BENTOML_PORT"]) == (f"http://127.0.0.1:{port}", str(port))


def test_no_two_processes_share_a_port(tmp_path: Path) -> None:
    services = planned(tmp_path, port=0)

    ports = [s.environ[name] for s in services for name in ("BENTOML_PORT", "BENTOML_MANAGEMENT_PORT")]
    assert len(set(ports)) == 4


def test_only_the_entry_listens_beyond_this_machine(tmp_path: Path) -> None:
    leaf, front = planned(tmp_path, host="0.0.0.0", port=0)

    assert (leaf.environ["BENTOML_HOST"], front.environ["BENTOML_HOST"]) == ("127.0.0.1", "0.0.0.0")


def test_a_port_in_use_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(BentoError, match="is in use"):
        planned(tmp_path, port=server.getsockname()[1])


def test_the_configuration_says_where_the_entry_listens(tmp_path: Path) -> None:
    port = free_port()

    _, front = planned(tmp_path, config={"http": {"host": "0.0.0.0", "port": port}}, port=None)

    assert front.address == f"http://0.0.0.0:{port}"


def test_a_variable_says_over_the_configuration_where_the_entry_listens(tmp_path: Path) -> None:
    port = free_port()
    overrides = {"BENTOML_CONFIG_OVERRIDES": f'{{"services": {{"Front": {{"http": {{"port": {port}}}}}}}}}'}

    _, front = planned(tmp_path, config={"http": {"port": 80}}, environ=overrides, port=None)

    assert front.environ["BENTOML_PORT"] == str(port)


def test_a_variable_that_says_no_configuration_is_named(tmp_path: Path) -> None:
    overrides = {"BENTOML_CONFIG_OVERRIDES": '{"services": {"Leaf": {"wrokers": 2}}}'}

    with pytest.raises(BentoError, match="`wrokers`: unknown key, did you mean `workers`") as caught:
        planned(tmp_path, environ=overrides)

    assert caught.value.hint == "correct BENTOML_CONFIG_OVERRIDES"


def test_what_is_asked_for_wins_over_the_configuration(tmp_path: Path) -> None:
    port = free_port()

    _, front = planned(
        tmp_path, config={"http": {"host": "0.0.0.0", "port": 80}}, host="127.0.0.1", port=port
    )

    assert front.address == f"http://127.0.0.1:{port}"


def test_an_entry_that_speaks_tls_is_reached_by_https(tmp_path: Path) -> None:
    leaf, front = planned(tmp_path, config={"ssl": {"enabled": True, "certfile": "cert.pem"}}, port=0)

    assert (leaf.address[:7], front.address[:8]) == ("http://", "https://")


ONE_GPU = {"resources": {"gpu": 1}}


def test_services_are_dealt_the_gpus_of_the_machine_the_entry_first(tmp_path: Path) -> None:
    leaf, front = planned(tmp_path, config=ONE_GPU, leaf=ONE_GPU, gpu_count=2)

    assert ([s.gpus for s in front.shares], [s.gpus for s in leaf.shares]) == ([(0,)], [(1,)])


def test_gpus_are_dealt_as_a_variable_says_over_the_configuration(tmp_path: Path) -> None:
    overrides = {"BENTOML_CONFIG_OVERRIDES": '{"services": {"Leaf": {"resources": {"gpu": 2}}}}'}

    leaf, _ = planned(tmp_path, leaf=ONE_GPU, environ=overrides, gpu_count=2)

    assert [share.gpus for share in leaf.shares] == [(0, 1)]


@pytest.mark.parametrize(
    ("variable", "value"), [("CUDA_VISIBLE_DEVICES", "0"), ("BENTOML_DISABLE_GPU_ALLOCATION", "1")]
)
def test_where_the_shell_says_which_gpus_are_seen_none_are_dealt(
    tmp_path: Path, variable: str, value: str
) -> None:
    services = planned(tmp_path, config=ONE_GPU, leaf=ONE_GPU, environ={variable: value}, gpu_count=1)

    assert [service.shares for service in services] == [(), ()]


def test_more_gpus_than_there_are_are_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BentoError, match="the services want 2 GPUs, this machine has 1") as caught:
        planned(tmp_path, config=ONE_GPU, leaf=ONE_GPU, gpu_count=1)

    assert caught.value.hint is not None
    assert '`resources={"gpu": 0.5}`' in caught.value.hint


def test_all_variables_that_are_not_set_are_told_with_what_to_type(tmp_path: Path) -> None:
    required = {"Leaf": ("HF_TOKEN", "HOME"), "Front": ("HF_TOKEN", "API_KEY")}

    with pytest.raises(BentoError) as caught:
        planned(tmp_path, required=required, environ={"HOME": "/"}, command="bento serve .")

    assert caught.value.message.splitlines() == [
        "HF_TOKEN is not set, needed by Leaf, Front",
        "API_KEY is not set, needed by Front",
    ]
    assert caught.value.hint == "`HF_TOKEN=... API_KEY=... bento serve .`"


REQUIRING = """
    import bentoml

    @bentoml.service(envs=[
        {"name": "HF_TOKEN"}, {"name": "SIZE", "value": "small"}, {"name": "MIRROR", "stage": "build"},
        {"name": "REGION"},
    ])
    class Entry: ...
    """


def test_a_variable_is_required_where_neither_service_nor_bentofile_gives_it_a_value(
    project: WriteProject,
) -> None:
    envs = "envs: [{name: API_KEY}, {name: REGION, value: north}]"
    folder = project({"service.py": REQUIRING, "bentofile.yaml": f"service: service:Entry\n{envs}\n"})

    servable = servable_project(folder)
    bento, _ = write_bento(plan_build(folder), Store(folder / "store"))

    assert servable.required == {"Entry": ("HF_TOKEN", "API_KEY")}
    assert servable_bento(bento).required == servable.required


def test_what_has_no_effect_is_told_by_the_service_itself_and_not_here(project: WriteProject) -> None:
    service = """
        import bentoml

        @bentoml.service(runner_probe={"enabled": True}, http={"port": 8080})
        class Entry: ...
        """

    assert servable_project(project({"service.py": service})).notes == ()


def test_a_value_of_the_shell_wins_over_one_that_the_project_declares(tmp_path: Path) -> None:
    _, front = planned(tmp_path, environ={"A": "2", "BENTOML_ARGUMENTS": "[]"}, port=0)

    assert "A" not in front.environ  # the process inherits it
    assert front.environ["BENTOML_ARGUMENTS"] == "{}"


@pytest.mark.parametrize("named", ["service:Other", "service.py:Other", "./service.py:Other"])
def test_a_service_of_the_current_folder_needs_no_bentofile(project: WriteProject, named: str) -> None:
    project({"service.py": SERVICE})

    servable = find_servable(named)

    assert (servable.graph.entry, servable.project) == ("Other", Path())


def test_a_service_that_is_named_has_the_settings_of_the_bentofile(project: WriteProject) -> None:
    project({"service.py": SERVICE, "bentofile.yaml": "service: service:Entry\nargs: {size: small}"})

    servable = find_servable("service:Other", arguments={"steps": 20})

    assert servable.variables["Other"]["BENTOML_ARGUMENTS"] == '{"size":"small","steps":20}'


def test_a_service_that_is_not_there_is_no_fault_of_the_bentofile(project: WriteProject) -> None:
    project({"service.py": SERVICE, "bentofile.yaml": "service: service:Entry\n"})

    with pytest.raises(InputError) as caught:
        find_servable("service:Oter")

    assert [str(problem) for problem in caught.value.problems] == [
        "bentofile.yaml: service 'service:Oter': service.py has no service 'Oter', did you mean `Other`?"
    ]


@pytest.mark.parametrize("named", [".", "service"])
def test_a_project_without_a_bentofile_is_its_service_py(project: WriteProject, named: str) -> None:
    project({"service.py": "import bentoml\n\n@bentoml.service\nclass Entry: ...\n"})

    assert find_servable(named).graph.entry == "Entry"


def test_a_file_that_is_not_there_is_no_tag_of_a_bento(project: WriteProject) -> None:
    project({"service.py": SERVICE})

    with pytest.raises(InputError) as caught:
        find_servable("./servce.py:Other")

    (problem,) = caught.value.problems
    assert problem.message.endswith("no module 'servce' in this project, did you mean `service`?")


def test_a_service_outside_the_current_folder_is_served_from_elsewhere(project: WriteProject) -> None:
    project({"service.py": SERVICE})

    with pytest.raises(BentoError, match="leads out of") as caught:
        find_servable("../elsewhere/service.py:Other")

    assert caught.value.hint == "go to the folder that its project's imports begin at"


def test_a_bento_with_the_name_of_a_module_is_found_by_its_tag(
    project: WriteProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "home"))
    root = project({"service.py": SERVICE, "bentofile.yaml": "service: service:Other\n"})
    write_bento(plan_build(root, name="service"), Store())

    assert find_servable("service:latest").project != Path()
    assert find_servable("service:Entry").project == Path()


def test_what_is_neither_a_service_nor_a_bento_is_not_found(
    project: WriteProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "home"))
    project({"other.py": SERVICE})

    with pytest.raises(NotFoundError, match="no Bento 'service:entry'"):
        find_servable("service:entry")


def test_a_bento_is_served_with_its_own_arguments_and_those_given(tmp_path: Path) -> None:
    plan = plan_build(PROJECTS / "pair", arguments={"size": "small", "steps": 20})
    bento, _ = write_bento(plan, Store(tmp_path))

    servable = servable_bento(bento, arguments={"steps": 5})

    assert servable.variables["Front"]["BENTOML_ARGUMENTS"] == '{"size":"small","steps":5}'
    assert servable.variables["Front"]["BENTOML_BENTO"] == str(bento.tag)


def test_services_end_before_those_that_they_call_and_together_with_all_others(project: WriteProject) -> None:
    folder = project({"bentoml/__init__.py": "", "bentoml/__main__.py": PROCESS})
    services = (
        stand_in(folder, "First", ends_with="First Second"),
        stand_in(folder, "Second", ends_with="First Second"),
        stand_in(folder, "Front", peers=("First", "Second")),
    )

    with LocalGraph(services, lambda name, line: None) as running:
        running.wait_ready(60)

    events = (folder / "events").read_text().splitlines()
    assert events[:2] == ["Front SIGINT", "Front ended"]
    assert [sorted(events[2:4]), sorted(events[4:])] == [
        ["First SIGINT", "Second SIGINT"],
        ["First ended", "Second ended"],
    ]


def test_a_service_that_is_not_ready_gets_the_signal_that_any_process_knows(project: WriteProject) -> None:
    folder = project({"bentoml/__init__.py": "", "bentoml/__main__.py": PROCESS})
    started = threading.Event()

    with LocalGraph((stand_in(folder, "Slow", is_ready=False),), lambda name, line: started.set()):
        assert started.wait(60)

    assert (folder / "events").read_text().splitlines() == ["Slow SIGTERM", "Slow ended"]


def test_an_interrupt_that_nobody_catches_kills_the_services(project: WriteProject) -> None:
    folder = project({"bentoml/__init__.py": "", "bentoml/__main__.py": PROCESS})
    started = threading.Event()

    def run() -> None:
        with LocalGraph((stand_in(folder, "Slow", is_ready=False),), lambda name, line: started.set()):
            assert started.wait(60)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()

    assert not (folder / "events").exists()  # it was not told, and has ended


def test_the_process_of_a_service_is_told_which_gpus_it_has(project: WriteProject) -> None:
    arguments = "import sys, time\n\nprint(sys.argv[1:], flush=True)\ntime.sleep(60)\n"
    folder = project({"bentoml/__init__.py": "", "bentoml/__main__.py": arguments})
    shares = (Share(0, 1.0, (2,)), Share(1, 0.5, (3,)), Share(2, 0.0, ()))
    said: list[str] = []
    started = threading.Event()

    def hear(name: str, line: str) -> None:
        said.append(line)
        started.set()

    with LocalGraph((stand_in(folder, "Leaf", is_ready=False, shares=shares),), hear):
        assert started.wait(60)

    assert said == ["['--stop-with-stdin', '--gpus', '2,3:0.5']"]

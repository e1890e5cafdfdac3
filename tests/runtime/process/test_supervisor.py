"""Services as the real processes that a container runs."""

from __future__ import annotations

import concurrent.futures
import io
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image
from tests.runtime.conftest import DEADLINE_S, ServiceProcess, Start, free_port, is_alive, until

from bentoml import _environment as environment
from bentoml import codec
from bentoml._gpus import available_gpus

SERVICE = """
    import asyncio
    import os
    import sys
    import threading
    import time
    from collections.abc import AsyncIterator
    from pathlib import Path

    import bentoml

    def wait_for(name):
        until = time.monotonic() + 30
        while not Path(name).exists() and time.monotonic() < until:
            time.sleep(0.01)

    @bentoml.service
    class Leaf:
        @bentoml.api
        def pid(self) -> int:
            return os.getpid()

        @bentoml.api
        def double(self, x):
            return x, 2 * x

        @bentoml.api
        def refuse(self) -> None:
            raise bentoml.exceptions.NotFound("no such flower")

    @bentoml.service
    class Top:
        leaf = bentoml.depends(Leaf)

        def __init__(self):
            self.at_start = self.leaf.double(1)

        @bentoml.api
        def ask(self, x: int) -> list:
            return [self.at_start, self.leaf.double((x,))]

        @bentoml.api
        def refuse(self) -> None:
            self.leaf.refuse()

        @bentoml.api
        def whole(self) -> bool:
            import numpy
            array = numpy.arange(1 << 20)
            same, doubled = self.leaf.double(array)
            return bool((same == array).all() and (doubled == 2 * array).all())

    @bentoml.service
    class Slow:
        def __init__(self):
            wait_for("begin")

        @bentoml.api
        def work(self) -> str:
            Path("started").touch()
            wait_for("finish")
            return "finished"

    @bentoml.service
    class Blocking:
        @bentoml.api
        async def work(self) -> int:
            Path("started").touch()
            wait_for("finish")
            return os.getpid()

    @bentoml.service(traffic={"timeout": 1})
    class Stuck:
        @bentoml.api
        def pid(self) -> int:
            return os.getpid()

        @bentoml.api
        async def work(self) -> None:
            Path("started").touch()
            wait_for("finish")

    @bentoml.service(traffic={"max_concurrency": 2}, threads=3, workers=2)
    class Limited:
        @bentoml.api
        def work(self) -> str:
            Path(f"started-{threading.get_ident()}-{os.getpid()}").touch()
            wait_for("finish")
            return "finished"

    @bentoml.service
    class Stream:
        @bentoml.api
        async def work(self) -> AsyncIterator[str]:
            yield "begun "
            Path("started").touch()
            while not Path("finish").exists():
                await asyncio.sleep(0.01)
            yield "finished"

    @bentoml.service(threads=2)
    class Endless:
        @bentoml.api
        async def on_the_loop(self) -> None:
            Path("started-on-the-loop").touch()
            await asyncio.sleep(100)

        @bentoml.api
        def in_a_thread(self) -> None:
            Path("started-in-a-thread").touch()
            time.sleep(100)

        @bentoml.api
        async def in_a_thread_of_the_loop(self) -> None:
            Path("started-in-a-thread-of-the-loop").touch()
            await asyncio.to_thread(time.sleep, 100)

        @bentoml.on_shutdown
        def forget(self):
            time.sleep(3)  # as long as it may, where the grace period is short
            Path("forgotten").touch()

    @bentoml.service(workers=3)
    class Deployed:
        @bentoml.on_deployment
        def prepare():
            with open("order", "a") as file:
                print("prepared", file=file)

        def __init__(self):
            with open("order", "a") as file:
                print("made", file=file)

    @bentoml.service
    class Fragile:
        def __init__(self):
            if Path("no-weights").exists():
                raise ValueError("no weights")

        @bentoml.api
        def pid(self) -> int:
            return os.getpid()

    @bentoml.service(workers=2)
    class Broken:
        def __init__(self):
            raise ValueError("no weights")

    @bentoml.service
    class Regretful:
        @bentoml.on_shutdown
        def forget(self):
            raise ValueError("too late")

    @bentoml.service
    class Leaving:
        def __init__(self):
            sys.exit("no licence")
"""


DECLARED = environment.declared_text("Leaf", {})


def write_service(folder: Path) -> Path:
    (folder / "service.py").write_text(textwrap.dedent(SERVICE))
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_service(tmp_path)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ServiceProcess]]:
    """Top and the Leaf that it calls, for tests that leave them as they were."""
    folder = write_service(tmp_path_factory.mktemp("graph"))
    leaf = ServiceProcess("service:Leaf", folder, (), {environment.DEPENDENTS: "Top"})
    try:
        peers = {environment.peer_variable("Leaf"): leaf.wait_until_ready().address}
        top = ServiceProcess("service:Top", folder, (), peers)
        try:
            yield {"Leaf": leaf, "Top": top.wait_until_ready()}
        finally:
            top.kill_all()
    finally:
        leaf.kill_all()


def test_a_service_calls_its_peer_from_init_on(graph: dict[str, ServiceProcess]) -> None:
    assert graph["Top"].post("/ask", json={"x": 3}).json() == [[1, 2], [[3], [3, 3]]]


def test_an_array_crosses_to_a_peer_and_back(graph: dict[str, ServiceProcess]) -> None:
    assert graph["Top"].post("/whole").json() is True


def test_what_a_peer_refuses_is_refused_to_the_caller(graph: dict[str, ServiceProcess]) -> None:
    response = graph["Top"].post("/refuse")

    assert (response.status_code, response.json()["error"]) == (404, "Leaf/refuse: no such flower")


def test_frames_are_taken_from_peers_only(graph: dict[str, ServiceProcess]) -> None:
    call = {"content": b"".join(codec.encode([[], {}])), "headers": {"content-type": codec.MEDIA_TYPE}}

    assert graph["Leaf"].post("/pid", **call).status_code == 200
    assert graph["Top"].post("/ask", **call).status_code == 415


def test_the_management_port_answers_probes_and_nothing_else(graph: dict[str, ServiceProcess]) -> None:
    statuses = {path: graph["Top"].probe(path) for path in ("/livez", "/readyz", "/healthz", "/", "/ask")}

    assert statuses == {"/livez": 200, "/readyz": 200, "/healthz": 200, "/": 404, "/ask": 404}


@pytest.mark.parametrize(("service", "code"), [("Top", 0), (None, 1)])
def test_a_health_check_is_a_small_program(
    graph: dict[str, ServiceProcess], service: str | None, code: int
) -> None:
    port = graph[service].management_port if service else free_port()
    ended = subprocess.run(
        [sys.executable, "-m", "bentoml._probe"],
        env={**os.environ, environment.MANAGEMENT_PORT: str(port)},
        check=False,
    )

    assert ended.returncode == code


def test_a_worker_that_is_killed_is_replaced(graph: dict[str, ServiceProcess]) -> None:
    leaf, top = graph["Leaf"], graph["Top"]
    killed = leaf.post("/pid").json()
    os.kill(killed, signal.SIGKILL)

    until(lambda: "worker 0 ended with SIGKILL" in leaf.log, "the end is told")
    until(lambda: leaf.probe("/readyz") == 200, "ready again")
    assert leaf.post("/pid").json() != killed
    assert top.post("/ask", json={"x": 1}).status_code == 200


def test_the_callers_of_a_worker_that_is_killed_hear_of_it_at_once(project: Path, start: Start) -> None:
    service = start("service:Blocking").wait_until_ready()
    (worker,) = service.processes() - {service.process.pid}
    with concurrent.futures.ThreadPoolExecutor() as threads:
        response = threads.submit(service.post, "/work")
        until((project / "started").exists, "the request runs")
        os.kill(worker, signal.SIGKILL)

        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            response.result()


def test_without_a_worker_connections_are_refused_and_those_that_wait_are_ended(
    project: Path, start: Start
) -> None:
    (project / "begin").touch()
    service = start("service:Slow").wait_until_ready()
    (worker,) = service.processes() - {service.process.pid}
    (project / "begin").unlink()
    os.kill(worker, signal.SIGSTOP)
    with socket.create_connection(("127.0.0.1", service.port)) as waiting:
        os.kill(worker, signal.SIGKILL)

        assert received(waiting) == b""
    until(service.refuses, "connections are refused")
    (project / "begin").touch()
    service.wait_until_ready()
    assert not service.refuses()


def received(connection: socket.socket) -> bytes:
    """What comes before the connection's end, however that comes."""
    connection.settimeout(DEADLINE_S)
    try:
        return connection.recv(1 << 16)
    except ConnectionResetError:
        return b""


def test_all_workers_together_run_as_many_calls_as_the_configuration_says(
    project: Path, start: Start
) -> None:
    service = start("service:Limited")
    until(lambda: "(2 of 2 workers)" in service.log, "both are ready")
    with concurrent.futures.ThreadPoolExecutor() as threads:
        running = [threads.submit(service.post, "/work") for _ in range(2)]
        until(lambda: len(list(project.glob("started-*"))) == 2, "two calls run")

        assert [service.post("/work").status_code for _ in range(8)] == [429] * 8
        (project / "finish").touch()
        assert [response.result().text for response in running] == ["finished"] * 2


def test_a_deployments_hook_runs_once_before_any_instance_is_made(project: Path, start: Start) -> None:
    service = start("service:Deployed")

    until(lambda: "(3 of 3 workers)" in service.log, "all are ready")
    assert (project / "order").read_text().split() == ["prepared", "made", "made", "made"]


def test_the_metrics_of_all_workers_add_up_and_outlive_them(project: Path, start: Start) -> None:
    service = start("service:Limited")
    until(lambda: "(2 of 2 workers)" in service.log, "both are ready")
    (project / "finish").touch()
    for _ in range(20):
        service.post("/work")
    until(lambda: counted(service) == 20, "all requests are counted")
    for path in list(project.glob("started-*"))[:1]:
        os.kill(int(path.name.rpartition("-")[2]), signal.SIGKILL)

    until(lambda: service.log.count("(2 of 2 workers)") == 2, "both are ready again")
    assert counted(service) == 20


def counted(service: ServiceProcess) -> float:
    """How many requests to `/work` the management port tells of."""
    text = httpx.get(f"http://127.0.0.1:{service.management_port}/metrics", trust_env=False).text
    lines = [line for line in text.splitlines() if line.startswith("bentoml_service_request_total{")]
    return sum(float(line.split()[-1]) for line in lines if 'endpoint="/work"' in line)


def test_connections_are_refused_until_the_service_is_ready(project: Path, start: Start) -> None:
    service = start("service:Slow")

    until(lambda: service.probe("/livez") == 200, "the supervisor answers")
    assert (service.probe("/readyz"), service.refuses()) == (503, True)
    (project / "begin").touch()
    service.wait_until_ready()
    assert not service.refuses()


def test_a_port_that_another_one_took_meanwhile_is_told(project: Path, start: Start) -> None:
    service = start("service:Slow")
    until(lambda: service.probe("/livez") == 200, "the supervisor answers")

    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", service.port))
        other.listen()
        (project / "begin").touch()

        assert service.wait() == 1

    assert "the port is in use by another process; choose another with BENTOML_PORT" in service.log


def test_a_service_that_is_told_to_stop_while_it_loads_does_not_finish_loading(
    project: Path, start: Start
) -> None:
    service = start("service:Slow")
    until(lambda: service.probe("/livez") == 200, "the supervisor answers")

    assert service.stop() == 0
    assert "ready on" not in service.log


def test_a_service_that_is_told_to_stop_while_it_is_idle_ends_well(project: Path, start: Start) -> None:
    service = start("service:Leaf").wait_until_ready()
    worker = service.post("/pid").json()

    assert service.stop() == 0
    assert not is_alive(worker)
    assert "Traceback" not in service.log


def test_a_running_request_is_finished_before_the_end(project: Path, start: Start) -> None:
    (project / "begin").touch()
    service = start("service:Slow").wait_until_ready()
    with concurrent.futures.ThreadPoolExecutor() as threads:
        response = threads.submit(service.post, "/work")
        until((project / "started").exists, "the request runs")
        service.process.terminate()
        until(lambda: service.probe("/readyz") == 503 and service.refuses(), "no more requests are wanted")
        (project / "finish").touch()

        assert (response.result().text, service.wait()) == ("finished", 0)


def test_a_worker_whose_loop_is_blocked_keeps_nobody_waiting_at_the_port(project: Path, start: Start) -> None:
    service = start("service:Blocking").wait_until_ready()
    with concurrent.futures.ThreadPoolExecutor() as threads:
        response = threads.submit(service.post, "/work")
        until((project / "started").exists, "the loop is blocked")
        service.process.terminate()
        until(service.refuses, "the port is shut")
        (project / "finish").touch()

        assert (response.result().status_code, service.wait()) == (200, 0)


def test_a_stream_that_runs_is_finished_before_the_end(project: Path, start: Start) -> None:
    service = start("service:Stream").wait_until_ready()
    with httpx.stream("POST", f"{service.address}/work", trust_env=False, timeout=DEADLINE_S) as response:
        until((project / "started").exists, "the stream runs")
        service.process.terminate()
        until(lambda: service.probe("/readyz") == 503 and service.refuses(), "no more requests are wanted")
        (project / "finish").touch()

        assert ("".join(response.iter_text()), service.wait()) == ("begun finished", 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_finishes_a_request_is_waited_for_however_it_was_told_to_stop(
    project: Path, start: Start, number: int
) -> None:
    """A terminal's Ctrl-C reaches all processes, and then comes from the supervisor again."""
    (project / "begin").touch()
    service = start("service:Slow").wait_until_ready()
    with concurrent.futures.ThreadPoolExecutor() as threads:
        response = threads.submit(service.post, "/work")
        until((project / "started").exists, "the request runs")
        os.killpg(service.process.pid, number)
        until(lambda: service.probe("/readyz") == 503 and service.refuses(), "no more requests are wanted")
        (project / "finish").touch()

        assert (response.result().text, service.wait()) == ("finished", 0)


ENDLESS = ("on_the_loop", "in_a_thread", "in_a_thread_of_the_loop")


def test_requests_that_outlast_the_grace_period_are_cut_off_in_time_for_what_comes_after_them(
    project: Path, start: Start
) -> None:
    service = start("service:Endless", "--grace", "6").wait_until_ready()
    with concurrent.futures.ThreadPoolExecutor() as threads:
        for name in ENDLESS:
            threads.submit(service.post, f"/{name}")
        until(lambda: len(list(project.glob("started-*"))) == len(ENDLESS), "the requests run")

        assert service.stop() == 0
    assert (project / "forgotten").exists()
    assert "is killed" not in service.log


def test_a_service_whose_terminal_is_closed_ends_as_it_does_by_sigterm(project: Path, start: Start) -> None:
    temporary = project / "temporary"
    temporary.mkdir()
    service = start("service:Leaf", TMPDIR=str(temporary)).wait_until_ready()
    service.process.send_signal(signal.SIGHUP)

    assert service.wait() == 0
    assert list(temporary.glob("bentoml-metrics-*")) == []


def test_a_second_sigterm_lets_a_running_request_finish_too(project: Path, start: Start) -> None:
    (project / "begin").touch()
    service = start("service:Slow").wait_until_ready()
    with concurrent.futures.ThreadPoolExecutor() as threads:
        response = threads.submit(service.post, "/work")
        until((project / "started").exists, "the request runs")
        service.process.terminate()
        until(lambda: service.probe("/readyz") == 503 and service.refuses(), "no more requests are wanted")
        service.process.terminate()
        assert service.probe("/readyz") == 503  # so that it has heard it
        (project / "finish").touch()

        assert (response.result().text, service.wait()) == ("finished", 0)
    assert "cut off" not in service.log


def test_a_second_ctrl_c_cuts_requests_off_and_nothing_else(project: Path, start: Start) -> None:
    service = start("service:Endless").wait_until_ready()
    with concurrent.futures.ThreadPoolExecutor() as threads:
        threads.submit(service.post, "/on_the_loop")
        until((project / "started-on-the-loop").exists, "the request runs")
        service.process.send_signal(signal.SIGINT)
        until(lambda: service.probe("/readyz") == 503 and service.refuses(), "it has been told to stop")
        service.process.send_signal(signal.SIGINT)

        assert service.wait() == 0
    assert (project / "forgotten").exists()
    assert "requests that still run are cut off\n" in service.log
    assert "timeout graceful shutdown exceeded" not in service.log  # that would have been the first one's


def test_a_worker_whose_loop_is_stuck_is_replaced_and_its_stacks_are_told(
    project: Path, start: Start
) -> None:
    service = start("service:Stuck", "--stuck-margin", "2").wait_until_ready()
    stuck = service.post("/pid").json()
    with concurrent.futures.ThreadPoolExecutor() as threads:
        threads.submit(service.post, "/work")
        until(lambda: "worker 0 ended with SIGKILL" in service.log, "it is ended")

    assert "worker 0 is stuck, its loop has not run for " in service.log
    assert "in wait_for\n" in service.log
    service.wait_until_ready()
    assert service.post("/pid").json() != stuck


def test_a_worker_that_was_stopped_by_a_signal_is_replaced(project: Path, start: Start) -> None:
    service = start("service:Stuck", "--stuck-margin", "2").wait_until_ready()
    stopped = service.post("/pid").json()
    os.kill(stopped, signal.SIGSTOP)

    until(lambda: "worker 0 ended with SIGKILL" in service.log, "it is ended")
    service.wait_until_ready()
    assert service.post("/pid").json() != stopped


def test_a_service_whose_loop_is_blocked_is_busy_and_ready(project: Path, start: Start) -> None:
    service = start("service:Blocking").wait_until_ready()
    with concurrent.futures.ThreadPoolExecutor() as threads:
        response = threads.submit(service.post, "/work")
        until((project / "started").exists, "the loop is blocked")

        assert [service.probe(path) for path in ("/livez", "/readyz", "/healthz")] == [200, 200, 200]
        assert not response.done()
        (project / "finish").touch()
        assert response.result().status_code == 200


def test_the_end_of_stdin_ends_everything(project: Path, start: Start) -> None:
    service = start("service:Leaf", "--stop-with-stdin").wait_until_ready()
    worker = service.post("/pid").json()
    assert service.process.stdin is not None
    service.process.stdin.close()

    assert service.wait() == 0
    assert not is_alive(worker)


def test_a_supervisor_that_is_killed_leaves_no_worker_behind(project: Path, start: Start) -> None:
    service = start("service:Leaf").wait_until_ready()
    worker = service.post("/pid").json()
    service.process.kill()

    until(lambda: not is_alive(worker), "the worker has ended")
    assert service.refuses()


def test_there_are_as_many_workers_as_the_overrides_say(project: Path, start: Start) -> None:
    overrides = environment.overrides_text("Leaf", {"workers": 2})
    service = start("service:Leaf", **{environment.CONFIG_OVERRIDES: overrides})

    until(lambda: f"Leaf ready on {service.address} (2 of 2 workers)" in service.log, "both are ready")
    assert "Leaf ready on" in service.log.partition("(1 of 2 workers)")[0]


def test_a_service_that_asks_for_a_gpu_runs_on_the_cpu_where_there_is_none_and_says_so_once(
    project: Path, start: Start
) -> None:
    overrides = environment.overrides_text("Leaf", {"resources": {"gpu": 1}, "workers": 2})
    service = start("service:Leaf", **{environment.CONFIG_OVERRIDES: overrides}).wait_until_ready()

    said = service.log.count("Leaf asks for 1 GPU, this machine has none: it runs on the CPU\n")
    assert said == (0 if available_gpus() else 1)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--grace", "-1"), "argument --grace: '-1' is no number of seconds"),
        (("--gpus", "first"), "argument --gpus: 'first': expected `0,1` or `0:0.5`"),
    ],
)
def test_an_option_that_cannot_be_is_told(
    project: Path, start: Start, option: tuple[str, str], message: str
) -> None:
    service = start("service:Leaf", *option)

    assert service.wait() == 2
    assert message in service.log


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_that_cannot_start_ends_the_service_and_says_why(
    project: Path, start: Start, workers: int
) -> None:
    declared = environment.declared_text("Broken", {"workers": workers})
    service = start("service:Broken", **{environment.DECLARED: declared})

    assert service.wait() == 1
    assert "Broken cannot start: its own code failed\nTraceback (most recent call last):\n" in service.log
    assert service.log.count("ValueError: no weights") == 1


def test_the_reason_shows_the_code_of_the_project_and_not_that_around_it(project: Path, start: Start) -> None:
    service = start("service:Broken")

    service.wait()
    assert service.log.count("  File ") == 1


@pytest.mark.parametrize(
    ("target", "reason"),
    [("service:Leaving", "SystemExit: no licence"), ("slip:Leaf", "SyntaxError: '(' was never closed")],
)
def test_whatever_the_project_does_instead_of_starting_is_told(
    project: Path, start: Start, target: str, reason: str
) -> None:
    (project / "slip.py").write_text("print(")
    name = target.partition(":")[2]
    service = start(target, **{environment.DECLARED: environment.declared_text(name, {})})

    assert service.wait() == 1
    assert f"{name} cannot start: its own code failed\n" in service.log
    assert service.log.count(reason) == 1


def test_a_worker_that_cannot_start_again_says_why_until_it_can(project: Path, start: Start) -> None:
    service = start("service:Fragile").wait_until_ready()
    (project / "no-weights").touch()
    os.kill(service.post("/pid").json(), signal.SIGKILL)

    until(
        lambda: "worker 0 cannot start; trying again in 1.0 s: its own code failed\n" in service.log, "told"
    )
    assert "ValueError: no weights" in service.log
    (project / "no-weights").unlink()
    until(lambda: service.probe("/readyz") == 200, "ready again")


def test_what_fails_as_a_worker_ends_is_told(project: Path, start: Start) -> None:
    service = start("service:Regretful").wait_until_ready()

    assert service.stop() == 0
    assert "worker 0 did not end well: its own code failed\nTraceback" in service.log


def test_a_peer_without_an_address_is_named_with_its_variable(project: Path, start: Start) -> None:
    service = start("service:Top")

    assert service.wait() == 1
    assert service.log.count("set BENTOML_PEER_LEAF (for `Top.leaf`) to `http://host:port`") == 1
    assert "Traceback" not in service.log


@pytest.mark.parametrize("which", ["port", "management_port"])
def test_a_port_that_is_taken_is_named_with_its_variable(project: Path, start: Start, which: str) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        variable = {"port": environment.PORT, "management_port": environment.MANAGEMENT_PORT}[which]
        service = start("service:Leaf", **{variable: str(port), environment.DECLARED: DECLARED})

        assert service.wait() == 1
    assert f":{port}: Address already in use; choose another port with {variable}" in service.log
    assert "Traceback" not in service.log


@pytest.mark.parametrize(
    ("target", "variables", "message"),
    [
        (
            "nowhere:Leaf",
            {},
            "ERROR [Leaf] the service cannot be imported: 'nowhere:Leaf': no module 'nowhere' in ",
        ),
        ("service:Leef", {}, "'service:Leef': 'service' has no 'Leef'; its services: Leaf, Top, Slow, "),
        ("service:Leaf", {environment.PORT: "http"}, "BENTOML_PORT: 'http' is no port"),
        (
            "service:Leaf",
            {environment.PORT: "3001", environment.MANAGEMENT_PORT: "3001"},
            "port 3001 is both the service's and its management's; choose another with BENTOML_PORT or",
        ),
        (
            "service:Leaf",
            {environment.CONFIG_OVERRIDES: environment.overrides_text("Leaf", {"wrokers": 2})},
            "configuration of Leaf:\n  `wrokers`: unknown key, did you mean `workers`?",
        ),
        ("service:Leaf", {environment.HOST: "no such host"}, "choose another port with BENTOML_PORT"),
    ],
)
def test_what_is_wrong_before_the_start_is_told_in_words(
    project: Path, start: Start, target: str, variables: dict[str, str], message: str
) -> None:
    if target == "service:Leaf":
        variables = {**variables, environment.DECLARED: DECLARED}
    service = start(target, **variables)

    assert service.wait() == 1
    assert service.log.count(message) == 1
    assert "Traceback" not in service.log


def test_a_service_must_be_named(project: Path, start: Start) -> None:
    service = start("")

    assert service.wait() == 2
    assert "name a service, `module:Class`, here or in BENTOML_SERVICE" in service.log


def test_a_variable_that_is_not_read_is_told(project: Path, start: Start) -> None:
    service = start("service:Leaf", BENTOML_CONFIG="x.yaml", BENTOML_PORT="0")

    service.wait()
    assert "BENTOML_CONFIG is not read; use BENTOML_CONFIG_OVERRIDES" in service.log


def test_a_description_is_all_that_stands_on_stdout(tmp_path: Path) -> None:
    noisy = (
        'import bentoml\nprint("loading")\n@bentoml.service(name="iris", threads=2)\nclass Iris:\n    pass\n'
    )
    (tmp_path / "service.py").write_text(noisy)
    ended = subprocess.run(
        [sys.executable, "-m", "bentoml._process.describe", "service:Iris", str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )

    expected = environment.Declared(name="iris", config={"threads": 2})

    assert environment.declared({environment.DECLARED: ended.stdout}) == expected
    assert ended.stderr == "loading\n"


FAKES = {
    "cv2.py": """
        import numpy as np

        def Canny(arr, low, high):
            return (arr.mean(axis=2) > low).astype(np.uint8) * 255
    """,
    "torch.py": """
        float16 = float32 = "dtype"

        class cuda:
            @staticmethod
            def is_available():
                return False
    """,
    "diffusers.py": """
        class Model:
            @classmethod
            def from_pretrained(cls, name, **options):
                return cls()

        class ControlNetModel(Model): ...
        class AutoencoderKL(Model): ...

        class StableDiffusionXLControlNetPipeline(Model):
            def to(self, device):
                return self

            def __call__(self, prompt, image, **options):
                assert options == {
                    "negative_prompt": "dogs", "controlnet_conditioning_scale": 0.5, "num_inference_steps": 3
                }
                self.image = image.resize((len(prompt), 1))
                return self

            def to_tuple(self):
                return ([self.image], None)
    """,
}


def test_the_seeds_example_runs_unedited(tmp_path: Path, start: Start) -> None:
    example = Path(__file__).parents[3] / "examples" / "controlnet" / "service.py"
    (tmp_path / "service.py").write_text(example.read_text())
    for name, text in FAKES.items():
        (tmp_path / name).write_text(textwrap.dedent(text))
    sdxl = start(
        "service:SDXLControlNetService", BENTOML_DEPENDENTS="ControlNet", BENTOML_ABSENT_MODULES="cv2"
    )
    entry = start(
        "service:ControlNet",
        BENTOML_PEER_SDXLCONTROLNETSERVICE=sdxl.address,
        BENTOML_ABSENT_MODULES="torch,diffusers",
        BENTOML_CONFIG_OVERRIDES=environment.overrides_text("ControlNet", {"workers": 1}),
    )
    picture = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(picture, "PNG")
    sdxl.wait_until_ready()
    entry.wait_until_ready()

    response = entry.post(
        "/generate",
        files={"image": ("x.png", picture.getvalue())},
        data={"params": '{"prompt": "a cat", "negative_prompt": "dogs", "num_inference_steps": 3}'},
    )

    assert response.headers["content-type"] == "image/png", entry.log + sdxl.log
    assert Image.open(io.BytesIO(response.content)).size == (5, 1)

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

import pytest
from PIL import Image
from tests.runtime.conftest import ServiceProcess, Start, free_port, is_alive, until

from bentoml import _environment as environment
from bentoml import codec

SERVICE = """
    import os
    import time
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

    @bentoml.service(workers=2)
    class Broken:
        def __init__(self):
            raise ValueError("no weights")
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

    assert (response.status_code, response.json()) == (404, {"error": "Leaf/refuse: no such flower"})


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


def test_a_worker_that_cannot_start_ends_the_service_and_says_why(project: Path, start: Start) -> None:
    one_worker = environment.declared_text("Broken", {"workers": 1})
    service = start("service:Broken", **{environment.DECLARED: one_worker})

    assert service.wait() == 1
    assert service.log.count("ValueError: no weights") == 1
    assert "Broken cannot start: its first worker ended with exit code " in service.log


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
        ("nowhere:Leaf", {}, "ERROR [Leaf] 'nowhere:Leaf': no module 'nowhere' in "),
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

    assert environment.declared({environment.DECLARED: ended.stdout}) == ("iris", {"threads": 2})
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

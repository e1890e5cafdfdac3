"""Request metrics: of one process alone, and of workers that share a folder."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import Message

from bentoml._serving.metrics import RequestMetrics, exposition, forget

Worker = Callable[[str], int]

REQUESTS = "bentoml_service_request_total"
IN_PROGRESS = "bentoml_service_request_in_progress"
LAST = "bentoml_service_last_request_timestamp_seconds"


def samples(page: tuple[bytes, str], name: str) -> dict[str, float]:
    """The values of a metric by its labels, those of the service left out."""
    common = {"runner_name", "service_name", "service_version"}
    found = {}
    for family in text_string_to_metric_families(page[0].decode()):
        for sample in family.samples:
            if sample.name == name:
                own = sorted(sample.labels.keys() - common)
                found[",".join(f"{label}={sample.labels[label]}" for label in own)] = sample.value
    return found


@pytest.fixture
def worker(tmp_path: Path, in_new_python: Callable[[str], str]) -> Worker:
    """Runs a worker that does what is written, with its metrics in `tmp_path`; returns its id."""

    def run(work: str) -> int:
        return int(
            in_new_python(
                "import asyncio, os\n"
                "from pathlib import Path\n"
                f"os.environ['PROMETHEUS_MULTIPROC_DIR'] = {str(tmp_path)!r}\n"
                "from bentoml._serving.metrics import RequestMetrics, exposition\n"
                f"directory = Path({str(tmp_path)!r})\n"
                "metrics = RequestMetrics(service='Iris', directory=directory)\n"
                "async def serve():\n"
                + "".join(f"    {line}\n" for line in work.splitlines())
                + "asyncio.run(serve())\n"
                "metrics.flush()\n"
                "print(os.getpid())\n"
            )
        )

    return run


ONE_REQUEST = "metrics.begin('/classify'); metrics.record('/classify', 200, 0.02)"


def test_a_request_is_counted_under_the_names_and_labels_of_this_interface() -> None:
    metrics = RequestMetrics(service="Iris", bento_name="flowers", bento_version="7")
    metrics.begin("/classify")
    metrics.record("/classify", 200, 0.02)

    page, content_type = metrics.exposition()

    labels = 'runner_name="Iris",service_name="flowers",service_version="7"'
    lines = page.decode().splitlines()
    assert f'{REQUESTS}{{endpoint="/classify",http_response_code="200",{labels}}} 1.0' in lines
    assert f'{IN_PROGRESS}{{endpoint="/classify",{labels}}} 0.0' in lines
    assert any(line.startswith(f"{LAST}{{{labels}}} ") for line in lines)
    assert content_type.startswith("text/plain")


def test_a_duration_falls_into_the_buckets_that_are_not_below_it() -> None:
    metrics = RequestMetrics(service="Iris", buckets=(0.1, 1.0))
    for seconds in (0.05, 0.1, 0.5, 3.0):
        metrics.begin("/a")
        metrics.record("/a", 200, seconds)

    page = metrics.exposition()

    name = "bentoml_service_request_duration_seconds"
    assert [value for _, value in sorted(samples(page, f"{name}_bucket").items())] == [4.0, 2.0, 3.0]
    assert list(samples(page, f"{name}_sum").values()) == [pytest.approx(3.65)]


def test_a_request_that_has_begun_is_in_progress_until_it_is_recorded_or_abandoned() -> None:
    metrics = RequestMetrics(service="Iris")
    for _ in range(4):
        metrics.begin("/a")
    metrics.record("/a", 200, 0.1)
    metrics.abandon("/a")

    page = metrics.exposition()

    assert samples(page, IN_PROGRESS) == {"endpoint=/a": 2.0}
    assert samples(page, REQUESTS) == {"endpoint=/a,http_response_code=200": 1.0}


def test_two_services_in_one_process_count_for_themselves() -> None:
    first, second = RequestMetrics(service="First"), RequestMetrics(service="Second")
    first.begin("/a")
    first.record("/a", 200, 0.1)

    assert samples(first.exposition(), REQUESTS) == {"endpoint=/a,http_response_code=200": 1.0}
    assert samples(second.exposition(), REQUESTS) == {}


def test_a_batch_is_counted_for_its_method_and_worker() -> None:
    metrics = RequestMetrics(service="Iris", worker_index=3)
    metrics.record_batch("classify", 16)

    page = metrics.exposition()

    assert samples(page, "bentoml_service_adaptive_batch_size_sum") == {
        "method_name=classify,worker_index=3": 16.0
    }


def test_open_metrics_are_written_for_those_who_ask() -> None:
    page, content_type = RequestMetrics(service="Iris").exposition(
        "application/openmetrics-text;version=1.0.0"
    )

    assert content_type.startswith("application/openmetrics-text")
    assert page.endswith(b"# EOF\n")


def test_a_websocket_is_counted_while_it_is_open_and_its_messages_in_bytes() -> None:
    metrics = RequestMetrics(service="Iris")
    during: list[dict[str, float]] = []

    async def receive() -> Message:
        return {"type": "websocket.receive", "text": "süß", "bytes": None}

    async def send(message: Message) -> None:
        during.append(samples(metrics.exposition(), "bentoml_service_websocket_connections"))

    async def talk() -> None:
        with metrics.websocket("/chat", receive, send) as (counted_receive, counted_send):
            await counted_receive()
            await counted_send({"type": "websocket.send", "bytes": b"answer"})

    asyncio.run(talk())

    page = metrics.exposition()
    assert during == [{"endpoint=/chat": 1.0}]
    assert samples(page, "bentoml_service_websocket_connections") == {"endpoint=/chat": 0.0}
    assert samples(page, "bentoml_service_websocket_data_received_sum") == {"endpoint=/chat": 5.0}
    assert samples(page, "bentoml_service_websocket_data_sent_sum") == {"endpoint=/chat": 6.0}


def test_the_page_adds_up_all_workers(worker: Worker, tmp_path: Path) -> None:
    for _ in range(2):
        worker(ONE_REQUEST)

    page = exposition(tmp_path)

    assert samples(page, REQUESTS) == {"endpoint=/classify,http_response_code=200": 2.0}
    assert samples(page, "bentoml_service_request_duration_seconds_count") == {
        "endpoint=/classify,http_response_code=200": 2.0
    }


def test_what_a_worker_counted_stays_when_it_has_ended_and_what_it_was_doing_does_not(
    worker: Worker, tmp_path: Path
) -> None:
    pid = worker(ONE_REQUEST + "; metrics.begin('/classify')")
    assert samples(exposition(tmp_path), IN_PROGRESS) == {"endpoint=/classify": 1.0}
    last = samples(exposition(tmp_path), LAST)

    forget(tmp_path, pid)

    page = exposition(tmp_path)
    assert samples(page, IN_PROGRESS) == {}
    assert samples(page, REQUESTS) == {"endpoint=/classify,http_response_code=200": 1.0}
    assert samples(page, LAST) == last


def test_workers_that_have_ended_leave_one_file_of_each_kind(worker: Worker, tmp_path: Path) -> None:
    for _ in range(3):
        forget(tmp_path, worker(ONE_REQUEST))

    assert sorted(path.name for path in tmp_path.glob("*.db")) == [
        "counter_ended.db",
        "gauge_max_ended.db",
        "histogram_ended.db",
    ]
    assert samples(exposition(tmp_path), REQUESTS) == {"endpoint=/classify,http_response_code=200": 3.0}


def test_no_page_shows_a_worker_twice_or_not_at_all_while_it_is_forgotten(
    worker: Worker, tmp_path: Path
) -> None:
    pid = worker(ONE_REQUEST)
    others = range(pid + 1, pid + 30)
    for other in others:
        shutil.copy(tmp_path / f"counter_{pid}.db", tmp_path / f"counter_{other}.db")

    def forget_others() -> None:
        for other in others:
            forget(tmp_path, other)

    forgetting = threading.Thread(target=forget_others)
    forgetting.start()
    totals = set()
    while forgetting.is_alive():
        totals |= set(samples(exposition(tmp_path), REQUESTS).values())
    forgetting.join()

    assert totals == {30.0}


def test_a_request_that_blocks_the_loop_is_seen_in_progress(worker: Worker, tmp_path: Path) -> None:
    worker(
        "metrics.begin('/blocking')\n"
        "page = exposition(directory)[0].decode()  # the loop has not turned since\n"
        "assert 'request_in_progress{endpoint=\"/blocking\"' in page, page\n"
    )


def test_the_loop_alone_brings_what_was_recorded_to_the_page(worker: Worker, tmp_path: Path) -> None:
    worker(
        "for _ in range(2):\n"
        f"    {ONE_REQUEST}\n"
        "async def shown():\n"
        "    while b'request_total{endpoint=\"/classify\"' not in exposition(directory)[0]:\n"
        "        await asyncio.sleep(0.01)\n"
        "await asyncio.wait_for(shown(), 30)\n"
    )

    assert samples(exposition(tmp_path), REQUESTS) == {"endpoint=/classify,http_response_code=200": 2.0}


def test_a_file_that_a_worker_is_just_making_does_not_break_the_page(worker: Worker, tmp_path: Path) -> None:
    worker(ONE_REQUEST)
    (tmp_path / "histogram_1.db").touch()

    assert samples(exposition(tmp_path), REQUESTS) == {"endpoint=/classify,http_response_code=200": 1.0}


def test_a_folder_that_prometheus_client_does_not_know_of_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="imported before PROMETHEUS_MULTIPROC_DIR was set"):
        RequestMetrics(service="Iris", directory=tmp_path)

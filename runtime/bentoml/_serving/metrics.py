"""A service's Prometheus metrics, from a worker's request to the page of all workers."""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, Metric, Summary, values
from prometheus_client.exposition import choose_encoder
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.types import Message, Receive, Send

from bentoml._environment import METRICS_DIRECTORY

_FLUSH_AFTER_S = 0.2
_BATCH_SIZES = tuple(2.0**exponent for exponent in range(13))
_ENDED = "ended"  # stands in file names where a running worker has its process id


class RequestMetrics:
    """Counts one worker's requests.

    A request is noted in plain numbers: counting it with Prometheus' client takes longer than a fast endpoint
    does. About five times a second the numbers move to where a scrape sees them.

    Args:
        buckets: upper bounds of the histogram of durations, in seconds.
        directory: what `PROMETHEUS_MULTIPROC_DIR` names, shared by all workers. Without it the metrics are
            this object's own, so that several services fit into one process.
    """

    def __init__(
        self,
        *,
        service: str,
        bento_name: str = "",
        bento_version: str = "",
        worker_index: int = 0,
        namespace: str = "bentoml_service",
        buckets: Sequence[float] | None = None,
        directory: Path | None = None,
    ) -> None:
        if directory is not None and not values.ValueClass._multiprocess:  # chosen when it is imported
            raise RuntimeError(f"prometheus_client was imported before {METRICS_DIRECTORY} was set")
        self._directory = directory
        self._service = (service, bento_name or service, bento_version or "not available")
        self._worker_index = worker_index
        self._recorded: dict[tuple[str, int], _Recorded] = {}
        self._running: defaultdict[str, int] = defaultdict(int)
        self._next_flush = 0.0
        self._timer: asyncio.TimerHandle | None = None

        of_service = ("runner_name", "service_name", "service_version")
        of_endpoint = (*of_service, "endpoint")
        of_response = (*of_endpoint, "http_response_code")
        of_method = (*of_service, "worker_index", "method_name")
        own = self._registry = CollectorRegistry()
        self._requests = Counter(
            "request_total", "Requests that were answered", of_response, namespace, registry=own
        )
        self._durations = _Durations(
            "request_duration_seconds", "Time from a request to the end of its response", of_response,
            namespace, registry=own, buckets=buckets or Histogram.DEFAULT_BUCKETS,
        )  # fmt: skip
        self._in_progress = Gauge(
            "request_in_progress", "Requests that are being answered", of_endpoint, namespace,
            registry=own, multiprocess_mode="livesum",
        )  # fmt: skip
        self._last_request = Gauge(
            "last_request_timestamp_seconds", "When the last request was answered", of_service, namespace,
            registry=own, multiprocess_mode="max",
        )  # fmt: skip
        self._batch_sizes = Histogram(
            "adaptive_batch_size", "Items that ran as one batch", of_method, namespace,
            registry=own, buckets=_BATCH_SIZES,
        )  # fmt: skip
        self._connections = Gauge(
            "websocket_connections", "WebSocket connections that are open", of_endpoint, namespace,
            registry=own, multiprocess_mode="livesum",
        )  # fmt: skip
        self._data_received = Summary(
            "websocket_data_received", "Bytes of messages from clients", of_endpoint, namespace, registry=own
        )
        self._data_sent = Summary(
            "websocket_data_sent", "Bytes of messages to clients", of_endpoint, namespace, registry=own
        )
        self._bounds = self._durations.bounds
        if directory is None:
            own.register(REGISTRY)  # where the project's own metrics are

    def begin(self, endpoint: str) -> None:
        """A request to `endpoint` starts; `record` or `abandon` ends it.

        Args:
            endpoint: the route, never the path that a caller chose: each value is kept for ever.
        """
        self._running[endpoint] += 1
        if self._directory is None:
            return
        # Now and not later, since what starts may block the loop.
        if time.monotonic() >= self._next_flush:
            self.flush()
        elif self._timer is None:
            self._flush_later()

    def record(self, endpoint: str, status: int, seconds: float) -> None:
        """A request that began was answered."""
        self._running[endpoint] -= 1
        recorded = self._recorded.get((endpoint, status))
        if recorded is None:
            recorded = self._recorded[endpoint, status] = _Recorded([0] * len(self._bounds))
        recorded.count += 1
        recorded.seconds += seconds
        recorded.last_at = time.time()
        recorded.by_bucket[bisect_left(self._bounds, seconds)] += 1
        if self._timer is None and self._directory is not None:
            self._flush_later()

    def abandon(self, endpoint: str) -> None:
        """What began was no request after all."""
        self._running[endpoint] -= 1

    def record_batch(self, method: str, size: int) -> None:
        """`size` items ran as one batch."""
        self._batch_sizes.labels(*self._service, str(self._worker_index), method).observe(size)

    @contextmanager
    def websocket(self, endpoint: str, receive: Receive, send: Send) -> Iterator[tuple[Receive, Send]]:
        """Counts a connection while it is open; gives the `receive` and `send` that count its messages."""
        labels = (*self._service, endpoint)
        received, sent = self._data_received.labels(*labels), self._data_sent.labels(*labels)

        async def counted_receive() -> Message:
            message = await receive()
            if message["type"] == "websocket.receive":
                received.observe(_size(message))
            return message

        async def counted_send(message: Message) -> None:
            if message["type"] == "websocket.send":
                sent.observe(_size(message))
            await send(message)

        with self._connections.labels(*labels).track_inprogress():
            yield counted_receive, counted_send

    def flush(self) -> None:
        """Move what was recorded to where a scrape sees it; to be called once more when the worker ends."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._next_flush = time.monotonic() + _FLUSH_AFTER_S
        for endpoint, running in self._running.items():
            self._in_progress.labels(*self._service, endpoint).set(running)
        for (endpoint, status), recorded in self._recorded.items():
            labels = (*self._service, endpoint, str(status))
            self._requests.labels(*labels).inc(recorded.count)
            self._durations.labels(*labels).add(recorded.seconds, recorded.by_bucket)
        if self._recorded:
            last_at = max(recorded.last_at for recorded in self._recorded.values())
            self._last_request.labels(*self._service).set(last_at)
        self._recorded.clear()

    def _flush_later(self) -> None:
        delay_s = max(0.0, self._next_flush - time.monotonic())
        self._timer = asyncio.get_running_loop().call_later(delay_s, self.flush)

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """The metrics of all workers, as far as they have flushed, and the page's content type.

        Args:
            accept: the request's header, which may ask for OpenMetrics.
        """
        self.flush()
        if self._directory is not None:
            return exposition(self._directory, accept)
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


def exposition(directory: Path, accept: str = "") -> tuple[bytes, str]:
    """The metrics that workers keep in `directory`, added up, and the page's content type."""
    encode, content_type = choose_encoder(accept)
    return encode(_Workers(directory)), content_type


def forget(directory: Path, pid: int) -> None:
    """Drop what a worker that has ended was doing, and keep what it counted.

    The counts of all that have ended are kept in one file of each kind, so that a worker which is restarted
    again and again does not fill the folder.
    """
    with _locked(directory, fcntl.LOCK_EX):
        for path in directory.glob(f"*_{pid}.db"):
            kind = path.name.removesuffix(f"_{pid}.db")
            if path.stat().st_size and kind != "gauge_all" and not kind.startswith("gauge_live"):
                _merge(path, directory / f"{kind}_{_ENDED}.db", kind)
            path.unlink()


@dataclass(slots=True)
class _Recorded:
    """Requests to one endpoint with one status since the last flush."""

    by_bucket: list[int]
    count: int = 0
    seconds: float = 0.0
    last_at: float = 0.0


class _Durations(Histogram):
    """A histogram that takes many observations at once, for which Prometheus' client has no word."""

    @property
    def bounds(self) -> tuple[float, ...]:
        return tuple(self._upper_bounds)

    def add(self, seconds: float, by_bucket: Iterable[int]) -> None:
        self._sum.inc(seconds)
        for bucket, count in zip(self._buckets, by_bucket, strict=True):
            if count:
                bucket.inc(count)


class _Workers:
    """Everything that the workers of a replica have counted, those that have ended too."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def collect(self) -> Iterable[Metric]:
        with _locked(self._directory, fcntl.LOCK_SH):
            # A file is empty for a moment when a worker makes it.
            files = sorted(str(path) for path in self._directory.glob("*.db") if path.stat().st_size)
            return list(_add_up(files))


@contextmanager
def _locked(directory: Path, operation: int) -> Iterator[None]:
    """Keeps pages apart from `forget`, so that none shows a worker's counts twice or not at all."""
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, operation)
        yield
    finally:
        os.close(descriptor)


class _ValueFile(Protocol):
    """What one process has counted in metrics of one kind, by key; each value with a timestamp."""

    def read_all_values(self) -> Iterable[tuple[str, float, float]]: ...

    def write_value(self, key: str, value: float, timestamp: float) -> None: ...

    def close(self) -> None: ...


# Prometheus' client has no types for these.
_open_values: Callable[[str], _ValueFile] = MmapedDict
_add_up: Callable[[list[str]], Iterable[Metric]] = MultiProcessCollector.merge


def _merge(path: Path, ended: Path, kind: str) -> None:
    """Add what one worker counted to that of all which have ended."""
    with closing(_open_values(str(path))) as added, closing(_open_values(str(ended))) as merged:
        before = {key: (value, timestamp) for key, value, timestamp in merged.read_all_values()}
        for key, value, timestamp in added.read_all_values():
            both = [before[key], (value, timestamp)] if key in before else [(value, timestamp)]
            match kind:
                case "gauge_max":
                    kept = max(both)
                case "gauge_min":
                    kept = min(both)
                case "gauge_mostrecent":
                    kept = max(both, key=lambda at: at[1])
                case _:
                    kept = sum(each for each, _ in both), 0.0
            merged.write_value(key, *kept)


def _size(message: Message) -> int:
    data = message.get("bytes")
    return len(message["text"].encode() if data is None else data)

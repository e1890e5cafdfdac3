"""Tasks in a Redis server: for replicas on several machines."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from bentoml._serving.tasks.store import (
    RETENTION_S,
    Task,
    TaskRequest,
    TaskResponse,
    headers_from,
    headers_text,
)
from bentoml._task_status import TaskStatus
from bentoml.exceptions import (
    BentoMLConfigException,
    MissingDependencyException,
    ServiceUnavailable,
    TooManyRequests,
)

if TYPE_CHECKING:
    from redis.commands.core import Script

_ANSWER_S: Final = 10.0
_FORMAT: Final = 1

# Every script gets the keys of the queue and of the leases, and what comes before a task's id in its key.
# Times are the server's own, so that the clocks of the replicas need not agree.
_NOW: Final = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local function task(id) return KEYS[3] .. id end
local function held(id, worker)
    local state = redis.call('HMGET', task(id), 'status', 'worker')
    return state[1] == 'in_progress' and state[2] == worker
end
"""

_SUBMIT: Final = (
    _NOW
    + """
redis.call('HSET', task(ARGV[1]), 'status', 'pending', 'created_at', now, 'endpoint', ARGV[3],
    'request_headers', ARGV[4], 'request_body', ARGV[5])
redis.call('EXPIRE', task(ARGV[1]), ARGV[2])
redis.call('RPUSH', KEYS[1], ARGV[1])
"""
)

# In these the first write is one that takes no memory, and after it none is refused for want of it: where
# memory is short only submitting fails, and what was begun goes on.
_CLAIM: Final = (
    _NOW
    + """
local id = redis.call('LPOP', KEYS[1])
while id do
    if redis.call('HGET', task(id), 'status') == 'pending' then
        redis.call('HSET', task(id), 'status', 'in_progress', 'worker', ARGV[1], 'executed_at', now)
        redis.call('EXPIRE', task(id), ARGV[3])
        redis.call('ZADD', KEYS[2], now + ARGV[2], id)
        local request = redis.call('HMGET', task(id), 'endpoint', 'request_headers', 'request_body')
        return {id, request[1], request[2], request[3]}
    end
    id = redis.call('LPOP', KEYS[1])
end
return false
"""
)

_RENEW: Final = (
    _NOW
    + """
local ids = {}
for i = 4, #ARGV do
    if held(ARGV[i], ARGV[1]) then
        redis.call('EXPIRE', task(ARGV[i]), ARGV[3])
        redis.call('ZADD', KEYS[2], now + ARGV[2], ARGV[i])
        table.insert(ids, ARGV[i])
    end
end
return ids
"""
)

_RELEASE: Final = (
    _NOW
    + """
if held(ARGV[2], ARGV[1]) then
    redis.call('ZREM', KEYS[2], ARGV[2])
    redis.call('HDEL', task(ARGV[2]), 'worker', 'executed_at')
    redis.call('HSET', task(ARGV[2]), 'status', 'pending')
    redis.call('LPUSH', KEYS[1], ARGV[2])
end
"""
)

_FINISH: Final = (
    _NOW
    + """
if not held(ARGV[2], ARGV[1]) then return 0 end
redis.call('ZREM', KEYS[2], ARGV[2])
redis.call('HSET', task(ARGV[2]), 'status', ARGV[4], 'response_status', ARGV[5],
    'response_headers', ARGV[6], 'response_body', ARGV[7])
redis.call('EXPIRE', task(ARGV[2]), ARGV[3])
return 1
"""
)

_CANCEL: Final = (
    _NOW
    + """
local status = redis.call('HGET', task(ARGV[1]), 'status')
if status ~= 'pending' and status ~= 'in_progress' then return 0 end
redis.call('EXPIRE', task(ARGV[1]), ARGV[2])
redis.call('HSET', task(ARGV[1]), 'status', 'canceled')
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('LREM', KEYS[1], 1, ARGV[1])
return 1
"""
)

_EXPIRE: Final = (
    _NOW
    + """
local ended = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, 100)
local ids = {}
for _, id in ipairs(ended) do
    redis.call('ZREM', KEYS[2], id)
    if redis.call('HGET', task(id), 'status') == 'in_progress' then
        redis.call('HSET', task(id), 'status', ARGV[2], 'response_status', ARGV[3],
            'response_headers', ARGV[4], 'response_body', ARGV[5])
        redis.call('EXPIRE', task(id), ARGV[1])
        table.insert(ids, id)
    end
end
return ids
"""
)


class RedisTaskStore:
    """Keeps the tasks of a service in Redis, under `bentoml:tasks:1:{<service>}:`.

    The server's `maxmemory` bounds what they take; a task that does not fit is refused.

    Args:
        url: `redis://`, `rediss://` or `unix://`, with user, password and database where they are needed.
        service: whose tasks.
        retention_s: how long a task is kept after its last change; a lease that is renewed is one.

    Raises:
        BentoMLConfigException: the URL is none that Redis knows.
        MissingDependencyException: the package `redis` is not installed.
    """

    largest_body: int = 512 * 2**20 - 2**10

    def __init__(self, url: str, *, service: str, retention_s: float = RETENTION_S) -> None:
        try:
            # An extra, and a second's worth of imports: only this store needs it.
            from redis import Redis, RedisError
            from redis.backoff import NoBackoff
            from redis.exceptions import OutOfMemoryError
            from redis.retry import Retry
        except ModuleNotFoundError:
            message = "tasks in Redis need the package `redis`: install `bento-toolchain[redis]`"
            raise MissingDependencyException(message) from None
        self._name = _without_credentials(url)
        try:
            self._client = Redis.from_url(
                url,
                socket_timeout=_ANSWER_S,
                socket_connect_timeout=_ANSWER_S,
                health_check_interval=30,
                retry=Retry(NoBackoff(), 1),  # a connection that the server closed; who calls waits by itself
            )
        except ValueError as error:
            raise BentoMLConfigException(f"{self._name}: {error}") from None
        self._retention_s = max(1, round(retention_s))
        # The braces put all keys of a service on the same node of a cluster.
        prefix = f"bentoml:tasks:{_FORMAT}:{{{service}}}:"
        self._pending = f"{prefix}pending"
        self._leases = f"{prefix}leases"
        self._task = f"{prefix}task:"
        self._errors = RedisError
        self._out_of_memory = OutOfMemoryError
        script = self._client.register_script
        self._submit = script(_SUBMIT)
        self._claim = script(_CLAIM)
        self._renew = script(_RENEW)
        self._release = script(_RELEASE)
        self._finish = script(_FINISH)
        self._cancel = script(_CANCEL)
        self._expire = script(_EXPIRE)

    def submit(self, request: TaskRequest) -> None:
        head = headers_text(request.headers)
        try:
            self._run(self._submit, request.task_id, self._retention_s, request.endpoint, head, request.body)
        except ServiceUnavailable as error:
            if isinstance(error.__cause__, self._out_of_memory):
                raise TooManyRequests(f"no room for the task: {self._name} has no memory left") from None
            raise

    def claim(self, worker: str, lease_s: float) -> TaskRequest | None:
        match self._run(self._claim, worker, lease_s, self._retention_s):
            case [bytes(task_id), bytes(endpoint), bytes(headers), bytes(body)]:
                return TaskRequest(
                    task_id=task_id.decode(),
                    endpoint=endpoint.decode(),
                    headers=headers_from(headers),
                    body=body,
                )
        return None

    def renew(self, worker: str, task_ids: Collection[str], lease_s: float) -> frozenset[str]:
        return frozenset(_texts(self._run(self._renew, worker, lease_s, self._retention_s, *task_ids)))

    def release(self, worker: str, task_id: str) -> None:
        self._run(self._release, worker, task_id)

    def finish(self, worker: str, task_id: str, response: TaskResponse) -> bool:
        answer = self._run(self._finish, worker, task_id, self._retention_s, *_fields(response))
        return answer == 1

    def cancel(self, task_id: str) -> bool:
        return self._run(self._cancel, task_id, self._retention_s) == 1

    def expire(self, response: TaskResponse) -> tuple[str, ...]:
        return _texts(self._run(self._expire, self._retention_s, *_fields(response)))

    def status(self, task_id: str) -> Task | None:
        match self._values(task_id, "endpoint", "status", "created_at", "executed_at"):
            case [bytes(endpoint), bytes(status), bytes(created_at), bytes() | None as executed_at]:
                return Task(
                    task_id=task_id,
                    endpoint=endpoint.decode(),
                    status=TaskStatus(status.decode()),
                    created_at=float(created_at),
                    executed_at=None if executed_at is None else float(executed_at),
                )
        return None

    def request(self, task_id: str) -> TaskRequest | None:
        match self._values(task_id, "endpoint", "request_headers", "request_body"):
            case [bytes(endpoint), bytes(headers), bytes(body)]:
                return TaskRequest(
                    task_id=task_id, endpoint=endpoint.decode(), headers=headers_from(headers), body=body
                )
        return None

    def response(self, task_id: str) -> TaskResponse | None:
        match self._values(task_id, "response_status", "response_headers", "response_body"):
            case [bytes(status), bytes(headers), bytes(body)]:
                return TaskResponse(status=int(status), headers=headers_from(headers), body=body)
        return None

    def purge(self) -> None:
        """Nothing: the server forgets by itself."""

    def close(self) -> None:
        self._client.close()

    def _values(self, task_id: str, *fields: str) -> object:
        with self._reached():
            return self._client.hmget(self._task + task_id, list(fields))

    def _run(self, script: Script, *arguments: str | float | bytes) -> object:
        with self._reached():
            answer: object = script(keys=[self._pending, self._leases, self._task], args=list(arguments))
        return answer

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            raise ServiceUnavailable(f"task store {self._name}: {error}") from error


def _fields(response: TaskResponse) -> tuple[str | int | bytes, ...]:
    return response.outcome.value, response.status, headers_text(response.headers), response.body


def _texts(answer: object) -> tuple[str, ...]:
    return (
        tuple(item.decode() for item in answer if isinstance(item, bytes)) if isinstance(answer, list) else ()
    )


def _without_credentials(url: str) -> str:
    """The URL as an error or a log may show it."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('?')[0].rpartition('@')[2]}"

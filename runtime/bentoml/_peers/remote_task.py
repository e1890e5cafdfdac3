"""Tasks of a peer: submitted over the wire between services, asked for as any client does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from bentoml._client.response import parse_json
from bentoml._client.schema import Unreadable
from bentoml._client.task import AsyncTask, Task, id_in, status_in
from bentoml._peers.blocking import BlockingLoop
from bentoml._peers.channel import Channel
from bentoml._peers.connection import Answer
from bentoml._peers.failure import failure_in
from bentoml._peers.remote_call import RemoteCall
from bentoml._peers.remote_endpoint import RemoteEndpoint
from bentoml._task_status import TaskStatus
from bentoml.exceptions import RemoteException


class RemoteTasks:
    """What can be asked of the tasks of one endpoint, to be awaited."""

    def __init__(self, remote: RemoteEndpoint, channel: Callable[[], Channel]) -> None:
        self._remote = remote
        self._channel = channel

    async def submit(self, *args: Any, **kwargs: Any) -> AsyncTask:
        call = RemoteCall(self._remote, args, kwargs, action="submit")
        answer = await call.sent(self._channel())
        call.check(answer.status)
        return AsyncTask(self._id_in(answer), self)

    async def get(self, task_id: str) -> Any:
        return self._remote.value(await self._ask("GET", "get", task_id))

    async def get_status(self, task_id: str) -> TaskStatus:
        document = self._document(await self._ask("GET", "status", task_id))
        try:
            return status_in(document)
        except Unreadable as error:
            raise RemoteException(f"{self._remote.where}: its answer: {error}") from None

    async def cancel(self, task_id: str) -> None:
        self._document(await self._ask("PUT", "cancel", task_id))

    async def retry(self, task_id: str) -> AsyncTask:
        return AsyncTask(self._id_in(await self._ask("POST", "retry", task_id)), self)

    async def _ask(self, verb: str, action: str, task_id: str) -> Answer:
        query = f"{action}?task_id={quote(task_id, safe='')}"
        return await self._channel().call(self._remote.bare_request(verb, query))

    def _id_in(self, answer: Answer) -> str:
        try:
            return id_in(self._document(answer))
        except Unreadable as error:
            raise RemoteException(f"{self._remote.where}: its answer: {error}") from None

    def _document(self, answer: Answer) -> object:
        if answer.status != 200:
            raise failure_in(answer.status, answer.headers, answer.body, self._remote.where)
        try:
            return parse_json(bytes(answer.body))
        except Unreadable as error:
            raise RemoteException(f"{self._remote.where}: its answer: {error}") from None


class BlockingRemoteTasks:
    """The same for callers that block."""

    def __init__(self, tasks: RemoteTasks, blocking: BlockingLoop) -> None:
        self._tasks = tasks
        self._blocking = blocking

    def submit(self, *args: Any, **kwargs: Any) -> Task:
        return Task(self._blocking.run(self._tasks.submit(*args, **kwargs)).id, self)

    def get(self, task_id: str) -> Any:
        return self._blocking.run(self._tasks.get(task_id))

    def get_status(self, task_id: str) -> TaskStatus:
        return self._blocking.run(self._tasks.get_status(task_id))

    def cancel(self, task_id: str) -> None:
        self._blocking.run(self._tasks.cancel(task_id))

    def retry(self, task_id: str) -> Task:
        return Task(self._blocking.run(self._tasks.retry(task_id)).id, self)

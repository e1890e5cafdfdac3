"""One request to an endpoint, or about one of its tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import httpx

from bentoml._client.address import Address
from bentoml._client.request import body_of
from bentoml._client.schema import EndpointSchema, Schema, Unreadable
from bentoml.exceptions import BentoMLException, DeadlineExceeded, RemoteException, ServiceUnavailable

# What a service takes and returns is known to its schema only.
Value: TypeAlias = Any

TaskAction: TypeAlias = Literal["get", "status", "cancel", "retry"]

_VERBS: Mapping[TaskAction, str] = {"get": "GET", "status": "GET", "cancel": "PUT", "retry": "POST"}


@dataclass(frozen=True, kw_only=True)
class Call:
    """What is sent, and what is expected back.

    Args:
        action: what is asked for instead of the result of a call: a path below the endpoint's own.
        task_id: the task that this is about; it takes the place of arguments.
    """

    endpoint: EndpointSchema
    args: tuple[Value, ...] = ()
    kwargs: Mapping[str, Value] = field(default_factory=dict)
    verb: str = "POST"
    action: str = ""
    task_id: str | None = None

    @property
    def output(self) -> Schema:
        """The schema of what comes back."""
        return self.endpoint.output if self.action in {"", "get"} else {}

    def url(self, address: Address) -> httpx.URL:
        """Where it goes."""
        return address.of(f"{self.endpoint.route}/{self.action}" if self.action else self.endpoint.route)

    @contextmanager
    def request(self, http: httpx.Client | httpx.AsyncClient, address: Address) -> Iterator[httpx.Request]:
        """The request, while the files that it sends are open.

        Raises:
            TypeError: the arguments are not those that the endpoint takes, or cannot be sent.
            OSError: a file cannot be opened.
        """
        url = self.url(address)
        if self.task_id is not None:
            yield http.build_request(self.verb, url, params={"task_id": self.task_id})
            return
        with ExitStack() as opened:
            body = body_of(self.endpoint, self.args, self.kwargs, opened)
            yield http.build_request(
                self.verb,
                url,
                content=body.content,
                data=body.texts or None,
                files=body.files or None,
                headers={"content-type": body.content_type} if body.content_type else None,
            )

    @contextmanager
    def failures(self, address: Address) -> Iterator[None]:
        """Says where and what went wrong, whatever the HTTP library calls it.

        Raises:
            ServiceUnavailable: nothing was sent, since there is nobody.
            DeadlineExceeded: no answer came in time.
            RemoteException: what came is no whole answer, or is none that the schema allows.
        """
        where = self.url(address).copy_with(userinfo=b"")
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise ServiceUnavailable(f"{address} cannot be reached: {error}") from error
        except httpx.TimeoutException as error:
            raise DeadlineExceeded(f"{where} did not answer in time") from error
        except httpx.RequestError as error:
            raise RemoteException(f"{where} gave no whole answer: {error}") from error
        except Unreadable as error:
            raise RemoteException(f"{where}: {error}") from error
        except BentoMLException as error:
            # Its words are the service's own; whose they are stands beside them.
            vars(error).setdefault("__notes__", []).append(f"In {where}")  # `add_note` came with Python 3.11
            raise


def submission(endpoint: EndpointSchema, args: tuple[Value, ...], kwargs: Mapping[str, Value]) -> Call:
    """The call that has the service run a task with these arguments."""
    return Call(endpoint=endpoint, args=args, kwargs=kwargs, action="submit")


def about_task(endpoint: EndpointSchema, action: TaskAction, task_id: str) -> Call:
    """The call that asks for something about a task."""
    return Call(endpoint=endpoint, verb=_VERBS[action], action=action, task_id=task_id)

"""What the runtime raises, each with the HTTP status that it becomes.

BentoMLException                        500
├── InvalidArgument                     400
├── BadInput                            400
├── StateException                      400
├── NotFound                            404
├── UnprocessableEntity                 422
├── TooManyRequests                     429
├── InternalServerError                 500
│   └── RemoteException                 500
├── ServiceUnavailable                  503
├── DeadlineExceeded                    504
├── BentoMLConfigException              500
├── MissingDependencyException          500
├── ImportServiceError                  500
└── UnservableException                 500
"""

from __future__ import annotations

from http import HTTPStatus
from typing import ClassVar


class BentoMLException(Exception):
    """The base of all errors of this package.

    Args:
        message: what happened, for a person.
        error_code: the HTTP status that this one instance becomes, over its class's own.
    """

    error_code: ClassVar[HTTPStatus] = HTTPStatus.INTERNAL_SERVER_ERROR

    def __init__(self, message: str = "", *, error_code: HTTPStatus | int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = int(self.error_code if error_code is None else error_code)


class InvalidArgument(BentoMLException):
    """A value of the request does not fit the endpoint's parameters."""

    error_code = HTTPStatus.BAD_REQUEST


class BadInput(BentoMLException):
    """The request cannot be read."""

    error_code = HTTPStatus.BAD_REQUEST


class StateException(BentoMLException):
    """The service is in no state to do this."""

    error_code = HTTPStatus.BAD_REQUEST


class NotFound(BentoMLException):
    """What the request names does not exist."""

    error_code = HTTPStatus.NOT_FOUND


class UnprocessableEntity(BentoMLException):
    """The request can be read, and its content cannot be acted on."""

    error_code = HTTPStatus.UNPROCESSABLE_ENTITY


class TooManyRequests(BentoMLException):
    """The service runs as many calls as `traffic.max_concurrency` allows."""

    error_code = HTTPStatus.TOO_MANY_REQUESTS


class InternalServerError(BentoMLException):
    """The service failed."""


class RemoteException(InternalServerError):
    """A peer failed with an exception that has no class in this process."""


class ServiceUnavailable(BentoMLException):
    """The service cannot be reached, or does not take requests now."""

    error_code = HTTPStatus.SERVICE_UNAVAILABLE


class DeadlineExceeded(BentoMLException):
    """The call took longer than `traffic.timeout`."""

    error_code = HTTPStatus.GATEWAY_TIMEOUT


class BentoMLConfigException(BentoMLException):
    """A configuration value is not one of those that are valid."""


class MissingDependencyException(BentoMLException, ImportError):
    """A module is used that this service's image does not hold."""


class ImportServiceError(BentoMLException):
    """`module:Class` does not lead to a service."""


class UnservableException(BentoMLException):
    """The service is declared in a way that cannot be served."""


def exception_for(status: int, message: str) -> BentoMLException:
    """The exception that stands for an HTTP status of a peer or server."""
    by_status: dict[int, type[BentoMLException]] = {
        400: InvalidArgument,
        404: NotFound,
        422: UnprocessableEntity,
        429: TooManyRequests,
        503: ServiceUnavailable,
        504: DeadlineExceeded,
    }
    if status in by_status:
        return by_status[status](message)
    if 400 <= status < 500:
        return BentoMLException(message, error_code=status)
    # What is no error at all, such as a redirect, is one where a result was expected.
    return RemoteException(message, error_code=status if status >= 500 else None)

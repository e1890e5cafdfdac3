"""What the runtime raises, each with the HTTP status that it becomes.

BentoMLException                        500
├── InvalidArgument                     400
│   └── BadInput                        400
├── StateException                      400
│   └── UnservableException             500
├── NotFound                            404
├── PayloadTooLarge                     413
├── UnprocessableEntity                 422
├── TooManyRequests                     429
├── InternalServerError                 500
│   └── RemoteException                 500
│       └── IncompatiblePeer            500
├── ServiceUnavailable                  503
│   └── Overloaded                      503
├── DeadlineExceeded                    504
├── BentoMLConfigException              500
├── MissingDependencyException          500
├── ImportServiceError                  500
├── CLIException                        500
├── CloudRESTApiClientError             500
└── APIDeprecated                       500
"""

from __future__ import annotations

from http import HTTPStatus

_by_status: dict[int, type[BentoMLException]] = {}


class BentoMLException(Exception):
    """The base of all errors of this package.

    Args:
        message: what happened, for a person.
        error_code: the HTTP status that this one instance becomes, over its class's own.
    """

    error_code: HTTPStatus | int = HTTPStatus.INTERNAL_SERVER_ERROR

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        own = int(vars(cls).get("error_code", 0))
        if own >= 400 and own != HTTPStatus.INTERNAL_SERVER_ERROR:
            _by_status.setdefault(own, cls)

    def __init__(self, message: str = "", *, error_code: HTTPStatus | int | None = None) -> None:
        super().__init__(message)
        self.message = message
        if error_code is not None:
            self.error_code = error_code

    @property
    def status(self) -> int:
        """The HTTP status, as a number."""
        return int(self.error_code)


class InvalidArgument(BentoMLException):
    """A value of the request does not fit the endpoint's parameters."""

    error_code = HTTPStatus.BAD_REQUEST


class BadInput(InvalidArgument):
    """The request cannot be read."""


class StateException(BentoMLException):
    """The service is in no state to do this."""

    error_code = HTTPStatus.BAD_REQUEST


class NotFound(BentoMLException):
    """What the request names does not exist."""

    error_code = HTTPStatus.NOT_FOUND


class PayloadTooLarge(BentoMLException):
    """The request's body is longer than `traffic.max_request_size`."""

    error_code = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


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


class IncompatiblePeer(RemoteException):
    """A peer runs another version of the project, whose endpoint a call does not fit."""


class ServiceUnavailable(BentoMLException):
    """The service cannot be reached, or does not take requests now."""

    error_code = HTTPStatus.SERVICE_UNAVAILABLE


class Overloaded(ServiceUnavailable):
    """A batch would wait longer than its endpoint's `max_latency_ms`."""


class DeadlineExceeded(BentoMLException):
    """The call took longer than `traffic.timeout`."""

    error_code = HTTPStatus.GATEWAY_TIMEOUT


class BentoMLConfigException(BentoMLException):
    """A configuration value is not one of those that are valid."""


class MissingDependencyException(BentoMLException, ImportError):
    """A module is used that this service's image does not hold."""


class ImportServiceError(BentoMLException):
    """`module:Class` does not lead to a service."""


class UnservableException(StateException):
    """The service is declared in a way that cannot be served."""

    error_code = HTTPStatus.INTERNAL_SERVER_ERROR


class CLIException(BentoMLException):
    """A command was given what it cannot act on."""


class CloudRESTApiClientError(BentoMLException):
    """A hosted service refused a request; this package speaks to none."""


class APIDeprecated(BentoMLException):
    """A part of this interface that is no longer there."""


def exception_for(status: int, message: str) -> BentoMLException:
    """The exception that stands for an HTTP status of a peer or server.

    A class that names its own `error_code` stands for that status, the first one that does.
    """
    registered = _by_status.get(status)
    if registered is not None:
        # A project's own class may want other arguments, and its constructor is none of a peer's business.
        error = registered.__new__(registered)
        BentoMLException.__init__(error, message)
        return error
    if 400 <= status < 500:
        return BentoMLException(message, error_code=status)
    # What is no error at all, such as a redirect, is one where a result was expected.
    return RemoteException(message, error_code=status if status >= 500 else None)

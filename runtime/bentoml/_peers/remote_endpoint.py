"""One endpoint of a peer: where it is, and what its calls say of themselves."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import chain
from typing import Any, Final
from urllib.parse import quote

from pydantic import TypeAdapter, ValidationError

from bentoml import _deadline as deadline
from bentoml import _trace as trace
from bentoml import codec
from bentoml._annotations import call_signature
from bentoml._context import folder_for_files
from bentoml._contract import Changes, Contract, changes, contract_of
from bentoml._endpoint import Endpoint
from bentoml._peers.channel import Request
from bentoml._peers.connection import Answer
from bentoml._peers.failure import failure_in
from bentoml._service import Service
from bentoml._signature import EndpointSignature
from bentoml._wire import CONTRACT_HEADER, TOKEN_HEADER
from bentoml.exceptions import BadInput, RemoteException, UnservableException

_FRAME: Final = codec.MEDIA_TYPE.encode()
_UNRESERVED: Final = "/%:@!$&'()*+,;=~-._"
_MOST_CONTRACTS: Final = 4  # of other versions, of which an update has two


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """How long a caller waits for a peer, unless its own caller gives up before.

    Args:
        answer_s: seconds until an answer is there, or the first item of a stream.
        item_s: seconds between two items of a stream.
    """

    answer_s: float
    item_s: float


class RemoteEndpoint:
    """What all calls of one endpoint share.

    Args:
        token: what proves to the peer that this process belongs to its deployment, if it does.
    """

    def __init__(self, endpoint: Endpoint, service: Service[Any], limits: Limits, token: str | None) -> None:
        self.endpoint = endpoint
        self.limits = limits
        self.where = f"{service.name}{endpoint.route}"
        self._service = service.name
        self._path = quote(service.path_prefix + endpoint.route, safe=_UNRESERVED)
        self._token = b"" if token is None else f"{TOKEN_HEADER}: {token}\r\n".encode()
        self._versions: OrderedDict[str, Changes] = OrderedDict()  # by the hash of the peer's contract

    def call_request(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, action: str = "") -> Request:
        """A call, made for the request that runs now.

        Args:
            action: what is asked for instead of the result: a path below the endpoint's own.

        Raises:
            EncodeError: an argument cannot travel.
        """
        path = f"{self._path}/{action}" if action else self._path
        headers = self._headers if not self._versions else self._headers_for(len(args), kwargs)
        try:
            body = codec.encode([list(args), kwargs])
        except codec.EncodeError as error:
            raise self._named_refusal(args, kwargs) or error from None
        return self._request("POST", path, headers, body, is_idempotent=self.endpoint.idempotent)

    def _named_refusal(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> codec.EncodeError | None:
        """Why an argument cannot travel, with the argument; None where only all of them together cannot."""
        by_position = ((f"argument {number}", value) for number, value in enumerate(args, 1))
        by_name = ((f"argument `{name}`", value) for name, value in kwargs.items())
        for argument, value in chain(by_position, by_name):
            try:
                codec.encode(value)
            except codec.EncodeError as error:
                return codec.EncodeError(f"{self.where}: {argument}: {error}")
        return None

    def bare_request(self, verb: str, action: str) -> Request:
        """A request about something else than a call, without a body."""
        # GET and PUT may be sent again whatever the method does (RFC 9110, 9.2.2).
        is_idempotent = verb != "POST" or self.endpoint.idempotent
        return self._request(verb, f"{self._path}/{action}", self._token, [], is_idempotent=is_idempotent)

    def _request(
        self,
        verb: str,
        path: str,
        headers: bytes,
        body: Sequence[codec.Buffer],
        *,
        is_idempotent: bool,
    ) -> Request:
        context = trace.current.get()
        if context is not None:
            headers += context.outgoing_lines()
        timeout_s = deadline.remaining_s(self.limits.answer_s)
        return Request(verb, path, headers, body, timeout_s, is_idempotent=is_idempotent)

    @cached_property
    def contract(self) -> Contract:
        """What this process's version of the project knows of the endpoint."""
        return contract_of(self.endpoint)

    @cached_property
    def _headers(self) -> bytes:
        return self._call_headers([self.contract.hash])

    def _headers_for(self, positional: int, keywords: Iterable[str]) -> bytes:
        """The headers of a call that those of the known versions may take which it does not break with."""
        others = [
            version
            for version, found in tuple(self._versions.items())  # other threads learn of more meanwhile
            if not found.breaking_for(positional, keywords)
        ]
        return self._call_headers([self.contract.hash, *others])

    def _call_headers(self, versions: Sequence[str]) -> bytes:
        lines = f"content-type: {codec.MEDIA_TYPE}\r\n{CONTRACT_HEADER}: {','.join(versions)}\r\n"
        return lines.encode() + self._token

    def learn(self, text: str) -> Changes | None:
        """Take note of the contract of a peer that runs another version.

        Returns:
            What that means for calls; None where nobody can tell, and the peer is to decide.
        """
        try:
            theirs = Contract.parse(text)
        except BadInput:
            # Of a format that came later, or of a proxy that answers for itself.
            return None
        found = changes(self.contract, theirs)
        self._versions[theirs.hash] = found
        while len(self._versions) > _MOST_CONTRACTS:
            self._versions.popitem(last=False)
        return found

    def check_arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Say what a local call would have said of arguments that do not fit.

        Raises:
            TypeError: they do not.
        """
        signature = call_signature(self.endpoint.func)
        try:
            signature.bind_partial(*args, **kwargs)  # what is too much comes first, as in a local call
            signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self._service}.{self.endpoint.attribute}: {error}") from None

    def value(self, answer: Answer) -> Any:
        """What the method returned.

        Raises:
            Exception: what the method raised, or why it was not called.
        """
        if answer.status == 200 and answer.headers.get(b"content-type") == _FRAME:
            return self.decoded(answer.body)
        raise failure_in(answer.status, answer.headers, answer.body, self.where)

    def decoded(self, frame: bytes | bytearray) -> Any:
        """A result, or an item of a stream, of the class that the endpoint's annotation names.

        Raises:
            RemoteException: it is no frame.
        """
        try:
            value = codec.decode(frame, directory=folder_for_files)
        except BadInput as error:
            raise RemoteException(f"{self.where}: its answer: {error}") from None
        if self._result is None:
            return value
        try:
            return self._result.validate_python(value)
        except ValidationError:
            return value  # what the annotation says is not so: that is the peer's affair

    @cached_property
    def _result(self) -> TypeAdapter[Any] | None:
        """Makes the project's own classes of a result again, which travel as plain mappings."""
        try:
            signature = EndpointSignature(self.endpoint, self._service)
            return signature.output if signature.returns_classes else None
        except UnservableException:
            # The annotation may name modules that only the peer has.
            return None

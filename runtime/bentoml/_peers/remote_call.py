"""One call of an endpoint of a peer: sent, and its answer as what the method would have given."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final

from bentoml import _deadline as deadline
from bentoml._peers.channel import Channel, Stream
from bentoml._peers.connection import Answer
from bentoml._peers.failure import failure_in, failure_of
from bentoml._peers.items import ItemReader
from bentoml._peers.remote_endpoint import RemoteEndpoint
from bentoml._wire import ANOTHER_CONTRACT, STREAM_TYPE, ItemKind
from bentoml.exceptions import BadInput, IncompatiblePeer, RemoteException

_STREAM: Final = STREAM_TYPE.encode()
_MOST_VERSIONS: Final = 3  # that one call may meet, each at another replica


class RemoteCall:
    """A call with its arguments, made for the request that runs now.

    It is made, and its result read, where the method was called; it may be sent on another loop.

    Args:
        action: what is asked for instead of the result: a path below the endpoint's own.

    Raises:
        EncodeError: an argument cannot travel.
    """

    __slots__ = ("_action", "_args", "_kwargs", "_remote", "_request")

    def __init__(
        self, remote: RemoteEndpoint, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, action: str = ""
    ) -> None:
        self._remote = remote
        self._args = args
        self._kwargs = kwargs
        self._action = action
        self._request = remote.call_request(args, kwargs, action=action)

    async def sent(self, channel: Channel) -> Answer:
        """The answer, whatever its status.

        Raises:
            IncompatiblePeer: the peer runs a version that this call does not fit.
            BentoMLException: as `Channel.call` does.
        """
        answer = await channel.call(self._request)
        for _ in range(_MOST_VERSIONS):
            if answer.status != ANOTHER_CONTRACT:
                break
            self._adapt(answer.body)
            answer = await channel.call(self._request)
        return answer

    def result(self, answer: Answer) -> Any:
        """What the method returned.

        Raises:
            Exception: what the method raised, or why it was not called.
        """
        self.check(answer.status)
        return self._remote.value(answer)

    def check(self, status: int) -> None:
        """A call that could not have been made locally either is the caller's mistake, not its caller's.

        Raises:
            TypeError: the peer has refused such arguments.
        """
        if status == 400:
            self._remote.check_arguments(self._args, self._kwargs)

    async def items(self, channel: Channel) -> AsyncGenerator[list[Any], None]:
        """What the generator yields, in lists of as many items as came at once.

        Raises:
            Exception: what the generator raised, or why it was not called.
        """
        stream = await self._opened(channel)
        try:
            if stream.status != 200 or stream.headers.get(b"content-type") != _STREAM:
                body = await stream.read_all(deadline.remaining_s(self._remote.limits.answer_s))
                self.check(stream.status)
                raise failure_in(stream.status, stream.headers, body, self._remote.where)
            reader = ItemReader()
            has_ended = False
            while piece := await stream.read(deadline.remaining_s(self._remote.limits.item_s)):
                values: list[Any] = []
                for kind, frame in self._items_in(reader, piece):
                    if kind is ItemKind.VALUE:
                        values.append(self._remote.decoded(frame))
                    elif kind is ItemKind.END:
                        has_ended = True
                    else:
                        if values:
                            yield values
                        raise failure_of(frame, self._remote.where)
                if values:
                    yield values
            if not has_ended:
                raise RemoteException(f"{self._remote.where}: the stream broke off")
        finally:
            stream.close()

    async def _opened(self, channel: Channel) -> Stream:
        stream = await channel.open_stream(self._request)
        for _ in range(_MOST_VERSIONS):
            if stream.status != ANOTHER_CONTRACT:
                break
            try:
                body = await stream.read_all(deadline.remaining_s(self._remote.limits.answer_s))
            finally:
                stream.close()
            self._adapt(body)
            stream = await channel.open_stream(self._request)
        return stream

    def _adapt(self, contract: bytes | bytearray) -> None:
        """Make the request anew, for a peer of another version too."""
        remote = self._remote
        found = remote.learn(contract.decode("ascii", "replace"))
        if found is not None:
            breaking = found.breaking_for(len(self._args), self._kwargs)
            if breaking:
                raise IncompatiblePeer(
                    f"{remote.where}: the peer runs another version of it: {'; '.join(breaking)}"
                )
        self._request = remote.call_request(self._args, self._kwargs, action=self._action)

    def _items_in(self, reader: ItemReader, piece: bytes) -> list[tuple[ItemKind, bytearray]]:
        try:
            return list(reader.feed(piece))
        except BadInput as error:
            raise RemoteException(f"{self._remote.where}: its answer: {error}") from None

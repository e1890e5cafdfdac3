"""How an endpoint answers peers: with frames, with what it raised, or with its contract."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Final

from starlette.types import Scope

from bentoml import codec
from bentoml._contract import contract_of
from bentoml._endpoint import Endpoint
from bentoml._serving.exchange import Exchange
from bentoml._serving.reply import InvalidFields, Reply
from bentoml._wire import ANOTHER_CONTRACT, CONTRACT_HEADER, STREAM_TYPE, TOKEN_HEADER, ItemKind, item_head

FRAME: Final = codec.MEDIA_TYPE.encode()

TRUSTED: Final = "bento.is_trusted"
"""The key of a scope under which it stands that a task was submitted by a caller of the deployment."""

_TOKEN: Final = TOKEN_HEADER.encode()
_CONTRACT: Final = CONTRACT_HEADER.encode()


class PeerCalls:
    """What one endpoint says to peers, who call it with frames.

    Args:
        token: what a caller shows that belongs to the deployment; None where no caller can.
    """

    def __init__(self, endpoint: Endpoint, token: str | None) -> None:
        self._endpoint = endpoint
        self._token = None if token is None else token.encode()

    @cached_property
    def _contract(self) -> tuple[bytes, bytes]:
        """The hash of the endpoint's contract, and its text. Not needed where nobody asks for it."""
        contract = contract_of(self._endpoint)
        return contract.hash.encode(), contract.text().encode()

    def refusal(self, headers: Mapping[bytes, bytes]) -> Reply | None:
        """Why a call is not begun: its caller knows other contracts only, and is told this one."""
        known = headers.get(_CONTRACT)
        if known is None or known == self._contract[0]:
            return None
        own, text = self._contract
        if own in (one.strip() for one in known.split(b",")):
            return None
        return Reply(ANOTHER_CONTRACT, b"application/json", text, [(_CONTRACT, own)])

    def reply(self, result: Any) -> Reply:
        """A result as a frame.

        Raises:
            EncodeError: something in it cannot travel.
        """
        return Reply(200, FRAME, b"".join(codec.encode(result)))

    def failure(self, exchange: Exchange, error: BaseException, public: Reply) -> Reply:
        """What was raised, for a caller of the deployment; for any other what a public caller gets."""
        if isinstance(error, InvalidFields) or not self.is_trusted(exchange.headers, exchange.scope):
            return public  # values that do not fit are told by status: nothing was raised by the project
        data = codec.exception_as_data(error, with_traceback=True)
        return Reply(public.status, FRAME, b"".join(codec.encode(data)), public.headers)

    def stream(self) -> Reply:
        """The head of a stream of items."""
        return Reply(200, STREAM_TYPE.encode(), b"")

    def item(self, value: Any) -> bytes:
        """One item of a stream.

        Raises:
            EncodeError: something in it cannot travel.
        """
        return _item(ItemKind.VALUE, codec.encode(value))

    def end(self) -> bytes:
        """What stands behind the last item."""
        return item_head(ItemKind.END, 0)

    def failed_item(self, exchange: Exchange, error: BaseException, public: Reply) -> bytes:
        """What stands behind the last item of a stream that was broken off."""
        if self.is_trusted(exchange.headers, exchange.scope):
            data = codec.exception_as_data(error, with_traceback=True)
        else:
            data = {"status": public.status, "body": bytes(public.body)}
        return _item(ItemKind.FAILURE, codec.encode(data))

    def is_trusted(self, headers: Mapping[bytes, bytes], scope: Scope) -> bool:
        """Whether the caller has shown that it is of the deployment: now, or when it submitted a task."""
        shown = headers.get(_TOKEN)
        if self._token is not None and shown is not None and hmac.compare_digest(shown, self._token):
            return True
        return scope.get(TRUSTED) is True


def _item(kind: ItemKind, parts: list[codec.Buffer]) -> bytes:
    return b"".join((item_head(kind, sum(len(part) for part in parts)), *parts))

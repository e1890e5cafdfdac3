"""What an answer that is no result says, as the exception that a caller sees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bentoml import codec
from bentoml._client.response import error_words
from bentoml.exceptions import BadInput, RemoteException, exception_for

_FRAME: Final = codec.MEDIA_TYPE.encode()


def failure_in(status: int, headers: Mapping[bytes, bytes], body: bytes | bytearray, where: str) -> Exception:
    """The exception for an answer that is no result.

    Args:
        where: the endpoint that gave it.
    """
    kind = headers.get(b"content-type", b"")
    if status == 200:
        described = kind.decode("latin-1") or "without a type"
        return RemoteException(f"{where}: its answer is no frame: {described}")
    if kind == _FRAME:
        return failure_of(body, where)
    if status == 404 and bytes(body) == b"Not Found":
        # The words of a router and of no endpoint: another service may be there, or another version.
        return RemoteException(f"{where}: no such endpoint is served at that address")
    return exception_for(status, f"{where}: {error_words(bytes(body))}")


def failure_of(frame: bytes | bytearray, where: str) -> Exception:
    """The exception that a frame tells of: of its own type, or by a status where more may not be told."""
    try:
        match codec.decode(frame):
            case {"status": int(status), "body": bytes(body)}:
                return exception_for(status, f"{where}: {error_words(body)}")
            case data:
                failure = codec.exception_from_data(data, origin=where)
    except BadInput as error:
        return RemoteException(f"{where}: its failure cannot be read: {error}")
    if "traceback" not in data:
        # Nobody raised it, as when a limit of the peer's own is over: this hop would have no name.
        failure.__dict__.setdefault("__notes__", []).append(f"In {where}")
    return failure

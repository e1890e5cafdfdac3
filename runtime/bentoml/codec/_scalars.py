"""Values of the standard library that hold no others."""

from __future__ import annotations

import datetime
import decimal
import struct
import uuid
from collections.abc import Callable
from typing import Any, Final

import ormsgpack

from bentoml.codec._extensions import Code, EncodeError
from bentoml.codec._zones import zone_name, zone_of
from bentoml.exceptions import BadInput

# Python refuses to write out more than some thousand digits by itself, since that takes quadratic time;
# this is far beyond, and still short enough to be multiplied.
_MAX_INTEGER_BYTES: Final = 2**17
_MAX_TEXT: Final = 4300
_COMPLEX: Final = struct.Struct("<2d")
_TIMEDELTA: Final = struct.Struct("<3i")


def _integer(value: int) -> bytes:
    size = value.bit_length() // 8 + 1
    if size > _MAX_INTEGER_BYTES:
        raise EncodeError(f"it has more than {8 * _MAX_INTEGER_BYTES} bits")
    return value.to_bytes(size, "little", signed=True)


def _integer_of(payload: bytes) -> int:
    if len(payload) > _MAX_INTEGER_BYTES:
        raise BadInput(f"frame: an integer of {len(payload)} bytes")
    return int.from_bytes(payload, "little", signed=True)


def _decimal(value: decimal.Decimal) -> bytes:
    text = str(value)
    if len(text) > _MAX_TEXT:
        raise EncodeError(f"it has more than {_MAX_TEXT} digits")
    return text.encode()


def _moment(value: datetime.datetime | datetime.time) -> bytes:
    name = zone_name(value.tzinfo)
    return f"{value.isoformat()}[{name}]".encode() if name else value.isoformat().encode()


def _datetime_of(payload: bytes) -> datetime.datetime:
    text, zone = _without_zone(payload)
    moment = datetime.datetime.fromisoformat(text)
    if not zone:
        return moment
    try:
        local = moment.replace(tzinfo=zone_of(zone))
    except ValueError:
        return moment  # the same instant, in a machine that does not know the zone
    if local.utcoffset() != moment.utcoffset():
        local = local.replace(fold=1)  # the second of two equal times in autumn
    return local if local.utcoffset() == moment.utcoffset() else moment.astimezone(local.tzinfo)


def _time_of(payload: bytes) -> datetime.time:
    text, zone = _without_zone(payload)
    time = datetime.time.fromisoformat(text)
    return time.replace(tzinfo=zone_of(zone)) if zone else time


def _without_zone(payload: bytes) -> tuple[str, str]:
    text, bracket, zone = _text(payload).partition("[")
    if bracket and not zone.endswith("]"):
        raise BadInput("frame: a time zone without an end")
    return text, zone[:-1]


def _text(payload: bytes) -> str:
    if len(payload) > _MAX_TEXT:
        raise BadInput(f"frame: a text of {len(payload)} bytes where a short one belongs")
    return payload.decode()


ENCODERS: Final[dict[type, Callable[[Any], ormsgpack.Ext]]] = {
    kind: lambda value, code=code, payload=payload: ormsgpack.Ext(code, payload(value))  # type: ignore[misc]
    for kind, code, payload in (
        (int, Code.INTEGER, _integer),
        (complex, Code.COMPLEX, lambda value: _COMPLEX.pack(value.real, value.imag)),
        (datetime.datetime, Code.DATETIME, _moment),
        (datetime.date, Code.DATE, lambda value: value.isoformat().encode()),
        (datetime.time, Code.TIME, _moment),
        (
            datetime.timedelta,
            Code.TIMEDELTA,
            lambda value: _TIMEDELTA.pack(value.days, value.seconds, value.microseconds),
        ),
        (uuid.UUID, Code.UUID, lambda value: value.bytes),
        (decimal.Decimal, Code.DECIMAL, _decimal),
    )
}

DECODERS: Final[dict[int, Callable[[bytes], object]]] = {
    Code.INTEGER: _integer_of,
    Code.COMPLEX: lambda payload: complex(*_COMPLEX.unpack(payload)),
    Code.DATETIME: _datetime_of,
    Code.DATE: lambda payload: datetime.date.fromisoformat(_text(payload)),
    Code.TIME: _time_of,
    Code.TIMEDELTA: lambda payload: datetime.timedelta(*_TIMEDELTA.unpack(payload)),
    Code.UUID: lambda payload: uuid.UUID(bytes=payload),
    Code.DECIMAL: lambda payload: decimal.Decimal(_text(payload)),
}

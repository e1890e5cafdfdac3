"""NumPy's arrays and scalars."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any, Final

import ormsgpack

from bentoml.codec._extensions import (
    SMALLEST_BUFFER,
    Code,
    EncodeError,
    Receiver,
    Sender,
    extension,
    fields_of,
)
from bentoml.exceptions import BadInput

if TYPE_CHECKING:
    import numpy

# Numbers, times and fixed-size text that are the same on every machine: no objects, records or long doubles.
_PLAIN_DTYPE: Final = re.compile(
    r"\|[biu]1|\|S[0-9]{1,6}|[<>](?:[iu][248]|f[248]|c8|c16|U[0-9]{1,6}|[mM]8(?:\[[0-9]{0,6}[A-Za-z]{1,7}\])?)"
)
_MOST_SIDES: Final = 64
# What the package ml_dtypes adds, by its names.
_ML_DTYPES: Final = frozenset(
    {
        "bfloat16", "float4_e2m1fn", "float6_e2m3fn", "float6_e3m2fn", "float8_e3m4", "float8_e4m3",
        "float8_e4m3b11fnuz", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz",
        "float8_e8m0fnu", "int1", "int2", "int4", "uint1", "uint2", "uint4",
    }
)  # fmt: skip


def encode_array(sender: Sender, array: numpy.ndarray[Any, Any]) -> ormsgpack.Ext:
    numpy = sys.modules["numpy"]
    if type(array) is not numpy.ndarray:
        if isinstance(array, numpy.ma.MaskedArray):
            raise EncodeError("its mask would be lost; send its data and its mask")
        array = array.view(numpy.ndarray)
    dtype, shape = _dtype_text(array.dtype), list(array.shape)
    if array.nbytes < SMALLEST_BUFFER:
        return extension(Code.ARRAY, [dtype, shape, array.tobytes()])
    # A view where the numbers stand in the order in which they are sent, else of a copy.
    data = numpy.ascontiguousarray(array).reshape(-1).view("u1").data
    return extension(Code.ARRAY, [dtype, shape, sender.put(data)])


def decode_array(receiver: Receiver, payload: bytes) -> object:
    import numpy  # only where an array really arrives

    text, shape, reference = fields_of(payload, str, list, object)
    dtype = _dtype_of(text)
    size = item_count(shape)
    data = receiver.data(reference)
    if size * dtype.itemsize != data.nbytes:
        raise BadInput(f"frame: an array of {text} and shape {shape} does not fit {data.nbytes} bytes")
    return numpy.frombuffer(data, dtype).reshape(shape) if size else numpy.empty(shape, dtype)


def encode_scalar(_: Sender, scalar: numpy.generic) -> ormsgpack.Ext:
    raw = scalar.tobytes()[: scalar.dtype.itemsize]  # an empty text has bytes all the same
    return extension(Code.SCALAR, [_dtype_text(scalar.dtype), raw])


def decode_scalar(_: Receiver, payload: bytes) -> object:
    import numpy

    text, raw = fields_of(payload, str, bytes)
    if text in ("<U0", "|S0") and not raw:
        return numpy.dtype(text).type()
    dtype = _dtype_of(text)
    if len(raw) != dtype.itemsize:
        raise BadInput(f"frame: a {text} of {len(raw)} bytes")
    return numpy.frombuffer(raw, dtype)[0]


def item_count(shape: list[object]) -> int:
    """How many items an array of that shape has, which it is not made to know."""
    if len(shape) > _MOST_SIDES:
        raise BadInput(f"frame: no array has {len(shape)} sides")
    count = 1
    for side in shape:
        if type(side) is not int or side < 0:
            raise BadInput(f"frame: no array is of shape {shape!r}")
        count *= side
    return count


def _dtype_text(dtype: numpy.dtype[Any]) -> str:
    text: str = dtype.str
    if _PLAIN_DTYPE.fullmatch(text):
        return text
    if dtype.type.__module__.partition(".")[0] == "ml_dtypes" and dtype.name in _ML_DTYPES:
        return str(dtype.name)
    hint = ", whose size differs between machines" if dtype.kind in "fc" else ""
    raise EncodeError(f"its dtype is {dtype}{hint}")


def _dtype_of(text: str) -> numpy.dtype[Any]:
    import numpy

    if text in _ML_DTYPES:
        try:
            import ml_dtypes
        except ImportError:
            raise BadInput(
                f"frame: an array of {text}, for which `ml_dtypes` is not installed here"
            ) from None
        known: numpy.dtype[Any] = numpy.dtype(getattr(ml_dtypes, text))
        return known
    dtype: numpy.dtype[Any] | None = numpy.dtype(text) if _PLAIN_DTYPE.fullmatch(text) else None
    if dtype is None or not dtype.itemsize:
        raise BadInput(f"frame: {text!r} is no dtype that a frame carries")
    return dtype

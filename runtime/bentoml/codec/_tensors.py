"""Torch's tensors, which arrive on the CPU."""

from __future__ import annotations

import ctypes
import sys
from typing import Any, Final

import ormsgpack

from bentoml.codec._arrays import item_count
from bentoml.codec._extensions import Code, EncodeError, Receiver, Sender, extension, fields_of
from bentoml.exceptions import BadInput

# By the names that torch has for them: no quantized ones, whose numbers mean nothing without their scale,
# and none of which several share a byte.
_DTYPES: Final = frozenset(
    {
        "bfloat16", "bool", "complex128", "complex32", "complex64", "float16", "float32", "float64",
        "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu",
        "int16", "int32", "int64", "int8", "uint16", "uint32", "uint64", "uint8",
    }
)  # fmt: skip


def encode_tensor(sender: Sender, tensor: Any) -> ormsgpack.Ext:
    torch: Any = sys.modules["torch"]
    dtype = str(tensor.dtype).removeprefix("torch.")
    if tensor.layout is not torch.strided or tensor.is_nested:
        raise EncodeError(f"its layout is {tensor.layout}; send `.to_dense()` of it, or its parts")
    if tensor.is_meta:
        raise EncodeError("it is on the device meta, and has no numbers")
    if dtype not in _DTYPES:
        raise EncodeError(f"its dtype is {tensor.dtype}")
    plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    return extension(Code.TENSOR, [dtype, list(plain.shape), sender.put(_memory_of(plain))])


def _memory_of(tensor: Any) -> memoryview:
    """The bytes of a contiguous tensor on the CPU, which lives as long as they are looked at.

    Not through `numpy()`: NumPy has no bfloat16, and an image with torch need not have NumPy.
    """
    size = tensor.numel() * tensor.element_size()
    if not size:
        return memoryview(b"")
    memory = (ctypes.c_char * size).from_address(tensor.data_ptr())
    memory.tensor = tensor  # arrays of ctypes take attributes
    return memoryview(memory)


def decode_tensor(receiver: Receiver, payload: bytes) -> object:
    dtype_name, shape, reference = fields_of(payload, str, list, object)
    if dtype_name not in _DTYPES:
        raise BadInput(f"frame: {dtype_name!r} is no dtype of a tensor that a frame carries")
    try:
        import torch  # only where a tensor really arrives
    except ImportError:
        raise BadInput("frame: a tensor, for which `torch` is not installed here") from None
    dtype = getattr(torch, dtype_name, None)
    if dtype is None:
        raise BadInput(f"frame: a tensor of {dtype_name}, which this version of torch does not have")
    size = item_count(shape)
    data = receiver.data(reference)
    if size * dtype.itemsize != data.nbytes:
        raise BadInput(f"frame: a tensor of {dtype_name} and shape {shape} does not fit {data.nbytes} bytes")
    if not size:
        return torch.empty(shape, dtype=dtype)
    # A tensor may always be written to, so that one of a frame that may not be is a copy.
    return torch.frombuffer(bytearray(data) if data.readonly else data, dtype=dtype).reshape(shape)

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tests.runtime.codec.frames import encoded, frame, packed, round_trip

from bentoml import codec
from bentoml.codec._arrays import _ML_DTYPES
from bentoml.codec._extensions import Code
from bentoml.exceptions import BadInput

Array = np.ndarray[Any, Any]

ARRAYS: dict[str, Array] = {
    "one": np.arange(3, dtype=np.int32),
    "c order": np.arange(24, dtype=np.float64).reshape(2, 3, 4),
    "fortran order": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "every other": np.arange(10)[::2],
    "backwards": np.arange(10)[::-1],
    "transposed": np.arange(6).reshape(2, 3).T,
    "broadcast": np.broadcast_to(np.array([1, 2]), (3, 2)),
    "no dimension": np.array(7.5),
    "many dimensions": np.arange(2.0).reshape([1] * 31 + [2]),
    "empty": np.empty((0, 3), np.uint8),
    "half precision": np.array([1.5, -0.0, np.inf], np.float16),
    "complex": np.array([1 + 2j], np.complex64),
    "bool": np.array([True, False]),
    "big endian": np.array([1, 2], ">i4"),
    "times": np.array(["2024-02-29", "NaT"], "datetime64[s]"),
    "times every 25 s": np.array(["2024-02-29", "NaT"], "datetime64[25s]"),
    "times of no unit": np.array(["NaT"], "datetime64"),
    "durations": np.array([1, 2], "timedelta64[ms]"),
    "text": np.array(["a", "☃"]),
    "bytes": np.array([b"a", b"bc"]),
    "read-only": np.frombuffer(b"abcd", np.uint8),
    "large": np.arange(1000.0).reshape(10, 100),
    "large, every other": np.arange(2000.0)[::2],
}


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_an_array_keeps_its_dtype_shape_and_numbers(array: Array) -> None:
    arrived = round_trip({"array": (array,)})["array"][0]

    assert (arrived.dtype, arrived.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(arrived, array)


@pytest.mark.parametrize("dtype", sorted(_ML_DTYPES))
@pytest.mark.parametrize("size", [3, 3000])
def test_an_array_keeps_a_dtype_of_ml_dtypes(dtype: str, size: int) -> None:
    array = np.ones((size, 1), getattr(ml_dtypes, dtype))
    arrived = round_trip([array])[0]

    assert (arrived.dtype, arrived.shape) == (array.dtype, array.shape)
    assert arrived.tobytes() == array.tobytes()


@pytest.mark.parametrize(
    "scalar",
    [
        np.float16(1.5), np.int64(-3), np.bool_(True), np.str_("☃"), np.str_(""), np.bytes_(b"ab"),
        np.bytes_(), np.complex64(1j), np.timedelta64(3, "D"), ml_dtypes.bfloat16(1.5),
    ],
    ids=repr,
)  # fmt: skip
def test_a_numpy_scalar_keeps_its_type(scalar: np.generic) -> None:
    arrived = round_trip([scalar])[0]

    assert arrived == scalar
    assert type(arrived) is type(scalar)


def test_a_numpy_time_keeps_its_unit() -> None:
    assert round_trip(np.datetime64("2024-02-29T01", "h")).dtype == "datetime64[h]"


@pytest.mark.parametrize("size", [3, 3000])
def test_arrays_of_a_bytearray_may_be_written_to(size: int) -> None:
    arrived = round_trip(np.zeros(size))
    arrived[0] = 1

    assert arrived[0] == 1


def test_arrays_of_bytes_may_not_be_written_to() -> None:
    assert not codec.decode(bytes(encoded(np.zeros(3000)))).flags.writeable


def test_an_array_is_sent_without_a_copy() -> None:
    array = np.zeros(1000)

    assert any(np.shares_memory(np.frombuffer(part, np.uint8), array) for part in codec.encode([array]))


def test_an_array_arrives_without_a_copy() -> None:
    data = encoded([np.zeros(1000)])

    assert np.shares_memory(codec.decode(data)[0], np.frombuffer(data, np.uint8))


def test_buffers_stand_where_any_dtype_may_be_read_from() -> None:
    sizes = [1025, 1024, 5001, 3000]
    arrived = round_trip([np.zeros(size, dtype) for size, dtype in zip(sizes, "BdeD", strict=True)])

    assert all(array.flags.aligned for array in arrived)


def test_an_array_under_a_key_that_is_no_text_travels_once() -> None:
    array = np.zeros(1000)

    assert len(encoded({1: {2: array}})) < array.nbytes + 300


def test_an_array_of_a_subclass_arrives_as_a_plain_one() -> None:
    class Own(np.ndarray[Any, Any]):
        pass

    assert type(round_trip(np.zeros((2, 2)).view(Own))) is np.ndarray


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.array([object()]), "its dtype is object"),
        (np.zeros(1, [("a", "i4")]), r"its dtype is \[\('a', '<i4'\)\]"),
        (np.zeros(1, "V3"), r"its dtype is \|V3"),
        (np.zeros(1, np.longdouble), "its dtype is .*, whose size differs between machines"),
        (np.ma.array([1, 2], mask=[True, False]), "its mask would be lost"),
    ],
    ids=["objects", "records", "raw", "long doubles", "masked"],
)
def test_an_array_that_cannot_travel_is_named_with_its_path(array: Array, reason: str) -> None:
    with pytest.raises(
        codec.EncodeError, match=rf"^`value\['a'\]\[1\]` is a numpy.*, which cannot .*: {reason}"
    ):
        codec.encode({"a": (0, array)})


def array_frame(
    dtype: object, shape: object, data: object = 0, *, buffers: tuple[bytes, ...] = (bytes(1024),)
) -> bytes:
    return frame(packed(Code.ARRAY, [dtype, shape, data]), buffers=buffers)


@pytest.mark.parametrize(
    "dtype",
    [
        "|O", "object", "O", "|O8", "|V8", "V", "i4,f4", "<f8\n", "|S0", "<U0", "<m8[\u0663s]", "<f16", "f8",
        "<f3", "os.system", "ml_dtypes.bfloat16", "bfloat1", "finfo", "", 5, None,
    ],
)  # fmt: skip
def test_a_dtype_that_is_not_plain_is_refused(dtype: object) -> None:
    with pytest.raises(BadInput, match=r"^frame: "):
        codec.decode(array_frame(dtype, [128]))


@pytest.mark.parametrize(
    "shape",
    [
        [127], [129], [2**62], [2**62, 4], [-128], [-1, -128], [128, True], [128.0], ["128"], None, [1] * 100,
        [0, 2**62], [128, 0],
    ],
)  # fmt: skip
def test_a_shape_that_does_not_fit_is_refused(shape: object) -> None:
    with pytest.raises(BadInput, match=r"^frame: "):
        codec.decode(array_frame("<f8", shape))


@pytest.mark.parametrize("reference", [1, -1, 2**40, "0", None, True, 0.0, [0], b"", bytes(1023)])
def test_data_that_are_not_there_are_refused(reference: object) -> None:
    with pytest.raises(BadInput, match=r"^frame: "):
        codec.decode(array_frame("<f8", [128], reference))


def test_a_pickle_in_an_array_stays_bytes() -> None:
    pickled = b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94."
    with pytest.raises(BadInput, match="is no dtype that a frame carries"):
        codec.decode(array_frame("|O8", [1], pickled[:8], buffers=()))

    arrived = codec.decode(array_frame("|u1", [len(pickled)], pickled, buffers=()))
    assert arrived.tobytes() == pickled


@pytest.mark.parametrize(
    ("value", "package"), [(np.zeros(1), "numpy"), (np.zeros(1, ml_dtypes.bfloat16), "ml_dtypes")]
)
def test_an_array_where_its_package_is_not_installed_is_refused(
    in_new_python: Callable[[str], str], value: Array, package: str
) -> None:
    program = f"""
import sys
sys.modules[{package!r}] = None
from bentoml import codec
try:
    codec.decode({bytes(encoded(value))!r})
except Exception as error:
    print(type(error).__name__, error)
"""

    assert in_new_python(program).startswith("BadInput frame: ")

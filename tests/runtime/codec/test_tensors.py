from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from tests.runtime.codec.frames import encoded, frame, packed, round_trip

from bentoml import codec
from bentoml.codec._extensions import Code
from bentoml.codec._tensors import _DTYPES
from bentoml.exceptions import BadInput


def raw(tensor: torch.Tensor) -> list[int]:
    return tensor.contiguous().reshape(-1).view(torch.uint8).tolist()


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
@pytest.mark.parametrize("dtype", sorted(_DTYPES))
@pytest.mark.parametrize("size", [3, 1500])
def test_a_tensor_keeps_its_dtype_shape_and_numbers(dtype: str, size: int) -> None:
    tensor = torch.ones((size, 1, 2)).to(getattr(torch, dtype))
    arrived = round_trip({"a": (tensor,)})["a"][0]

    assert (arrived.dtype, arrived.shape) == (tensor.dtype, tensor.shape)
    assert raw(arrived) == raw(tensor)


TENSORS = {
    "no dimension": torch.tensor(1.5),
    "empty": torch.zeros((0, 3)),
    "transposed": torch.arange(6).reshape(2, 3).T,
    "every other": torch.arange(4000)[::2],
    "expanded": torch.ones(1).expand(5, 1000),
    "conjugate": torch.tensor([1 + 2j]).conj(),
    "negative": torch.tensor([1 + 2j]).conj().imag,
    "channels last": torch.rand(1, 3, 4, 5).to(memory_format=torch.channels_last),
    "parameter": torch.nn.Parameter(torch.rand(3)),
    "with a gradient": (torch.rand(3, requires_grad=True) * 2),
}


@pytest.mark.parametrize("tensor", TENSORS.values(), ids=TENSORS)
def test_any_strided_tensor_travels(tensor: torch.Tensor) -> None:
    arrived = round_trip([tensor])[0]

    assert torch.equal(arrived, tensor)
    assert (type(arrived), arrived.requires_grad) == (torch.Tensor, False)


def test_a_tensor_is_sent_without_a_copy() -> None:
    tensor = torch.zeros(1000)
    parts = codec.encode([tensor])
    tensor[0] = 1

    assert codec.decode(bytearray().join(parts))[0][0] == 1


def test_a_tensor_arrives_without_a_copy() -> None:
    data = encoded([torch.zeros(1000)])
    codec.decode(data)[0].fill_(1)

    assert codec.decode(data)[0].sum() == 1000


def test_what_is_sent_outlives_the_tensor() -> None:
    parts = codec.encode([torch.full((100_000,), 7.0)])

    assert codec.decode(bytearray().join(parts))[0].sum() == 700_000


def test_a_tensor_of_a_frame_that_may_not_be_written_to_may_be_written_to() -> None:
    arrived = codec.decode(bytes(encoded(torch.zeros(1000))))
    arrived[0] = 1

    assert arrived[0] == 1


def quantized() -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this torch says that it will be gone
        return torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: torch.eye(2).to_sparse(), "its layout is torch.sparse_coo; send `.to_dense()` of it"),
        (lambda: torch.zeros(2, device="meta"), "it is on the device meta, and has no numbers"),
        (quantized, "its dtype is torch.qint8"),
    ],
    ids=["sparse", "meta", "quantized"],
)
def test_a_tensor_that_cannot_travel_is_named_with_its_path(
    make: Callable[[], torch.Tensor], reason: str
) -> None:
    with pytest.raises(codec.EncodeError) as caught:
        codec.encode({"a": [make()]})

    assert str(caught.value).startswith(
        f"`value['a'][0]` is a torch.Tensor, which cannot travel between services: {reason}"
    )


@pytest.mark.parametrize(
    "fields",
    [
        ["float32", [255], 0], ["float32", [2**40], 0], ["float32", [-256], 0], ["float32", [256], 1],
        ["float32", [256], bytes(3)], ["qint8", [1024], 0], ["load", [1024], 0], ["float32", [1, 0], 0],
        ["float32", [1] * 100_000 + [256], 0], [5, [256], 0], ["float32", 256, 0], ["float32", [256]],
    ],
)  # fmt: skip
def test_a_tensor_that_does_not_hold_together_is_refused(fields: list[object]) -> None:
    with pytest.raises(BadInput, match=r"^frame: "):
        codec.decode(frame(packed(Code.TENSOR, fields), buffers=(bytes(1024),)))


def test_a_tensor_needs_no_numpy_and_is_refused_where_there_is_no_torch(
    in_new_python: Callable[[str], str],
) -> None:
    program = f"""
import sys
sys.modules["numpy"] = sys.modules["torch"] = None
from bentoml import codec
try:
    codec.decode({bytes(encoded(torch.zeros(1)))!r})
except Exception as error:
    print(type(error).__name__, error)
"""

    assert in_new_python(program) == "BadInput frame: a tensor, for which `torch` is not installed here"

"""Frames that no honest sender sends: each is refused as the caller's mistake."""

from __future__ import annotations

import datetime
import decimal
import struct
import tracemalloc
from collections.abc import Callable

import numpy as np
import ormsgpack
import pytest
from tests.runtime.codec.frames import encoded, extension, frame, named, packed, round_trip

from bentoml import codec
from bentoml.codec._extensions import Code
from bentoml.exceptions import BadInput

WHOLE = encoded({"a": (1, [np.arange(500), {2: b"c"}]), "b": datetime.date(2024, 1, 1)})
FIRST_LENGTH = 16


def is_refused(data: bytes | bytearray) -> bool:
    try:
        codec.decode(data)
    except BadInput as error:
        return str(error).startswith("frame: ")
    return False


def test_a_frame_cut_anywhere_is_refused() -> None:
    assert [length for length in range(len(WHOLE)) if not is_refused(WHOLE[:length])] == []


@pytest.mark.parametrize("value", [1, [1, (2,)], np.zeros(1000)])
def test_bytes_behind_a_frame_are_refused(value: object) -> None:
    with pytest.raises(BadInput, match="its header speaks of"):
        codec.decode(encoded(value) + b"\x00")


@pytest.mark.parametrize(
    "start", [b"XXXX\x01", b"BENF\x02", b"BENF\x00", b"BENF\x01\x01\x01", b"PK\x03\x04\x00"]
)
def test_another_format_or_version_is_refused(start: bytes) -> None:
    with pytest.raises(BadInput, match="unknown magic or version"):
        codec.decode(start + WHOLE[len(start) :])


@pytest.mark.parametrize("lie", [0, 2, 2**31, 2**63, 2**64 - 1])
@pytest.mark.parametrize("part", range(4))
def test_a_length_that_lies_is_refused(part: int, lie: int) -> None:
    lying = WHOLE[:]
    struct.pack_into("<Q", lying, FIRST_LENGTH + 8 * part, lie)

    with pytest.raises(BadInput, match=r"^frame: "):
        codec.decode(lying)


@pytest.mark.parametrize("lie", [0, 1, 2, 4, 202, 255])
def test_a_number_of_trees_that_lies_is_refused(lie: int) -> None:
    lying = WHOLE[:]
    lying[5] = lie

    with pytest.raises(BadInput, match=r"^frame: "):
        codec.decode(lying)


@pytest.mark.parametrize("lie", [0, 2, 7, 2**32, 2**61, 2**64 - 1])
def test_a_number_of_buffers_that_lies_is_refused(lie: int) -> None:
    lying = WHOLE[:]
    struct.pack_into("<Q", lying, 8, lie)

    with pytest.raises(BadInput, match=r"^frame: "):
        codec.decode(lying)


@pytest.mark.parametrize(
    "tree",
    [
        b"\xdd\xff\xff\xff\xff",  # 4 Gi items
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x01",
        b"\xc1",
        b"",
        b"\xa1\xff",
        b"\x81\x01\x01",
        b"\x81\x90\x01",
        b"\x91" * 2000 + b"\x01",
        b"\x91" * 10**6 + b"\x01",
        b"\x81\xa1a" * 10**6 + b"\x01",
    ],
    ids=lambda tree: tree[:8].hex(),
)
def test_a_tree_that_is_no_messagepack_is_refused(tree: bytes) -> None:
    with pytest.raises(BadInput, match=r"^frame: "):
        codec.decode(frame(tree))


TUPLE = extension(Code.TUPLE)


@pytest.mark.parametrize(
    "trees",
    [
        (),
        (b"\xc0", b"\x91\x90"),
        (b"\xc0", b"\xc0"),
        (b"\xc0", b"\x80"),
        (TUPLE,),
        (TUPLE, b"\x90"),
        (TUPLE, b"\x90", b"\x90"),
        (TUPLE, b"\x91\xc0"),
        (TUPLE, b"\x92\x90\x90"),
        (TUPLE, b"\x91" + TUPLE, b"\x91\x90"),
        (b"\x92" + TUPLE * 2, b"\x91\x90"),
        (extension(Code.MAPPING), b"\x91\x91\x01"),  # a key without a value
        (extension(Code.MAPPING), b"\x91\x92\x90\x01"),  # a list for a key
        (extension(Code.MAPPING), b"\x91\x92\x80\x01"),
        (extension(Code.MAPPING), b"\x91\x94\x01\x02\x01\x03"),
        (extension(Code.SET), b"\x91\x91\x90"),
        (extension(Code.SET), b"\x91\x92\x01\x01"),
        (extension(Code.FROZENSET), b"\x91\x91\x80"),
        (extension(Code.NAMED), b"\x91\x91\xa1a"),
        (extension(Code.NAMED), b"\x91\x92\x01\x02"),
    ],
)
def test_trees_that_do_not_hold_together_are_refused(trees: tuple[bytes, ...]) -> None:
    with pytest.raises(BadInput, match=r"^frame: "):
        codec.decode(frame(*trees))


def test_a_frame_nested_deeper_than_a_sender_goes_is_refused() -> None:
    levels = [TUPLE, *[b"\x91\x91" + TUPLE] * 200, b"\x91\x90"]

    with pytest.raises(BadInput, match="202 trees"):
        codec.decode(frame(*levels))


def test_the_deepest_frame_there_is_does_no_harm() -> None:
    levels = [b"\x91" * 900 + TUPLE, *[b"\x91\x91" + b"\x91" * 900 + TUPLE] * 199, b"\x91\x90"]

    assert type(codec.decode(frame(*levels))) is list


@pytest.mark.parametrize("code", [0, 6, 15, 27, 31, 36, 99, 127])
@pytest.mark.parametrize("trees", [1, 2])
def test_an_unknown_extension_is_refused(code: int, trees: int) -> None:
    unknown = ormsgpack.packb(ormsgpack.Ext(code, b""))

    with pytest.raises(BadInput, match=f"unknown extension type {code}"):
        codec.decode(frame(*(unknown, b"\x90")[:trees]))


@pytest.mark.parametrize("code", set(Code) - {Code.INTEGER, Code.BYTES, Code.BYTEARRAY})
@pytest.mark.parametrize(
    "payload",
    [b"", b"\x00" * 3, b"\xc0", b"\x90", ormsgpack.packb("no"), ormsgpack.packb([1, "a"]), b"\xff" * 13],
)
def test_an_extension_with_the_wrong_payload_is_refused(code: Code, payload: bytes) -> None:
    with pytest.raises(BadInput, match=r"^frame: "):
        codec.decode(frame(extension(code, payload)))


@pytest.mark.parametrize("payload", [b"", b"\xc0", b"\x00", b"\xa1a", b"\x90", b"\xc4\x02a"])
@pytest.mark.parametrize("code", [Code.BYTES, Code.BYTEARRAY])
def test_bytes_that_are_not_there_are_refused(code: Code, payload: bytes) -> None:
    with pytest.raises(BadInput, match=r"^frame: "):
        codec.decode(frame(extension(code, payload)))


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (Code.DATETIME, "2024-13-01"),
        (Code.DATETIME, "2024-01-01[Europe/Berlin"),
        (Code.TIME, "12:00[../../etc/passwd]"),
        (Code.TIME, "12:00[/etc/passwd]"),
        (Code.TIME, "12:00[Europe]"),
        (Code.TIME, "12:00[No/Where]"),
        (Code.DATE, "9" * 10**6),
        (Code.DECIMAL, "1" * 10**6),
        (Code.DECIMAL, "one"),
        (Code.DECIMAL, "1\ud800"),
    ],
)
def test_a_text_that_is_no_moment_or_number_is_refused(code: Code, text: str) -> None:
    with pytest.raises(BadInput, match=r"^frame: "):
        codec.decode(frame(extension(code, text.encode("utf-8", "surrogatepass"))))


def test_an_integer_too_long_to_reckon_with_is_refused() -> None:
    with pytest.raises(BadInput, match="an integer of 131073 bytes"):
        codec.decode(frame(extension(Code.INTEGER, b"\x01" * (2**17 + 1))))


@pytest.mark.parametrize("code", [Code.SET, Code.FROZENSET, Code.MAPPING])
@pytest.mark.parametrize("make", [lambda number: number, decimal.Decimal])
def test_keys_that_all_have_one_hash_are_refused(code: Code, make: Callable[[int], object]) -> None:
    keys = [make(number * (2**61 - 1)) for number in range(1, 100_000)]
    if code is Code.MAPPING:
        keys = [item for key in keys for item in (key, None)]
    tree = ormsgpack.packb(
        [keys],
        lambda value: (
            ormsgpack.Ext(Code.INTEGER, value.to_bytes(16, "little", signed=True))
            if type(value) is int
            else ormsgpack.Ext(Code.DECIMAL, str(value).encode())
        ),
        ormsgpack.OPT_PASSTHROUGH_BIG_INT,
    )

    with pytest.raises(BadInput, match="very many keys of one hash"):
        codec.decode(frame(extension(code), tree))


def test_keys_of_which_some_have_one_hash_are_taken() -> None:
    keys = {number * (2**61 - 1) for number in range(1, 60)} | {*range(1000)}

    assert round_trip(keys) == keys


def test_a_buffer_is_referred_to_once() -> None:
    array = packed(Code.ARRAY, ["<f8", [128], 0])

    with pytest.raises(BadInput, match="buffer 0 is not there, or is referred to a second time"):
        codec.decode(frame(b"\x92" + array + array, buffers=(bytes(1024),)))


def test_a_buffer_that_nothing_refers_to_is_refused() -> None:
    with pytest.raises(BadInput, match="a buffer that nothing refers to"):
        codec.decode(frame(b"\xc0", buffers=(bytes(1024),)))


def test_very_many_buffers_are_refused_before_memory_is_taken_for_them() -> None:
    count = 10**6
    data = struct.pack("<5sBHQ", b"BENF\x01", 1, 0, count) + struct.pack("<Q", 1) + bytes(8 * count) + b"\xc0"

    assert peak_memory(data) < 10_000


def test_claims_cost_nothing() -> None:
    claims = [
        frame(packed(Code.ARRAY, ["<f8", [2**40], b""])),
        frame(packed(Code.TENSOR, ["float32", [2**40], b""])),
        frame(packed(Code.IMAGE, ["RGB", 2**15, 2**15, None, None, {}, b""])),
        frame(b"\xdd\xff\xff\xff\xff"),
        named(
            "pandas.DataFrame", [["range", 0, 0, 1, None], ["range", 0, 2**40, 1, None], [["objects", []]]]
        ),
    ]

    assert [peak_memory(claim) > 1_000_000 for claim in claims] == [False] * len(claims)


def peak_memory(data: bytes) -> int:
    """How much was taken at once to refuse it."""
    is_refused(data)  # what is loaded for it the first time does not count
    tracemalloc.start()
    try:
        assert is_refused(data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_what_is_said_of_a_frame_is_short_whatever_it_holds() -> None:
    with pytest.raises(BadInput) as caught:
        codec.decode(frame(packed(Code.ARRAY, ["x" * 10**6, [1], 0])))

    assert len(str(caught.value)) < 500

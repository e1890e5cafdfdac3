"""What calls between services mean, each over a real socket between two that are served."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import decimal
import enum
import threading
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import ml_dtypes
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from pydantic import AfterValidator, BaseModel
from tests.runtime.codec.frames import exactly, frame, named, packed
from tests.runtime.conftest import DEADLINE_S, Marked, service_of, until
from tests.runtime.peers.graph import Served, addresses_of, peers_of, served
from typing_extensions import TypedDict  # as pydantic wants it before Python 3.12

import bentoml
from bentoml import _environment as environment
from bentoml import codec
from bentoml.codec._extensions import Code
from bentoml.validators import Device


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    labels: dict[int, str]


class Params(BaseModel):
    prompt: str
    steps: int = 25


class Movie(TypedDict):
    title: str


class Size(NamedTuple):
    width: int
    height: int


class Outputs(OrderedDict[str, object]):
    """What some libraries return: a mapping that is an object as well."""


validated_in: list[str] = []  # the threads, which are called after the services that they serve


def note_thread(params: Params) -> Params:
    validated_in.append(threading.current_thread().name)
    return params


Noted = Annotated[Params, AfterValidator(note_thread)]


@bentoml.service(path_prefix="/v1")
class Leaf:
    @bentoml.api
    def noted(self, value: Noted) -> Noted:
        return value

    @bentoml.api
    def device_of(self, tensor: Annotated[torch.Tensor, Device("meta")]) -> str:
        return str(tensor.device)

    @bentoml.api
    def moved(self, tensor: torch.Tensor) -> Annotated[torch.Tensor, Device("meta")]:
        return tensor

    @bentoml.api
    def echo(self, value: Any) -> Any:
        return value

    @bentoml.api
    def images(self, image: Image.Image) -> tuple[tuple[Image.Image, Image.Image], list[int]]:
        return (image, image.convert("L")), [1]

    @bentoml.api
    def colour(self, value: Colour) -> Colour:
        return Colour(value)

    @bentoml.api
    def point(self, value: Point) -> Point:
        return dataclasses.replace(value, x=value.x + 1)

    @bentoml.api
    def params(self, value: Params) -> Params:
        return value.model_copy(update={"steps": value.steps + 1})

    @bentoml.api
    def movie(self, value: Movie) -> Movie:
        return {**value, "title": value["title"].upper()}

    @bentoml.api
    def turned(self, size: Size) -> Size:
        return Size(size[1], size[0])

    @bentoml.api
    def area(self, value: Size) -> int:
        return value.width * value.height

    @bentoml.api
    def contents(self, file: Path) -> Path:
        file.write_bytes(file.read_bytes() + b"!")
        return file

    @bentoml.api
    def double(self, x: int) -> int:
        return 2 * x

    @bentoml.api(route="/elsewhere")
    async def double_later(self, x: int) -> int:
        return 2 * x

    @bentoml.api
    def count(self, to: int) -> Iterator[int]:
        yield from range(to)

    @bentoml.api
    async def count_later(self, to: int) -> AsyncIterator[int]:
        for number in range(to):
            yield number

    @bentoml.api
    async def fail_for(self, x: int) -> int:
        if x == 2:
            raise ValueError(x)
        return x

    @bentoml.api(batchable=True)
    def batch(self, xs: list[int]) -> list[int]:
        return [2 * x for x in xs]

    @bentoml.api
    def connection(self, ctx: bentoml.Context) -> int:
        """The caller's port, which tells one connection from another."""
        client = ctx.request.client
        assert client is not None
        return client.port

    @bentoml.task
    async def grow(self, x: int) -> int:
        return x + 1

    @bentoml.task
    def grow_in_a_thread(self, x: int) -> int:
        return x + 1

    @bentoml.task
    async def wait(self) -> None:
        await asyncio.Event().wait()


async def ended(task: Any) -> None:
    while not (await task.get_status()).is_final:  # noqa: ASYNC110  # a status is asked for, not told
        await asyncio.sleep(0.01)


@bentoml.service
class Top:
    # A peer has more than its class says: to a type checker that is the class.
    leaf: Any = bentoml.depends(Leaf)
    same: Any = bentoml.depends(Leaf)

    def __init__(self) -> None:
        self.at_init = self.leaf.double(1)

    @bentoml.on_startup
    async def begin(self) -> None:
        self.at_startup = await self.leaf.double_later(2)

    @bentoml.api
    def before_requests(self) -> list[int]:
        return [self.at_init, self.at_startup]

    @bentoml.api
    async def from_async(self) -> list[int]:
        leaf = self.leaf
        return [
            leaf.double(1), await leaf.double_later(2), await leaf.to_async.double(3),
            await leaf.to_async.double_later(4), leaf.to_sync.double(5), leaf.to_sync.double_later(6),
        ]  # fmt: skip

    @bentoml.api
    def from_sync(self) -> list[int]:
        leaf = self.leaf
        return [leaf.double(1), leaf.to_sync.double(2), leaf.to_sync.double_later(3)]

    @bentoml.api
    def from_loops_of_its_own(self) -> list[int]:
        return [asyncio.run(self.leaf.double_later(x)) for x in (1, 2)]

    @bentoml.api
    async def streams_from_async(self) -> list[list[int]]:
        leaf = self.leaf
        return [
            [*leaf.count(1)],
            [number async for number in leaf.count_later(2)],
            [number async for number in leaf.to_async.count(3)],
            [*leaf.to_sync.count_later(4)],
        ]

    @bentoml.api
    def streams_from_sync(self) -> list[list[int]]:
        return [[*self.leaf.count(1)], [*self.leaf.to_sync.count_later(2)]]

    @bentoml.api
    async def pass_on(self, to: int) -> AsyncIterator[int]:
        async for number in self.leaf.count_later(to):
            yield number

    @bentoml.api
    def pass_on_from_a_thread(self, to: int) -> Iterator[int]:
        yield from self.leaf.count(to)

    @bentoml.api
    async def map(self, count: int) -> list[int]:
        doubled: list[int] = await self.leaf.double_later.map(range(count), concurrency=4)
        return doubled

    @bentoml.api
    def map_from_a_thread(self, count: int) -> list[int]:
        doubled: list[int] = self.leaf.double.map(range(count), concurrency=4)
        return doubled

    @bentoml.api
    async def map_with_failures(self) -> list[str]:
        return [repr(each) for each in await self.leaf.fail_for.map(range(4), return_exceptions=True)]

    @bentoml.api
    async def tasks(self) -> list[Any]:
        task = await self.leaf.grow.submit(1)
        await ended(task)
        again = await task.retry()
        await ended(again)
        return [await task.get(), await again.get(), again.id != task.id]

    @bentoml.api
    def tasks_from_a_thread(self) -> list[Any]:
        task = self.leaf.grow_in_a_thread.submit(x=1)
        until(lambda: task.get_status().is_final, "it ends")
        again = self.leaf.to_sync.grow.submit(2)
        until(lambda: again.get_status().is_final, "it ends")
        return [task.get(), again.get()]

    @bentoml.api
    async def cancelled_task(self) -> str:
        task = await self.leaf.wait.submit()
        await task.cancel()
        return str((await task.get_status()).value)

    @bentoml.api
    async def connections(self) -> list[int]:
        return [self.leaf.connection(), self.same.connection(), self.leaf.to_sync.connection()]

    @bentoml.api
    async def mistake(self) -> str:
        try:
            self.leaf.nothing(1)
        except AttributeError as error:
            return str(error)
        raise AssertionError("it was called")


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Served]]:
    results = str(tmp_path_factory.mktemp("tasks") / "results.db")
    with served(Top, variables={environment.RESULT_STORE: results}) as graph:
        yield graph


@pytest.fixture(scope="module")
def top(graph: dict[str, Served]) -> Served:
    return graph["Top"]


@pytest.fixture(scope="module")
def leaf(graph: dict[str, Served]) -> Iterator[Any]:
    """The peer as an instance of Top finds it."""
    with peers_of(Top, addresses_of(graph)) as peers:
        yield peers.leaf


def test_peers_are_called_before_the_first_request(top: Served) -> None:
    assert top.ask("/before_requests") == [2, 4]


def test_an_async_endpoint_calls_all_kinds_of_methods(top: Served) -> None:
    assert top.ask("/from_async") == [2, 4, 6, 8, 10, 12]


def test_a_sync_endpoint_calls_all_kinds_of_methods(top: Served) -> None:
    assert top.ask("/from_sync") == [2, 4, 6]


def test_a_loop_of_an_endpoints_own_leaves_no_connection_behind(graph: dict[str, Served]) -> None:
    before = graph["Leaf"].connections

    assert graph["Top"].ask("/from_loops_of_its_own") == [2, 4]
    until(lambda: graph["Leaf"].connections <= before, "its connections are closed")


@pytest.mark.parametrize(
    ("path", "items"),
    [
        ("/streams_from_async", [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3]]),
        ("/streams_from_sync", [[0], [0, 1]]),
    ],
)
def test_generators_of_both_kinds_stream(top: Served, path: str, items: list[list[int]]) -> None:
    assert top.ask(path) == items


@pytest.mark.parametrize("path", ["/pass_on", "/pass_on_from_a_thread"])
def test_a_stream_is_passed_on_as_one(top: Served, path: str) -> None:
    assert top.post(path, json={"to": 3}).text.split() == ["0", "1", "2"]


@pytest.mark.parametrize("path", ["/map", "/map_from_a_thread"])
def test_a_method_is_called_for_each_of_many_items_and_keeps_their_order(top: Served, path: str) -> None:
    assert top.ask(path, count=40) == [2 * x for x in range(40)]


def test_calls_that_are_batched_at_the_peer_each_have_their_own_result(leaf: Any) -> None:
    assert leaf.batch.map([[x] for x in range(40)]) == [[2 * x] for x in range(40)]


def test_what_some_calls_raise_stands_in_their_place(top: Served) -> None:
    assert top.ask("/map_with_failures") == ["0", "1", "ValueError(2)", "3"]


def test_a_task_of_a_peer_is_submitted_awaited_and_repeated(top: Served) -> None:
    assert top.ask("/tasks") == [2, 2, True]


def test_a_thread_waits_for_tasks_of_a_peer(top: Served) -> None:
    assert top.ask("/tasks_from_a_thread") == [2, 3]


def test_a_task_of_a_peer_is_cancelled(top: Served) -> None:
    assert top.post("/cancelled_task", json={}).text == "canceled"


def test_two_dependencies_on_one_service_share_their_connection(top: Served) -> None:
    assert len(set(top.ask("/connections"))) == 1


def test_what_is_no_endpoint_is_told_with_those_that_are(top: Served) -> None:
    endpoints = ", ".join(service_of(Leaf).endpoints)

    assert top.post("/mistake", json={}).text == f"Leaf has no endpoint 'nothing'; its endpoints: {endpoints}"


ARRAYS: list[Any] = [
    *(np.arange(6).reshape(2, 3).astype(code) for code in "?bBhHiIlLqQefdFD"),
    np.array(["2024-01-01", "NaT"], "datetime64[us]"),
    np.array([1, -1], "timedelta64[s]"),
    np.array(["a", "bc"]),
    np.arange(3).astype(ml_dtypes.bfloat16),
    np.arange(12.0).reshape(3, 4).T[::2],
    np.zeros((0, 3)),
    np.array(1.5),
    np.float32(1.5),
    np.float64(1.5),
    np.int64(-3),
    np.bool_(True),
]

VALUES: list[Any] = [
    None, True, 1, 2**70, -(2**70), 1.5, 1 + 2j, "text ☃", b"bytes", bytes(5000), bytearray(b"bytes"),
    [1, [2]], (1, (2, [(3,)])), {1, "a"}, frozenset({1}), {1: "a", None: (1,), (1, 2): {True: b"c"}},
    datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.timezone.utc), datetime.date(2024, 2, 29),
    datetime.time(1, 2), datetime.timedelta(days=-3, microseconds=7), uuid.UUID(int=3),
    decimal.Decimal("-1.50"),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_arrives_as_it_was_sent(leaf: Any, value: object) -> None:
    assert exactly(leaf.echo(value)) == exactly(value)


@pytest.mark.parametrize("value", ARRAYS, ids=lambda value: f"{type(value).__name__}-{value.dtype}")
def test_an_array_arrives_as_it_was_sent(leaf: Any, value: Any) -> None:
    echoed = leaf.echo(value)

    assert (type(echoed), echoed.dtype, echoed.shape) == (type(value), value.dtype, value.shape)
    assert echoed.tobytes() == value.tobytes()


@pytest.mark.parametrize(
    "dtype",
    [
        torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16,
        torch.float32, torch.float64, torch.bfloat16, torch.complex64, torch.complex128,
        torch.float8_e5m2, torch.uint16,
    ],
)  # fmt: skip
def test_a_tensor_arrives_as_it_was_sent(leaf: Any, dtype: torch.dtype) -> None:
    tensor = torch.arange(6).reshape(2, 3).to(dtype)

    echoed = leaf.echo({"of": (tensor,)})["of"][0]

    assert (echoed.dtype, echoed.shape) == (dtype, tensor.shape)
    assert echoed.view(torch.uint8).equal(tensor.view(torch.uint8))


def test_a_tensor_is_put_on_the_device_that_the_receiving_annotation_names(leaf: Any) -> None:
    tensor = torch.zeros(2)

    assert leaf.device_of(tensor) == "meta"
    assert leaf.moved(tensor).device.type == "meta"


def test_a_value_is_validated_once_by_its_receiver_and_never_by_its_sender(leaf: Any) -> None:
    validated_in.clear()

    leaf.noted(Params(prompt="a cat"))

    assert validated_in == ["Leaf", threading.current_thread().name]


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "I", "F"]
)
def test_an_image_arrives_as_it_was_sent(leaf: Any, mode: str) -> None:
    image = Image.linear_gradient("L").resize((4, 3)).convert("RGB" if mode == "LAB" else mode)
    image = Image.frombytes(mode, image.size, image.tobytes()) if mode == "LAB" else image

    assert leaf.echo([image]) == [image]


def test_tuples_of_images_stay_tuples(leaf: Any) -> None:
    result = leaf.images(Image.new("RGB", (8, 8), "red"))

    assert result[0][0].getpixel((0, 0)) == (255, 0, 0)
    assert (type(result), type(result[0]), result[0][1].mode, result[1]) == (tuple, tuple, "L", [1])


def test_frames_and_series_of_pandas_arrive_as_they_were_sent(leaf: Any) -> None:
    frame = pd.DataFrame({"n": [1, 2], "t": ["a", None]}, index=pd.Index([3, 4], name="id"))

    echoed = leaf.echo((frame, frame["n"]))

    pd.testing.assert_frame_equal(echoed[0], frame)
    pd.testing.assert_series_equal(echoed[1], frame["n"])


def test_an_exception_is_a_value_too(leaf: Any) -> None:
    echoed = leaf.echo([KeyError("a", 1)])

    assert (type(echoed[0]), echoed[0].args) == (KeyError, ("a", 1))


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (memoryview(b"bytes"), b"bytes"),
        (Colour.RED, "red"),
        (Point(1, {2: "a"}), {"x": 1, "labels": {2: "a"}}),
        (Params(prompt="a cat"), {"prompt": "a cat", "steps": 25}),
        (Size(1, 2), (1, 2)),
        (Outputs(images=[1]), {"images": [1]}),
        (OrderedDict(a=1), {"a": 1}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_annotation_arrives_as_the_plain_thing_it_is_made_of(
    leaf: Any, value: object, plain: object
) -> None:
    assert exactly(leaf.echo(value)) == exactly(plain)


@pytest.mark.parametrize(
    ("method", "value", "result"),
    [
        ("colour", Colour.RED, Colour.RED),
        ("point", Point(1, {2: "a"}), Point(2, {2: "a"})),
        ("params", Params(prompt="a cat"), Params(prompt="a cat", steps=26)),
        ("movie", Movie(title="up"), Movie(title="UP")),
        ("turned", Size(1, 2), Size(2, 1)),
    ],
)
def test_an_annotation_makes_the_projects_own_class_again(
    leaf: Any, method: str, value: object, result: object
) -> None:
    assert exactly(getattr(leaf, method)(value)) == exactly(result)


def test_a_named_tuple_is_one_again_where_the_annotation_says_so(leaf: Any) -> None:
    assert leaf.area(Size(3, 4)) == 12


def test_a_path_is_what_stands_there(leaf: Any, tmp_path: Path) -> None:
    (tmp_path / "cat.txt").write_bytes(b"miaow")

    returned = leaf.contents(tmp_path / "cat.txt")

    assert (returned.read_bytes(), returned.suffix) == (b"miaow!", ".txt")
    assert (tmp_path / "cat.txt").read_bytes() == b"miaow"


def test_a_value_that_cannot_travel_is_told_to_who_sends_it(leaf: Any) -> None:
    unsendable = {"images": [threading.Lock()]}

    with pytest.raises(
        codec.EncodeError, match=r"^Leaf/echo: argument 1: `value\['images'\]\[0\]` is a .*lock"
    ):
        leaf.echo(unsendable)
    with pytest.raises(
        codec.EncodeError, match=r"^Leaf/echo: argument `value`: `value\['images'\]\[0\]` is "
    ):
        leaf.echo(value=unsendable)


def linked(length: int) -> Marked:
    """The first of so many services, each of which calls the next."""

    @bentoml.service(name=f"Link{length}")
    class Link:
        next: Any = bentoml.depends(linked(length - 1)) if length > 1 else None

        @bentoml.api
        async def names(self, so_far: list[str]) -> list[str]:
            so_far = [*so_far, f"Link{length}"]
            return await self.next.names(so_far) if self.next is not None else so_far

    return Link


def test_a_chain_is_as_long_as_it_is() -> None:
    with served(linked(5)) as links:
        assert links["Link5"].ask("/names", so_far=[]) == ["Link5", "Link4", "Link3", "Link2", "Link1"]


@pytest.mark.parametrize("path", ["/first", "/first_from_a_thread"])
def test_a_stream_that_is_left_early_ends_at_the_peer(path: str) -> None:
    has_ended = threading.Event()

    @bentoml.service
    class Endless:
        @bentoml.api
        async def count(self) -> AsyncIterator[int]:
            try:
                while True:
                    yield 1  # without ever waiting, which others of the worker must survive
            finally:
                has_ended.set()

    @bentoml.service
    class Early:
        endless = bentoml.depends(Endless)

        @bentoml.api
        async def first(self) -> int:
            async for number in self.endless.count():
                return number
            raise AssertionError("it has no end")

        @bentoml.api
        def first_from_a_thread(self) -> int:
            numbers: Iterator[int] = self.endless.to_sync.count()  # type: ignore[attr-defined]
            return next(numbers)

    with served(Early) as graph:
        assert graph["Early"].ask(path) == 1
        assert has_ended.wait(DEADLINE_S)


class Fake:
    def double(self, x: int) -> int:
        return -x

    async def double_later(self, x: int) -> int:
        return -x


def test_an_object_takes_the_place_of_a_peer() -> None:
    top = service_of(Top)(leaf=Fake())

    assert (top.leaf.double(1), asyncio.run(top.leaf.double_later(2)), top.leaf.to_sync.double_later(3)) == (
        -1,
        -2,
        -3,
    )


def test_instances_made_by_hand_share_the_leaf_of_a_diamond() -> None:
    @bentoml.service
    class Left:
        leaf = bentoml.depends(Leaf)

    @bentoml.service
    class Right:
        leaf = bentoml.depends(Leaf)

    @bentoml.service
    class Entry:
        left = bentoml.depends(Left)
        right = bentoml.depends(Right)

    entry = service_of(Entry)()

    assert entry.left.leaf is entry.right.leaf


def test_a_url_and_a_deployment_are_refused_together() -> None:
    with pytest.raises(ValueError, match="takes `url=` or `deployment=`, not both"):
        bentoml.depends(Leaf, url="http://leaf:3000", deployment="leaf-x6dewa")


def test_frames_are_refused_where_no_service_depends_on_the_receiver(graph: dict[str, Served]) -> None:
    call = {"content": b"".join(codec.encode([[1], {}])), "headers": {"content-type": codec.MEDIA_TYPE}}

    assert graph["Leaf"].post("/v1/double", **call).status_code == 200
    assert graph["Top"].post("/map", **call).status_code == 415


@pytest.mark.parametrize(
    "hostile",
    [
        b"",
        b"BENF\x01\x01",
        frame(b"\x93"),
        frame(b"\xc1"),
        frame(b"\x90", b"\x90"),
        frame(*[b"\x91\xc7\x00\x01"] * 201),
        frame(b"\x90") + b"more",
        named("pickle", b"cos\nsystem\n(S'true'\ntR."),
        packed(Code.ARRAY, ["|O", [1], b"\x00" * 8]),
        packed(Code.ARRAY, ["<f8", [2**40, 2**40], b""]),
    ],
)
def test_a_hostile_frame_is_refused_and_the_next_call_works(graph: dict[str, Served], hostile: bytes) -> None:
    refused = graph["Leaf"].post("/v1/double", content=hostile, headers={"content-type": codec.MEDIA_TYPE})

    assert (refused.status_code, graph["Top"].ask("/from_sync")) == (400, [2, 4, 6])

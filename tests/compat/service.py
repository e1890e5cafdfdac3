"""A project that both implementations serve unmodified: an endpoint for every type of the interface."""

# No `from __future__ import annotations`: annotations are objects here, as in most existing projects.
import asyncio
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Dict, List, Literal, Optional  # noqa: UP035  # what existing projects say

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from PIL.Image import Image
from PIL.Image import new as new_image
from pydantic import BaseModel, Field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from typing_extensions import TypedDict

import bentoml
from bentoml.exceptions import (
    BentoMLException,
    InvalidArgument,
    NotFound,
    ServiceUnavailable,
    UnprocessableEntity,
)
from bentoml.validators import ContentType, DataframeSchema, DType, Shape


class Point(TypedDict):
    x: int
    y: int


@dataclass
class Span:
    start: int
    stop: int = 10


class Item(BaseModel):
    name: str
    price: float = 1.5


class Order(BaseModel):
    customer: str
    items: list[Item] = Field(default_factory=list)


class Teapot(BentoMLException):
    error_code = HTTPStatus.IM_A_TEAPOT


class Unauthenticated(BentoMLException):
    error_code = HTTPStatus.UNAUTHORIZED


class Forbidden(BentoMLException):
    error_code = HTTPStatus.FORBIDDEN


FAULTS: dict[str, Exception] = {
    "base": BentoMLException("base is wrong"),
    "invalid": InvalidArgument("value is wrong"),
    "missing": NotFound("nothing is here"),
    "unprocessable": UnprocessableEntity("cannot be processed"),
    "unavailable": ServiceUnavailable("come back later"),
    "teapot": Teapot("short and stout"),
    "unauthenticated": Unauthenticated("who are you"),
    "forbidden": Forbidden("not for you"),
    "code": BentoMLException("the code says conflict", error_code=HTTPStatus.CONFLICT),
    "bug": ValueError("a secret of the service"),
}


async def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"hello {request.query_params.get('name', 'nobody')}")


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("echo " + await websocket.receive_text())
    await websocket.close()


mounted = Starlette(routes=[Route("/hello", hello), WebSocketRoute("/echo", echo)])


@bentoml.asgi_app(mounted, path="/mounted")
@bentoml.service(traffic={"timeout": 30})
class Compat:
    """Every type, once in and once out."""

    # JSON

    @bentoml.api
    def text(self, value: str) -> str:
        return value.upper()

    @bentoml.api
    def whole(self, value: int) -> int:
        return value + 1

    @bentoml.api
    def real(self, value: float) -> float:
        return value / 2

    @bentoml.api
    def flag(self, value: bool) -> bool:
        return not value

    @bentoml.api
    def nothing(self) -> None:
        return None

    @bentoml.api
    def listed(self, value: list[int]) -> list[int]:
        return value[::-1]

    @bentoml.api
    def bare_list(self, value: list) -> list:  # type: ignore[type-arg]
        return value[::-1]

    @bentoml.api
    def mapping(self, value: dict[str, float]) -> dict[str, float]:
        return {key.upper(): number for key, number in value.items()}

    @bentoml.api
    def bare_dict(self, value: dict) -> dict:  # type: ignore[type-arg]
        return {key.upper(): number for key, number in value.items()}

    @bentoml.api
    def typed_dict(self, value: Point) -> Point:
        return {"x": value["y"], "y": value["x"]}

    @bentoml.api
    def dataclass(self, value: Span) -> Span:
        return Span(value.start + 1, value.stop)

    @bentoml.api
    def model(self, value: Order) -> Order:
        return Order(customer=value.customer.upper(), items=value.items)

    @bentoml.api
    def models(self, value: list[Item]) -> list[Item]:
        return value[::-1]

    @bentoml.api
    def optional(self, value: int | None = None) -> int | None:
        return None if value is None else value + 1

    @bentoml.api
    def old_words(self, value: Optional[List[Dict[str, int]]] = None) -> List[int]:  # noqa: UP006, UP045
        return [] if value is None else [len(each) for each in value]

    @bentoml.api
    def literal(self, value: Literal["red", "green"]) -> str:
        return value

    @bentoml.api
    def anything(self, value):  # type: ignore[no-untyped-def]
        return value

    @bentoml.api
    def defaults(
        self, a: int, b: int = 2, c: str = Field(default="x", description="a letter")
    ) -> dict[str, Any]:
        return {"a": a, "b": b, "c": c}

    # Arrays, tensors and frames

    @bentoml.api
    def array(self, value: np.ndarray) -> np.ndarray:  # type: ignore[type-arg, unused-ignore]
        return value * 2

    @bentoml.api
    def array_dtype(self, value: npt.NDArray[np.float32]) -> str:
        return str(value.dtype)

    @bentoml.api
    def array_shape(
        self,
        value: Annotated[np.ndarray, Shape((2, 3)), DType("int32")],  # type: ignore[type-arg, unused-ignore]
    ) -> Annotated[np.ndarray, DType("float64")]:  # type: ignore[type-arg, unused-ignore]
        return value.astype("float64") / 2

    @bentoml.api
    def tensor(self, value: torch.Tensor) -> torch.Tensor:
        return value * 2

    @bentoml.api
    def frame(self, value: pd.DataFrame) -> pd.DataFrame:
        value["total"] = value["a"] + value["b"]
        return value

    @bentoml.api
    def frame_columns(
        self, value: Annotated[pd.DataFrame, DataframeSchema(orient="columns", columns=["a", "b"])]
    ) -> Annotated[pd.DataFrame, DataframeSchema(orient="columns")]:
        value["total"] = value["a"] + value["b"]
        return value

    # Files

    @bentoml.api
    def image(self, value: Image) -> Image:
        return value.transpose(0)  # type: ignore[arg-type, unused-ignore]

    @bentoml.api
    def image_jpeg(
        self, value: Annotated[Image, ContentType("image/png")]
    ) -> Annotated[Image, ContentType("image/jpeg")]:
        return value.convert("RGB")

    @bentoml.api
    def file(self, value: Path, context: bentoml.Context) -> Path:
        copy = Path(context.temp_dir) / "copy.txt"
        copy.write_bytes(value.read_bytes()[::-1])
        return copy

    @bentoml.api
    def file_suffix(self, value: Path) -> str:
        return value.suffix

    @bentoml.api
    def file_plain(self, value: Annotated[Path, ContentType("text/plain")]) -> int:
        return value.stat().st_size

    @bentoml.api
    def file_audio(self, value: Annotated[Path, ContentType("audio/*")]) -> int:
        return value.stat().st_size

    @bentoml.api
    def file_out(self, context: bentoml.Context) -> Annotated[Path, ContentType("image/*")]:
        picture = Path(context.temp_dir) / "dot.gif"
        picture.write_bytes(b"GIF89a")
        return picture

    @bentoml.api
    def blob(self, value: bytes) -> bytes:
        return value[::-1]

    @bentoml.api
    def blob_out(self, size: int) -> Annotated[bytes, ContentType("application/x-zeros")]:
        return bytes(size)

    @bentoml.api
    def files(self, value: list[Path]) -> list[int]:
        return [path.stat().st_size for path in value]

    @bentoml.api
    def images(self, value: list[Image]) -> list[int]:
        return [picture.width for picture in value]

    @bentoml.api
    def optional_image(self, value: Optional[Image] = None) -> int:  # noqa: UP045  # `|` is not seen as a file
        return -1 if value is None else value.width

    @bentoml.api
    def file_and_fields(
        self,
        picture: Image,
        name: str,
        times: int = 1,
        options: dict[str, Any] = {},  # noqa: B006  # what existing projects say
    ) -> dict[str, Any]:
        return {"width": picture.width, "name": name, "times": times, "options": options}

    # The body is the value

    @bentoml.api
    def root_text(self, value: str, /) -> str:
        return value[::-1]

    @bentoml.api
    def root_whole(self, value: int, /) -> int:
        return value + 1

    @bentoml.api
    def root_list(self, value: list[int], /) -> list[int]:
        return value[::-1]

    @bentoml.api
    def root_model(self, value: Order, /) -> str:
        return value.customer

    @bentoml.api
    def root_array(self, value: np.ndarray, /) -> np.ndarray:  # type: ignore[type-arg, unused-ignore]
        return value * 2

    @bentoml.api
    def root_frame(self, value: pd.DataFrame, /) -> int:
        return len(value)

    @bentoml.api
    def root_image(self, value: Image, /) -> list[int]:
        return [value.width, value.height]

    @bentoml.api
    def root_file(self, value: Path, /) -> int:
        return value.stat().st_size

    @bentoml.api
    def root_blob(self, value: bytes, /) -> bytes:
        return value[::-1]

    # How arguments are declared

    @bentoml.api
    def positional(self, *values: int) -> list[Any]:
        return list(values)

    @bentoml.api
    def options(self, **options: Any) -> dict[str, Any]:
        return options

    @bentoml.api(input_spec=Order)
    def declared_input(self, **fields: Any) -> str:
        return f"{fields['customer']} {len(fields['items'])}"

    @bentoml.api(route="/routes/renamed")
    def routed(self, value: int = 1) -> int:
        return value

    @bentoml.api
    def close(self, value: int) -> int:
        return value + 1

    @bentoml.api
    async def asynchronous(self, value: int) -> int:
        await asyncio.sleep(0)
        return value + 1

    @bentoml.api
    def context(self, name: str, ctx: bentoml.Context) -> dict[str, Any]:
        ctx.response.status_code = 202
        ctx.response.headers["X-Name"] = name
        ctx.response.set_cookie("name", name, max_age=60, httponly=True)
        return {"name": name, "header": ctx.request.headers.get("x-asked", "")}

    @bentoml.api
    def whole_response(self) -> Any:
        return Response("by hand", status_code=203, media_type="text/x-hand", headers={"X-Hand": "made"})

    # Failures

    @bentoml.api
    def fail(self, how: str) -> str:
        raise FAULTS[how]

    @bentoml.api
    async def fail_asynchronously(self, how: str) -> str:
        raise FAULTS[how]

    # Streams

    @bentoml.api
    def stream_text(self, count: int) -> Generator[str, None, None]:
        for number in range(count):
            yield f"{number}\n"

    @bentoml.api
    async def stream_text_async(self, count: int) -> AsyncGenerator[str, None]:
        for number in range(count):
            await asyncio.sleep(0)
            yield f"{number}\n"

    @bentoml.api
    def stream_bytes(self, count: int) -> Generator[bytes, None, None]:
        for number in range(count):
            yield bytes([number])

    @bentoml.api
    async def stream_items(self, count: int) -> AsyncGenerator[Point, None]:
        for number in range(count):
            yield {"x": number, "y": number * number}

    @bentoml.api
    async def stream_numbers(self, count: int) -> AsyncGenerator[int, None]:
        for number in range(count):
            yield number

    @bentoml.api
    def stream_plain(self, count: int) -> Annotated[Generator[str, None, None], ContentType("text/plain")]:
        for number in range(count):
            yield f"{number} "

    @bentoml.api
    async def stream_fails(self, after: int) -> AsyncGenerator[str, None]:
        for number in range(after):
            yield f"{number}\n"
        raise InvalidArgument("no more")

    # Batches and tasks

    @bentoml.api(batchable=True)
    def batch(self, values: list[int]) -> list[int]:
        return [value * 10 for value in values]

    @bentoml.api(batchable=True, batch_dim=(0, 0), max_batch_size=8, max_latency_ms=10000)
    async def batch_array(self, values: np.ndarray) -> np.ndarray:  # type: ignore[type-arg, unused-ignore]
        return values + 1

    @bentoml.task
    def task(self, value: int) -> dict[str, int]:
        if value < 0:
            raise InvalidArgument("value must not be negative")
        return {"value": value, "square": value * value}

    @bentoml.task
    async def task_image(self, width: int) -> Image:
        return new_image("RGB", (width, 1), "red")

    @bentoml.task
    async def task_slow(self, seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "done"

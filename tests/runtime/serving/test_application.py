from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import Any

import numpy as np
import pydantic
import pytest
from tests.runtime.conftest import Call, InMemory, service_of

import bentoml
from bentoml import codec
from bentoml._config import load_config
from bentoml._serving.application import Replica, create_app
from bentoml.exceptions import (
    BentoMLConfigException,
    BentoMLException,
    InvalidArgument,
    NotFound,
    ServiceUnavailable,
    UnservableException,
)

UNEXPECTED = {"error": "An unexpected error has occurred, please check the server log."}
FRAME = {"content-type": codec.MEDIA_TYPE}
AS_PEER = {"BENTOML_DEPENDENTS": "Top"}


class Answer(pydantic.BaseModel):
    value: int


@bentoml.service
class Leaf:
    @bentoml.api
    def double(self, x: int) -> int:
        return 2 * x

    @bentoml.api
    async def echo(self, *args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    @bentoml.api
    def fail(self, how: str) -> None:
        failures: dict[str, Exception] = {
            "invalid": InvalidArgument("say more"),
            "missing": NotFound("no such flower"),
            "teapot": BentoMLException("short and stout", error_code=418),
            "unauthorized": BentoMLException("secret words", error_code=401),
            "unavailable": ServiceUnavailable("secret words"),
            "bug": KeyError("secret words"),
            "timeout": TimeoutError("secret words"),
        }
        raise failures[how]

    @bentoml.api
    def parse(self, text: str) -> int:
        return Answer.model_validate_json(text).value

    @bentoml.api
    async def sleep(self) -> None:
        await asyncio.Event().wait()


def frame(*args: object, **kwargs: object) -> bytes:
    return b"".join(codec.encode([list(args), kwargs]))


@pytest.mark.parametrize("path", ["/nowhere", "/double/more", "/Double"])
def test_a_path_that_nothing_serves_is_not_found(call: Call, path: str) -> None:
    assert call(Leaf, path, json={}).status_code == 404


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_an_endpoint_takes_posts_only(call: Call, method: str) -> None:
    response = call(Leaf, "/double", method=method)

    assert (response.status_code, response.headers["allow"]) == (405, "POST")


def test_fields_that_do_not_fit_are_all_told(call: Call) -> None:
    response = call(Leaf, "/double", json={"x": "many"})

    assert response.status_code == 400
    assert response.json() == {
        "error": "1 validation error for Input; "
        "x: Input should be a valid integer, unable to parse string as an integer",
        "type": "InvalidArgument",
        "detail": [
            {
                "type": "int_parsing",
                "url": "https://errors.pydantic.dev/"
                + ".".join(pydantic.VERSION.split(".")[:2])
                + "/v/int_parsing",
                "loc": ["x"],
                "msg": "Input should be a valid integer, unable to parse string as an integer",
            }
        ],
    }


def test_of_many_fields_that_do_not_fit_the_message_names_the_first(call: Call) -> None:
    @bentoml.service
    class Adds:
        @bentoml.api
        def total(self, numbers: list[int]) -> int:
            return sum(numbers)

    document = call(Adds, "/total", json={"numbers": [None] * 5}).json()

    named = "; ".join(f"numbers.{index}: Input should be a valid integer" for index in range(3))
    assert document["error"] == f"5 validation errors for Input; {named}; and 2 more"
    assert len(document["detail"]) == 5


@pytest.mark.parametrize(
    ("how", "status", "body"),
    [
        ("invalid", 400, {"error": "say more", "type": "InvalidArgument"}),
        ("missing", 404, {"error": "no such flower", "type": "NotFound"}),
        ("teapot", 418, {"error": "short and stout", "type": "BentoMLException"}),
        ("unauthorized", 401, {"error": "Authorization error"}),
        ("unavailable", 503, {**UNEXPECTED, "type": "ServiceUnavailable"}),
        ("bug", 500, UNEXPECTED),
        ("timeout", 500, UNEXPECTED),
    ],
)
def test_what_a_method_raises_becomes_a_status_without_a_trace(
    call: Call, how: str, status: int, body: dict[str, str]
) -> None:
    response = call(Leaf, "/fail", json={"how": how})

    assert (response.status_code, response.json()) == (status, body)


def test_what_a_caller_is_not_told_stands_in_the_log(call: Call, caplog: pytest.LogCaptureFixture) -> None:
    call(Leaf, "/fail", json={"how": "bug"})

    assert "POST /fail failed" in caplog.text
    assert "KeyError: 'secret words'" in caplog.text


def test_a_validation_that_fails_inside_a_method_is_the_services_own_failure(call: Call) -> None:
    response = call(Leaf, "/parse", json={"text": '{"value": "secret"}'})

    assert (response.status_code, response.json()) == (500, UNEXPECTED)


def test_a_method_that_takes_too_long_is_answered_with_504(call: Call) -> None:
    response = call(Leaf, "/sleep", json={}, config={"traffic": {"timeout": 0.01}})

    assert response.status_code == 504
    assert response.json() == {
        "error": "Not able to process the request in 0.01 seconds",
        "type": "DeadlineExceeded",
    }


def test_more_calls_than_may_run_are_answered_with_429(in_memory: InMemory) -> None:
    async def scenario() -> None:
        begun, finish = asyncio.Semaphore(0), asyncio.Event()

        @bentoml.service(traffic={"max_concurrency": 2})
        class Busy:
            @bentoml.api
            async def work(self) -> None:
                begun.release()
                await finish.wait()

        async with in_memory(Busy) as client:
            running = [asyncio.ensure_future(client.post("/work")) for _ in range(2)]
            for _ in running:
                await begun.acquire()
            refused = await client.post("/work")
            finish.set()
            finished = [(await response).status_code for response in running]
            afterwards = await client.post("/work")

        assert refused.json() == {"error": "Too many requests", "type": "TooManyRequests"}
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert [*finished, afterwards.status_code] == [200] * 3

    asyncio.run(scenario())


def test_frames_are_for_services_that_others_depend_on(call: Call) -> None:
    response = call(Leaf, "/double", content=frame(2), headers=FRAME)

    assert response.status_code == 415
    assert response.json()["error"] == (
        "application/vnd.bento.frame is for peers only, and no service is named in BENTOML_DEPENDENTS"
    )


def test_a_call_comes_and_goes_as_a_frame(call: Call) -> None:
    response = call(Leaf, "/echo", content=frame(1, (2,), key=b"x"), headers=FRAME, environ=AS_PEER)

    assert response.headers["content-type"] == codec.MEDIA_TYPE
    assert codec.decode(response.content) == ((1, (2,)), {"key": b"x"})


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "frame: 0 bytes are less than a header"),
        (b"x" * 100, "frame: unknown magic or version"),
        (b"".join(codec.encode({"a": 1})), "frame: expected a call"),
        (b"".join(codec.encode([1, {}])), "frame: expected a call"),
        (b"".join(codec.encode([[], {1: 2}])), "frame: expected a call"),
        (frame(), "Leaf.double: missing a required argument: 'x'"),
        (frame("many"), "1 validation error for Input"),
    ],
)
def test_a_frame_that_is_no_call_is_refused_in_words(call: Call, body: bytes, message: str) -> None:
    response = call(Leaf, "/double", content=body, headers=FRAME, environ=AS_PEER)

    assert response.status_code == 400
    assert response.json()["error"].startswith(message)


def test_a_result_that_cannot_travel_is_the_services_own_failure(
    call: Call, caplog: pytest.LogCaptureFixture
) -> None:
    @bentoml.service
    class Odd:
        @bentoml.api
        def result(self) -> Any:
            return [object()]

    response = call(Odd, "/result", content=frame(), headers=FRAME, environ=AS_PEER)

    assert (response.status_code, response.json()) == (500, UNEXPECTED)
    assert "`value[0]` is an object, which cannot travel between services" in caplog.text


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/healthz"])
def test_the_public_port_answers_probes_too(call: Call, path: str) -> None:
    response = call(Leaf, path, method="GET")

    assert (response.status_code, response.text) == (200, "\n")


def test_a_path_prefix_stands_before_every_route(call: Call) -> None:
    @bentoml.service(path_prefix="/v1")
    class Versioned:
        @bentoml.api
        def ping(self) -> str:
            return "pong"

    assert call(Versioned, "/v1/ping").text == "pong"
    assert call(Versioned, "/ping").status_code == 404
    assert [call(Versioned, path, method="GET").status_code for path in ("/readyz", "/v1/readyz")] == [
        200,
        200,
    ]


def test_methods_that_are_not_async_run_in_the_threads_that_were_asked_for(in_memory: InMemory) -> None:
    @bentoml.service(threads=2)
    class Threaded:
        def __init__(self) -> None:
            self.barrier = threading.Barrier(2, timeout=10)

        @bentoml.api
        def meet(self) -> str:
            self.barrier.wait()
            return threading.current_thread().name

    async def scenario() -> set[str]:
        async with in_memory(Threaded) as client:
            answers = await asyncio.gather(client.post("/meet"), client.post("/meet"))
            return {answer.text for answer in answers}

    assert len(asyncio.run(scenario())) == 2


def test_a_thread_sees_the_context_of_its_request(call: Call) -> None:
    variable = contextvars.ContextVar("variable", default="default")

    @bentoml.service
    class Contextual:
        @bentoml.api
        def change(self) -> str:
            variable.set("changed")
            return variable.get()

    assert call(Contextual, "/change").text == "changed"
    assert variable.get() == "default"


def test_an_instance_is_made_when_the_application_starts(in_memory: InMemory) -> None:
    made: list[str] = []

    @bentoml.service
    class Slow:
        def __init__(self) -> None:
            made.append("made")

        @bentoml.api
        def count(self) -> int:
            return len(made)

    async def scenario() -> list[int]:
        async with in_memory(Slow) as client:
            return [len(made), (await client.post("/count")).json(), (await client.post("/count")).json()]

    assert asyncio.run(scenario()) == [1, 1, 1]


def test_a_peer_without_an_address_is_an_error_that_names_the_variables() -> None:
    @bentoml.service
    class Top:
        leaf = bentoml.depends(Leaf)
        again = bentoml.depends(Leaf)

    with pytest.raises(BentoMLConfigException) as caught:
        create_app(service_of(Top), Replica(config=load_config("Top"), environ={}))

    assert str(caught.value) == (
        "Top does not know where its peers are; set BENTOML_PEER_LEAF (for `Top.leaf`), "
        "BENTOML_PEER_LEAF (for `Top.again`) to `http://host:port`"
    )


def test_a_signature_that_cannot_be_served_is_an_error_before_anything_starts() -> None:
    @bentoml.service
    class Odd:
        @bentoml.api
        def predict(self, x: Unheard) -> None: ...  # type: ignore[name-defined]  # noqa: F821  # what is tested

    with pytest.raises(UnservableException, match=r"Odd\.predict: the annotation `x: Unheard` cannot"):
        create_app(service_of(Odd), Replica(config=load_config("Odd"), environ={}))


def test_an_array_of_a_peer_may_be_written_to(call: Call) -> None:
    @bentoml.service
    class Writer:
        @bentoml.api
        def write(self, arr: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            arr[0] = 7
            return arr

    response = call(Writer, "/write", content=frame(np.zeros(2)), headers=FRAME, environ=AS_PEER)

    assert codec.decode(response.content).tolist() == [7, 0]


def test_calls_that_wait_are_merged_into_one(in_memory: InMemory) -> None:
    sizes: list[int] = []

    @bentoml.service
    class Embeds:
        @bentoml.api(batchable=True, max_batch_size=4)
        async def embed(self, texts: list[str], ctx: bentoml.Context) -> list[int]:
            sizes.append(len(texts))
            await asyncio.sleep(0.01)
            assert ctx.state is not None
            return [len(text) for text in texts]

    async def scenario() -> list[object]:
        async with in_memory(Embeds) as client:
            texts = ["a" * length for length in range(9)]
            calls = [client.post("/embed", json={"texts": [text]}) for text in texts]
            return [response.json() for response in await asyncio.gather(*calls)]

    assert asyncio.run(scenario()) == [[length] for length in range(9)]
    assert max(sizes) == 4
    assert sum(sizes) == 9


def test_a_bad_item_of_a_batch_fails_its_own_caller_alone(in_memory: InMemory) -> None:
    @bentoml.service
    class Embeds:
        @bentoml.api(batchable=True)
        def embed(self, texts: list[str]) -> list[int]:
            if "bad" in texts:
                raise InvalidArgument("a bad text")
            return [len(text) for text in texts]

    async def scenario() -> list[int]:
        async with in_memory(Embeds) as client:
            calls = [client.post("/embed", json={"texts": [text]}) for text in ("a", "bad", "b")]
            return [response.status_code for response in await asyncio.gather(*calls)]

    assert asyncio.run(scenario()) == [200, 400, 200]

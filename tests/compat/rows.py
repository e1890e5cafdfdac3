"""What is called through a client, and what it must return: a row for each type and rule of the interface.

Nothing here belongs to one implementation: whichever environment runs a row brings its own `bentoml`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

# What comes back is known to the row that asked for it.
Value: TypeAlias = Any

DEADLINE_S = 5.0


class Client(Protocol):
    """A client of either kind, made to wait for its answers."""

    def call(self, endpoint: str, *args: Value, **kwargs: Value) -> Value:
        """Call the client's method of that name."""
        ...

    def call_by_name(self, endpoint: str, *args: Value, **kwargs: Value) -> Value:
        """Call the endpoint through the client's own `call`."""
        ...

    def items(self, endpoint: str, *args: Value, **kwargs: Value) -> list[Value]:
        """Call it, and take all items of the stream that it returns."""
        ...

    def submit(self, endpoint: str, *args: Value, **kwargs: Value) -> Task:
        """Submit a task to the endpoint."""
        ...

    def request(self, method: str, path: str, **options: Value) -> Value:
        """Send a request through the client and return its response."""
        ...

    def is_ready(self) -> bool:
        """Whether the service takes requests."""
        ...

    @property
    def folder(self) -> Path:
        """Where a row may write files."""
        ...


class Task(Protocol):
    """A submitted task, made to wait for its answers."""

    @property
    def id(self) -> str: ...
    def status(self) -> str: ...
    def get(self) -> Value: ...
    def cancel(self) -> None: ...
    def retry(self) -> Task: ...


@dataclass(frozen=True, kw_only=True)
class Row:
    """One case: `play` raises AssertionError where the answer is not what it must be.

    Args:
        project: which of the served projects it needs.
    """

    name: str
    play: Callable[[Client], None]
    project: str


ROWS: dict[str, Row] = {}


def row(name: str, *, project: str = "service") -> Callable[[Callable[[Client], None]], None]:
    def add(play: Callable[[Client], None]) -> None:
        assert name not in ROWS, name
        ROWS[name] = Row(name=name, play=play, project=project)

    return add


def same(found: Value, expected: Value) -> None:
    """Fail unless both are equal and of one type."""
    assert type(found) is type(expected), f"expected {type(expected).__name__} {expected!r}, found {found!r}"
    assert found == expected, f"expected {expected!r}, found {found!r}"


@contextmanager
def raises(*errors: str, containing: str = "", status: int | None = None) -> Iterator[None]:
    """Fail unless an exception of one of these names comes, from `bentoml.exceptions` or built in."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  # judged by its name: the class is another in each environment
        raised = error
    else:
        raise AssertionError(f"expected {' or '.join(errors)}, found no exception")
    names = {each.__name__ for each in type(raised).__mro__}
    assert names & set(errors), f"expected {' or '.join(errors)}, found {raised!r}"
    assert containing in str(raised), f"expected words about {containing!r}, found {raised}"
    found = getattr(raised, "error_code", None)
    assert status is None or found == status, f"expected error_code {status}, found {found}"


# JSON


def _plain(name: str, endpoint: str, value: Value, expected: Value, *, project: str = "service") -> None:
    @row(name, project=project)
    def play(client: Client) -> None:
        same(client.call(endpoint, value), expected)


_ORDER = {"customer": "ann", "items": [{"name": "pen", "price": 2.0}]}

_plain("str", "text", "héllo", "HÉLLO")
_plain("int", "whole", 41, 42)
_plain("float", "real", 3.0, 1.5)
_plain("bool", "flag", True, False)
_plain("list of int", "listed", [1, 2, 3], [3, 2, 1])
_plain("list", "bare_list", [1, "two", None, {"three": 3.5}], [{"three": 3.5}, None, "two", 1])
_plain("dict of float", "mapping", {"a": 1.0, "b": 2.5}, {"A": 1.0, "B": 2.5})
_plain("dict", "bare_dict", {"a": [1, 2], "b": None}, {"A": [1, 2], "B": None})
_plain("TypedDict", "typed_dict", {"x": 1, "y": 2}, {"x": 2, "y": 1})
_plain("dataclass", "dataclass", {"start": 1}, {"start": 2, "stop": 10})
_plain("pydantic model", "model", _ORDER, {"customer": "ANN", "items": [{"name": "pen", "price": 2.0}]})
_plain(
    "list of models",
    "models",
    [{"name": "pen", "price": 2.0}, {"name": "ink"}],
    [{"name": "ink", "price": 1.5}, {"name": "pen", "price": 2.0}],
)
_plain("Optional, given", "optional", 1, 2)
_plain("Optional, List and Dict of typing", "old_words", [{"a": 1}, {}], [1, 0])
_plain("Literal", "literal", "red", "red")
_plain("no annotation, an object", "anything", {"a": [1.5, None]}, {"a": [1.5, None]})
_plain("async method", "asynchronous", 1, 2)
_plain("a route of its own", "routed", 5, 5)


@row("None")
def _(client: Client) -> None:
    same(client.call("nothing"), None)


@row("no annotation, a string")
def _(client: Client) -> None:
    same(client.call("anything", "text"), "text")


@row("Optional, None")
def _(client: Client) -> None:
    same(client.call("optional", None), None)


@row("Optional, absent")
def _(client: Client) -> None:
    same(client.call("optional"), None)


@row("defaults")
def _(client: Client) -> None:
    same(client.call("defaults", 1), {"a": 1, "b": 2, "c": "x"})


@row("by position and by name")
def _(client: Client) -> None:
    same(client.call("defaults", 1, c="y"), {"a": 1, "b": 2, "c": "y"})


@row("an argument that is not there")
def _(client: Client) -> None:
    with raises("TypeError"):
        client.call("defaults", 1, d=2)


@row("an argument that is missing")
def _(client: Client) -> None:
    with raises("TypeError"):
        client.call("defaults")


@row("an argument given twice")
def _(client: Client) -> None:
    with raises("TypeError"):
        client.call("defaults", 1, a=2)


@row("a value of the wrong type")
def _(client: Client) -> None:
    with raises("InvalidArgument", containing="valid integer", status=400):
        client.call("whole", "word")


# Arrays, tensors and frames


def _same_array(found: Value, expected: Value) -> None:
    import numpy as np

    assert isinstance(found, np.ndarray), f"expected an array, found {found!r}"
    assert found.dtype == expected.dtype, f"expected {expected.dtype}, found {found.dtype}"
    assert np.array_equal(found, expected), f"expected {expected!r}, found {found!r}"


@row("ndarray")
def _(client: Client) -> None:
    import numpy as np

    _same_array(client.call("array", np.array([[1, 2], [3, 4]])), np.array([[2, 4], [6, 8]]))


@row("ndarray from nested lists")
def _(client: Client) -> None:
    import numpy as np

    _same_array(client.call("array", [[1.5], [2.5]]), np.array([[3.0], [5.0]]))


@row("ndarray with dtype")
def _(client: Client) -> None:
    import numpy as np

    same(client.call("array_dtype", np.array([1.0, 2.0], dtype="float32")), "float32")


@row("ndarray with Shape and DType")
def _(client: Client) -> None:
    import numpy as np

    found = client.call("array_shape", np.array([[1, 2, 3], [4, 5, 6]], dtype="int32"))
    _same_array(found, np.array([[0.5, 1.0, 1.5], [2.0, 2.5, 3.0]]))


@row("ndarray of the wrong shape")
def _(client: Client) -> None:
    # The existing clients reshape before they send, and fail there.
    with raises("InvalidArgument", "ValueError", containing="shape"):
        client.call("array_shape", [1, 2, 3])


@row("Tensor")
def _(client: Client) -> None:
    import torch

    found = client.call("tensor", torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert isinstance(found, torch.Tensor), f"expected a tensor, found {found!r}"
    assert torch.equal(found, torch.tensor([[2.0, 4.0], [6.0, 8.0]])), f"found {found!r}"


@row("DataFrame by records")
def _(client: Client) -> None:
    import pandas as pd

    found = client.call("frame", pd.DataFrame({"a": [1, 2], "b": [3, 4]}))
    pd.testing.assert_frame_equal(found, pd.DataFrame({"a": [1, 2], "b": [3, 4], "total": [4, 6]}))


@row("DataFrame by columns")
def _(client: Client) -> None:
    import pandas as pd

    found = client.call("frame_columns", pd.DataFrame({"a": [1, 2], "b": [3, 4]}))
    pd.testing.assert_frame_equal(found, pd.DataFrame({"a": [1, 2], "b": [3, 4], "total": [4, 6]}))


# Files


def _picture(client: Client) -> Path:
    from PIL import Image

    path = client.folder / "dots.png"
    picture = Image.new("RGB", (2, 1), "red")
    picture.putpixel((1, 0), (0, 0, 255))
    picture.save(path)
    return path


def _note(client: Client, text: str = "hello") -> Path:
    path = client.folder / f"{text}.txt"
    path.write_text(text)
    return path


def _same_picture(found: Value) -> None:
    from PIL import Image

    assert isinstance(found, Image.Image), f"expected a picture, found {found!r}"
    # The endpoint mirrors it: red is now on the right.
    same([found.getpixel((x, 0)) for x in (0, 1)], [(0, 0, 255), (255, 0, 0)])


@row("Image")
def _(client: Client) -> None:
    from PIL import Image

    with Image.open(_picture(client)) as picture:
        _same_picture(client.call("image", picture))


@row("Image from a path")
def _(client: Client) -> None:
    _same_picture(client.call("image", _picture(client)))


@row("Image made in memory")
def _(client: Client) -> None:
    from PIL import Image

    picture = Image.new("RGB", (2, 1), "red")
    picture.putpixel((1, 0), (0, 0, 255))
    _same_picture(client.call("image", picture))


@row("Image with a media type")
def _(client: Client) -> None:
    same(client.call("image_jpeg", _picture(client)).size, (2, 1))


@row("Path")
def _(client: Client) -> None:
    found = client.call("file", _note(client))
    assert isinstance(found, Path), f"expected a path, found {found!r}"
    same(found.read_bytes(), b"olleh")


@row("Path as str")
def _(client: Client) -> None:
    same(client.call("file", str(_note(client))).read_bytes(), b"olleh")


@row("Path from an open file")
def _(client: Client) -> None:
    with _note(client).open("rb") as file:
        same(client.call("file", file).read_bytes(), b"olleh")


@row("a file keeps the end of its name")
def _(client: Client) -> None:
    same(client.call("file_suffix", _note(client)), ".txt")
    same(client.call("file", _note(client)).suffix, ".txt")


@row("Path with ContentType")
def _(client: Client) -> None:
    same(client.call("file_plain", _note(client)), 5)


@row("Path with a pattern of media types")
def _(client: Client) -> None:
    path = client.folder / "sound.mp3"
    path.write_bytes(b"123")
    same(client.call("file_audio", path), 3)


@row("Path of the wrong media type")
def _(client: Client) -> None:
    with raises("InvalidArgument", containing="audio/*", status=400):
        client.call("file_audio", _note(client))


@row("Path out, with a pattern of media types")
def _(client: Client) -> None:
    same(client.call("file_out").read_bytes(), b"GIF89a")


@row("bytes")
def _(client: Client) -> None:
    same(client.call("blob", b"abc"), b"cba")


@row("bytes out, with ContentType")
def _(client: Client) -> None:
    same(client.call("blob_out", 4), bytes(4))


@row("list of Path")
def _(client: Client) -> None:
    same(client.call("files", [_note(client), _note(client, "hi")]), [5, 2])


@row("list of Image")
def _(client: Client) -> None:
    same(client.call("images", [_picture(client), _picture(client)]), [2, 2])


@row("Optional Image, given")
def _(client: Client) -> None:
    same(client.call("optional_image", _picture(client)), 2)


@row("Optional Image, absent")
def _(client: Client) -> None:
    same(client.call("optional_image"), -1)


@row("Optional Image, None")
def _(client: Client) -> None:
    same(client.call("optional_image", None), -1)


@row("a file and other values")
def _(client: Client) -> None:
    found = client.call("file_and_fields", _picture(client), "12", times=2, options={"a": [1]})
    same(found, {"width": 2, "name": "12", "times": 2, "options": {"a": [1]}})


# The body is the value


@row("root str")
def _(client: Client) -> None:
    same(client.call("root_text", "héllo"), "olléh")


@row("root str, quotes are kept")
def _(client: Client) -> None:
    same(client.call("root_text", '"hi"'), '"ih"')


_plain("root int", "root_whole", 41, 42)
_plain("root list", "root_list", [1, 2, 3], [3, 2, 1])
_plain("root model", "root_model", {"customer": "ann"}, "ann")
_plain("root bytes", "root_blob", b"abc", b"cba")


@row("root model, by its fields")
def _(client: Client) -> None:
    same(client.call("root_model", customer="ann"), "ann")


@row("root ndarray")
def _(client: Client) -> None:
    import numpy as np

    _same_array(client.call("root_array", np.array([1.5, 2.0])), np.array([3.0, 4.0]))


@row("root DataFrame")
def _(client: Client) -> None:
    import pandas as pd

    same(client.call("root_frame", pd.DataFrame({"a": [1, 2, 3]})), 3)


@row("root Image")
def _(client: Client) -> None:
    same(client.call("root_image", _picture(client)), [2, 1])


@row("root Path")
def _(client: Client) -> None:
    same(client.call("root_file", _note(client)), 5)


# How arguments are declared


@row("*args")
def _(client: Client) -> None:
    same(client.call("positional", args=[1, 2]), [1, 2])


@row("**kwargs, nested")
def _(client: Client) -> None:
    same(client.call("options", kwargs={"a": 1}), {"a": 1})


@row("**kwargs, flat")
def _(client: Client) -> None:
    same(client.call("options", a=1), {"a": 1})


@row("**kwargs, none")
def _(client: Client) -> None:
    same(client.call("options"), {})


@row("input_spec")
def _(client: Client) -> None:
    same(client.call("declared_input", customer="ann", items=[{"name": "pen"}]), "ann 1")


@row("a name that the client has itself")
def _(client: Client) -> None:
    same(client.call("api_close", 1), 2)


@row("a response made by hand")
def _(client: Client) -> None:
    same(client.call("whole_response"), "by hand")


@row("batch of a list")
def _(client: Client) -> None:
    same(client.call("batch", [1, 2, 3]), [10, 20, 30])


@row("batch of an ndarray")
def _(client: Client) -> None:
    import numpy as np

    _same_array(client.call("batch_array", np.array([[1, 2], [3, 4]])), np.array([[2, 3], [4, 5]]))


# The client itself


@row("call() by the endpoint's name")
def _(client: Client) -> None:
    same(client.call_by_name("text", "abc"), "ABC")


@row("call() of an endpoint that is not there")
def _(client: Client) -> None:
    with raises("NotFound"):
        client.call_by_name("nowhere")


@row("request() gives status, headers and cookies")
def _(client: Client) -> None:
    response = client.request("POST", "/context", json={"name": "ann"}, headers={"X-Asked": "yes"})
    same(response.status_code, 202)
    same(response.json(), {"name": "ann", "header": "yes"})
    same(response.headers["x-name"], "ann")
    same(response.cookies["name"], "ann")


@row("request() of a mounted application")
def _(client: Client) -> None:
    same(client.request("GET", "/mounted/hello", params={"name": "ann"}).text, "hello ann")


@row("is_ready()")
def _(client: Client) -> None:
    same(client.is_ready(), True)


# Errors


def _failure(how: str, error: str, status: int, words: str = "") -> None:
    @row(f"error {status}, {how}")
    def play(client: Client) -> None:
        with raises(error, containing=words, status=status):
            client.call("fail", how)


_failure("invalid", "InvalidArgument", 400, "value is wrong")
_failure("missing", "NotFound", 404, "nothing is here")
_failure("unprocessable", "UnprocessableEntity", 422, "cannot be processed")
_failure("unavailable", "ServiceUnavailable", 503)
_failure("teapot", "BentoMLException", 418, "short and stout")
_failure("unauthenticated", "BentoMLException", 401)
_failure("forbidden", "BentoMLException", 403)
_failure("code", "BentoMLException", 409, "the code says conflict")
_failure("base", "BentoMLException", 500)
_failure("bug", "BentoMLException", 500)


@row("a public caller is not told what a bug said")
def _(client: Client) -> None:
    response = client.request("POST", "/fail", json={"how": "bug"})
    assert "secret" not in response.text, response.text


@row("error of an async method")
def _(client: Client) -> None:
    with raises("InvalidArgument", containing="value is wrong", status=400):
        client.call("fail_asynchronously", "invalid")


# Streams


@row("stream of str")
def _(client: Client) -> None:
    same("".join(client.items("stream_text", 3)), "0\n1\n2\n")


@row("stream of str, async method")
def _(client: Client) -> None:
    same("".join(client.items("stream_text_async", 3)), "0\n1\n2\n")


@row("stream of bytes")
def _(client: Client) -> None:
    same(b"".join(client.items("stream_bytes", 3)), b"\0\1\2")


@row("stream of TypedDict")
def _(client: Client) -> None:
    same(client.items("stream_items", 3), [{"x": 0, "y": 0}, {"x": 1, "y": 1}, {"x": 2, "y": 4}])


@row("stream of int")
def _(client: Client) -> None:
    same(client.items("stream_numbers", 3), [0, 1, 2])


@row("stream with ContentType")
def _(client: Client) -> None:
    same("".join(client.items("stream_plain", 3)), "0 1 2 ")


@row("stream of nothing")
def _(client: Client) -> None:
    same(client.items("stream_text", 0), [])


@row("stream that fails before its first item")
def _(client: Client) -> None:
    with raises("InvalidArgument", containing="no more", status=400):
        client.items("stream_fails", 0)


@row("stream that breaks off is no success")
def _(client: Client) -> None:
    with raises("Exception"):
        client.items("stream_fails", 2)


# Tasks


def _wait(task: Task) -> str:
    """The status of a task that has ended."""
    deadline = time.monotonic() + DEADLINE_S
    while (status := task.status()) in {"pending", "in_progress"}:
        assert time.monotonic() < deadline, f"{status} after {DEADLINE_S:.0f} s"
        time.sleep(0.02)
    return status


@row("task called as an endpoint")
def _(client: Client) -> None:
    same(client.call("task", 3), {"value": 3, "square": 9})


@row("task: submit, status, get")
def _(client: Client) -> None:
    task = client.submit("task", 3)
    same(_wait(task), "completed")
    same(task.get(), {"value": 3, "square": 9})


@row("task by name of its argument")
def _(client: Client) -> None:
    task = client.submit("task", value=4)
    same(_wait(task), "completed")
    same(task.get(), {"value": 4, "square": 16})


@row("task that gives an Image")
def _(client: Client) -> None:
    task = client.submit("task_image", 3)
    same(_wait(task), "completed")
    same(task.get().size, (3, 1))


@row("task that fails")
def _(client: Client) -> None:
    task = client.submit("task", -1)
    same(_wait(task), "failed")
    with raises("InvalidArgument", containing="must not be negative", status=400):
        task.get()


@row("task that has not ended")
def _(client: Client) -> None:
    task = client.submit("task_slow", 8.0)
    with raises("InvalidArgument", containing="not completed yet", status=400):
        task.get()


@row("a task does not wait for another")
def _(client: Client) -> None:
    slow, quick = client.submit("task_slow", 8.0), client.submit("task", 3)
    same(_wait(quick), "completed")
    same(slow.status(), "in_progress")


@row("task: retry")
def _(client: Client) -> None:
    first = client.submit("task", 3)
    same(_wait(first), "completed")
    second = first.retry()
    assert second.id != first.id
    same(_wait(second), "completed")
    same(second.get(), {"value": 3, "square": 9})


@row("task: cancel")
def _(client: Client) -> None:
    task = client.submit("task_slow", 8.0)
    task.cancel()
    same(_wait(task), "canceled")


# A service below a path


@row("path_prefix", project="prefixed")
def _(client: Client) -> None:
    same(client.call("whole", 1), 2)


@row("path_prefix, a mounted application", project="prefixed")
def _(client: Client) -> None:
    same(client.request("GET", "/v1/mounted/hello").text, "hello")


@row("path_prefix, is_ready()", project="prefixed")
def _(client: Client) -> None:
    same(client.is_ready(), True)


# What only this project can declare


@row("Optional Path, given", project="beyond")
def _(client: Client) -> None:
    same(client.call("optional_file", _note(client)), 5)


@row("Optional Path, absent", project="beyond")
def _(client: Client) -> None:
    same(client.call("optional_file"), -1)


@row("Optional Path, None", project="beyond")
def _(client: Client) -> None:
    same(client.call("optional_file", None), -1)


@row("Image | None, given", project="beyond")
def _(client: Client) -> None:
    same(client.call("image_or_none", _picture(client)), 2)


@row("Image | None, absent", project="beyond")
def _(client: Client) -> None:
    same(client.call("image_or_none"), -1)


@row("async stream with ContentType", project="beyond")
def _(client: Client) -> None:
    same("".join(client.items("stream_plain", 3)), "0 1 2 ")


@row("dtype without np.dtype", project="beyond")
def _(client: Client) -> None:
    same(client.call("array_of_bytes", [[1, 2]]), "uint8")

"""The requests whose answers are compared, one by one, between the two servers."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TypeAlias

# A part of a form as httpx takes it: file name, content, media type.
File: TypeAlias = tuple[str, bytes] | tuple[str, bytes, str]

# A red and a blue pixel. What an encoder writes differs between releases, so these are constants.
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAIAAAABCAIAAAB7QOjdAAAAD0lEQVR4nGP4z8DAwPAfAAcAAf9+CLHQAAAAAElFTkSuQmCC"
)


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """One request, and the name that a failure shows."""

    name: str
    path: str
    project: str = "service"
    method: str = "POST"
    content: bytes = b""
    fields: dict[str, str] = field(default_factory=dict)
    files: list[tuple[str, File]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)


def sent_json(name: str, path: str, value: object, /, **headers: str) -> Exchange:
    kind = {"Content-Type": "application/json", **headers}
    return Exchange(name=name, path=path, content=json.dumps(value).encode(), headers=kind)


def sent_raw(name: str, path: str, content: bytes, media_type: str | None = None) -> Exchange:
    headers = {} if media_type is None else {"Content-Type": media_type}
    return Exchange(name=name, path=path, content=content, headers=headers)


def sent_form(name: str, path: str, /, *files: tuple[str, File], **fields: str) -> Exchange:
    return Exchange(name=name, path=path, files=list(files), fields=fields)


def asked(name: str, path: str, method: str = "GET", *, project: str = "service") -> Exchange:
    return Exchange(name=name, path=path, method=method, project=project)


def _json_types() -> Iterator[Exchange]:
    order = {"customer": "ann", "items": [{"name": "pen", "price": 2}, {"name": "ink"}]}
    values: dict[str, object] = {
        "text": "héllo",
        "whole": 41,
        "real": 3,
        "flag": True,
        "listed": [1, 2, 3],
        "bare_list": [1, "two", None, {"three": 3.5}],
        "mapping": {"a": 1, "b": 2.5},
        "bare_dict": {"a": [1, 2], "b": None},
        "typed_dict": {"x": 1, "y": 2},
        "dataclass": {"start": 1},
        "model": order,
        "models": order["items"],
        "optional": 1,
        "literal": "red",
        "anything": {"a": [1.5, "ü", None]},
        "asynchronous": 1,
    }
    for endpoint, value in values.items():
        yield sent_json(endpoint, f"/{endpoint}", {"value": value})
    yield sent_json("nothing", "/nothing", {})
    yield sent_json("optional, null", "/optional", {"value": None})
    yield sent_json("optional, absent", "/optional", {})
    yield sent_json("defaults, all absent but one", "/defaults", {"a": 1})
    yield sent_json("defaults, all given", "/defaults", {"a": 1, "b": 3, "c": "y"})
    yield sent_json("an unknown key is ignored", "/defaults", {"a": 1, "zzz": 1})
    yield sent_json("a number as a string becomes a number", "/whole", {"value": "41"})
    yield sent_json("a whole float becomes an int", "/whole", {"value": 41.0})
    yield sent_json("a real with a point", "/real", {"value": 1.0})
    yield sent_json("a flag as a word becomes a flag", "/flag", {"value": "no"})
    yield sent_json("anything, a string", "/anything", {"value": "text"})
    yield sent_json("anything, null", "/anything", {"value": None})


def _arrays_and_frames() -> Iterator[Exchange]:
    yield sent_json("array", "/array", {"value": [[1, 2], [3, 4]]})
    yield sent_json("array of reals", "/array", {"value": [1.5, 2]})
    yield sent_json("array, one number", "/array", {"value": 3})
    yield sent_json("array, empty", "/array", {"value": []})
    yield sent_json("array with dtype", "/array_dtype", {"value": [1, 2]})
    yield sent_json("array with shape", "/array_shape", {"value": [[1, 2, 3], [4, 5, 6]]})
    yield sent_json("array reshaped", "/array_shape", {"value": [1, 2, 3, 4, 5, 6]})
    yield sent_json("array of the wrong shape", "/array_shape", {"value": [1, 2, 3]})
    yield sent_json("array of unequal rows", "/array", {"value": [[1], [1, 2]]})
    yield sent_json("array of words", "/array_dtype", {"value": ["a"]})
    yield sent_json("tensor", "/tensor", {"value": [[1.0, 2.0], [3.0, 4.0]]})
    yield sent_json("frame", "/frame", {"value": [{"a": 1, "b": 2}, {"a": 3, "b": 4.5}]})
    yield sent_json("frame given by columns", "/frame", {"value": {"a": [1, 2], "b": [3, 4]}})
    yield sent_json("frame by columns", "/frame_columns", {"value": {"a": [1, 2], "b": [3, 4]}})
    yield sent_json("frame by columns given by records", "/frame_columns", {"value": [{"a": 1, "b": 2}]})
    yield sent_json("frame from a word", "/frame", {"value": "word"})


def _files() -> Iterator[Exchange]:
    picture: File = ("dots.png", PNG, "image/png")
    text: File = ("note.txt", b"hello", "text/plain")
    yield sent_form("image", "/image", ("value", picture))
    yield sent_form("image with no media type", "/image", ("value", ("dots.png", PNG)))
    yield sent_form("image of another type", "/image_jpeg", ("value", picture))
    yield sent_form("an image that is none", "/image", ("value", ("x.png", b"not an image", "image/png")))
    yield sent_form("an image under a wrong type", "/image", ("value", ("x.gif", PNG, "image/gif")))
    yield sent_form("file", "/file", ("value", text))
    yield sent_form("the name of a file is its suffix", "/file_suffix", ("value", text))
    yield sent_form("file with no name", "/file_suffix", ("value", ("", b"hello", "text/plain")))
    yield sent_form("a file of its media type", "/file_plain", ("value", text))
    yield sent_form("audio", "/file_audio", ("value", ("a.mp3", b"123", "audio/mp3")))
    yield sent_form("audio with no media type", "/file_audio", ("value", ("a", b"123")))
    yield sent_form("audio that is text", "/file_audio", ("value", text))
    yield sent_json("file out", "/file_out", {})
    yield sent_json("blob", "/blob", {"value": "abc"})
    yield sent_form("blob as a part", "/blob", ("value", ("b.bin", b"abc")))
    yield sent_json("blob out with its type", "/blob_out", {"size": 4})
    yield sent_form("files", "/files", ("value", text), ("value", ("other.txt", b"hi")))
    yield sent_form("one file where several may be", "/files", ("value", text))
    yield sent_form("images", "/images", ("value", picture), ("value", picture))
    yield sent_form("optional image", "/optional_image", ("value", picture))
    yield sent_json("optional image, absent", "/optional_image", {})
    yield sent_form("file and fields", "/file_and_fields", ("picture", picture), name='"ann"', times="2")
    yield sent_form("a bare word is a string", "/file_and_fields", ("picture", picture), name="ann")
    yield sent_form("a number where a string is asked", "/file_and_fields", ("picture", picture), name="12")
    yield sent_form(
        "an object as a field", "/file_and_fields", ("picture", picture), name="ann", options='{"a": [1]}'
    )
    yield sent_form("a form without its file", "/file_and_fields", name="ann")
    yield sent_form("a form with a field that is missing", "/file_and_fields", ("picture", picture))
    yield sent_form("words where a file is asked", "/image", value="no file")
    yield sent_form("an address inside the network", "/image", value="http://127.0.0.1:9/x.png")
    yield sent_json("JSON where a form is asked", "/image", {"value": "x"})
    yield sent_json("JSON where a form is asked, empty", "/image", {})


def _root_inputs() -> Iterator[Exchange]:
    yield sent_raw("root text", "/root_text", "héllo".encode(), "text/plain")
    yield sent_raw("root text, quotes are kept", "/root_text", b'"hello"', "application/json")
    yield sent_raw("root text, no type", "/root_text", b"hello")
    yield sent_raw("root text, empty", "/root_text", b"", "text/plain")
    yield sent_json("root number", "/root_whole", 41)
    yield sent_raw("root number, no type", "/root_whole", b"41")
    yield sent_json("root number, a word", "/root_whole", "word")
    yield sent_json("root list", "/root_list", [1, 2, 3])
    yield sent_json("root list, an object", "/root_list", {"value": [1]})
    yield sent_json("root model", "/root_model", {"customer": "ann"})
    yield sent_json("root model, a field missing", "/root_model", {"items": []})
    yield sent_json("root array", "/root_array", [[1, 2], [3, 4]])
    yield sent_json("root frame", "/root_frame", [{"a": 1}, {"a": 2}])
    yield sent_raw("root image", "/root_image", PNG, "image/png")
    yield sent_raw("root image, no type", "/root_image", PNG)
    yield sent_raw("root image, not an image", "/root_image", b"nothing", "image/png")
    yield sent_form("root image in a form", "/root_image", ("value", ("dots.png", PNG, "image/png")))
    yield sent_raw("root file", "/root_file", b"hello", "text/plain")
    yield sent_raw("root file, no type", "/root_file", b"hello")
    yield sent_raw("root file, an address inside", "/root_file", b"http://127.0.0.1:9/x")
    yield sent_raw("root blob", "/root_blob", b"abc", "application/octet-stream")


def _declarations() -> Iterator[Exchange]:
    yield sent_json("positional", "/positional", {"args": [1, 2]})
    yield sent_json("options, nested", "/options", {"kwargs": {"a": 1}})
    yield sent_json("options, flat", "/options", {"a": 1})
    yield sent_json("options, none", "/options", {})
    yield sent_json("input_spec", "/declared_input", {"customer": "ann", "items": [{"name": "pen"}]})
    yield sent_json("input_spec, a field missing", "/declared_input", {})
    yield sent_json("a route of its own", "/routes/renamed", {"value": 5})
    yield sent_json("a renamed route by its old name", "/routed", {"value": 5})
    yield sent_json("context", "/context", {"name": "ann"}, **{"X-Asked": "yes"})
    yield sent_json("a response made by hand", "/whole_response", {})
    yield sent_json("a batch", "/batch", {"values": [1, 2, 3]})
    yield sent_json("a batch of none", "/batch", {"values": []})
    yield sent_json("a batch of an array", "/batch_array", {"values": [[1, 2], [3, 4]]})
    yield sent_json("a batch of the wrong type", "/batch", {"values": ["x"]})


def _requests() -> Iterator[Exchange]:
    yield sent_raw("empty body", "/defaults", b"")
    yield sent_raw("empty body where nothing is asked", "/nothing", b"")
    yield sent_raw("JSON under no type", "/whole", b'{"value": 1}')
    yield sent_raw("JSON under an unknown type", "/whole", b'{"value": 1}', "application/x-unknown")
    yield sent_raw("JSON under text/plain", "/whole", b'{"value": 1}', "text/plain")
    yield sent_raw("JSON with a charset", "/whole", b'{"value": 1}', "application/json; charset=utf-8")
    yield sent_form("fields as an urlencoded form", "/defaults", a="1", c="word")
    yield sent_raw("malformed JSON", "/whole", b'{"value": ', "application/json")
    yield sent_raw("not JSON", "/whole", b"\xff\xfe", "application/json")
    yield sent_json("a list where an object is asked", "/whole", [1])
    yield sent_json("null where an object is asked", "/whole", None)
    yield sent_json("a missing value", "/whole", {})
    yield sent_json("a value of the wrong type", "/whole", {"value": "word"})
    yield sent_json("two values of the wrong type", "/defaults", {"a": "x", "b": "y"})
    yield sent_json("a wrong value deep inside", "/model", {"value": {"customer": "a", "items": [{}]}})
    yield sent_json("a word out of the list", "/literal", {"value": "blue"})
    yield sent_raw("NaN where a number is asked", "/real", b'{"value": NaN}', "application/json")
    yield sent_raw("a form with no boundary", "/image", b"x", "multipart/form-data")
    yield sent_raw("pickle", "/whole", b"\x80\x04N.", "application/vnd.bentoml+pickle")


def _failures() -> Iterator[Exchange]:
    for how in (
        "base", "invalid", "missing", "unprocessable", "unavailable",
        "teapot", "unauthenticated", "forbidden", "code", "bug",
    ):  # fmt: skip
        yield sent_json(f"fail, {how}", "/fail", {"how": how})
    yield sent_json("fail in async, invalid", "/fail_asynchronously", {"how": "invalid"})
    yield sent_json("fail in async, bug", "/fail_asynchronously", {"how": "bug"})


def _streams() -> Iterator[Exchange]:
    for endpoint in ("text", "text_async", "bytes", "items", "numbers", "plain"):
        yield sent_json(f"stream, {endpoint}", f"/stream_{endpoint}", {"count": 3})
    yield sent_json("stream of none", "/stream_text", {"count": 0})
    yield sent_json("stream that fails at once", "/stream_fails", {"after": 0})
    yield sent_json("stream that fails later", "/stream_fails", {"after": 2})
    yield sent_json("stream of a wrong argument", "/stream_text", {"count": "x"})


def _other_paths() -> Iterator[Exchange]:
    for path in ("/livez", "/readyz", "/healthz"):
        yield asked(path, path)
    yield asked("GET of an endpoint", "/whole")
    yield asked("PUT of an endpoint", "/whole", "PUT")
    yield asked("OPTIONS of an endpoint", "/whole", "OPTIONS")
    yield asked("HEAD of a probe", "/livez", "HEAD")
    yield asked("POST of a probe", "/livez", "POST")
    yield asked("a path that is not there", "/nowhere")
    yield asked("a path that is not there, POST", "/nowhere", "POST")
    yield asked("an endpoint with a slash", "/whole/", "POST")
    yield asked("a mount", "/mounted/hello?name=ann")
    yield asked("a mount, a path that is not there", "/mounted/nowhere")


def _tasks() -> Iterator[Exchange]:
    yield sent_json("a task called as an endpoint", "/task", {"value": 3})
    yield sent_json("submit of a wrong argument", "/task/submit", {"value": "x"})
    yield sent_json("submit of a missing argument", "/task/submit", {})
    for action, method in (("status", "GET"), ("get", "GET"), ("retry", "POST"), ("cancel", "PUT")):
        yield asked(f"{action} of no id", f"/task/{action}", method)
        yield asked(f"{action} of an unknown id", f"/task/{action}?task_id=0123", method)
    yield asked("submit by GET", "/task/submit", "GET")
    yield asked("status by POST", "/task/status?task_id=0123", "POST")


def _below_a_path() -> Iterator[Exchange]:
    paths = [
        "/v1/whole", "/whole", "/v1/livez", "/v1/readyz", "/v1/healthz", "/livez", "/readyz", "/healthz",
        "/v1/schema.json", "/docs.json", "/", "/v1", "/metrics", "/v1/mounted/hello", "/mounted/hello",
    ]  # fmt: skip
    for path in paths:
        yield asked(f"below a path: {path}", path, project="prefixed")
    called = sent_json("below a path: a call", "/v1/whole", {"value": 1})
    yield replace(called, project="prefixed")


EXCHANGES: list[Exchange] = [
    *_json_types(),
    *_arrays_and_frames(),
    *_files(),
    *_root_inputs(),
    *_declarations(),
    *_requests(),
    *_failures(),
    *_streams(),
    *_other_paths(),
    *_tasks(),
    *_below_a_path(),
]

from __future__ import annotations

import dataclasses
import io
import typing as t
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from PIL.Image import Image as PIL_Image
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    field_serializer,
    field_validator,
)
from starlette.responses import Response
from typing_extensions import TypedDict

import bentoml
from bentoml._endpoint import Endpoint
from bentoml._signature import Arguments, EndpointSignature
from bentoml.exceptions import InvalidArgument, UnservableException
from bentoml.validators import Device, DType


class Params(BaseModel):
    prompt: str
    negative_prompt: t.Optional[str]  # noqa: UP045  # as the documentation writes it
    steps: int = 25


@dataclasses.dataclass
class Point:
    x: int


class Row(TypedDict):
    name: str


class Indescribable:
    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        raise TypeError("no words")


def signature(method: Callable[..., Any]) -> EndpointSignature:
    return EndpointSignature(bentoml.Endpoint(method), "Iris")


def given(method: Callable[..., Any], **fields: Any) -> Arguments:
    """What the method is called with for these fields of a public request."""
    return signature(method).from_fields(fields)


def problems(method: Callable[..., Any], **fields: Any) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        given(method, **fields)
    return [f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in caught.value.errors()]


def png(mode: str = "RGB", size: tuple[int, int] = (2, 1)) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size).save(file, "PNG")
    return file.getvalue()


def test_fields_become_the_parameters_of_their_names() -> None:
    def predict(self: Any, a: int, b: str = "x", *, c: float = 0.5) -> None: ...

    assert given(predict, a="1", c=2, unknown=3) == Arguments((1, "x"), {"c": 2.0})


def test_a_parameter_without_annotation_takes_anything() -> None:
    def predict(self, a, b=None):  # type: ignore[no-untyped-def]  # what is tested
        ...

    assert given(predict, a={"b": [1]}) == Arguments(({"b": [1]}, None), {})


def test_all_problems_of_a_request_are_told_at_once() -> None:
    def predict(self: Any, a: int, b: str, params: Params) -> None: ...

    assert problems(predict, a="x", params={"prompt": "cat"}) == [
        "a: Input should be a valid integer, unable to parse string as an integer",
        "b: Field required",
        "params.negative_prompt: Field required",
    ]


@pytest.mark.parametrize(
    "name", ["copy", "json", "schema", "_hidden", "model_fields", "model_config", "p0", "self_"]
)
def test_a_parameter_may_have_any_name(name: str) -> None:
    namespace: dict[str, Any] = {}
    exec(f"def predict(self, {name}: int, p1: int = 0): ...", namespace)

    assert given(namespace["predict"], **{name: "5"}) == Arguments((5, 0), {})


def test_names_stand_in_messages_and_schemas() -> None:
    def predict(self: Any, _hidden: int) -> None: ...

    assert problems(predict) == ["_hidden: Field required"]
    assert list(signature(predict).input_model.model_json_schema()["properties"]) == ["_hidden"]


@pytest.mark.parametrize(
    "fields",
    [{"prompt": "cat", "steps": 5, "scale": 1}, {"prompt": "cat", "kwargs": {"steps": 5}, "scale": 1}],
    ids=["flat", "nested"],
)
def test_keywords_may_be_flat_or_nested(fields: dict[str, Any]) -> None:
    def generate(self: Any, prompt: str, **kwargs: Any) -> None: ...

    assert given(generate, **fields) == Arguments(("cat",), {"steps": 5, "scale": 1})


def test_keywords_need_not_be_there() -> None:
    def generate(self: Any, prompt: str, **kwargs: Any) -> None: ...

    assert given(generate, prompt="cat") == Arguments(("cat",), {})


def test_keywords_have_the_type_they_are_annotated_with() -> None:
    def generate(self: Any, **weights: float) -> None: ...

    assert given(generate, a="1.5", weights={"b": 2}) == Arguments((), {"a": 1.5, "b": 2.0})
    assert problems(generate, a="x") == [
        "kwargs.a: Input should be a valid number, unable to parse string as a number"
    ]


def test_further_positional_parameters_are_passed_in_place() -> None:
    def predict(self: Any, a: int, *rest: int, c: int = 0) -> None: ...

    assert given(predict, a=1, rest=["3", 4]) == Arguments((1, 3, 4), {"c": 0})
    assert given(predict, a=1, args=["3", 4]) == Arguments((1, 3, 4), {"c": 0})
    assert signature(predict).from_call((1, 2, 3), {"c": 4}) == Arguments((1, 2, 3), {"c": 4})


def test_a_positional_only_parameter_is_the_whole_body() -> None:
    def predict(self: Any, a: int, /) -> None: ...

    assert signature(predict).from_json(b"3") == Arguments((3,), {})
    assert signature(predict).from_call((4,), {}) == Arguments((4,), {})


def test_a_peers_keywords_fill_in_the_model_of_an_input_spec() -> None:
    class Prompt(BaseModel):
        prompt: str
        steps: int = 20

    def generate(self: Any, **params: Any) -> None: ...

    endpoint = Endpoint(generate, input_spec=Prompt)

    assert EndpointSignature(endpoint, "Painter").from_call((), {"prompt": "a cat"}) == Arguments(
        (), {"prompt": "a cat", "steps": 20}
    )


def test_the_whole_body_is_one_parameter() -> None:
    def predict(self: Any, a: int, /, b: int) -> None: ...

    with pytest.raises(TypeError, match=r"Iris\.predict: `a` is positional-only"):
        signature(predict)


def test_a_body_that_is_one_value_may_have_a_default() -> None:
    def predict(self: Any, xs: list[int] = [1], /) -> None: ...  # noqa: B006  # each call has its own

    one, other = signature(predict).from_call([], {}), signature(predict).without_body()

    assert other is not None
    assert (one.positional, other.positional) == (([1],), ([1],))
    assert one.positional[0] is not predict.__defaults__[0]  # type: ignore[index]  # it has one


def test_a_body_that_is_one_value_may_have_a_default_of_pydantic() -> None:
    def predict(self: Any, x: int = Field(default_factory=lambda: 3, gt=1), /) -> None: ...

    assert signature(predict).without_body() == Arguments((3,), {})
    with pytest.raises(ValidationError, match="greater than 1"):
        signature(predict).from_root(0)


def test_a_field_without_a_default_is_required() -> None:
    def predict(self: Any, x: int = Field(gt=1), /) -> None: ...

    assert signature(predict).without_body() is None
    with pytest.raises(InvalidArgument, match=r"Iris\.predict: missing a required argument: 'x'"):
        signature(predict).from_call([], {})


def test_a_call_is_bound_as_python_does() -> None:
    def generate(self: Any, prompt: str, steps: int = 25, **kwargs: Any) -> None: ...

    assert signature(generate).from_call(("cat",), {"seed": 1, "kwargs": 2}) == Arguments(
        ("cat", 25), {"seed": 1, "kwargs": 2}
    )


@pytest.mark.parametrize(
    ("positional", "keywords", "message"),
    [
        ((), {}, "Iris.generate: missing a required argument: 'prompt'"),
        (("cat", 1), {}, "Iris.generate: too many positional arguments"),
        (("cat",), {"stepps": 1}, "Iris.generate: got an unexpected keyword argument 'stepps'"),
    ],
)
def test_a_call_that_does_not_fit_is_told_in_pythons_words(
    positional: tuple[Any, ...], keywords: dict[str, Any], message: str
) -> None:
    def generate(self: Any, prompt: str) -> None: ...

    with pytest.raises(InvalidArgument) as caught:
        signature(generate).from_call(positional, keywords)

    assert str(caught.value) == message


def test_a_default_of_pydantic_is_honoured() -> None:
    def predict(self: Any, a: int = bentoml.Field(default=3, gt=2)) -> None: ...

    assert given(predict) == Arguments((3,), {})
    assert problems(predict, a=1) == ["a: Input should be greater than 2"]


ARRAY_ANNOTATIONS: list[tuple[Any, str | None]] = [
    (np.ndarray, None),
    (np.ndarray[t.Any, np.uint8], "uint8"),  # type: ignore[type-var]  # as the documentation writes it
    (np.ndarray[t.Any, np.dtype[np.uint8]], "uint8"),
    (np.ndarray[tuple[int, int], np.dtype[np.float16]], "float16"),
    (npt.NDArray[np.float32], "float32"),
    (npt.NDArray[Any], None),
    (npt.NDArray[np.floating[Any]], None),
    (npt.NDArray[np.integer[Any]], None),
    (npt.NDArray[np.generic], None),
    (np.ndarray[t.Any, np.number], None),  # type: ignore[type-var]  # as the documentation writes it
    (t.Annotated[np.ndarray[Any, np.dtype[np.int8]], "said more"], "int8"),
]


@pytest.mark.parametrize(("annotation", "dtype"), ARRAY_ANNOTATIONS, ids=str)
def test_an_array_may_be_annotated_in_many_ways(annotation: Any, dtype: str | None) -> None:
    def predict(self: Any, arr: Any) -> None: ...

    predict.__annotations__["arr"] = annotation
    (array,) = given(predict, arr=[[1, 2], [3, 4]]).positional

    assert (array.shape, str(array.dtype)) == ((2, 2), dtype or "int64")


def test_annotations_that_are_text_are_resolved() -> None:
    def predict(self: Any, arr: np.ndarray[t.Any, np.uint8], image: PIL_Image | None = None) -> None: ...  # type: ignore[type-var]

    (array, image) = given(predict, arr=[1], image=png()).positional

    assert (array.dtype, image.size) == (np.uint8, (2, 1))


@pytest.mark.parametrize(
    ("sent", "wanted"),
    [
        ("uint8", "uint8"),
        ("float64", "float32"),
        ("int64", "float32"),
        ("uint8", "int32"),
        ("bool", "uint8"),
        ("int64", "int8"),
    ],
)
def test_an_array_of_a_kind_that_fits_is_converted(sent: str, wanted: str) -> None:
    def predict(self: Any, arr: Any) -> None: ...

    predict.__annotations__["arr"] = np.ndarray[Any, np.dtype[np.dtype(wanted).type]]  # type: ignore[misc]
    (array,) = signature(predict).from_call((np.ones(2, sent),), {}).positional

    assert (str(array.dtype), array.tolist()) == (wanted, [1, 1])


@pytest.mark.parametrize(
    ("sent", "wanted"), [("float64", "uint8"), ("int64", "uint8"), ("complex64", "float64")]
)
def test_an_array_whose_numbers_would_be_lost_is_refused(sent: str, wanted: str) -> None:
    def predict(self: Any, arr: Any) -> None: ...

    predict.__annotations__["arr"] = np.ndarray[Any, np.dtype[np.dtype(wanted).type]]  # type: ignore[misc]

    with pytest.raises(ValidationError, match=f"expected an array of {wanted}, found {sent}"):
        signature(predict).from_call((np.ones(2, sent),), {})


def test_an_array_that_fits_is_passed_on_without_a_copy() -> None:
    def predict(self: Any, arr: npt.NDArray[np.float64]) -> None: ...

    sent = np.ones(2)

    assert signature(predict).from_call((sent,), {}).positional[0] is sent


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("text", "expected an array, found str"),
        ({"a": 1}, "expected an array, found dict"),
        ([1, [2]], "no array: "),
        ([300], "expected an array of uint8, found numbers that it cannot hold"),
        ([-1], "expected an array of uint8, found numbers that it cannot hold"),
        ([1.5], "expected an array of uint8, found numbers that it cannot hold"),
        ([float("nan")], "expected numbers, found one that is infinite or none"),
        ([2**70], "expected numbers, found an array of object"),
        (["a"], "expected numbers, found an array of <U1"),
        (None, "expected an array, found NoneType"),
    ],
)
def test_what_is_no_array_is_refused_in_words(value: object, message: str) -> None:
    def predict(self: Any, arr: npt.NDArray[np.uint8]) -> None: ...

    (problem,) = problems(predict, arr=value)

    assert problem.startswith(f"arr: Value error, {message}")


def test_text_in_an_array_without_dtype_is_refused() -> None:
    def predict(self: Any, arr: npt.NDArray[Any]) -> None: ...

    assert problems(predict, arr=["a"]) == ["arr: Value error, expected numbers, found an array of <U1"]


def test_an_image_is_read_from_its_file() -> None:
    def predict(self: Any, image: PIL_Image) -> None: ...

    (image,) = given(predict, image=png("L")).positional

    assert (image.mode, image.size, image.format) == ("L", (2, 1), "PNG")


def test_an_image_from_a_peer_is_passed_on() -> None:
    def predict(self: Any, image: PIL_Image) -> None: ...

    image = Image.new("RGB", (1, 1))

    assert signature(predict).from_call((image,), {}).positional[0] is image


@pytest.mark.parametrize("sent", [None, png()])
def test_an_image_may_be_optional(sent: bytes | None) -> None:
    def predict(self: Any, image: t.Optional[PIL_Image] = None) -> None: ...  # noqa: UP045  # as users write it

    (image,) = given(predict, image=sent).positional

    assert isinstance(image, Image.Image) == (sent is not None)


@pytest.mark.parametrize(
    "annotation", [list[PIL_Image], tuple[PIL_Image, ...], t.Sequence[PIL_Image]], ids=str
)
def test_images_may_come_as_a_list(annotation: Any) -> None:
    def predict(self: Any, images: Any) -> None: ...

    predict.__annotations__["images"] = annotation
    (images,) = given(predict, images=[png(), png("L")]).positional

    assert [image.mode for image in images] == ["RGB", "L"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"no file", "not an image of a known format"),
        (png()[:40], "not an image of a known format"),
        (b"", "not an image of a known format"),
        ("text", "expected an image file, found str"),
        ([1], "expected an image file, found list"),
    ],
)
def test_what_is_no_image_is_refused_in_words(value: object, message: str) -> None:
    def predict(self: Any, image: PIL_Image) -> None: ...

    (problem,) = problems(predict, image=value)

    assert problem.startswith(f"image: Value error, {message}")


def test_an_image_that_would_fill_the_memory_is_refused() -> None:
    def predict(self: Any, image: PIL_Image) -> None: ...

    (problem,) = problems(predict, image=png("1", (20000, 20000)))

    assert problem.startswith("image: Value error, ")


def test_an_annotation_that_names_nothing_is_told() -> None:
    def predict(self: Any, x: Unheard) -> None: ...  # type: ignore[name-defined]  # noqa: F821  # what is tested

    with pytest.raises(
        UnservableException,
        match=r"Iris\.predict: the annotation `x: Unheard` cannot be resolved",
    ):
        signature(predict)


@pytest.mark.parametrize(
    ("annotation", "result", "body"),
    [
        (int, 1, b"1"),
        (None, None, b"null"),
        (
            Params,
            Params(prompt="a", negative_prompt=None),
            b'{"prompt":"a","negative_prompt":null,"steps":25}',
        ),
        (Point, Point(1), b'{"x":1}'),
        (Row, {"name": "a"}, b'{"name":"a"}'),
        (list[Point], [Point(1)], b'[{"x":1}]'),
        (np.ndarray, np.eye(2), b"[[1.0,0.0],[0.0,1.0]]"),
        (np.ndarray | None, None, b"null"),
        (dict[str, np.ndarray], {"a": np.array([1])}, b'{"a":[1]}'),
        (Any, (1, "a"), b'[1,"a"]'),
    ],
    ids=str,
)
def test_a_result_is_written_as_its_annotation_says(annotation: Any, result: object, body: bytes) -> None:
    def predict(self: Any) -> Any: ...

    predict.__annotations__["return"] = annotation

    assert signature(predict).output.dump_json(result) == body


class Plain:
    """A class of the project's own, of which nobody has said how it travels."""


class Holder(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    plain: Plain
    holders: "list[Holder]" = []  # noqa: UP037  # the class is not there yet


class Ready(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    plain: Plain
    hidden: Plain | None = Field(default=None, exclude=True)

    @field_validator("plain", "hidden", mode="before")
    @classmethod
    def make(cls, value: object) -> Plain:
        return Plain()

    @field_serializer("plain")
    def write(self, plain: Plain) -> str:
        return "plain"


NO_INPUT = (
    "which no request brings; make it a pydantic model or a dataclass, or tell how one is made: "
    "`Annotated[Plain, pydantic.BeforeValidator(...)]`"
)
NO_RESULT = (
    "of which no response can be made; make it a pydantic model or a dataclass, or tell what stands for one: "
    "`Annotated[Plain, pydantic.PlainSerializer(...)]`"
)


@pytest.mark.parametrize(
    ("annotation", "place"),
    [
        (Plain, "x"),
        (list[Plain], "x"),
        (dict[str, Plain | None], "x"),
        (int | Plain, "x"),
        (Holder, "x.plain"),
        (tuple[int, Holder], "x.plain"),
    ],
    ids=str,
)
def test_a_plain_class_as_a_parameter_is_refused_before_anything_starts(annotation: Any, place: str) -> None:
    def predict(self: Any, x: Any) -> None: ...

    predict.__annotations__["x"] = annotation

    with pytest.raises(UnservableException) as caught:
        signature(predict).prepare()

    assert str(caught.value) == f"Iris.predict: `{place}` is a `Plain`, {NO_INPUT}"


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (Annotated[np.ndarray, DType("flaot32")], "`x`: data type 'flaot32' not understood"),
        (Annotated[torch.Tensor, DType("flaot32")], "`x`: torch has no element type 'flaot32'"),
        (Annotated[torch.Tensor, Device("gpu")], "`x`: torch has no device 'gpu'"),
    ],
    ids=str,
)
def test_an_element_type_or_a_device_that_there_is_not_is_refused_before_anything_starts(
    annotation: Any, words: str
) -> None:
    def predict(self: Any, x: Any) -> None: ...

    predict.__annotations__["x"] = annotation

    with pytest.raises(UnservableException) as caught:
        signature(predict).prepare()

    assert str(caught.value) == f"Iris.predict: {words}"


def test_a_plain_class_as_the_whole_body_is_refused() -> None:
    def predict(self: Any, holder: Holder, /) -> None: ...

    with pytest.raises(UnservableException, match=r"Iris\.predict: `holder\.plain` is a `Plain`"):
        signature(predict).prepare()


@pytest.mark.parametrize(
    ("annotation", "what"),
    [(Plain, "its result"), (list[Plain], "its result"), (Holder, "`plain` of its result")],
    ids=str,
)
def test_a_plain_class_as_the_result_is_refused_before_anything_starts(annotation: Any, what: str) -> None:
    def predict(self: Any) -> Any: ...

    predict.__annotations__["return"] = annotation

    with pytest.raises(UnservableException) as caught:
        signature(predict).prepare()

    assert str(caught.value) == f"Iris.predict: {what} is a `Plain`, {NO_RESULT}"


def test_all_plain_classes_of_an_endpoint_are_told_at_once() -> None:
    def predict(self: Any, x: Plain) -> Plain:
        return x

    with pytest.raises(UnservableException) as caught:
        signature(predict).prepare()

    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize("annotation", [Ready, Annotated[Plain, PlainSerializer(str)], np.float32, Response])
def test_a_result_that_is_told_how_it_is_written_is_served(annotation: Any) -> None:
    def predict(self: Any) -> Any: ...

    predict.__annotations__["return"] = annotation

    signature(predict).prepare()


@pytest.mark.parametrize(
    "annotation", [Ready, Annotated[Plain, BeforeValidator(lambda _: Plain())], np.float32]
)
def test_a_parameter_that_is_told_how_it_is_made_is_served(annotation: Any) -> None:
    def predict(self: Any, x: Any) -> None: ...

    predict.__annotations__["x"] = annotation

    signature(predict).prepare()


def test_a_class_that_the_codec_was_taught_is_served_to_peers() -> None:
    class Taught:
        pass

    bentoml.codec.register(Taught, name="taught", encode=lambda _: None, decode=lambda _: Taught())

    def predict(self: Any, x: Any) -> Any: ...

    predict.__annotations__.update({"x": Taught, "return": list[Taught]})

    signature(predict).prepare()


def test_a_result_that_pydantic_cannot_describe_is_told() -> None:
    def predict(self: Any) -> Any: ...

    predict.__annotations__["return"] = Indescribable

    with pytest.raises(UnservableException, match=r"Iris\.predict: its result: no words"):
        _ = signature(predict).output

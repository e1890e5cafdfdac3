from __future__ import annotations

import dataclasses
import json
import typing as t
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL.Image import Image as PIL_Image
from pydantic import BaseModel, Field
from typing_extensions import NotRequired, TypedDict

import bentoml
from bentoml._annotations import Type
from bentoml._contract import MAX_SIZE, Changes, Contract, Parameter, changes, contract_of
from bentoml._placeholder import Placeholder
from bentoml.exceptions import BadInput

from .conftest import Load

Rgb = np.ndarray[t.Any, np.dtype[np.uint8]]
Method = Callable[..., Any]


def contract(method: Method) -> Contract:
    return contract_of(bentoml.Endpoint(method))


def types(method: Method) -> list[str]:
    return [str(parameter.type) for parameter in contract(method).parameters]


def between(here: Method, there: Method) -> Changes:
    """What the version `there` of a method means for callers that have the version `here`."""
    return changes(contract(here), Contract.parse(contract(there).text()))


def breaking(here: Method, there: Method) -> tuple[str, ...]:
    return between(here, there).breaking


# What a contract says


class Size(BaseModel):
    width: int
    height: int = 512


class Params(BaseModel):
    prompt: str
    size: Size | None = None
    steps: int = Field(25, alias="num_steps")


@dataclasses.dataclass
class Node:
    value: int
    children: list[Node] = dataclasses.field(default_factory=list)
    hidden: int = dataclasses.field(default=0, init=False)


class Row(TypedDict):
    name: str
    score: NotRequired[float]


def test_a_contract_has_the_parameters_and_the_result_without_instance_and_context() -> None:
    def predict(self: Any, ctx: bentoml.Context, b: t.List[str], *, c: float = 1) -> str: ...  # type: ignore[empty-body]  # noqa: UP006

    assert contract(predict).parameters == (
        Parameter("b", "positional", Type("list", (Type("str"),)), is_required=True),
        Parameter("c", "keyword", Type("float"), is_required=False),
    )
    assert str(contract(predict).result) == "str"


def test_spellings_of_one_type_are_one_text() -> None:
    def unions(self, a: t.Optional[int], b: t.Union[None, int], c: None | int, d: int | None): ...  # type: ignore[no-untyped-def]  # noqa: RUF036, UP007, UP045
    def lists(self, a: t.List[int], b: list["int"], c: "list[ int ]", d: t.Annotated[list[int], "few"]): ...  # type: ignore[no-untyped-def]  # noqa: UP006, UP037
    def arrays(self, a: Rgb, b: npt.NDArray[np.uint8], c: np.ndarray[t.Any, np.uint8]): ...  # type: ignore[no-untyped-def, type-var]
    def nothing(self, a, b: Any, c: object): ...  # type: ignore[no-untyped-def]

    assert set(types(unions)) == {"None | int"}
    assert set(types(lists)) == {"list[int]"}
    assert set(types(arrays)) == {"ndarray[Any, uint8]"}
    assert set(types(nothing)) == {"Any"}


def test_names_that_an_import_or_an_alias_gave_are_those_of_the_types() -> None:
    def predict(self: Any, a: PIL_Image, b: Rgb) -> None: ...

    assert types(predict) == ["Image", "ndarray[Any, uint8]"]


def test_values_are_not_part_of_a_contract() -> None:
    def predict(self: Any, a: t.Literal["x", 1, -1, None], b: t.Annotated[int, Field(gt=0)]) -> None: ...

    assert types(predict) == ["None | int | str", "int"]


def test_a_stream_says_the_type_of_an_item() -> None:
    def count(self: Any) -> Iterator[int]:
        yield 1

    async def count_slowly(self: Any) -> t.AsyncGenerator[int, None]:
        yield 1

    assert contract(count) == contract(count_slowly) == Contract((), Type("int"), is_stream=True)


def test_classes_of_the_project_are_there_with_their_fields() -> None:
    def predict(self: Any, params: list[Params], row: Row | None) -> Node: ...  # type: ignore[empty-body]

    fields = {
        name: [(one.name, str(one.type), one.is_required) for one in fields]
        for name, fields in contract(predict).records.items()
    }

    assert fields == {
        "Params": [("prompt", "str", True), ("size", "None | Size", False), ("num_steps", "int", False)],
        "Size": [("width", "int", True), ("height", "int", False)],
        "Row": [("name", "str", True), ("score", "float", False)],
        "Node": [("value", "int", True), ("children", "list[Node]", False)],
    }


def test_the_fields_of_an_input_spec_are_the_parameters() -> None:
    def predict(self: Any, **params: Any) -> Any: ...

    endpoint = bentoml.Endpoint(predict, input_spec=Size, output_spec=list[Size])

    assert contract_of(endpoint).parameters == (
        Parameter("width", "keyword", Type("int"), is_required=True),
        Parameter("height", "keyword", Type("int"), is_required=False),
    )
    assert str(contract_of(endpoint).result) == "list[Size]"


def test_a_default_that_is_a_field_is_one_if_it_has_a_value() -> None:
    def predict(self: Any, a: int = Field(gt=0), b: int = Field(1, gt=0)) -> None: ...

    assert [parameter.is_required for parameter in contract(predict).parameters] == [True, False]


# The same on both sides

SERVICE = """
    import typing as t
    from dataclasses import dataclass

    import bentoml
    import numpy as np
    import numpy.typing as npt
    from PIL import Image
    from PIL.Image import Image as PIL_Image

    Mask = np.ndarray[t.Any, np.uint8] | None

    @dataclass
    class Layer:
        pixels: npt.NDArray[np.uint8]
        name: str = ""

    @bentoml.service
    class Iris:
        @bentoml.api
        def predict(
            self,
            ctx: bentoml.Context,
            image: t.Optional[PIL_Image],
            others: list[Image.Image],
            mask: Mask,
            values: npt.ArrayLike = 0,
            layers: t.List[Layer] = (),
            *,
            kind: np.float32 | None = None,
        ) -> t.Tuple[np.ndarray, "PIL_Image"]: ...
"""


def predict_of(load: Load, source: str, name: str, absent: frozenset[str] = frozenset()) -> Contract:
    return contract_of(load({f"{name}.py": source}, f"{name}:Iris", absent=absent).inner.predict)


@pytest.mark.parametrize("first_line", ["", "    from __future__ import annotations\n"])
def test_one_source_has_one_contract_whatever_is_installed(load: Load, first_line: str) -> None:
    with_all = predict_of(load, SERVICE, "with_all")
    with_less = predict_of(load, first_line + SERVICE, "with_less", frozenset({"numpy", "PIL"}))

    assert with_less == with_all
    assert with_less.hash == with_all.hash
    assert [f"{one.name}: {one.type}" for one in with_all.parameters] == [
        "image: Image | None",
        "others: list[Image]",
        "mask: None | ndarray[Any, uint8]",
        "values: ArrayLike",
        "layers: list[Layer]",
        "kind: None | float32",
    ]


def test_without_its_text_a_method_is_read_from_its_objects() -> None:
    names: dict[str, Any] = {"__name__": "typed_in", "np": np, "t": t, "Image": PIL_Image, "Size": Size}
    text = """def predict(
        self, a: np.ndarray[t.Any, np.dtype[np.uint8]], b: t.Optional[Image], c: 'list[int]',
        d: t.List[t.Literal['x', 'y']], e: t.Annotated[int, 1], f: None, g: t.Any, h: Size | None
    ): ..."""
    exec(compile(text, "typed in", "exec", dont_inherit=True), names)

    assert types(names["predict"]) == [
        "ndarray[Any, uint8]", "Image | None", "list[int]", "list[str]", "int", "None", "Any", "None | Size"
    ]  # fmt: skip
    assert "Size" in contract(names["predict"]).records


def test_where_only_placeholders_are_there_and_no_text_nothing_is_breaking(load: Load) -> None:
    iris = load({"service.py": SERVICE}, absent=frozenset({"numpy", "PIL"}))
    predict = iris.inner.predict.func
    predict.__module__ = "typed_in"
    without_text = contract(predict)
    whole = predict_of(load, SERVICE, "with_all")

    assert (changes(whole, without_text).breaking, changes(without_text, whole).breaking) == ((), ())


def test_specs_that_are_placeholders_fit_whatever_they_stand_for() -> None:
    def predict(self: Any, **params: Any) -> Any: ...

    absent: Any = Placeholder("elsewhere.Model", "Iris")
    seen = contract_of(bentoml.Endpoint(predict, input_spec=Size, output_spec=Size))
    unseen = contract_of(bentoml.Endpoint(predict, input_spec=absent, output_spec=absent))

    assert changes(seen, unseen).breaking_for(0, ["width"]) == ()
    assert changes(unseen, seen).breaking_for(0, ["width"]) == ()


def test_the_hash_does_not_change_with_the_version_of_python() -> None:
    def predict(self: Any, image: PIL_Image, steps: int | None = None, **rest: t.Any) -> list[Params]: ...  # type: ignore[empty-body]

    assert contract(predict).text() == (
        '[1,[["image","positional","Image",true],["steps","positional",["|","None","int"],false],'
        '["rest","kwargs","Any",false]],["list","Params"],false,'
        '{"Params":[["prompt","keyword","str",true],["size","keyword",["|","None","Size"],false],'
        '["num_steps","keyword","int",false]],"Size":[["width","keyword","int",true],'
        '["height","keyword","int",false]]}]'
    )
    assert contract(predict).hash == "942a58feedacbbb6"


def test_a_class_that_one_side_does_not_have_is_not_compared() -> None:
    def predict(self: Any, params: Params) -> Params: ...  # type: ignore[empty-body]

    seen = contract(predict)
    unseen = dataclasses.replace(seen, records={})

    assert seen.hash != unseen.hash
    assert changes(seen, unseen).breaking == changes(unseen, seen).breaking == ()


# What breaks a call


def test_a_new_parameter_with_a_default_works_both_ways() -> None:
    def old(self: Any, image: bytes) -> str: ...  # type: ignore[empty-body]
    def new(self: Any, image: bytes, strength: float = 0.5) -> str: ...  # type: ignore[empty-body]

    assert between(old, new).breaking_for(1, ()) == ()
    assert between(new, old).breaking_for(0, ["image"]) == ()


def test_only_calls_that_pass_what_the_peer_does_not_know_break() -> None:
    def here(self: Any, image: bytes, strength: float = 0.5) -> None: ...
    def there(self: Any, image: bytes) -> None: ...

    assert between(here, there).breaking == ()
    assert between(here, there).breaking_for(2, ()) == ("`strength` is not known there",)
    assert between(here, there).breaking_for(1, ["strength"]) == ("`strength` is not known there",)


def test_a_new_parameter_without_default_breaks_every_call() -> None:
    def here(self: Any, image: bytes) -> None: ...
    def there(self: Any, image: bytes, strength: float) -> None: ...

    assert breaking(here, there) == ("`strength` is required there, and not known here",)


def test_a_default_that_is_gone_breaks_the_calls_that_do_not_pass_it() -> None:
    def here(self: Any, image: bytes, strength: float = 0.5) -> None: ...
    def there(self: Any, image: bytes, strength: float) -> None: ...

    assert between(here, there).breaking_for(2, ()) == ()
    assert between(here, there).breaking_for(1, ()) == ("`strength` has no default there, and is not passed",)


def test_another_order_breaks_calls_by_position_alone() -> None:
    def here(self: Any, a: int, b: int) -> None: ...
    def there(self: Any, b: int, a: int) -> None: ...

    assert between(here, there).breaking_for(0, ["a", "b"]) == ()
    assert between(here, there).breaking_for(1, ["b"]) == (
        "positional argument 1 is `b` there, and `a` here",
    )


def test_a_parameter_that_is_only_passed_by_name_there_breaks_calls_by_position() -> None:
    def here(self: Any, a: int, b: int) -> None: ...
    def there(self: Any, a: int, *, b: int) -> None: ...

    assert between(here, there).breaking_for(2, ()) == ("`b` can only be passed by name there",)
    assert between(here, there).breaking_for(1, ["b"]) == ()


def test_variadic_parameters_take_what_has_no_name_there() -> None:
    def here(self: Any, a: int, b: int = 0) -> None: ...
    def positional(self: Any, a: int, *rest: int) -> None: ...
    def named(self: Any, a: int, **rest: int) -> None: ...

    assert between(here, positional).breaking_for(2, ()) == ()
    assert between(here, positional).breaking_for(1, ["b"]) == ("`b` is not known there",)
    assert between(here, named).breaking_for(1, ["b"]) == ()
    assert between(named, here).breaking_for(1, ["c"]) == ("`c` is not known there",)
    assert between(positional, here).breaking_for(2, ()) == (
        "positional argument 2 is `b` there, and `*args` here",
    )


def test_what_a_caller_passes_through_kwargs_may_be_what_the_peer_requires() -> None:
    def here(self: Any, **rest: Any) -> None: ...
    def there(self: Any, a: int) -> None: ...

    assert between(here, there).breaking_for(0, ["a"]) == ()
    assert between(here, there).breaking_for(0, ()) == ("`a` has no default there, and is not passed",)


def test_a_parameter_that_becomes_the_whole_body_breaks_every_call() -> None:
    def one_of_many(self: Any, image: bytes) -> None: ...
    def root(self: Any, image: bytes, /) -> None: ...
    def renamed(self: Any, picture: bytes, /) -> None: ...

    assert breaking(one_of_many, root) == ("`image` is the whole body there, and is not here",)
    assert breaking(root, one_of_many) == ("`image` is the whole body here, and is not there",)
    assert between(root, renamed).breaking_for(1, ()) == ()


def taking(annotation: str) -> Contract:
    names: dict[str, Any] = {"__name__": "typed_in"}
    exec(f"def predict(self, value: {annotation!r}): ...", names)
    return contract(names["predict"])


def returning(annotation: str) -> Contract:
    names: dict[str, Any] = {"__name__": "typed_in"}
    exec(f"def predict(self) -> {annotation!r}: ...", names)
    return contract(names["predict"])


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("int", "int | None"),
        ("int", "float"),
        ("list[int]", "list[float | None]"),
        ("int", "Any"),
        ("Any", "int"),
        ("bool", "int"),
        ("list[int]", "tuple[int, ...]"),
        ("tuple[int, int]", "Sequence[int]"),
        ("list", "list[int]"),
        ("dict[str, int]", "Mapping[str, float]"),
        ("list[float]", "np.ndarray"),
        ("ndarray[Any, uint8]", "NDArray[np.float32]"),
        ("ndarray[Any, uint8]", "ndarray[Any, uint16]"),
        ("UserId", "int"),
        ("list[str]", "Batch[int]"),
        ("str", "Color"),
        ("Literal['a']", "str"),
        ("str", "Literal['a']"),
    ],
)
def test_what_the_receiver_takes_as_well_is_no_difference(here: str, there: str) -> None:
    assert changes(taking(here), taking(there)).breaking == ()
    assert changes(returning(there), returning(here)).breaking == ()


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("int", "str"),
        ("float", "int"),
        ("None | int", "int"),
        ("list[str]", "list[int]"),
        ("dict[str, str]", "dict[str, int]"),
        ("tuple[int, int]", "tuple[int, int, int]"),
        ("ndarray[Any, float32]", "ndarray[Any, uint8]"),
        ("ndarray", "Image"),
        ("Image", "bytes"),
        ("list[int]", "int"),
    ],
)
def test_another_type_is_a_difference_that_names_both(here: str, there: str) -> None:
    assert changes(taking(here), taking(there)).breaking == (
        f"`value` is `{there}` there, and `{here}` here",
    )
    assert changes(returning(there), returning(here)).breaking == (
        f"the result is `{here}` there, and `{there}` here",
    )


def test_a_result_that_nobody_looks_at_may_be_anything() -> None:
    assert changes(returning("None"), returning("int")).breaking == ()
    assert changes(returning("int"), returning("None")).breaking == (
        "the result is `None` there, and `int` here",
    )


def test_a_stream_in_place_of_a_value_breaks_every_call() -> None:
    def stream(self: Any) -> Iterator[int]:
        yield 1

    def value(self: Any) -> list[int]: ...  # type: ignore[empty-body]

    assert breaking(value, stream) == ("the result is a stream there, and one value here",)
    assert breaking(stream, value) == ("the result is a stream here, and one value there",)


# Records


def record(**fields: tuple[str, bool]) -> tuple[Parameter, ...]:
    return tuple(Parameter(name, "keyword", Type(kind), needed) for name, (kind, needed) in fields.items())


def with_records(annotation: str, **records: tuple[Parameter, ...]) -> Contract:
    return dataclasses.replace(taking(annotation), records=records)


def test_a_field_of_a_record_is_named_with_the_way_to_it() -> None:
    here = with_records("list[Params]", Params=record(size=("Size", True)), Size=record(width=("int", True)))
    there = with_records(
        "list[Settings] | None",
        Settings=record(size=("Area", True)),
        Area=record(width=("str", True), depth=("int", True), height=("int", False)),
    )

    assert set(changes(here, there).breaking) == {
        "`value.size.width` is `str` there, and `int` here",
        "`value.size.depth` is required there, and not known here",
    }


def test_the_fields_of_a_result_are_those_that_the_caller_needs() -> None:
    here = dataclasses.replace(
        returning("Report"), records={"Report": record(seed=("int", True), text=("str", True))}
    )
    there = dataclasses.replace(
        returning("Report"), records={"Report": record(text=("int", True), more=("int", True))}
    )

    assert set(changes(here, there).breaking) == {
        "`seed` of the result is required here, and not known there",
        "`text` of the result is `int` there, and `str` here",
    }


def test_a_record_is_a_dictionary_and_no_number() -> None:
    params = with_records("Params", Params=record(a=("int", True)))

    assert changes(params, taking("dict[str, int]")).breaking == ()
    assert changes(taking("dict"), params).breaking == ()
    assert changes(taking("int"), params).breaking == ("`value` is `Params` there, and `int` here",)


def test_records_that_hold_themselves_come_to_an_end() -> None:
    def predict(self: Any, node: Node) -> Node: ...  # type: ignore[empty-body]

    assert breaking(predict, predict) == ()


def test_of_two_records_in_a_union_those_of_one_name_are_compared() -> None:
    cat, dog = record(lives=("int", True)), record(tricks=("int", True))
    both = with_records("Cat | Dog", Cat=cat, Dog=dog)
    renamed = with_records("Cat2 | Dog2", Cat2=cat, Dog2=dog)

    assert changes(both, both).breaking == changes(both, renamed).breaking == ()


# What arrives


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "[" * 5000,
        "null",
        '[2,[],"int",false,{}]',
        '[1,{},"int",false,{}]',
        '[1,[["a","positional","int"]],"int",false,{}]',
        '[1,[["a","sideways","int",true]],"int",false,{}]',
        '[1,[["a","positional","int",1]],"int",false,{}]',
        '[1,[["a","positional","int",true],["a","positional","int",true]],"int",false,{}]',
        '[1,[["a`\\u001b[31m","positional","int",true]],"int",false,{}]',
        "[1,[],7,false,{}]",
        "[1,[],[],false,{}]",
        '[1,[],["list"],false,{}]',
        '[1,[],"int",false,{"Params":7}]',
        "[1,[]," + '["list",' * 100 + '"int"' + "]" * 100 + ",false,{}]",
        '[1,[],"' + "a" * MAX_SIZE + '",false,{}]',
    ],
)
def test_what_is_no_contract_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match=r"^a contract "):
        Contract.parse(text)


def walk(self: Any, node: Node, value: list[int], *rest: Row | None) -> Node: ...  # type: ignore[empty-body]


OWN = contract(walk)
TYPES = st.recursive(
    st.sampled_from(["int", "str", "Any", "None", "Node", "Leaf", "...", ""]),
    lambda inner: st.tuples(
        st.sampled_from(["|", "list", "tuple", "dict", "Node", "..."]), inner, inner | st.none()
    ).map(lambda generic: [part for part in generic if part is not None]),
    max_leaves=8,
)
PARAMETERS = st.lists(
    st.tuples(
        st.sampled_from(["node", "value", "children", "rest"]),
        st.sampled_from(["root", "positional", "keyword", "args", "kwargs"]),
        TYPES,
        st.booleans(),
    ),
    max_size=3,
    unique_by=lambda parameter: parameter[0],
)


RECORDS = st.dictionaries(st.sampled_from(["Node", "Leaf"]), PARAMETERS)


@settings(max_examples=100, deadline=None)
@given(st.tuples(st.just(1), PARAMETERS, TYPES, st.booleans(), RECORDS).map(json.dumps))
def test_whatever_can_be_read_can_be_compared(text: str) -> None:
    theirs = Contract.parse(text)

    both_ways = changes(OWN, theirs), changes(theirs, OWN)

    assert all(isinstance(way.breaking_for(2, ["value"]), tuple) for way in both_ways)


def test_a_contract_is_never_longer_than_a_peer_reads() -> None:
    parameters = ", ".join(f"p{number}: 'dict[str, list[int]]'" for number in range(150))
    names: dict[str, Any] = {"__name__": "typed_in"}
    exec(f"def predict(self, {parameters}): ...", names)

    assert Contract.parse(contract(names["predict"]).text()).parameters[0].name == "p0"

from __future__ import annotations

import asyncio
import builtins
import dataclasses
import enum
import errno
import sys
import traceback
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.runtime.codec.frames import named, round_trip

from bentoml import codec
from bentoml.codec import exception_as_data, exception_from_data
from bentoml.exceptions import BadInput, BentoMLException, NotFound, RemoteException, TooManyRequests

RAN: list[str] = []


class OutOfCredit(Exception):
    """A project's error, whose constructor takes what its base's does not."""

    def __init__(self, user: str, *, missing: int) -> None:
        RAN.append("OutOfCredit.__init__")
        super().__init__(f"{user} has too little")
        self.missing = missing
        self.model = np.zeros(3)

    class Inner(Exception):
        pass


class Nosy(Exception):
    """Notices whatever is done to it."""

    def __new__(cls, *args: object) -> Nosy:
        RAN.append("Nosy.__new__")
        return super().__new__(cls, *args)

    def __setattr__(self, name: str, value: object) -> None:
        RAN.append(f"Nosy.{name}")

    @property
    def args(self) -> Any:  # type: ignore[override]  # as odd as a project may be
        return ("its own",)


class Unreadable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


class Unavailable(OSError):
    pass


class Refused(BentoMLException):
    error_code = 451

    def __init__(self) -> None:
        RAN.append("Refused.__init__")
        super().__init__("it is refused")


@dataclasses.dataclass
class Failed(Exception):
    step: str


class Reason(enum.Enum):
    FULL = "full"


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        raise error from cause
    except BaseException as caught:  # noqa: BLE001  # whatever the test raises
        return caught


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x", 1),
        ValueError(),
        KeyError("a"),
        KeyError(("a", 1)),
        ZeroDivisionError("division by zero"),
        FileNotFoundError(errno.ENOENT, "not there", "file"),
        FileExistsError(errno.EEXIST, "there", "one", None, "other"),
        OSError("only words"),
        ModuleNotFoundError("none", name="m", path="p"),
        AttributeError("no x", name="x"),
        NameError("no x", name="x"),
        StopIteration(3),
        SyntaxError("wrong", ("file.py", 1, 2, "text")),
        UnicodeDecodeError("utf-8", b"abc", 1, 2, "bad byte"),
        UnicodeEncodeError("ascii", "ab\u00e9", 2, 3, "bad character"),
        RecursionError("too deep"),
        asyncio.TimeoutError("late"),
        NotFound("no such thing"),
        BentoMLException("teapot", error_code=418),
        TooManyRequests(),
    ],
    ids=repr,
)
def test_an_exception_that_both_sides_have_arrives_as_its_own_type(error: BaseException) -> None:
    arrived = round_trip({"errors": [error]})["errors"][0]

    assert type(arrived) is type(error)
    assert (arrived.args, str(arrived), vars(arrived)) == (error.args, str(error), vars(error))


@pytest.mark.parametrize("error", [NotFound("x"), BentoMLException("x", error_code=418)])
def test_an_exception_of_this_package_keeps_its_status(error: BentoMLException) -> None:
    assert round_trip(error).status == error.status


def test_a_class_of_the_project_is_made_without_its_constructor() -> None:
    data = exception_as_data(OutOfCredit("eve", missing=5))
    RAN.clear()
    arrived = exception_from_data(data)

    assert (type(arrived), str(arrived), RAN) == (OutOfCredit, "eve has too little", [])


def test_attributes_that_are_plain_come_along() -> None:
    arrived = round_trip(OutOfCredit("eve", missing=5))

    assert vars(arrived) == {"missing": 5}


def test_an_exception_that_is_a_record_arrives_as_an_exception() -> None:
    assert (type(round_trip(Failed("load"))), round_trip(Failed("load")).step) == (Failed, "load")


def test_no_code_of_a_class_is_run_for_it() -> None:
    data = exception_as_data(ValueError("x"))
    RAN.clear()
    arrived = exception_from_data(
        {**data, "module": __name__, "name": "Nosy", "cause": data, "attributes": {"a": 1}, "notes": ["n"]}
    )

    assert (type(arrived), RAN) == (Nosy, [])


@pytest.mark.parametrize(
    ("kind", "text"), [(Unavailable, "[Errno 111] refused"), (OutOfCredit.Inner, "inner")]
)
def test_a_class_may_derive_from_a_builtin_one_or_stand_in_another(kind: type[Exception], text: str) -> None:
    error = kind(111, "refused") if kind is Unavailable else kind(text)

    assert (type(round_trip(error)), str(round_trip(error))) == (kind, text)


def test_a_class_of_the_project_derived_from_one_of_this_package_has_its_status_and_message() -> None:
    error = Refused()
    RAN.clear()
    arrived = round_trip(error)

    assert (type(arrived), arrived.status, arrived.message, RAN) == (Refused, 451, "it is refused", [])


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("not.loaded", "Error"),
        (__name__, "NoSuchError"),
        (__name__, "RAN"),
        (__name__, "OutOfCredit.missing"),
        (__name__, "np.exceptions.AxisError"),
        (__name__, "BadInput"),
        (__name__, ""),
        ("", ""),
        ("builtins", "SystemExit"),
        ("builtins", "KeyboardInterrupt"),
        ("builtins", "GeneratorExit"),
        ("builtins", "object"),
        ("builtins", "print"),
        ("asyncio.exceptions", "CancelledError"),
        ("os", "system"),
        ("sys", "modules"),
    ],
)
def test_any_other_name_becomes_a_remote_exception(module: str, name: str) -> None:
    arrived = exception_from_data({"module": module, "name": name, "args": [1], "message": "words"})

    assert type(arrived) is RemoteException
    assert str(arrived) == f"{module}.{name}: words".removeprefix("builtins.")


def test_what_would_end_a_process_arrives_as_a_failure() -> None:
    assert type(round_trip(SystemExit(1))) is RemoteException


def test_a_module_that_is_loaded_lazily_is_not_loaded_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lazy(types.ModuleType):
        def __getattribute__(self, name: str) -> Any:
            raise AssertionError(f"{name} is asked for")

    monkeypatch.setitem(sys.modules, "lazy", Lazy("lazy"))
    arrived = exception_from_data({"module": "lazy", "name": "Error", "args": [], "message": ""})

    assert type(arrived) is RemoteException


def test_the_argument_that_is_not_plain_arrives_as_its_text() -> None:
    error = ValueError(Reason, [Reason.FULL, (1, {"a": b"x"})], {"a": {1}})

    assert round_trip(error).args == ("<enum 'Reason'>", ["full", (1, {"a": b"x"})], "{'a': {1}}")


def test_an_exception_that_cannot_say_anything_is_told_all_the_same() -> None:
    assert exception_as_data(Unreadable())["message"] == "<Unreadable>"


def test_causes_come_along() -> None:
    arrived = round_trip(raised(OutOfCredit("eve", missing=1), raised(KeyError("a"), OSError(1, "b"))))

    assert [type(error) for error in (arrived, arrived.__cause__, arrived.__cause__.__cause__)] == [
        OutOfCredit, KeyError, PermissionError,
    ]  # fmt: skip


def test_notes_come_along() -> None:
    error = ValueError("x")
    vars(error)["__notes__"] = ["first", "second"]  # `add_note` came with Python 3.11

    assert round_trip(error).__notes__ == ["first", "second"]


def test_the_traceback_comes_along_where_it_is_asked_for_and_becomes_a_note() -> None:
    data = exception_as_data(raised(ValueError("x")), with_traceback=True)
    arrived = exception_from_data(data, origin="Depth at http://depth:3000")
    text = "".join(traceback.format_exception(arrived))

    assert text.startswith(
        "ValueError: x\nTraceback in Depth at http://depth:3000 (most recent call last):\n"
    )
    assert "raise error from cause" in text


def test_a_value_tells_nothing_of_where_it_was_raised() -> None:
    assert "traceback" not in exception_as_data(raised(ValueError("x")))


if sys.version_info >= (3, 11):

    def test_a_group_arrives_with_its_members() -> None:
        group_of = vars(builtins)["ExceptionGroup"]
        group = group_of("both", [ValueError(1), group_of("inner", [KeyError("a")])])

        assert repr(round_trip(group)) == repr(group)


def cause_of_itself() -> BaseException:
    first, second = ValueError("1"), ValueError("2")
    first.__cause__, second.__cause__ = second, first
    return first


def many_notes() -> BaseException:
    error = ValueError("x")
    vars(error)["__notes__"] = ["n" * 100_000] * 1000
    return error


def deep() -> BaseException:
    def call(depth: int) -> None:
        if depth == 0:
            raise ValueError("deep")
        call(depth - 1)

    with pytest.raises(ValueError, match="deep") as caught:
        call(500)
    return caught.value


@pytest.mark.parametrize(
    "make",
    [
        lambda: ValueError("x" * 10**7),
        lambda: ValueError(*range(10**5)),
        lambda: ValueError([["x" * 10**4] * 1000]),
        lambda: ValueError(b"x" * 10**6, 2**10**6),
        cause_of_itself,
        many_notes,
        deep,
    ],
)
def test_what_is_told_of_an_exception_is_of_bounded_size(make: Callable[[], BaseException]) -> None:
    data = exception_as_data(make(), with_traceback=True)

    assert len(b"".join(codec.encode(data))) < 10**6


def test_words_that_are_no_unicode_can_be_told() -> None:
    assert round_trip(ValueError("\ud800")).args == ("\\ud800",)


DATA: dict[str, Any] = {"module": "builtins", "name": "ValueError", "args": [], "message": ""}


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {**DATA, "args": None},
        {**DATA, "name": 5},
        {**DATA, "message": b""},
        {**DATA, "notes": "x"},
        {**DATA, "cause": []},
        {**DATA, "cause": {}},
        {**DATA, "members": {}},
        {**DATA, "attributes": []},
        {**DATA, "attributes": {"__class__": 1}},
        {**DATA, "attributes": {"__dict__": {}}},
        {**DATA, "traceback": 5},
    ],
)
def test_data_that_are_none_of_an_exception_are_refused(data: object) -> None:
    with pytest.raises(BadInput, match=r"^frame: "):
        codec.decode(named("exception", data))


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("UnicodeDecodeError", ["utf-8", b"a", -100, -99, "x"]),
        ("UnicodeDecodeError", ["utf-8", b"a", 5, 6, "x"]),
        ("UnicodeEncodeError", ["utf-8", b"a", 0, 1, "x"]),
        ("UnicodeDecodeError", []),
        ("ExceptionGroup", ["x", []]),
        ("ExceptionGroup", ["x", [1]]),
    ],
)
def test_a_builtin_that_cannot_be_made_of_its_arguments_becomes_a_remote_exception(
    name: str, args: list[object]
) -> None:
    arrived = exception_from_data({**DATA, "name": name, "args": args, "message": "words"})

    assert type(arrived) is RemoteException
    assert str(arrived) == f"{name}: words"


@pytest.mark.parametrize("status", ["x", 0, 200, 10**9, None])
def test_a_status_that_is_none_of_an_error_is_not_taken(status: object) -> None:
    data = {**DATA, "module": "bentoml.exceptions", "name": "NotFound", "attributes": {"error_code": status}}
    arrived = exception_from_data(data)

    assert isinstance(arrived, NotFound)
    assert arrived.status == 404


def test_causes_nested_without_end_are_cut_off() -> None:
    data = DATA
    for _ in range(190):
        data = {**DATA, "cause": data}
    error: BaseException | None = exception_from_data(data)
    depth = 0
    while error is not None:
        error, depth = error.__cause__, depth + 1

    assert depth == 33

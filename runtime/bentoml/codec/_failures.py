"""Exceptions: as data that a frame carries, and as the nearest safe exception made of such data.

Making one runs no code of a project and imports nothing. An exception arrives as its own type where that is
a builtin, one of `bentoml.exceptions`, or a class that a loaded module holds under the very name that the
data say; else as a `RemoteException` that names it. What would end a process or a task (`SystemExit`,
`KeyboardInterrupt`, `asyncio.CancelledError`) is no failure that a peer may cause, and arrives so too.
"""

from __future__ import annotations

import builtins
import datetime
import decimal
import enum
import reprlib
import sys
import traceback
import uuid
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Final

from bentoml.exceptions import BadInput, BentoMLException, RemoteException

_RUNTIME: Final = str(Path(__file__).parent.parent)
_MAX_EXCEPTIONS: Final = 32  # with all causes and members of groups
_MAX_TEXT: Final = 8_000
_MAX_TRACEBACK: Final = 16_000
_MAX_NOTES: Final = 32
_MAX_ITEMS: Final = 100
_MAX_ARGUMENT_DEPTH: Final = 4

# What the builtins' own constructors set, beside `args`: without it, their text would be another.
_MEMBERS: Final[dict[type[BaseException], tuple[str, ...]]] = {
    OSError: ("errno", "strerror", "filename", "filename2"),
    ImportError: ("msg", "name", "path"),
    NameError: ("name",),
    AttributeError: ("name",),
    StopIteration: ("value",),
    SyntaxError: ("msg", "filename", "lineno", "offset", "text"),
}
# Set past what a class of the project may do when an attribute is set.
_ARGS: Final[Any] = vars(BaseException)["args"]
_CAUSE: Final[Any] = vars(BaseException)["__cause__"]
_SCALARS: Final = frozenset(
    {
        type(None), bool, int, float, complex, str, bytes, datetime.datetime, datetime.date, datetime.time,
        datetime.timedelta, decimal.Decimal, uuid.UUID,
    }
)  # fmt: skip


def exception_as_data(error: BaseException, *, with_traceback: bool = False) -> dict[str, Any]:
    """An exception as a mapping that a frame, or JSON with some care, can carry; of bounded size.

    Its arguments and attributes go along where they are plain, else the text that stands for them; its notes,
    its causes, and where it was raised, as text.
    """
    return _Teller(with_traceback=with_traceback).data_of(error)


def exception_from_data(data: object, *, origin: str | None = None) -> Exception:
    """The exception that data tell of.

    Args:
        origin: a peer; the traceback that the data hold becomes a note which names it.

    Raises:
        BadInput: these are no data of an exception.
    """
    return _from_data(data, _MAX_EXCEPTIONS, origin)


class _Teller:
    """Makes data of one exception and of those that it names, of which there may be very many."""

    def __init__(self, *, with_traceback: bool) -> None:
        self._with_traceback = with_traceback
        self._left = _MAX_EXCEPTIONS

    def data_of(self, error: BaseException) -> dict[str, Any]:
        self._left -= 1
        kind = type(error)
        attributes = {
            name: _plain(value, _MAX_ARGUMENT_DEPTH)
            for name, value in [*_members(error), *_own_attributes(error)][:_MAX_ITEMS]
            if _is_plain(value, _MAX_ARGUMENT_DEPTH)
        }
        data: dict[str, Any] = {
            "module": kind.__module__,
            "name": kind.__qualname__,
            "args": [_plain(argument, _MAX_ARGUMENT_DEPTH) for argument in error.args[:_MAX_ITEMS]],
            "message": _said(error, str),
        }
        if attributes:
            data["attributes"] = attributes
        notes = getattr(error, "__notes__", None)
        if isinstance(notes, list) and notes:
            texts = [note for note in notes[:_MAX_NOTES] if isinstance(note, str)]
            data["notes"] = [_shortened(text, _MAX_TRACEBACK) for text in texts]
        if self._with_traceback and error.__traceback__ is not None:
            # The newest calls stand last.
            text = "".join(traceback.format_tb(_from_the_project_on(error.__traceback__)))[-_MAX_TRACEBACK:]
            data["traceback"] = _shortened(text, _MAX_TRACEBACK)
        if _is_group(kind):
            members = getattr(error, "exceptions", ())
            data["args"] = data["args"][:1]
            data["members"] = [self.data_of(member) for member in members if self._left > 0]
        if error.__cause__ is not None and self._left > 0:
            data["cause"] = self.data_of(error.__cause__)
        return data


def _from_the_project_on(trace: TracebackType) -> TracebackType:
    """A traceback without what stands before the project's own code: how a method came to be called."""
    found: TracebackType | None = trace
    while found is not None and found.tb_frame.f_code.co_filename.startswith(_RUNTIME):
        found = found.tb_next
    return found or trace


def _members(error: BaseException) -> list[tuple[str, object]]:
    members = [
        (name, getattr(error, name, None))
        for base, names in _MEMBERS.items()
        if isinstance(error, base)
        for name in names
    ]
    # Such a member that was never set is not the same as one that is None.
    return [(name, value) for name, value in members if value is not None]


def _own_attributes(error: BaseException) -> list[tuple[str, object]]:
    return [(name, value) for name, value in vars(error).items() if not name.startswith("__")]


def _is_plain(value: object, depth: int) -> bool:
    if type(value) in _SCALARS or isinstance(value, enum.Enum):
        return True
    if depth and type(value) in (list, tuple) and len(value) <= _MAX_ITEMS:  # type: ignore[arg-type]
        return all(_is_plain(item, depth - 1) for item in value)  # type: ignore[attr-defined]
    if depth and type(value) is dict and len(value) <= _MAX_ITEMS:
        return all(type(key) in _SCALARS and _is_plain(item, depth - 1) for key, item in value.items())
    return False


def _plain(value: object, depth: int) -> object:
    """A value that is plain, with its texts shortened; the text that stands for any other."""
    if isinstance(value, enum.Enum):
        return _plain(value.value, depth)
    if not _is_plain(value, depth):
        return _said(value, reprlib.repr)
    if type(value) is str:
        return _shortened(value, _MAX_TEXT)
    if type(value) is bytes:
        return value[:_MAX_TEXT]
    if type(value) is int:
        return value if value.bit_length() <= _MAX_TEXT else "an integer too long to be told"
    if type(value) in (list, tuple):
        return type(value)(_plain(item, depth - 1) for item in value)  # type: ignore[call-arg,attr-defined]
    if type(value) is dict:
        return {_plain(key, 0): _plain(item, depth - 1) for key, item in value.items()}
    return value


def _said(value: object, say: Callable[[object], str]) -> str:
    try:
        return _shortened(say(value), _MAX_TEXT)
    except Exception:  # noqa: BLE001  # a project's `__str__` may do anything, and an error must be told
        return f"<{type(value).__qualname__}>"


def _shortened(text: str, size: int) -> str:
    if len(text) > size:
        text = f"{text[:size]}… ({len(text)} characters)"
    return text.encode("utf-8", "backslashreplace").decode()


def _from_data(data: object, depth: int, origin: str | None) -> Exception:
    match data:
        case {"module": str(module), "name": str(name), "args": list(args), "message": str(message)}:
            pass
        case _:
            raise BadInput("frame: expected an exception")
    optional = {
        key: _checked(data, key, kind)
        for key, kind in (
            ("attributes", dict), ("notes", list), ("traceback", str), ("members", list), ("cause", dict)
        )
    }  # fmt: skip
    members = optional["members"]
    if members is not None and depth:
        args = [*args[:1], [_from_data(member, depth - 1, origin) for member in members[:_MAX_ITEMS]]]
    kind = _loaded(module, name)
    error = _made(kind, args, message) if kind is not None else None
    if error is None:
        error = RemoteException(f"{module}.{name}: {message}".removeprefix("builtins."))
    else:
        _set_attributes(error, optional["attributes"] or {})
    notes = [note for note in optional["notes"] or [] if isinstance(note, str)]
    if origin is not None and optional["traceback"]:
        notes.append(f"Traceback in {origin} (most recent call last):\n{optional['traceback'].rstrip()}")
    if notes:
        vars(error)["__notes__"] = notes[:_MAX_NOTES]  # `add_note` came with Python 3.11
    if optional["cause"] is not None and depth:
        _CAUSE.__set__(error, _from_data(optional["cause"], depth - 1, origin))
    return error


def _checked(data: Any, key: str, kind: type) -> Any:
    value = data.get(key)
    if value is not None and type(value) is not kind:
        raise BadInput(f"frame: an exception whose {key} are a {type(value).__name__}")
    return value


def _loaded(module: str, name: str) -> type[Exception] | None:
    """The class of that very name where a loaded module holds it; nothing is asked that could run code."""
    found: object = sys.modules.get(module)
    if not isinstance(found, ModuleType):
        return None
    # Not `vars`, at which a module that is loaded lazily would load.
    holder: Any = object.__getattribute__(found, "__dict__")
    for part in name.split("."):
        found = holder.get(part)
        if not isinstance(found, type):
            return None
        holder = type.__getattribute__(found, "__dict__")
    if not isinstance(found, type) or not issubclass(found, Exception):
        return None
    return found if (found.__module__, found.__qualname__) == (module, name) else None


def _made(kind: type[Exception], args: list[Any], message: str) -> Exception | None:
    """An instance of the class, on which no constructor of a project was run; None where that cannot be."""
    if issubclass(kind, UnicodeError) and kind is not UnicodeError:
        return _unicode_error(kind, args)
    base: Any = next(base for base in kind.__mro__ if vars(builtins).get(base.__name__) is base)
    try:
        error: Exception = base.__new__(kind, *args) if _is_group(kind) else base.__new__(kind)
    except (TypeError, ValueError):
        return None
    if isinstance(error, BentoMLException):
        vars(error)["message"] = message
    _ARGS.__set__(error, tuple(args))
    return error


def _unicode_error(kind: type[Exception], args: list[Any]) -> Exception | None:
    """An error of a builtin kind, whose text reads from what its numbers point to, and so must be true."""
    match args:
        case [str(), bytes() | str() as whole, int(start), int(end), str()] if (
            0 <= start <= end <= len(whole)
        ):
            try:
                return kind(*args) if vars(builtins).get(kind.__name__) is kind else None
            except TypeError:
                return None
    return None


def _set_attributes(error: Exception, attributes: dict[Any, Any]) -> None:
    members = {
        name: vars(base)[name]
        for base, names in _MEMBERS.items()
        if isinstance(error, base)
        for name in names
        if name in vars(base)
    }
    for name, value in attributes.items():
        if type(name) is not str or name.startswith("__"):
            raise BadInput(f"frame: an exception with the attribute {name!r}")
        if name in members:
            members[name].__set__(error, value)
        elif name != "error_code" or (type(value) is int and 400 <= value < 600):
            vars(error)[name] = value


def _is_group(kind: type) -> bool:
    group = vars(builtins).get("BaseExceptionGroup")  # came with Python 3.11
    return group is not None and issubclass(kind, group)

"""`bentoml.use_arguments`: values that whoever builds or serves a project fills in."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any, TypeVar, overload

from bentoml import _environment as environment
from bentoml.exceptions import BentoMLConfigException

T = TypeVar("T")


@overload
def use_arguments(model: type[T], /) -> T: ...


@overload
def use_arguments() -> Any: ...


def use_arguments(model: type[Any] | None = None, /) -> Any:
    """The arguments of this Bento: `args = bentoml.use_arguments(Arguments)`.

    They come from `--arg name=value`, `--arg-file` and `args` of bentofile.yaml.

    Args:
        model: a pydantic model of theirs; without one they are the attributes of a plain object.

    Raises:
        BentoMLConfigException: names every argument that does not fit the model.
    """
    given = environment.arguments(os.environ)
    if model is None:
        return SimpleNamespace(**given)
    validate = getattr(model, "model_validate", None)
    if validate is None:
        raise TypeError(f"`use_arguments()` takes a pydantic model, found {model!r}")
    try:
        return validate(given)
    except ValueError as error:  # what pydantic raises is one, and pydantic need not be loaded to say so
        listed: list[Any] = getattr(error, "errors", list)()
        problems = "".join(f"\n  `{'.'.join(map(str, item['loc']))}`: {item['msg']}" for item in listed)
        raise BentoMLConfigException(f"arguments of the Bento:{problems or ' ' + str(error)}") from None

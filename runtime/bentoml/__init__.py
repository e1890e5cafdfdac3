"""Services in Python that call each other: what a project imports.

Importing this package loads neither NumPy nor FastAPI nor pydantic, so that declaring services and
`bento --help` stay quick; a service's server loads what its endpoints need.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from bentoml._dependency import Dependency, depends
from bentoml._endpoint import Endpoint, api
from bentoml._placeholder import importing
from bentoml._service import Service, service
from bentoml._version import __version__

if TYPE_CHECKING:
    from pydantic import Field as Field

    from bentoml import codec as codec
    from bentoml import exceptions as exceptions

__all__ = [
    "Dependency",
    "Endpoint",
    "Field",
    "Service",
    "__version__",
    "api",
    "codec",
    "depends",
    "exceptions",
    "importing",
    "service",
]

_LAZY_MODULES = ("codec", "exceptions")


def __getattr__(name: str) -> object:
    if name in _LAZY_MODULES:
        return importlib.import_module(f"bentoml.{name}")
    if name == "Field":
        return importlib.import_module("pydantic").Field
    raise AttributeError(f"module 'bentoml' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__

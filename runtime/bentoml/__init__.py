"""Services in Python that call each other: what a project imports.

Importing this package loads neither NumPy nor FastAPI nor pydantic, so that declaring services and
`bento --help` stay quick; a service's server loads what its endpoints need.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from bentoml._arguments import use_arguments
from bentoml._dependency import Dependency, depends
from bentoml._endpoint import Endpoint, api, task
from bentoml._hooks import on_deployment, on_shutdown, on_startup
from bentoml._mount import asgi_app, mount_asgi_app
from bentoml._placeholder import importing
from bentoml._service import Service, service
from bentoml._version import __version__

if TYPE_CHECKING:
    from pydantic import Field as Field

    from bentoml import bentos as bentos
    from bentoml import codec as codec
    from bentoml import deployment as deployment
    from bentoml import exceptions as exceptions
    from bentoml import images as images
    from bentoml import metrics as metrics
    from bentoml import models as models
    from bentoml import testing as testing
    from bentoml import validators as validators
    from bentoml._client.http import AsyncHTTPClient as AsyncHTTPClient
    from bentoml._client.http import SyncHTTPClient as SyncHTTPClient
    from bentoml._context import Context as Context
    from bentoml._context import Cookie as Cookie
    from bentoml._context import get_current_service as get_current_service
    from bentoml._context import server_context as server_context
    from bentoml._monitoring import monitor as monitor
    from bentoml._toolchain import build as build
    from bentoml._toolchain import export_bento as export_bento
    from bentoml._toolchain import import_bento as import_bento
    from bentoml._toolchain import serve as serve
    from bentoml._types.model import IODescriptor as IODescriptor

__all__ = [
    "AsyncHTTPClient",
    "Context",
    "Cookie",
    "Dependency",
    "Endpoint",
    "Field",
    "IODescriptor",
    "Service",
    "SyncHTTPClient",
    "__version__",
    "api",
    "asgi_app",
    "bentos",
    "build",
    "codec",
    "depends",
    "deployment",
    "exceptions",
    "export_bento",
    "get_current_service",
    "images",
    "import_bento",
    "importing",
    "metrics",
    "models",
    "monitor",
    "mount_asgi_app",
    "on_deployment",
    "on_shutdown",
    "on_startup",
    "serve",
    "server_context",
    "service",
    "task",
    "testing",
    "use_arguments",
    "validators",
]

# Loaded when they are first asked for: what a class is declared with stays quick to import.
_LAZY_MODULES = (
    "bentos",
    "codec",
    "deployment",
    "exceptions",
    "images",
    "metrics",
    "models",
    "testing",
    "validators",
)
_LAZY_NAMES = {
    "AsyncHTTPClient": ("bentoml._client.http", "AsyncHTTPClient"),
    "Context": ("bentoml._context", "Context"),
    "Cookie": ("bentoml._context", "Cookie"),
    "Field": ("pydantic", "Field"),
    "IODescriptor": ("bentoml._types.model", "IODescriptor"),
    "build": ("bentoml._toolchain", "build"),
    "serve": ("bentoml._toolchain", "serve"),
    "export_bento": ("bentoml._toolchain", "export_bento"),
    "import_bento": ("bentoml._toolchain", "import_bento"),
    "SyncHTTPClient": ("bentoml._client.http", "SyncHTTPClient"),
    "monitor": ("bentoml._monitoring", "monitor"),
    "get_current_service": ("bentoml._context", "get_current_service"),
    "server_context": ("bentoml._context", "server_context"),
}


# What projects of this interface may name, and this version does not have.
_ELSEWHERE = frozenset(
    {
        "Bento", "BentoCloudClient", "Model", "Tag", "api_token", "batch", "catboost", "client",
        "cloud", "container", "delete", "detectron", "diffusers", "easyocr",
        "fastai", "flax", "get", "io", "keras", "legacy", "lightgbm", "list",
        "load", "load_config", "mlflow", "onnx", "picklable_model", "pull", "push",
        "pytorch", "pytorch_lightning", "ray", "save_config", "set_serialization_strategy",
        "sklearn", "tensorflow", "torchscript", "transformers", "triton", "xgboost",
    }
)  # fmt: skip
# What does the same here.
_INSTEAD = {
    "gradio": '`@bentoml.asgi_app(gradio.mount_gradio_app(fastapi.FastAPI(), blocks, path="/"), path="/ui")`',
    "monitoring": "`bentoml.monitor`",
    "runner_service": "a class with `@bentoml.service`, and `bentoml.depends` on it",
}


def __getattr__(name: str) -> object:
    if name in _LAZY_MODULES:
        return importlib.import_module(f"bentoml.{name}")
    if name in _LAZY_NAMES:
        module, attribute = _LAZY_NAMES[name]
        return getattr(importlib.import_module(module), attribute)
    hint = ""
    if name in _INSTEAD:
        hint = f"; in its place: {_INSTEAD[name]}"
    elif name in _ELSEWHERE:
        hint = ": that part of this interface is not here (runtime/README.md names what is)"
    elif not name.startswith("_"):
        near = importlib.import_module("difflib").get_close_matches(name, __all__, n=1)
        hint = f", did you mean `{near[0]}`?" if near else ""
    raise AttributeError(f"module 'bentoml' has no attribute {name!r}{hint}")


def __dir__() -> list[str]:
    return __all__

"""The Bentos of this machine's store, for programs: what the commands of `bento` of these names do."""

from __future__ import annotations

from bentoml._toolchain import build, export_bento, import_bento
from bentoml._toolchain import delete_bentos as delete
from bentoml._toolchain import get_bento as get
from bentoml._toolchain import list_bentos as list  # noqa: A004  # as users of this interface call it

__all__ = ["build", "delete", "export_bento", "get", "import_bento", "list"]

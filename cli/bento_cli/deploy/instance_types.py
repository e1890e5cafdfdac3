"""Instance types: what a service gets that asks for a kind of machine by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

from pydantic import Field, TypeAdapter, field_serializer

from bento_cli.yaml_file import FileModel
from bentoml._config_values import Cpus, Memory


class InstanceType(FileModel):
    """One kind of machine.

    Args:
        cpus: CPUs, and `memory` bytes, that a replica never exceeds.
        gpus: whole ones, of `gpu_type`.
        node_labels: labels of the machines that it may run on, where there are several.
    """

    cpus: Cpus
    memory: Memory
    gpus: int = Field(default=0, ge=0)
    gpu_type: str | None = None
    node_labels: dict[str, str] = Field(default={})

    @field_serializer("memory", when_used="json")
    def _bytes(self, memory: int) -> str:
        """As a text, which counts bytes: a number would count GiB."""
        return str(memory)


def instance_types(more: Mapping[str, InstanceType] | None = None) -> dict[str, InstanceType]:
    """All of them by name, those of a cluster over the documented ones."""
    text = resources.files("bento_cli").joinpath("data/instance_types.json").read_text(encoding="utf-8")
    known: dict[str, Any] = json.loads(text)
    del known["//"]
    return {**TypeAdapter(dict[str, InstanceType]).validate_python(known), **(more or {})}

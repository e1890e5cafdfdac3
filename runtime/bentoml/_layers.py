"""Configuration in layers, as mappings: what is said later stands over what was said before."""

from __future__ import annotations

from collections.abc import Mapping


def merge(*layers: Mapping[str, object]) -> dict[str, object]:
    """One configuration from several, each over the one before; mappings merge, all else replaces."""
    merged: dict[str, object] = {}
    for layer in layers:
        for key, value in layer.items():
            before = merged.get(key)
            if isinstance(before, Mapping) and isinstance(value, Mapping):
                merged[key] = merge(before, value)
            else:
                merged[key] = value
    return merged

"""Amounts as people write them: CPUs, bytes of memory, GPUs."""

from __future__ import annotations

import math
import re

_CPU_UNITS = {"": 1.0, "m": 1e-3}
_MEMORY_UNITS = {
    "": 1,
    "k": 10**3,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}


def cpus(value: object) -> float:
    """CPUs from a number or a Kubernetes quantity: `2`, `"2"`, `"400m"`.

    Raises:
        ValueError: neither of the two, or not above zero.
    """
    amount, unit = _quantity(value, "a number of CPUs such as `2` or `400m`")
    if unit not in _CPU_UNITS:
        raise ValueError(f"unknown unit {unit!r} of CPUs, expected `m` or none")
    return amount * _CPU_UNITS[unit]


def memory_bytes(value: object) -> int:
    """Bytes from a Kubernetes quantity (`"512Mi"`) or a number, which counts GiB.

    Raises:
        ValueError: neither of the two, or not above zero.
    """
    amount, unit = _quantity(value, "an amount of memory such as `1Gi` or `512Mi`")
    if not isinstance(value, str):
        unit = "Gi"
    if unit not in _MEMORY_UNITS:
        raise ValueError(f"unknown unit {unit!r} of memory, expected one of {', '.join(_MEMORY_UNITS)}")
    return math.ceil(amount * _MEMORY_UNITS[unit])


def gpus(value: object) -> float:
    """GPUs from a number or a numeric string: whole devices, or a fraction of one.

    Raises:
        ValueError: not a number above zero, or a fraction of more than one device.
    """
    amount, unit = _quantity(value, "a number of GPUs such as `1` or `0.5`")
    if unit:
        raise ValueError(f"unknown unit {unit!r} of GPUs, expected none")
    if amount > 1 and amount != int(amount):
        raise ValueError(f"{value!r} GPUs: more than one must be a whole number")
    return amount


def _quantity(value: object, expected: str) -> tuple[float, str]:
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(value))
    if isinstance(value, bool) or match is None or not float(match[1]) > 0:
        raise ValueError(f"expected {expected}, found {value!r}")
    return float(match[1]), match[2]

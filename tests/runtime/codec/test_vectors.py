"""Frames that are these bytes in every version: another implementation can be tested against the file."""

from __future__ import annotations

import datetime
import decimal
import json
import re
import uuid
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from tests.runtime.codec.frames import encoded

from bentoml import codec

VECTORS: dict[str, str] = json.loads(Path(__file__).with_name("vectors.json").read_text())

VALUES: dict[str, Any] = {
    "nothing": None,
    "plain": [1, -1, 1.5, True, "a", b"b", {"key": []}],
    "tuples": (1, (2,), ()),
    "sets": [{1}, frozenset({"a"})],
    "mapping": {2: "two", (3,): None},
    "integers": [2**64 - 1, 2**64, -(2**63), -(2**63) - 1],
    "complex": 1 - 2j,
    "datetime": datetime.datetime(2024, 2, 29, 12, 30, tzinfo=datetime.timezone.utc),
    "date": datetime.date(2024, 2, 29),
    "time": datetime.time(12, 30, 0, 5),
    "timedelta": datetime.timedelta(-1, 2, 3),
    "uuid": uuid.UUID(int=2**127 + 1),
    "decimal": decimal.Decimal("-1.50"),
    "bytearray": bytearray(b"abc"),
    "array": np.array([[1, 2], [3, 4]], "<i2"),
    "large array": np.arange(128, dtype="<f8"),
    "array of bfloat16": np.ones(2, ml_dtypes.bfloat16),
    "scalar": np.float32(1.5),
    "tensor": torch.tensor([1.0, 2.0], dtype=torch.bfloat16),
    "image": Image.new("L", (2, 1), 7),
    "exception": ValueError("no", 1),
    "frame": pd.DataFrame(
        {"a": np.array([1, 2], "<i8"), "b": pd.Categorical.from_codes([0, -1], pd.Index([7]))}
    ).set_axis(pd.RangeIndex(2), axis=1),
}


def test_each_value_has_its_frame() -> None:
    assert VECTORS.keys() == VALUES.keys()


@pytest.mark.parametrize("name", VALUES)
def test_a_value_is_this_frame_in_every_version(name: str) -> None:
    assert encoded(VALUES[name]).hex() == VECTORS[name]


@pytest.mark.parametrize("name", VALUES)
def test_this_frame_is_the_value_in_every_version(name: str) -> None:
    arrived = codec.decode(bytes.fromhex(VECTORS[name]))

    assert type(arrived) is type(VALUES[name])
    assert encoded(arrived).hex() == VECTORS[name]


def test_the_example_of_the_page_is_the_frame_that_is_sent() -> None:
    page = (Path(__file__).parents[3] / "runtime" / "WIRE.md").read_text(encoding="utf-8")
    shown = re.search(r"The value `\[1, \(2,\)\]`:\n\n((?:    .*\n)+)", page)
    assert shown is not None
    digits = "".join(line[4:48].split("  ")[0].replace(" ", "") for line in shown[1].splitlines())

    assert digits == b"".join(codec.encode([1, (2,)])).hex()

"""Whatever JSON value comes for a type: it is taken, or refused with words."""

from __future__ import annotations

import warnings
from contextlib import suppress
from typing import Annotated, Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import TypeAdapter

from bentoml._types import wire_type
from bentoml.validators import DataframeSchema, DType, Shape

HUGE = 10**400

numbers = st.integers() | st.floats() | st.sampled_from([HUGE, -HUGE, 2**63, 2**64, 1e308, -1, 0])
scalars = st.none() | st.booleans() | numbers | st.text(max_size=5)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=10,
)
# Most of what is nested at random is refused for its form alone.
rows = st.lists(scalars, min_size=1, max_size=4)
likely = (
    st.lists(numbers, max_size=4)
    | st.lists(st.lists(numbers, min_size=2, max_size=2), max_size=3)
    | st.lists(st.dictionaries(st.sampled_from("ab"), scalars, max_size=2), max_size=3)
    | st.dictionaries(st.sampled_from("ab"), rows, max_size=2)
    | st.dictionaries(st.sampled_from("ab"), st.dictionaries(st.sampled_from("01"), scalars), max_size=2)
)

HINTS: dict[str, Any] = {
    "array": np.ndarray,
    "array of floats": Annotated[np.ndarray, DType("float16"), Shape((2, -1))],
    "array of integers": Annotated[np.ndarray, DType("int8")],
    "array of booleans": Annotated[np.ndarray, DType("bool")],
    "array of text": Annotated[np.ndarray, DType("U3")],
    "array of complex": Annotated[np.ndarray, DType("complex64"), Shape((-1, -1))],
    "tensor": torch.Tensor,
    "tensor of floats": Annotated[torch.Tensor, DType("float16"), Shape((2, -1))],
    "tensor of integers": Annotated[torch.Tensor, DType("int8")],
    "tensor of booleans": Annotated[torch.Tensor, DType("bool"), Shape((0, -1))],
    "frame": pd.DataFrame,
    "frame of columns": Annotated[pd.DataFrame, DataframeSchema(orient="columns", columns=["a"])],
    "series": pd.Series,
    "image": Image.Image,
}


@pytest.mark.parametrize("hint", HINTS.values(), ids=HINTS)
def test_any_json_value_is_taken_or_refused(hint: Any) -> None:
    adapter = TypeAdapter(wire_type(hint))

    @settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
    @given(value=values | likely)
    @example(value=[1.5, HUGE])
    @example(value=[True, HUGE])
    @example(value=["a", HUGE])
    @example(value=HUGE)
    @example(value=[[1.5], [HUGE]])
    @example(value=[{"a": 1.5}, {"a": HUGE}])
    @example(value={"a": [HUGE, 1.5], "b": [None, 2]})
    @example(value={"a": {"0": HUGE}})
    def check(value: Any) -> None:
        with warnings.catch_warnings(), suppress(ValueError):
            warnings.simplefilter("ignore")  # of numbers that overflow: what comes of them is a value
            adapter.validate_python(value)

    check()

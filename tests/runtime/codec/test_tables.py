from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.runtime.codec.frames import encoded, named, round_trip

from bentoml import codec
from bentoml.exceptions import BadInput

COLUMNS: dict[str, Any] = {
    "integers": [1, 2, 3],
    "floats": [1.5, None, 2],
    "half floats": np.array([1, 2, 3], np.float16),
    "booleans": [True, False, True],
    "texts": ["x", None, "ü"],
    "nullable texts": pd.array(["q", None, "r"], dtype="string"),
    "nullable integers": pd.array([1, None, 3], dtype="Int64"),
    "nullable small numbers": pd.array([1, 2, 3], dtype="UInt8"),
    "nullable floats": pd.array([1.5, None, 3], dtype="Float32"),
    "nullable booleans": pd.array([True, None, False], dtype="boolean"),
    "categories": pd.Categorical(["u", "v", "u"], categories=["v", "u", "w"], ordered=True),
    "categories, some missing": pd.Categorical([1, None, 1]),
    "times": pd.date_range("2024", periods=3, unit="s"),
    "times, some missing": pd.DatetimeIndex(["2024-01-01", "NaT", "2024-01-03"]),
    "zoned times": pd.date_range("2024-10-27", periods=3, freq="h", tz="Europe/Berlin"),
    "times in UTC": pd.date_range("2024", periods=3, tz="UTC"),
    "times at an offset": pd.date_range("2024", periods=3, tz="+05:30"),
    "durations": pd.to_timedelta([1, None, 3], unit="s"),
    "objects": pd.Series([{"k": 1}, [1, 2], (2,)], dtype=object),
    "lists": pd.Series([[1], [2], [3]], dtype=object),
    "texts as objects": pd.Series(["a", "b", None], dtype=object),
    "mixed": pd.Series([pd.NaT, pd.NA, pd.Timestamp("2024", tz="UTC")], dtype=object),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_keeps_its_dtype_and_values(name: str) -> None:
    frame = pd.DataFrame({name: COLUMNS[name]})

    pd.testing.assert_frame_equal(round_trip({"a": [frame]})["a"][0], frame)


@pytest.mark.parametrize("name", COLUMNS)
def test_a_series_keeps_its_dtype_and_values(name: str) -> None:
    series = pd.Series(COLUMNS[name], name=("n", 1), index=["a", "b", "c"])

    pd.testing.assert_series_equal(round_trip([series])[0], series)


DATES = pd.date_range("2024", periods=2, freq="D")

INDEXES = {
    "a range": pd.RangeIndex(5, 9, 2, name="r"),
    "texts": pd.Index(["a", "b"], name="n"),
    "floats": pd.Index([0.5, 1.5]),
    "texts as objects": pd.Index(["a", "b"], dtype=object),
    "dates": DATES,
    "dates in a zone": DATES.tz_localize("Europe/Berlin"),
    "durations": pd.timedelta_range("1D", periods=2, freq="D"),
    "categories": pd.CategoricalIndex(["a", "b"]),
    "several levels": pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["x", None]),
    "several levels, one of dates": pd.MultiIndex.from_arrays([DATES, [1, 2]]),
    "the same name twice": pd.Index(["a", "a"]),
}


@pytest.mark.parametrize("index", INDEXES.values(), ids=INDEXES)
def test_rows_and_columns_keep_their_index(index: Any) -> None:
    frame = pd.DataFrame(np.arange(4.0).reshape(2, 2), index=index, columns=index)

    pd.testing.assert_frame_equal(round_trip([frame])[0], frame)


@pytest.mark.parametrize("index", INDEXES.values(), ids=INDEXES)
def test_an_index_travels_by_itself(index: Any) -> None:
    pd.testing.assert_index_equal(round_trip([index])[0], index, exact=True)


@pytest.mark.parametrize(
    "frame",
    [pd.DataFrame(), pd.DataFrame(index=[1, 2]), pd.DataFrame(columns=["a"]), pd.DataFrame({"a": []})],
    ids=["nothing", "no column", "no row", "no number"],
)
def test_a_frame_may_be_empty(frame: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(round_trip(frame), frame)


@pytest.mark.parametrize(
    "value",
    [
        pd.Timestamp("2024-01-01 00:00:00.000000001"),
        pd.Timestamp("2024-02-29 02:30", tz="Europe/Berlin"),
        pd.Timestamp(2024, 10, 27, 2, 30, fold=1, tz="Europe/Berlin"),
        pd.Timedelta(1, unit="ns"),
    ],
    ids=repr,
)
def test_a_time_of_pandas_keeps_all_its_digits_and_its_zone(value: object) -> None:
    assert repr(round_trip([value])) == repr([value])


@pytest.mark.parametrize("nothing", [pd.NaT, pd.NA], ids=repr)
def test_what_says_that_a_value_is_missing_arrives_as_itself(nothing: object) -> None:
    assert round_trip([nothing])[0] is nothing


def test_a_column_of_numbers_is_sent_and_arrives_without_a_copy() -> None:
    frame = pd.DataFrame({"a": np.zeros(1000)})
    parts = codec.encode([frame])
    data = bytearray().join(parts)

    assert any(np.shares_memory(np.frombuffer(part, np.uint8), frame["a"].to_numpy()) for part in parts)
    assert np.shares_memory(codec.decode(data)[0]["a"].to_numpy(), np.frombuffer(data, np.uint8))


def test_a_dtype_that_cannot_travel_is_named_with_its_column() -> None:
    frame = pd.DataFrame({"p": pd.period_range("2024", periods=2, freq="D")})

    with pytest.raises(codec.EncodeError) as caught:
        codec.encode([frame])
    assert str(caught.value) == (
        "`value[0]` is a pandas.DataFrame, which cannot travel between services: "
        "its column 'p': its dtype is period[D]"
    )


def test_an_object_in_a_column_is_named_with_its_path() -> None:
    with pytest.raises(codec.EncodeError, match=r"^`value\['table'\].* is an object, which cannot travel"):
        codec.encode({"table": pd.DataFrame({"a": [object()]})})


RANGE = ["range", 0, 2, 1, None]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DataFrame", None),
        ("DataFrame", []),
        ("DataFrame", [RANGE, RANGE, [["numbers", [1, 2]]]]),
        ("DataFrame", [RANGE, RANGE, [["objects", [1, 2]], ["objects", [1]]]]),
        ("DataFrame", [RANGE, RANGE, [["objects", [1, 2]]]]),
        ("DataFrame", [RANGE, ["range", 0, 2**62, 1, None], [["objects", [1, 2]], ["objects", [1, 2]]]]),
        ("Series", [None, RANGE, ["category", [5, 6], RANGE, False]]),
        ("Series", [None, RANGE, ["zoned", [1, 2], "../../etc/passwd"]]),
        ("Series", [None, RANGE, ["zoned", [1, 2], "dateutil//etc/passwd"]]),
        ("Series", [None, RANGE, ["texts", [1, []], True]]),
        ("Series", [None, RANGE, ["nullable", "object", [1, 2], None]]),
        ("Series", [None, RANGE, ["nonsense"]]),
        ("Series", [[], RANGE, ["objects", [1, 2]]]),
        ("Index", ["range", 0, 2, 0, None]),
        ("Index", ["range", 0, "2", 1, None]),
        ("Index", ["values", ["objects", [1, 2]], None, "D"]),
        ("Index", ["levels", [RANGE, RANGE], [[0], [0, 1]], [None, None]]),
        ("Index", ["levels", [RANGE], [[2]], [None]]),
        ("Index", ["levels", [], [], []]),
        ("Timestamp", None),
        ("Timestamp", ["2024", "nonsense"]),
        ("Timedelta", []),
        ("read_pickle", "file"),
        ("io", None),
    ],
)
def test_a_table_that_does_not_hold_together_is_refused(name: str, value: object) -> None:
    with pytest.raises(BadInput, match=r"^frame: "):
        codec.decode(named(f"pandas.{name}", value))


def test_a_table_where_there_is_no_pandas_is_refused(in_new_python: Callable[[str], str]) -> None:
    program = f"""
import sys
sys.modules["pandas"] = None
from bentoml import codec
try:
    codec.decode({bytes(encoded(pd.Series([1])))!r})
except Exception as error:
    print(type(error).__name__, error)
"""

    assert in_new_python(program) == (
        "BadInput frame: a pandas.Series, for which `pandas` is not installed here"
    )

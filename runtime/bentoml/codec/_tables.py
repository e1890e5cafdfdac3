"""pandas' frames, series and indexes: column by column, as arrays and lists that a frame carries.

A form of our own rather than Arrow's: neither side needs pyarrow, columns of numbers are views here as there,
and nothing is lost of what pandas has and Arrow does not, such as the name and the kind of an index.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

from bentoml.codec._extensions import EncodeError
from bentoml.codec._zones import zone_of, zone_text
from bentoml.exceptions import BadInput

_NULLABLE: Final = {
    **{f"{sign}Int{bits}": f"{sign.lower()}int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)},
    "Float32": "float32",
    "Float64": "float64",
    "boolean": "bool",
}


def name_of(kind: type) -> str | None:
    """The name under which instances of a type of pandas travel; None for other types."""
    pandas: Any = sys.modules.get("pandas")
    if pandas is None or not hasattr(pandas, "DataFrame"):
        return None
    for name in ENCODERS:
        known = getattr(pandas, name.rpartition(".")[2])
        if issubclass(kind, known if isinstance(known, type) else type(known)):
            return name
    return None


def _frame(frame: Any) -> list[object]:
    columns = []
    for name, column in frame.items():
        try:
            columns.append(_column(column))
        except EncodeError as error:
            raise EncodeError(f"its column {name!r}: {error}") from None
    return [_index(frame.columns), _index(frame.index), columns]


def _frame_of(pandas: Any, value: Any) -> object:
    columns, index, values = value
    index = _index_of(pandas, index)
    # By number: columns may share a name. Then they get their names, by which pandas would align them.
    series = {number: _series_with(pandas, index, column) for number, column in enumerate(values)}
    frame = pandas.DataFrame(series, index=index, columns=range(len(series)), copy=False)
    frame.columns = _index_of(pandas, columns)
    return frame


def _series(series: Any) -> list[object]:
    return [series.name, _index(series.index), _column(series)]


def _series_of(pandas: Any, value: Any) -> object:
    name, index, column = value
    series = _series_with(pandas, _index_of(pandas, index), column)
    series.name = name
    return series


def _series_with(pandas: Any, index: Any, column: Any) -> Any:
    values = _column_of(pandas, column)
    return pandas.Series(values, index=index, dtype=values.dtype, copy=False)


def _index(index: Any) -> list[object]:
    pandas: Any = sys.modules["pandas"]
    if isinstance(index, pandas.RangeIndex):
        return ["range", index.start, index.stop, index.step, index.name]
    if isinstance(index, pandas.MultiIndex):
        return ["levels", [_index(level) for level in index.levels], list(index.codes), list(index.names)]
    return ["values", _column(index), index.name, getattr(index, "freqstr", None)]


def _index_of(pandas: Any, value: Any) -> Any:
    match value:
        case ["range", int(start), int(stop), int(step), name]:
            return pandas.RangeIndex(start, stop, step, name=name)
        case ["levels", list(levels), list(codes), list(names)]:
            indexes = [_index_of(pandas, level) for level in levels]
            return pandas.MultiIndex(levels=indexes, codes=codes, names=names, verify_integrity=True)
        case ["values", column, name, freq]:
            values = _column_of(pandas, column)
            index = pandas.Index(values, dtype=values.dtype, name=name, copy=False)
            if freq is not None:
                if (
                    not isinstance(index, (pandas.DatetimeIndex, pandas.TimedeltaIndex))
                    or type(freq) is not str
                ):
                    raise BadInput("frame: an index with a frequency that it cannot have")
                index.freq = freq  # it must be what the times show
            return index
    raise BadInput("frame: expected an index")


def _column(values: Any) -> list[object]:
    """The values of a series or an index."""
    pandas: Any = sys.modules["pandas"]
    numpy: Any = sys.modules["numpy"]
    dtype = values.dtype
    if isinstance(dtype, numpy.dtype):
        return ["objects", values.tolist()] if dtype.kind == "O" else ["numbers", values.to_numpy()]
    if isinstance(dtype, pandas.CategoricalDtype):
        array = values.array
        return ["category", array.codes, _index(dtype.categories), bool(dtype.ordered)]
    if isinstance(dtype, pandas.DatetimeTZDtype) and (zone := zone_text(dtype.tz)) is not None:
        return ["zoned", numpy.asarray(values.array.tz_convert(None)), zone]
    if isinstance(dtype, pandas.StringDtype):
        texts = values.to_numpy(dtype=object, na_value=None).tolist()
        return ["texts", texts, dtype.na_value is pandas.NA]
    if dtype.name in _NULLABLE:
        plain = values.to_numpy(dtype=_NULLABLE[dtype.name], na_value=0)
        mask = numpy.asarray(values.isna())
        return ["nullable", dtype.name, plain, mask if mask.any() else None]
    raise EncodeError(f"its dtype is {dtype}")


def _column_of(pandas: Any, column: Any) -> Any:
    """An array of NumPy's or pandas', with the dtype that the series or index had."""
    numpy: Any = sys.modules["numpy"]
    match column:
        case ["objects", list(items)]:
            return numpy.fromiter(items, object, len(items))
        case ["numbers", numpy.ndarray() as array] if array.ndim == 1:
            return array
        case ["category", codes, categories, bool(ordered)]:
            return pandas.Categorical.from_codes(codes, _index_of(pandas, categories), ordered=ordered)
        case ["zoned", moments, str(zone)]:
            return pandas.DatetimeIndex(moments).tz_localize("UTC").tz_convert(zone_of(zone)).array
        case ["texts", list(texts), bool(is_nullable)] if {str, type(None)}.issuperset(map(type, texts)):
            return pandas.array(texts, dtype=_string_dtype(pandas, is_nullable=is_nullable))
        case ["nullable", str(name), numpy.ndarray() as array, mask] if name in _NULLABLE:
            values = pandas.array(array, dtype=name)
            if mask is not None:
                values[mask] = pandas.NA
            return values
    raise BadInput("frame: expected a column")


def _string_dtype(pandas: Any, *, is_nullable: bool) -> Any:
    if is_nullable:
        return pandas.StringDtype()
    try:
        return pandas.StringDtype(na_value=float("nan"))
    except TypeError:
        return pandas.StringDtype()  # what pandas before 2.3 has for it


ENCODERS: Final[dict[str, Callable[[Any], object]]] = {
    "pandas.DataFrame": _frame,
    "pandas.Series": _series,
    "pandas.Index": _index,
    "pandas.Timestamp": lambda value: [value.to_datetime64(), zone_text(value.tz) if value.tz else None],
    "pandas.Timedelta": lambda value: value.to_timedelta64(),
    "pandas.NaT": lambda value: None,
    "pandas.NA": lambda value: None,
}

_DECODERS: Final[dict[str, Callable[[Any, Any], object]]] = {
    "pandas.DataFrame": _frame_of,
    "pandas.Series": _series_of,
    "pandas.Index": _index_of,
    "pandas.Timestamp": lambda pandas, value: _timestamp_of(pandas, *value),
    "pandas.Timedelta": lambda pandas, value: pandas.Timedelta(value),
    "pandas.NaT": lambda pandas, value: pandas.NaT,
    "pandas.NA": lambda pandas, value: pandas.NA,
}


def decode(name: str, value: object) -> object:
    try:
        import pandas  # only where a value of it really arrives
    except ImportError:
        raise BadInput(f"frame: a {name}, for which `pandas` is not installed here") from None
    return _DECODERS[name](pandas, value)


def _timestamp_of(pandas: Any, moment: Any, zone: str | None) -> object:
    timestamp = pandas.Timestamp(moment)
    return timestamp if zone is None else timestamp.tz_localize("UTC").tz_convert(zone_of(zone))

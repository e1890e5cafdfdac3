"""pandas frames and series: from rows or columns in JSON, or as they come from a peer."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic_core import core_schema

from bentoml.validators import DataframeSchema


class DataFrameType:
    """Checks a frame: one already, a list of rows, or a mapping of columns.

    Args:
        orient: how it stands in JSON: `records`, a list of rows, or `columns`, a mapping of lists.
        columns: the columns that it must have; None for any.
    """

    def __init__(
        self, orient: Literal["records", "columns"] = "records", columns: list[str] | None = None
    ) -> None:
        self.orient = orient
        self.columns = columns

    def check(self, value: Any) -> Any:
        pandas: Any = sys.modules["pandas"]
        if not isinstance(value, pandas.DataFrame):
            value = self._made_of(value)
        missing = [column for column in self.columns or () if column not in value.columns]
        if missing:
            raise ValueError(
                f"expected the columns {', '.join(self.columns or ())}; missing: {', '.join(missing)}"
            )
        return value if self.columns is None else value[self.columns]

    def _made_of(self, value: Any) -> Any:
        pandas: Any = sys.modules["pandas"]
        is_rows = isinstance(value, list) and all(isinstance(row, Mapping) for row in value)
        is_columns = isinstance(value, Mapping) and all(
            isinstance(item, list | Mapping) for item in value.values()
        )
        if not is_rows and not is_columns:
            raise ValueError(f"expected a list of rows or a mapping of columns, found {type(value).__name__}")
        try:
            return pandas.DataFrame(value)
        except (ValueError, TypeError) as error:
            raise ValueError(f"no frame: {error}") from None

    def as_json(self, frame: Any) -> Any:
        """What stands for a frame in JSON."""
        if not hasattr(frame, "to_dict"):
            return frame
        return frame.to_dict(orient="records" if self.orient == "records" else "list")

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        serialization = core_schema.plain_serializer_function_ser_schema(self.as_json)
        return core_schema.no_info_plain_validator_function(self.check, serialization=serialization)

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        said: dict[str, Any] = {"type": "dataframe", "orient": self.orient}
        return said if self.columns is None else {**said, "columns": self.columns}


class SeriesType:
    """Checks a series: one already, or a list."""

    def check(self, value: Any) -> Any:
        pandas: Any = sys.modules["pandas"]
        if isinstance(value, pandas.Series):
            return value
        if not isinstance(value, list):
            raise ValueError(f"expected a list, found {type(value).__name__}")
        return pandas.Series(value)

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        serialization = core_schema.plain_serializer_function_ser_schema(_listed)
        return core_schema.no_info_plain_validator_function(self.check, serialization=serialization)

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        return {"type": "array", "items": {}}


def dataframe_type(markers: Iterable[object]) -> DataFrameType:
    """The type of `pd.DataFrame` with what `Annotated` says of it."""
    for marker in markers:
        if isinstance(marker, DataframeSchema):
            return DataFrameType(marker.orient, marker.columns)
    return DataFrameType()


def _listed(series: Any) -> Any:
    return series.tolist() if hasattr(series, "tolist") else series

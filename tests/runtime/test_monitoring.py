"""`bentoml.monitor`: records of a model's data, in files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bentoml import _trace
from bentoml._config import MonitoringOptions
from bentoml._monitoring import configure_monitoring, monitor
from bentoml._trace import TraceContext


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    configure_monitoring(options=MonitoringOptions(log_path=str(tmp_path)))
    yield tmp_path / "flowers"
    configure_monitoring()


def read(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in folder.glob("*.log") for line in path.read_text().splitlines()]


def test_a_block_writes_one_record_with_the_request_it_belongs_to(folder: Path) -> None:
    token = _trace.current.set(TraceContext("a" * 32, "b" * 16))
    with monitor("flowers") as mon:
        mon.log(np.float32(1.5), name="width", role="feature", data_type="numerical")
        mon.log("setosa", name="kind", role="prediction", data_type="categorical")
    _trace.current.reset(token)

    (record,) = read(folder / "data")
    assert record.pop("timestamp").endswith("+00:00")
    assert record == {"width": 1.5, "kind": "setosa", "request_id": "b" * 16, "trace_id": "a" * 32}


def test_the_schema_is_written_once(folder: Path) -> None:
    for _ in range(2):
        with monitor("flowers") as mon:
            mon.log([1, 2], name="sizes", role="feature", data_type="numerical_sequence")

    (schema,) = read(folder / "schema")
    assert schema["columns"] == [{"name": "sizes", "role": "feature", "type": "numerical_sequence"}]


def test_a_batch_is_a_record_for_each_of_its_items(folder: Path) -> None:
    with monitor("flowers") as mon:
        mon.log_batch(np.array([1, 2]), name="width", role="feature", data_type="numerical")
        mon.log_batch(["setosa", "virginica"], name="kind", role="prediction", data_type="categorical")

    assert [(record["width"], record["kind"]) for record in read(folder / "data")] == [
        (1, "setosa"),
        (2, "virginica"),
    ]


def test_columns_of_different_lengths_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="width has 2, kind has 1"), monitor("flowers") as mon:  # noqa: PT012
        mon.log_batch([1, 2], name="width", role="feature", data_type="numerical")
        mon.log("setosa", name="kind", role="prediction", data_type="categorical")


def test_other_columns_than_before_are_refused(folder: Path) -> None:
    with monitor("flowers") as mon:
        mon.log(1, name="width", role="feature", data_type="numerical")

    with (
        pytest.raises(ValueError, match=r"its columns are width \(feature, numerical\); found height"),
        monitor("flowers") as mon,
    ):
        mon.log(1, name="height", role="feature", data_type="numerical")


def test_a_role_that_does_not_exist_is_refused_with_those_that_do(folder: Path) -> None:
    with (
        pytest.raises(ValueError, match="expected one of feature, prediction, target, found 'label'"),
        monitor("flowers") as mon,
    ):
        mon.log(1, name="width", role="label", data_type="numerical")  # type: ignore[arg-type]


def test_a_block_that_raises_writes_nothing(folder: Path) -> None:
    with pytest.raises(KeyError), monitor("flowers") as mon:  # noqa: PT012
        mon.log(1, name="width", role="feature", data_type="numerical")
        raise KeyError

    assert not folder.exists()


def test_a_column_cannot_hide_what_every_record_has(folder: Path) -> None:
    with monitor("flowers") as mon:
        mon.log(1, name="timestamp", role="feature", data_type="numerical")

    assert read(folder / "data")[0]["timestamp_"] == 1


@pytest.mark.parametrize("name", ["", "..", "a/b", "/etc"])
def test_a_name_that_is_no_folder_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(ValueError, match="the name of a folder"), monitor(name):
        pass


def test_nothing_is_written_where_it_is_disabled(folder: Path) -> None:
    configure_monitoring(enabled=False)

    with monitor("flowers") as mon:
        mon.log(1, name="width", role="feature", data_type="numerical")

    assert not folder.exists()

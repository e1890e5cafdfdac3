"""The clients of both implementations on the servers of both: a row for each type and rule."""

from __future__ import annotations

import pytest
from tests.compat.faults import FAULTS, known_fault
from tests.compat.matrix import COLUMNS, Matrix, is_served
from tests.compat.rows import ROWS, Row
from tests.compat.servers import Column

pytestmark = pytest.mark.reference

CELLS = [
    pytest.param(column, row, id=f"{row.name}-{column}")
    for column in COLUMNS
    for row in ROWS.values()
    if is_served(column, row)
]


@pytest.mark.parametrize(("column", "row"), CELLS)
def test_a_call_gives_what_the_row_says(matrix: Matrix, column: Column, row: Row) -> None:
    found = matrix[column][row.name]
    fault = known_fault(column, row)

    if fault is None:
        assert found is None, found
    elif fault.is_certain:
        assert found is not None, f"no fault of theirs any more, strike it: {fault.words}"


def test_every_known_fault_is_one_of_a_row() -> None:
    assert {name for fault in FAULTS for name in fault.rows} <= ROWS.keys()

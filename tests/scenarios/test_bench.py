"""`make bench TABLES=calls` in small: every case comes out, and every failure with its reason."""

from __future__ import annotations

import pytest
from scripts.bench.calls import (
    CONTENDERS,
    FLOOR,
    Case,
    Contender,
    Effort,
    Failure,
    Results,
    cases,
    lines,
    outcomes,
    results,
    summary,
)

from tests.scenarios.conftest import ROOT

THIS = "this, as it comes"
TABLE = cases(Effort(calls=2, batches=1, arrays=1, items=10, streams=1, connections=(4,), load_s=1))
MEASURED = [contender for contender in CONTENDERS if contender.name in {FLOOR, THIS}]


@pytest.fixture(scope="module")
def found() -> Results:
    """One round of the floor and of this project."""
    return results(TABLE, MEASURED, rounds=1)


def test_every_case_has_an_outcome_for_each_in_the_order_of_the_table(found: Results) -> None:
    assert list(found) == [case.name for case in TABLE]
    assert all(list(outcomes) == [FLOOR, THIS] for outcomes in found.values())


@pytest.mark.parametrize("contender", [FLOOR, THIS])
def test_no_case_fails(found: Results, contender: str) -> None:
    reasons = {case: str(by[contender]) for case, by in found.items() if isinstance(by[contender], Failure)}

    # Without wrk there is no load, which is no failure.
    assert {case: reason for case, reason in reasons.items() if reason.startswith("fails")} == {}


def test_an_environment_that_is_missing_is_named() -> None:
    missing = Contender(name="another", caller=(), python=ROOT / ".venv-of-nobody" / "bin" / "python")

    assert {str(outcome) for outcome in outcomes(TABLE, missing)} == {
        "not measured, .venv-of-nobody is not there"
    }


def test_one_round_that_fails_is_a_failure() -> None:
    assert str(summary([1.0, Failure("fails: 3 of 32 calls at once"), 1.0])) == "fails: 3 of 32 calls at once"


def test_a_line_holds_the_figure_its_ratio_to_the_floor_and_whether_the_goal_is_reached() -> None:
    small, this = TABLE[0], next(contender for contender in CONTENDERS if contender.name == THIS)

    table = printed(small, this, 0.15)

    assert table[3] == f"  {THIS:42}    0.150 ms      1.50   at most 2 x the floor: reached"


def test_a_failure_stands_where_its_figure_would() -> None:
    small, ray = TABLE[0], next(contender for contender in CONTENDERS if contender.name.startswith("Ray"))

    table = printed(small, ray, Failure("fails: it is tired"))

    assert table[3].split("  ")[-1] == "fails: it is tired"


def printed(case: Case, contender: Contender, outcome: float | Failure) -> list[str]:
    """The table of one case, beside a floor of 0.1."""
    floor = next(other for other in CONTENDERS if other.name == FLOOR)
    return list(lines([case], [floor, contender], {case.name: {FLOOR: 0.1, contender.name: outcome}}))

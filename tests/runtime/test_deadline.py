from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from bentoml import _deadline as deadline
from bentoml._deadline import Deadline, allowed_s, remaining_s

NOW = 1_700_000_000.5


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW)


@pytest.fixture
def waits_for() -> Iterator[Deadline]:
    """The deadline of the request that runs."""
    current = Deadline(time.monotonic())
    token = deadline.current.set(current)
    yield current
    deadline.current.reset(token)


def test_what_the_caller_still_waits_goes_on_to_peers(waits_for: Deadline) -> None:
    waits_for.at = time.monotonic() + 5.0

    assert 4.0 < remaining_s(otherwise=60.0) <= 5.0


def test_a_caller_that_waits_for_long_does_not_lengthen_the_limit(waits_for: Deadline) -> None:
    waits_for.at = time.monotonic() + 500.0

    assert remaining_s(otherwise=60.0) == 60.0


def test_nothing_is_left_when_the_caller_has_given_up(waits_for: Deadline) -> None:
    waits_for.at = time.monotonic() - 1.0

    assert remaining_s(otherwise=60.0) < 0


def test_outside_of_a_request_the_limit_is_what_is_left() -> None:
    assert remaining_s(otherwise=60.0) == 60.0


@pytest.mark.parametrize(
    ("milliseconds", "seconds"),
    [(b"1500", 1.5), (b"1", 0.001), (b"0", 0.0), (b"60000", 10.0), (b"999999999999", 10.0)],
)
def test_a_request_may_take_as_long_as_its_caller_waits(milliseconds: bytes, seconds: float) -> None:
    assert allowed_s({b"x-bento-timeout-ms": milliseconds}, limit_s=10.0) == seconds


@pytest.mark.parametrize("text", [b"", b"-1", b"1.5", b"1e3", b" 1", b"soon", b"1" * 13, "\u0661".encode()])
def test_a_time_that_cannot_be_read_says_nothing(text: bytes) -> None:
    assert allowed_s({b"x-bento-timeout-ms": text}, limit_s=10.0) == 10.0


@pytest.mark.parametrize(
    "begun",
    [b"t=1699999998", b"t=1699999998000", b"t=1699999998000000", b"t=1699999998.0", b"t=1699999998.000"],
    ids=["seconds", "milliseconds", "microseconds", "with a fraction", "with milliseconds as fraction"],
)
def test_time_in_a_queue_counts_in_whatever_unit(clock: None, begun: bytes) -> None:
    assert allowed_s({b"x-request-start": begun}, limit_s=10.0) == pytest.approx(7.5)


@pytest.mark.parametrize(
    ("begun", "seconds"),
    [(b"t=1700000000.25", 9.75), (b"t=1700000000250", 9.75), (b"t=1700000000250000", 9.75)],
)
def test_parts_of_a_second_in_a_queue_count(clock: None, begun: bytes, seconds: float) -> None:
    assert allowed_s({b"x-request-start": begun}, limit_s=10.0) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "begun",
    [b"", b"t=", b"1699999998", b"t=169999999", b"t=-1699999998", b"t=1699999998.", b"t=" + b"1" * 17],
)
def test_a_beginning_that_cannot_be_read_says_nothing(clock: None, begun: bytes) -> None:
    assert allowed_s({b"x-request-start": begun}, limit_s=10.0) == 10.0


def test_a_clock_that_is_ahead_gives_no_time_away(clock: None) -> None:
    assert allowed_s({b"x-request-start": b"t=1700000099"}, limit_s=10.0) == 10.0


def test_time_in_a_queue_is_taken_from_what_the_caller_waits(clock: None) -> None:
    headers = {b"x-bento-timeout-ms": b"2000", b"x-request-start": b"t=1699999998"}

    assert allowed_s(headers, limit_s=10.0) == pytest.approx(-0.5)

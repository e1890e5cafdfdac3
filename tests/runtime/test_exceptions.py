from __future__ import annotations

import pytest

from bentoml import exceptions
from bentoml.exceptions import BentoMLException, exception_for


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, exceptions.InvalidArgument),
        (404, exceptions.NotFound),
        (422, exceptions.UnprocessableEntity),
        (429, exceptions.TooManyRequests),
        (500, exceptions.RemoteException),
        (502, exceptions.RemoteException),
        (503, exceptions.ServiceUnavailable),
        (504, exceptions.DeadlineExceeded),
        (401, BentoMLException),
        (499, BentoMLException),
    ],
)
def test_a_status_becomes_its_exception_and_back(status: int, kind: type[BentoMLException]) -> None:
    error = exception_for(status, "words")

    assert (type(error), error.status, error.message, str(error)) == (kind, status, "words", "words")


@pytest.mark.parametrize("status", [100, 200, 204, 302])
def test_a_status_that_is_no_error_is_the_peers_failure(status: int) -> None:
    assert exception_for(status, "words").status == 500


def test_an_instance_may_have_a_status_of_its_own() -> None:
    assert exceptions.NotFound("words", error_code=410).status == 410
    assert exceptions.NotFound.error_code == 404


def test_a_class_of_the_project_stands_for_its_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exceptions, "_by_status", dict(exceptions._by_status))

    class PaymentRequired(BentoMLException):
        error_code = 402

        def __init__(self, *, amount: int) -> None:
            super().__init__(f"{amount} are due")

    error = exception_for(402, "3 are due")

    assert isinstance(error, PaymentRequired)
    assert (str(error), error.status) == ("3 are due", 402)


def test_a_status_that_has_its_class_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exceptions, "_by_status", dict(exceptions._by_status))

    class Lost(BentoMLException):
        error_code = 404

    assert type(exception_for(Lost.error_code, "words")) is exceptions.NotFound


def test_a_missing_dependency_is_an_import_error() -> None:
    assert issubclass(exceptions.MissingDependencyException, ImportError)


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    lines = (exceptions.__doc__ or "").splitlines()
    told = {
        line.strip("│├└─ ").split()[0]: int(line.split()[-1])
        for line in lines
        if line.endswith(tuple("0123456789"))
    }

    assert told == {
        name: int(kind.error_code)
        for name, kind in vars(exceptions).items()
        if isinstance(kind, type) and issubclass(kind, BentoMLException)
    }

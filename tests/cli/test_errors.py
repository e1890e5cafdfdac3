"""How problems read."""

from __future__ import annotations

from pathlib import Path

import pytest

from bento_cli.errors import InputError, Problem, nearest


def test_a_place_below_the_current_folder_is_shown_relative_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert str(Problem(tmp_path / "app" / "service.py", 3, "is wrong")) == "app/service.py:3: is wrong"


def test_a_place_elsewhere_is_shown_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    assert str(Problem(tmp_path / "service.py", None, "is wrong")) == f"{tmp_path}/service.py: is wrong"


def test_problems_come_in_the_order_of_lines() -> None:
    error = InputError([Problem(Path("a.py"), 10, "later"), Problem(Path("a.py"), 2, "sooner")])

    assert error.message == "a.py:2: sooner\na.py:10: later"


def test_the_line_is_shown_with_a_caret_where_the_column_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "service.py").write_text("class A:\n    b = depends(C)\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    error = InputError([Problem(tmp_path / "service.py", 2, "no C", column=17)])

    assert error.message.splitlines() == [
        "service.py:2: no C",
        "    b = depends(C)",
        "                ^",
    ]


def test_a_name_that_is_not_known_comes_with_the_nearest_one() -> None:
    assert nearest("lables", ["name", "labels"], "valid") == ", did you mean `labels`?"


def test_a_name_far_from_all_comes_with_all() -> None:
    assert nearest("x", ["name", "labels"], "valid") == "; valid: name, labels"
    assert nearest("x", [], "services") == "; services: none"

"""A project's modules, read: what names are bound to, and what never runs."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from tests.cli.conftest import WriteProject

from bento_cli.errors import InputError
from bento_cli.project.source import Module, Project, imported_modules, statements


def module_of(text: str, name: str = "service", *, is_package: bool = False) -> Module:
    return Module(name, Path("service.py"), ast.parse(text), is_package)


def resolved(root: Path, expression: str, module: str = "service") -> str | None:
    project = Project(root)
    home = project.module(module)
    assert home is not None
    symbol = project.resolve(home, ast.parse(expression, mode="eval").body)
    return symbol.dotted if symbol else None


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("import bentoml", "bentoml.service", "bentoml.service"),
        ("import bentoml as b", "b.service", "bentoml.service"),
        ("from bentoml import service as s", "s", "bentoml.service"),
        ("import a.b.c", "a.b.c.d", "a.b.c.d"),
        ("import a.b as c", "c.d", "a.b.d"),
        ("X = 1", "X", "service.X"),
        ("import torch\nfloats = torch.float16", "floats", "torch.float16"),
        ("class A: pass\nB = A", "B", "service.A"),
        ("class A: pass", "A.size", "service.A.size"),
        ("try:\n    import a\nexcept ImportError:\n    import b as a", "a", "b"),
        ("if x:\n    import a\nelse:\n    a = 1", "a", "service.a"),
        ("", "nothing", None),
        ("X = 1", "X[0]", None),
        ("import a", "(a or a)", None),
    ],
)
def test_a_name_stands_for(project: WriteProject, text: str, name: str, expected: str | None) -> None:
    assert resolved(project({"service.py": text}), name) == expected


def test_a_name_is_followed_through_the_projects_packages(project: WriteProject) -> None:
    root = project(
        {
            "service.py": "from app import Model as M",
            "app/__init__.py": "from .models import Model",
            "app/models/__init__.py": "from .resnet import *",
            "app/models/resnet.py": "from ..base import Model",
            "app/base.py": "class Model: pass",
        }
    )

    assert resolved(root, "M") == "app.base.Model"


def test_a_module_of_a_package_is_found_as_its_attribute(project: WriteProject) -> None:
    root = project({"service.py": "import app.models.net", "app/models/net.py": "class A: pass"})

    assert resolved(root, "app.models.net.A") == "app.models.net.A"


def test_modules_below_src_are_found(project: WriteProject) -> None:
    root = project({"service.py": "from app.net import A", "src/app/net.py": "class A: pass"})

    assert resolved(root, "A") == "app.net.A"


def test_names_that_two_modules_take_from_each_other_stand_for_nothing(project: WriteProject) -> None:
    root = project({"service.py": "from other import X", "other.py": "from service import X"})

    assert resolved(root, "X") is None


def test_a_name_bound_to_itself_stands_for_nothing(project: WriteProject) -> None:
    assert resolved(project({"service.py": "A = B\nB = A"}), "A") is None


def test_a_folder_of_data_is_not_taken_for_the_installed_module_of_its_name(project: WriteProject) -> None:
    root = project({"service.py": "import torch", "torch/weights.bin": "x"})

    assert not Project(root).is_own("torch")


def test_a_module_in_a_folder_without_init_is_the_projects(project: WriteProject) -> None:
    root = project({"helpers/images.py": ""})

    assert Project(root).is_own("helpers.images.resize")


@pytest.mark.parametrize(
    ("statement", "module", "is_package", "expected"),
    [
        ("from .x import y", "app.net", False, "app.x"),
        ("from . import y", "app.net", False, "app"),
        ("from ..x import y", "app.deep.net", False, "app.x"),
        ("from .x import y", "app", True, "app.x"),
        ("from ....x import y", "app.net", False, "x"),
        ("from a.b import y", "app.net", False, "a.b"),
    ],
)
def test_a_relative_import_names(statement: str, module: str, is_package: bool, expected: str) -> None:
    [node] = ast.parse(statement).body
    assert isinstance(node, ast.ImportFrom)

    assert module_of("", module, is_package=is_package).absolute(node) == expected


@pytest.mark.parametrize(
    "text",
    [
        "if TYPE_CHECKING:\n    X = 1",
        "if typing.TYPE_CHECKING:\n    X = 1",
        "if not TYPE_CHECKING:\n    pass\nelse:\n    X = 1",
        "if TYPE_CHECKING and Y:\n    X = 1",
        'if __name__ == "__main__":\n    X = 1',
        'if "__main__" == __name__:\n    X = 1',
        "def f():\n    X = 1",
        "class A:\n    X = 1",
        "X: int",
        "X.a = 1",
        "X[0] = 1",
    ],
)
def test_a_module_does_not_bind_a_name_by(text: str) -> None:
    assert "X" not in module_of(text).bindings


@pytest.mark.parametrize(
    "text",
    [
        "X = 1",
        "X: int = 1",
        "a = X = 1",
        "a, (b, X) = 1, (2, 3)",
        "import X",
        "import X.y",
        "import y as X",
        "from y import X",
        "def X(): pass",
        "async def X(): pass",
        "class X: pass",
        "for X in y: pass",
        "with y as (X, z): pass",
        "if y:\n    X = 1",
        "if TYPE_CHECKING:\n    pass\nelse:\n    X = 1",
        "if not TYPE_CHECKING:\n    X = 1",
        "try:\n    X = 1\nfinally:\n    pass",
        "try:\n    pass\nexcept E:\n    X = 1",
        "try:\n    pass\nexcept E:\n    pass\nelse:\n    X = 1",
        "match y:\n    case 1:\n        X = 1",
        "while y:\n    X = 1",
        "with y:\n    with z:\n        X = 1",
    ],
)
def test_a_module_binds_a_name_by(text: str) -> None:
    assert "X" in module_of(text).bindings


@pytest.mark.parametrize(
    "text",
    [
        "X[0] = 1",
        "X.a.b = 1",
        "del X[0]",
        "X[0] += 1",
        "X.add(1)",
        "X.a.add(1)",
        "@X.register\ndef f(): pass",
    ],
)
def test_a_name_is_changed_by(text: str) -> None:
    assert list(module_of(text).mutations) == ["X"]


def test_statements_come_in_the_order_of_the_file() -> None:
    tree = ast.parse("a\nif b:\n    c\nelse:\n    d\nwith e:\n    f")

    assert [ast.unparse(s).partition("\n")[0] for s in statements(tree.body)] == [
        "a", "if b:", "c", "d", "with e:", "f",
    ]  # fmt: skip


def test_what_is_no_python_is_shown_with_its_line(project: WriteProject) -> None:
    root = project({"service.py": "x = 1\ndef f(:\n"})

    with pytest.raises(InputError, match=r"service\.py:2: not Python: "):
        Project(root).module("service")


@pytest.mark.parametrize("raw", [b"x = '\0'", b"# coding: nonsense", b"x = '\xff'", b"(" * 500])
def test_what_cannot_be_read_as_python_is_refused(project: WriteProject, raw: bytes) -> None:
    root = project({"bentofile.yaml": ""})
    (root / "service.py").write_bytes(raw)

    with pytest.raises(InputError, match=r"service\.py.*: not Python"):
        Project(root).module("service")


def test_a_strange_escape_is_the_files_own_matter(project: WriteProject) -> None:
    root = project({"service.py": "x = '\\d'"})

    assert Project(root).module("service") is not None


def test_a_dotted_name_is_bound_in_the_body_of_a_class() -> None:
    module = module_of("class A:\n    class B:\n        x = 1\n    if a:\n        y = 2\nz = 3")

    found = {name: [s.lineno for s in module.binding(name)] for name in ("A.B", "A.B.x", "A.y", "A.z", "z.A")}

    assert found == {"A.B": [2], "A.B.x": [3], "A.y": [5], "A.z": [], "z.A": []}


@pytest.mark.parametrize(
    ("expression", "within", "expected"),
    [
        ("Inner", "Outer", "service.Outer.Inner"),
        ("Inner.Deep", "Outer", "service.Outer.Inner.Deep"),
        ("Alias", "Outer", "service.Outer.Inner"),
        ("Foreign", "Outer", "service.Top"),
        ("Same", "Outer", "service.Same"),
        ("Top", "Outer", "service.Top"),
        ("Outer.Inner", "", "service.Outer.Inner"),
        ("Inner", "", None),
    ],
)
def test_a_name_in_the_body_of_a_class_stands_for(
    project: WriteProject, expression: str, within: str, expected: str | None
) -> None:
    text = """
        class Top: ...
        class Same: ...
        class Outer:
            class Inner:
                class Deep: ...
            Alias = Inner
            Foreign = Top
            Same = Same
        """
    found = Project(project({"service.py": text}))
    module = found.module("service")
    assert module is not None

    symbol = found.resolve(module, ast.parse(expression, mode="eval").body, within)

    assert (symbol.dotted if symbol else None) == expected


@pytest.mark.parametrize(
    ("qualname", "line"),
    [("A", 1), ("A.B", 2), ("make.<locals>.C", 5), ("make", None), ("A.C", None), ("D", 7)],
)
def test_a_class_is_found_by_its_qualified_name(qualname: str, line: int | None) -> None:
    module = module_of(
        "class A:\n    class B: ...\ndef make():\n    if a:\n        class C: ...\nclass D: ...\nclass D: ..."
    )

    found = module.definition(qualname)

    assert (found.lineno if found else None) == line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("globals()['a'] = 1", True),
        ("def f():\n    exec(a)", True),
        ("vars()[name] = 1", True),
        ("import sys\nsetattr(sys.modules[__name__], name, 1)", True),
        ("setattr(module, name, 1)", False),
        ("vars(module)", False),
        ("def __getattr__(name): ...", True),
        ("def vars(): ...\nvars()", False),
        ("a.exec()", False),
        ("a = 1", False),
    ],
)
def test_a_module_hides_names(text: str, expected: bool) -> None:
    assert module_of(text).hides_names is expected


def test_all_modules_are_found_as_they_are_imported(project: WriteProject) -> None:
    files = ["top.py", "package/__init__.py", "package/inner.py", "folder/thing.py", "src/shop/stock.py"]
    others = [".venv/lib/a.py", "env/pyvenv.cfg", "env/b.py", "not-a-name/c.py", "site-packages/d.py"]

    modules = Project(project(dict.fromkeys([*files, *others], ""))).all_modules()

    names = {"top", "package", "package.inner", "folder.thing", "shop.stock"}
    assert {module.name for module in modules} == names


def test_modules_that_a_project_imports_are_those_of_all_its_files(project: WriteProject) -> None:
    files = {
        "a.py": "import torch.nn, b\ndef f():\n    from cv2 import x",
        "b.py": "from . import c\nif TYPE_CHECKING:\n    import jax",
        "broken.py": "import regex as",
    }

    assert imported_modules(Project(project(files))) == {"torch", "cv2"}

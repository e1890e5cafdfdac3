from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.conftest import Load

import bentoml
from bentoml._placeholder import Placeholder, loading
from bentoml.exceptions import MissingDependencyException

TORCH = frozenset({"torch"})
IRIS = """
import bentoml

@bentoml.service
class Iris:
    pass
"""


def torch() -> Any:
    return Placeholder("torch", "Iris")


def test_whatever_modules_do_while_they_load_is_tolerated(load: Load) -> None:
    load(
        {
            "service.py": """
                from __future__ import annotations

                import torch
                import torch.nn as nn
                import torch.utils.data
                from torch import Tensor, nn as layers
                from torch.optim import Adam as Optimizer

                import bentoml

                DEVICE = torch.device("cuda")
                HALF = torch.float16
                torch.set_num_threads(1)
                ALIAS = Tensor | None
                LAYERS = nn.ModuleList[nn.Linear]

                class Model(nn.Module, layers.Other):
                    def __init__(self) -> None:
                        super().__init__()

                    @torch.no_grad()
                    def forward(self, x: Tensor) -> torch.Tensor:
                        return x

                @torch.compile
                def double(x):
                    return 2 * x

                @bentoml.service
                class Iris:
                    def predict(self, x: torch.Tensor = torch.zeros(3)) -> Tensor | None:
                        ...
            """
        },
        absent=TORCH,
    )
    module = sys.modules["service"]

    assert module.double(2) == 4
    assert module.Model().forward(1) == 1


def test_sys_modules_stays_honest(load: Load) -> None:
    load({"service.py": "import nowhere\nimport nowhere.deep" + IRIS}, absent=frozenset({"nowhere"}))

    assert not [name for name in sys.modules if name.startswith("nowhere")]
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("nowhere")


USES: dict[str, Callable[[Any], object]] = {
    "a call": lambda torch: torch.zeros(3),
    "a decorator": lambda torch: torch.compile(lambda: None),
    "a test": bool,
    "a loop": list,
    "an item set": lambda torch: torch.__setitem__("a", 1),
    "an attribute set": lambda torch: setattr(torch.backends, "benchmark", True),
    "arithmetic": lambda torch: torch.pi * 2,
    "arithmetic from the right": lambda torch: 2 + torch.pi,
    "a comparison": lambda torch: torch.version >= (2, 0),
    "a context": lambda torch: torch.inference_mode.__enter__(),
    "a length": len,
    "a number": float,
    "a member": lambda torch: "cuda" in torch.backends,
    "isinstance": lambda torch: isinstance(1, torch.Tensor),
    "issubclass": lambda torch: issubclass(int, torch.Tensor),
    "a path": lambda torch: Path(torch.weights),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_real_use_says_what_is_missing(use: Callable[[Any], object]) -> None:
    with pytest.raises(
        MissingDependencyException, match=r"^`torch.*` is used, and 'torch' is not part of Iris's"
    ):
        use(torch())


def test_real_use_says_what_to_write() -> None:
    with pytest.raises(ImportError) as caught:
        torch().nn.Linear(1, 2)

    assert str(caught.value) == (
        "`torch.nn.Linear` is used, and 'torch' is not part of Iris's image: its class does not reach it. "
        "Add the requirement that brings it to bentofile.yaml:\n\n"
        "services:\n  Iris:\n    python:\n      packages: [torch]"
    )


def test_while_modules_load_a_call_is_tolerated_and_a_decision_is_not() -> None:
    with loading():
        available = torch().cuda.is_available()
        with pytest.raises(MissingDependencyException, match=r"`torch.cuda.is_available\(...\)` is used"):
            bool(available)


def test_a_version_is_missing_in_words() -> None:
    with pytest.raises(AttributeError, match=r"no `torch\.__version__`: 'torch' is not part of Iris's image"):
        _ = torch().__version__


def test_a_placeholder_shows_what_it_stands_for() -> None:
    assert repr(torch().nn) == "<placeholder for torch.nn, not part of Iris>"


def test_a_method_that_uses_what_is_missing_fails_when_it_is_called(load: Load) -> None:
    service = load(
        {
            "service.py": """
                import bentoml
                import torch

                @bentoml.service
                class Iris:
                    def predict(self):
                        return torch.zeros(3)

                    def late(self):
                        import torch.linalg
                        return torch.linalg.norm(3)
            """
        },
        absent=TORCH,
    )

    with pytest.raises(MissingDependencyException, match=r"`torch\.zeros` is used"):
        service.inner().predict()
    with pytest.raises(MissingDependencyException, match=r"`torch\.linalg\.norm` is used"):
        service.inner().late()


GUARDS = {
    "try": """
        try:
            import torch
            from torch import nn
        except ImportError:
            torch = None
    """,
    "try several": """
        try:
            if True:
                import torch.nn
        except (KeyError, ModuleNotFoundError):
            torch = None
    """,
    "try anything": """
        try:
            import torch
        except:
            torch = None
    """,
    "suppress": """
        import contextlib
        torch = None
        with contextlib.suppress(ImportError):
            import torch
    """,
    "in a function": """
        def find():
            try:
                from torch import (
                    nn,
                    optim,
                )
            except Exception as error:
                assert type(error) is ModuleNotFoundError and error.name == "torch"
                return None
            return nn
        torch = find()
    """,
}


@pytest.mark.parametrize("guard", GUARDS.values(), ids=GUARDS)
def test_a_module_that_handles_a_failing_import_sees_it_fail(load: Load, guard: str) -> None:
    load({"service.py": textwrap.dedent(guard) + IRIS}, absent=TORCH)

    assert sys.modules["service"].torch is None


def test_an_import_beside_the_guarded_one_is_not_guarded(load: Load) -> None:
    service = (
        """
try:
    pass
except ImportError:
    import torch
else:
    import torch
try:
    import torch as other
except ValueError:
    pass
"""
        + IRIS
    )
    load({"service.py": service}, absent=TORCH)

    assert isinstance(sys.modules["service"].torch, Placeholder)
    assert isinstance(sys.modules["service"].other, Placeholder)


def test_importing_gives_a_placeholder_for_what_other_services_need(load: Load) -> None:
    service = """
import bentoml
with bentoml.importing():
    import torch
    from torch.nn import Module
class Net(Module):
    dtype = torch.float16
"""
    load({"service.py": service + IRIS}, absent=TORCH)

    assert isinstance(sys.modules["service"].torch, Placeholder)


def test_importing_lets_an_import_fail_anywhere() -> None:
    with bentoml.importing():
        importlib.import_module("a_module_that_is_not_there")
    with pytest.raises(KeyError), bentoml.importing():
        raise KeyError


def test_a_module_that_is_installed_is_absent_all_the_same(load: Load) -> None:
    load({"service.py": "import json\n" + IRIS}, absent=frozenset({"json"}))

    assert isinstance(sys.modules["service"].json, Placeholder)
    assert not isinstance(sys.modules["json"], Placeholder)


def test_all_of_the_projects_modules_get_placeholders(load: Load) -> None:
    load(
        {
            "service.py": "import models.vision\nfrom package import deep\n" + IRIS,
            "models/vision.py": "import torch",  # a folder without `__init__`
            "package/__init__.py": "",
            "package/deep.py": "import torch",
            "src/package/ignored.py": "",
        },
        absent=TORCH,
    )

    assert isinstance(sys.modules["models.vision"].torch, Placeholder)
    assert isinstance(sys.modules["package.deep"].torch, Placeholder)


def test_nobody_elses_modules_get_placeholders(load: Load) -> None:
    with pytest.raises(ModuleNotFoundError, match="No module named 'torch_of_others'"):
        load(
            {
                "service.py": """
                    import sys
                    from pathlib import Path
                    sys.path.append(str(Path(__file__).parent / ".venv/lib/site-packages"))
                    import other_distribution.deep
                """,
                ".venv/lib/site-packages/other_distribution/__init__.py": "",
                ".venv/lib/site-packages/other_distribution/deep.py": "import torch_of_others",
            },
            absent=frozenset({"torch_of_others"}),
        )


def test_a_folder_of_data_does_not_hide_an_installed_package(load: Load) -> None:
    load({"service.py": "import numpy\n" + IRIS, "numpy/data.txt": ""})

    assert hasattr(sys.modules["service"].numpy, "ndarray")


def test_a_syntax_error_names_the_projects_file(load: Load) -> None:
    with pytest.raises(SyntaxError) as caught:
        load({"service.py": "import helper", "helper.py": "def ("})

    assert str(caught.value.filename).endswith("helper.py")

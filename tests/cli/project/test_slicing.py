"""Which installed modules a service needs, and which are only imported beside it."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
from tests.cli.conftest import EXAMPLE, PROJECTS, SliceOf, WriteProject

from bento_cli.errors import Problem
from bento_cli.project.discovery import discover
from bento_cli.project.slicing import Slice, slice_service
from bento_cli.project.source import Project


def slices(name: str, entry: str) -> dict[str, Slice]:
    root = PROJECTS / name
    project = Project(root)
    discovery = discover(project, entry, lambda message: Problem(root, 1, message))
    return {node.name: slice_service(project, discovery, node.name) for node in discovery.graph}


def two_services(top: str, *, entry: str = "pass", other: str = "pass") -> dict[str, str]:
    """A file with some code at its top, and two services with a method of the code given."""
    text = """\
import bentoml
{top}

@bentoml.service
class Other:
    @bentoml.api
    def run(self, x):
{other}

@bentoml.service
class Entry:
    other = bentoml.depends(Other)

    @bentoml.api
    def call(self, x):
{entry}
"""
    indented = {"entry": textwrap.indent(entry, " " * 8), "other": textwrap.indent(other, " " * 8)}
    return {"service.py": text.format(top=textwrap.dedent(top), **indented)}


def assert_slice(part: Slice, *, reached: set[str], absent: set[str]) -> None:
    assert (set(part.reached), set(part.absent)) == (reached, absent)


def test_each_service_of_the_example_gets_its_own_modules() -> None:
    project = Project(EXAMPLE)
    discovery = discover(project, "service:ControlNet", lambda message: Problem(EXAMPLE, 1, message))

    gpu = slice_service(project, discovery, "SDXLControlNetService")
    cpu = slice_service(project, discovery, "ControlNet")

    assert gpu.reached == {
        "PIL": "service.py:7: `PIL`",
        "diffusers": "service.py:11: `ControlNetModel`",
        "numpy": "service.py:6: `np`",
        "torch": "service.py:10: `torch`",
    }
    assert cpu.reached == {
        "PIL": "service.py:8: `PIL_Image`",
        "cv2": "service.py:5: `cv2`",
        "numpy": "service.py:6: `np`",
    }
    assert (set(gpu.absent), set(cpu.absent)) == ({"cv2"}, {"diffusers", "torch"})


def test_services_over_files_get_what_their_own_files_use() -> None:
    found = slices("services-over-files", "entry.api:Entry")

    assert {name: set(part.reached) for name, part in found.items()} == {
        "Embedder": {"torch"},
        "Ranker": {"numpy", "faiss"},
        "Entry": set(),
    }


def test_the_modules_that_a_service_loads_are_listed() -> None:
    found = slices("services-over-files", "entry.api:Entry")

    assert set(found["Ranker"].modules) == {
        "models",
        "models.embedding",
        "models.embedding.service",
        "models.ranking",
        "models.settings",
        "models.vectors",
    }


def test_a_place_is_named_below_the_projects_folder() -> None:
    found = slices("services-over-files", "entry.api:Entry")

    assert found["Embedder"].reached["torch"] == "models/embedding/service.py:2: `torch`"


def test_what_is_mounted_on_a_service_and_its_hooks_are_of_its_slice() -> None:
    found = slices("mounted-apps", "service:Front")

    assert {module: why.partition(":")[0] for module, why in found["Front"].reached.items()} == {
        "fastapi": "service.py",
        "jinja2": "admin.py",
        "matplotlib": "web.py",
        "pandas": "more.py",
        "sentencepiece": "warmup.py",
        "sqlalchemy": "tables.py",
    }


def test_a_service_without_a_class_needs_nothing_of_what_stands_beside_it() -> None:
    engine = slices("mounted-apps", "service:Front")["Engine"]

    # Making an application is a call, which runs in every process that loads its module.
    assert_slice(
        engine,
        reached={"fastapi"},
        absent={"jinja2", "matplotlib", "pandas", "sentencepiece", "sqlalchemy"},
    )


@pytest.mark.parametrize("word", ["servers.own", "servers/own.py", "./run.py", "run"])
def test_what_a_command_runs_gets_all_that_it_imports(sliced: SliceOf, word: str) -> None:
    files = {
        "service.py": f"""
            import bentoml, cv2
            COLOUR = cv2.IMREAD_COLOR
            Entry = bentoml.Service("Entry", cmd=["python", {word!r}])
            """,
        "run.py": "import servers.own",
        "servers/__init__.py": "",
        "servers/own.py": "import torch\ndef f():\n    import numpy",
    }

    part = sliced(files)

    assert_slice(part, reached={"torch", "numpy"}, absent={"cv2"})
    assert "servers.own" in part.modules


MERELY_NAMED = [
    "import torch\nDTYPE = torch.float16",
    "import torch\nDTYPE: torch.dtype = torch.float16",
    "import torch\nA, B = torch.float16, torch.float32",
    "import torch\nKINDS = {'half': torch.float16, torch.int8: [torch.int8]}",
    "import torch\nLoader = torch.utils.data.DataLoader[torch.Tensor]",
    "import torch\nEither = int | torch.Tensor",
    "import torch\nlazily = lambda: torch.zeros(1)",
    "import torch\nclass Net(torch.nn.Module):\n    size: torch.Size\n    kind = torch.float16",
    "import torch\n@torch.no_grad()\ndef f(x: torch.Tensor = torch.float16) -> torch.Tensor: ...",
    "import torch\n@torch.compile\ndef f(): return torch.zeros(1)",
    "import torch\n@torch.onnx.symbolic('a::b', tags=())\ndef f(): ...",
    "from torch import no_grad\n@no_grad()\ndef f(): ...",
    "from torch import Tensor\nx: Tensor",
    "import torch.nn as nn\nclass Net(nn.Module): ...",
    "from torch import nn",
    "import torch\nif False:\n    x = torch.float16",
    "import torch\ntry:\n    x = torch.float16\nexcept AttributeError:\n    pass",
]


@pytest.mark.parametrize("top", MERELY_NAMED)
def test_mere_naming_while_loading_keeps_nothing(sliced: SliceOf, top: str) -> None:
    part = sliced(two_services(top, other="return torch.zeros(1)"))

    assert_slice(part, reached=set(), absent={"torch"})


def test_what_is_merely_named_can_be_loaded_without_it(project: WriteProject) -> None:
    root = project({f"m{i}.py": two_services(top)["service.py"] for i, top in enumerate(MERELY_NAMED)})
    load = f"""
        from pathlib import Path
        from bentoml._loader import load_service

        for i in range({len(MERELY_NAMED)}):
            load_service(f"m{{i}}:Entry", project=Path.cwd(), absent=frozenset({{"torch"}}))
        """

    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(load)], cwd=root, capture_output=True, text=True, check=False
    )

    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.parametrize(
    ("top", "line"),
    [
        ("import torch\nDEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'", 3),
        ("import torch\nDEVICE = torch.device('cpu')", 3),
        ("import torch\ntorch.set_num_threads(1)", 3),
        ("import torch\ntorch.backends.cudnn.benchmark = True", 3),
        ("import torch\ntorch.x[0] = 1", 3),
        ("import torch\nKINDS = [torch.zeros(1)]", 3),
        ("import torch\na, b = torch.finfo", 3),
        ("import torch\nif torch.version: ...", 3),
        ("import torch\nfor x in torch.all: ...", 3),
        ("import torch\nwith torch.no_grad(): ...", 3),
        ("import torch\nassert torch.x", 3),
        ("import torch\nx = 1\nx += torch.one", 4),
        ("import torch\nmatch torch.x:\n    case 1: ...", 3),
        ("import torch\ndef f(x=torch.zeros(1)): ...", 3),
        ("import torch\ndef f(*, x=torch.zeros(1)): ...", 3),
        ("import torch\n@torch.op(torch.zeros(1))\ndef f(): ...", 3),
        ("import torch\nclass Net(torch.make()): ...", 3),
        ("import torch\nclass Net(metaclass=torch.Meta): ...", 3),
        ("import torch\nclass Net:\n    size = torch.zeros(1)", 4),
        ("import torch\nclass Net:\n    if True:\n        size = torch.zeros(1)", 5),
        ("import torch\nTEXT = f'{torch.__version__}'", 3),
        ("import torch\ndef helper(): return torch.zeros(1)\nX = helper()", 4),
        ("import torch\ndef mark(f):\n    torch.x()\n    return f\n@mark\ndef f(): ...", 6),
        ("import torch\ndef mark(x): return torch.jit(x)\n@mark(1)\nclass Net: ...", 4),
        ("from torch import *", 2),
    ],
)
def test_real_use_while_loading_keeps_a_module_and_its_line_is_named(
    sliced: SliceOf, top: str, line: int
) -> None:
    part = sliced(two_services(top))

    assert part.reached["torch"].startswith(f"service.py:{line}: ")


def test_what_the_body_of_another_services_class_computes_is_used_while_loading(sliced: SliceOf) -> None:
    text = """
        import bentoml, torch

        @bentoml.service
        class Other:
            device = torch.device("cuda")

        @bentoml.service
        class Entry:
            other = bentoml.depends(Other)
        """

    assert set(sliced({"service.py": text}).reached) == {"torch"}


def test_the_annotations_of_a_pydantic_model_are_used_while_loading(sliced: SliceOf) -> None:
    top = """
        from __future__ import annotations
        import numpy as np
        import torch
        from pydantic import BaseModel

        class Base(BaseModel): ...

        class Plain:
            x: torch.Tensor

        class Request(Base):
            x: np.ndarray
        """

    part = sliced(two_services(top))

    assert_slice(part, reached={"numpy"}, absent={"torch"})


@pytest.mark.parametrize(
    ("maker", "mark"),
    [
        ("from pydantic import validate_call", "@validate_call"),
        ("from pydantic import validate_call", "@validate_call(config={})"),
        ("from fastapi import FastAPI\napp = FastAPI()", "@app.post('/x')"),
        ("import fastapi\nrouter = fastapi.APIRouter()", "@router.get('/x')"),
    ],
)
def test_the_annotations_of_what_is_registered_somewhere_are_used_while_loading(
    sliced: SliceOf, maker: str, mark: str
) -> None:
    top = (
        f"import numpy as np\nimport torch\n{maker}\n{mark}\nasync def f(x: np.ndarray) -> torch.Tensor: ..."
    )

    part = sliced(two_services(top))

    assert {"numpy", "torch"} <= set(part.reached)


@pytest.mark.parametrize(
    "code",
    [
        "return torch.zeros(1)",
        "return helper()",
        "return Net().forward()",
        "return KINDS['half']",
        "return TABLE['f']()",
        "def inner():\n    return torch.zeros(1)\nreturn inner()",
        "import torch\nreturn torch.zeros(1)",
        "from torch import zeros\nreturn zeros(1)",
        "x: torch.Tensor = x",
        "return [torch.zeros(i) for i in x]",
        "return lambda: torch.zeros(1)",
        "import importlib\nreturn importlib.import_module('torch.nn')",
        "return __import__('torch')",
    ],
)
def test_a_services_method_reaches_a_module(sliced: SliceOf, code: str) -> None:
    top = """
        import torch

        KINDS = {"half": torch.float16}
        TABLE = {}
        TABLE["f"] = lambda: torch.zeros(1)

        def helper():
            return deeper()

        def deeper():
            return torch.zeros(1)

        class Net(torch.nn.Module):
            def forward(self):
                return torch.zeros(1)
        """

    assert set(sliced(two_services(top, entry=code)).reached) == {"torch"}


@pytest.mark.parametrize(
    "annotation", ["np.ndarray", "'np.ndarray'", "list['np.ndarray']", "'list[np.ndarray]'"]
)
def test_annotations_of_an_endpoint_reach_a_module(sliced: SliceOf, annotation: str) -> None:
    text = f"""
        import bentoml
        import numpy as np

        @bentoml.service
        class Entry:
            @bentoml.api
            def call(self, x: {annotation}) -> int: ...
        """

    assert set(sliced({"service.py": text}).reached) == {"numpy"}


def test_a_text_that_is_no_annotation_reaches_nothing(sliced: SliceOf) -> None:
    part = sliced(two_services("import torch", entry="return ['torch', x['torch']]", other="torch.zeros(1)"))

    assert part.reached == {}


def test_what_only_the_dependency_needs_is_left_to_it(sliced: SliceOf) -> None:
    files = two_services(
        "import torch\nimport cv2", entry="return cv2.Canny(x)", other="return torch.zeros(1)"
    )

    assert set(sliced(files, "Entry").reached) == {"cv2"}
    assert set(sliced(files, "Other").reached) == {"torch"}


def test_the_annotation_of_a_dependency_reaches_nothing_of_its_service(sliced: SliceOf) -> None:
    text = """
        import bentoml, torch
        from bentoml import depends as needs

        @bentoml.service
        class Other:
            def run(self): return torch.zeros(1)

        @bentoml.service
        class Entry:
            other: Other = needs(on=Other)
            remote = needs(Other, url="http://other:3000")
        """

    assert sliced({"service.py": text}).reached == {}


def test_the_code_of_a_base_class_counts_even_when_it_is_a_service(sliced: SliceOf) -> None:
    files = {
        "service.py": """
            import bentoml
            from base import Base

            @bentoml.service
            class Entry(Base): ...
            """,
        "base.py": """
            import bentoml, torch

            @bentoml.service
            class Base:
                def run(self): return torch.zeros(1)
            """,
    }

    assert set(sliced(files).reached) == {"torch"}


def test_helpers_are_followed_through_the_projects_modules_one_by_one(sliced: SliceOf) -> None:
    files = {
        **two_services(
            "import helpers.images\nfrom helpers import text as t",
            entry="return helpers.images.resize(t.clean(x))",
        ),
        "helpers/__init__.py": "",
        "helpers/images.py": """
            import cv2, torch

            def resize(x): return cv2.resize(x)
            def on_gpu(x): return torch.tensor(x)
            """,
        "helpers/text.py": """
            import regex, nltk

            def clean(x): return regex.sub("a", "b", x)
            def split(x): return nltk.split(x)
            """,
    }

    part = sliced(files)

    assert_slice(part, reached={"cv2", "regex"}, absent={"torch", "nltk"})
    assert part.reached["cv2"] == "helpers/images.py:1: `cv2`"


def test_a_module_that_is_handed_around_is_reached_as_a_whole(sliced: SliceOf) -> None:
    files = {
        **two_services("import helpers", entry="return getattr(helpers, x)()"),
        "helpers.py": "import cv2, torch\ndef a(): cv2.a()\ndef b(): torch.b()",
    }

    assert set(sliced(files).reached) == {"cv2", "torch"}


def test_a_name_that_stands_for_one_of_two_modules_reaches_both(sliced: SliceOf) -> None:
    top = "try:\n    import fast as ops\nexcept ImportError:\n    import slow as ops"
    files = {
        **two_services(top, entry="return ops.run()"),
        "fast.py": "import torch\ndef run(): torch.run()",
        "slow.py": "import numpy\ndef run(): numpy.run()",
    }

    assert set(sliced(files).reached) == {"torch", "numpy"}


def test_names_come_through_re_exports_and_star_imports(sliced: SliceOf) -> None:
    files = {
        **two_services("from package import *\nfrom package import named", entry="return starred(named())"),
        "package/__init__.py": "from .deep import named\nfrom .stars import *",
        "package/deep.py": "import cv2\ndef named(): cv2.x()",
        "package/stars.py": "from .more import *",
        "package/more.py": "import regex, torch\ndef starred(x): regex.x()\ndef unused(): torch.x()",
    }

    assert set(sliced(files).reached) == {"cv2", "regex"}


def test_names_that_a_module_makes_when_asked_for_reach_what_makes_them(sliced: SliceOf) -> None:
    files = {
        **two_services("import lazy", entry="return lazy.something()"),
        "lazy.py": "def __getattr__(name):\n    import torch\n    return getattr(torch, name)",
    }

    assert set(sliced(files).reached) == {"torch"}


def test_a_project_without_init_files_is_not_taken_for_installed_modules(sliced: SliceOf) -> None:
    files = {
        **two_services(
            "import lib.images\nfrom lib import text\nfrom lib.deep.net import f",
            entry="f(text, lib.images)",
        ),
        "lib/images.py": "",
        "lib/text.py": "",
        "lib/deep/net.py": "def f(*x): ...",
    }

    part = sliced(files)

    assert_slice(part, reached=set(), absent=set())


def test_a_module_of_the_project_that_a_method_imports_is_loaded_then(sliced: SliceOf) -> None:
    files = {
        **two_services("", entry="from heavy import run\nreturn run(x)"),
        "heavy.py": "import torch, cv2\ntorch.set_num_threads(1)\ndef run(x): ...\ndef other(): cv2.x()",
    }

    part = sliced(files)

    assert_slice(part, reached={"torch"}, absent={"cv2"})
    assert part.modules == ("service", "heavy")


def test_a_method_that_is_not_reached_imports_nothing(sliced: SliceOf) -> None:
    files = two_services("def train():\n    import wandb\n    wandb.init()")

    part = sliced(files)

    assert_slice(part, reached=set(), absent={"wandb"})


def test_a_module_of_the_project_imported_by_a_literal_name_is_reached(sliced: SliceOf) -> None:
    files = {
        **two_services("import plugins", entry="return plugins.get()"),
        "plugins/__init__.py": """
            from importlib import import_module

            def get():
                return import_module(".ocr", __package__), import_module("plugins.text")
            """,
        "plugins/ocr.py": "import cv2\ndef read(x): cv2.x()",
        "plugins/text.py": "import regex\ndef read(x): regex.x()",
    }

    assert set(sliced(files).reached) == {"cv2", "regex"}


PLUGINS = {
    "plugins/__init__.py": "import regex\ndef get(): return regex",
    "plugins/ocr.py": "import cv2\ndef read(x): cv2.x()",
    "plugins/speech/vad.py": "def read(x):\n    import torch\n    torch.x()",
    "other.py": "import jax\ndef f(): jax.x()",
}


@pytest.mark.parametrize(
    "text",
    [
        *("f'plugins.{x}'", "'plugins.' + x", "'plugins.%s' % x", "'plugins.{}'.format(x)"),
        *("f'{__package__}.{x}'", "__package__ + '.' + x", "f'.{x}', __package__"),
        *(
            "f'.{x}', package='plugins'",
            "'.' + x, package=f'{__package__}'",
            "f'..{x}', 'plugins.speech'",
        ),
    ],
)
def test_a_name_that_begins_with_a_package_may_be_any_of_its_modules(sliced: SliceOf, text: str) -> None:
    load = f"from importlib import import_module\ndef load(x):\n    return import_module({text})"
    files = {**two_services("import plugins.loader", entry="plugins.loader.load(x)"), **PLUGINS}

    part = sliced({**files, "plugins/loader.py": load, "unused.py": "import pandas"})

    assert set(part.reached) == {"regex", "cv2", "torch"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("f'plugins.o{x}'", {"regex", "cv2"}), ("f'torch.{x}'", {"torch"}), ("'xgboost.' + x", {"xgboost"})],
)
def test_what_is_known_of_a_name_is_all_that_it_may_be(
    sliced: SliceOf, text: str, expected: set[str]
) -> None:
    code = f"import importlib\nreturn importlib.import_module({text})"

    assert set(sliced({**two_services("", entry=code), **PLUGINS}).reached) == expected


def test_a_package_that_import_returns_is_reached_as_a_whole(sliced: SliceOf) -> None:
    files = {**two_services("", entry="return __import__('plugins.ocr').get()"), **PLUGINS}

    assert set(sliced(files).reached) == {"regex", "cv2"}


@pytest.mark.parametrize(
    "call",
    [
        *("import_module(f'{x}.ocr')", "import_module(f'plugins{x}')", "import_module(f'.{x}', x)"),
        *("import_module('.ocr')", "import_module('.ocr', x)", "import_module(name='plugins.ocr')"),
        *("import_module(*x)", "import_module(f'{x!r}.ocr')", "__import__('ocr', level=1)"),
        *("__import__('ocr', None, None, [], 1)", "import_module(f'.{x}', '')"),
    ],
)
def test_a_name_of_which_not_even_the_package_is_known_may_be_any_file(sliced: SliceOf, call: str) -> None:
    code = f"from importlib import import_module\nreturn {call}"

    assert set(sliced({**two_services("", entry=code), **PLUGINS}).reached) == {
        "regex",
        "cv2",
        "torch",
        "jax",
    }


HIDING = [
    "import importlib\nreturn importlib.import_module(x)",
    "import importlib as il\nreturn il.import_module(x)",
    "import importlib\nload = importlib.import_module\nreturn load(x)",
    "import importlib\nreturn map(importlib.import_module, x)",
    "import importlib\nreturn getattr(importlib, 'import_module')(x)",
    "from importlib import import_module as load\nreturn load(x)",
    "from importlib import metadata\nreturn metadata.entry_points(group=x)",
    "import importlib.metadata\nreturn importlib.metadata.entry_points(group=x)",
    "import importlib.util\nreturn importlib.util.spec_from_file_location(x, x)",
    "from importlib.machinery import SourceFileLoader\nreturn SourceFileLoader(x, x).load_module()",
    "import runpy\nreturn runpy.run_path(x)",
    "import pkgutil\nreturn list(pkgutil.iter_modules(x))",
    "import pkg_resources\nreturn list(pkg_resources.iter_entry_points(x))",
    "import pkg_resources\nreturn pkg_resources.working_set.iter_entry_points(x)",
    "import pydoc\nreturn pydoc.locate(x)",
    "import zipimport\nreturn zipimport.zipimporter(x)",
    "import pickle\nreturn pickle.loads(x)",
    "import pickle\nclass Own(pickle.Unpickler): ...\nreturn Own(x).load()",
    "import joblib\nreturn joblib.load(x)",
    "import pandas as pd\nreturn pd.read_pickle(x)",
    "import numpy\nreturn numpy.load(x, allow_pickle=True)",
    "import shelve\nreturn shelve.open(x)",
    "import yaml\nreturn yaml.unsafe_load(x)",
    "import mlflow\nreturn mlflow.sklearn.load_model(x)",
    "import torch\nreturn torch.load(x, weights_only=False)",
    "from torch import hub\nreturn hub.load(x)",
    "import transformers\nreturn transformers.pipeline(model=x, trust_remote_code=True)",
    "import hydra\nreturn hydra.utils.instantiate(x)",
    "import subprocess, sys\nreturn subprocess.run([sys.executable, x])",
    "import subprocess\nreturn subprocess.run(['python3', x])",
    "from subprocess import run as start\nreturn start('python -m ' + x)",
    "import os\nreturn os.system('/usr/bin/python ' + x)",
    "import builtins\nreturn builtins.__import__(x)",
    "import builtins\nreturn getattr(builtins, x)",
    "return __builtins__['__import__'](x)",
    "return __import__(x)",
    "return [__import__][0](x)",
    "return eval(x)",
    "exec(x)",
    "exec(compile(x, x, 'exec'))",
]
LOOKING_UP = [
    "return globals()[x]",
    "look = globals\nreturn look()[x]",
    "import sys\nreturn getattr(sys.modules[__name__], x)",
    "import sys\nmodules = sys.modules\nreturn modules[x]",
    "from sys import modules\nreturn modules[x]",
]


@pytest.mark.parametrize("code", [*HIDING, *LOOKING_UP])
def test_a_computed_name_may_be_any_of_the_imported_modules(sliced: SliceOf, code: str) -> None:
    files = two_services("import torch, cv2", entry=code, other="torch.x(), cv2.x()")

    part = sliced(files)

    assert {"torch", "cv2"} <= set(part.reached)
    assert part.absent == set()


@pytest.mark.parametrize("code", HIDING)
def test_what_is_imported_by_a_computed_name_may_be_any_file_of_the_project(
    sliced: SliceOf, code: str
) -> None:
    files = {
        **two_services("", entry=code),
        "plugins/faces.py": "import torch",
        "src/more/text.py": "def f():\n    import regex",
        "broken.py": "import cv2 as",
        ".venv/lib/site-packages/thing.py": "import jax",
    }

    assert {"torch", "regex"} <= set(sliced(files).reached)


# Where a service may come across such code.
PLACES = {
    "a method": {"entry": "{code}"},
    "a function": {"top": "def f(x):\n    {code}", "entry": "return f(x)"},
    "a function in a function": {
        "top": "def f():\n    def g(x):\n        {code}\n    return g",
        "entry": "f()",
    },
    "a class": {"top": "class A:\n    def m(self, x):\n        {code}", "entry": "return A().m(x)"},
    "a base class": {
        "top": "class A:\n    def m(self, x):\n        {code}\nclass B(A): ...",
        "entry": "return B().m(x)",
    },
    "a default": {"top": "def f(x=lambda x: {expression}): return x", "entry": "return f()"},
    "a comprehension": {"entry": "return [{expression} for x in x]"},
    "a text": {"entry": "return f'{{{expression}}}'"},
    "a decorator": {"top": "def f(g):\n    x = g\n    {code}", "entry": "@f\ndef g(): ...\nreturn g"},
    "a value": {"top": "HOW = [lambda x: {expression}]", "entry": "return HOW[0](x)"},
    "what runs while it loads": {"top": "x = 'a'\ny = {expression}"},
    "a branch": {"top": "if bentoml:\n    def f(x):\n        {code}", "entry": "return f(x)"},
}


@pytest.mark.parametrize(
    "expression", ["eval(x)", "__import__(x)", "il.import_module(x)", "load(x)", "globals()[x]"]
)
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_all_stays_in_wherever_such_code_stands(
    sliced: SliceOf, place: dict[str, str], expression: str
) -> None:
    parts = {
        name: code.format(code=f"return {expression}", expression=expression) for name, code in place.items()
    }
    imports = "import torch\nimport importlib as il\nfrom importlib import import_module as load\n"
    files = two_services(imports + parts.get("top", ""), entry=parts.get("entry", "pass"), other="torch.x()")

    assert "torch" in sliced(files).reached


@pytest.mark.parametrize(
    "code",
    [
        "return helpers.__dict__[x]",
        "return vars(helpers)[x]",
        "return getattr(helpers, x)",
        "return dir(helpers)",
    ],
)
def test_a_module_whose_names_are_looked_up_is_reached_as_a_whole(sliced: SliceOf, code: str) -> None:
    files = {**two_services("import helpers", entry=code), "helpers.py": "import cv2\ndef f(): cv2.x()"}

    assert set(sliced(files).reached) == {"cv2"}


def test_the_function_that_hides_what_is_needed_is_named(sliced: SliceOf) -> None:
    part = sliced(two_services("import torch", entry="return globals()[x]", other="torch.x()"))

    assert part.reached == {"torch": "service.py:16: `globals(...)`"}


@pytest.mark.parametrize(
    "code",
    [
        *(
            "self.model.eval()",
            "x.exec()",
            "self.globals()",
            "x.import_module(x)",
            "import re\nre.compile(x)",
        ),
        *("import subprocess\nsubprocess.run(['ffmpeg', x])", "import sys\nsys.path.append(x)"),
        *("import pandas as pd\npd.read_csv(x)", "import importlib.resources\nimportlib.resources.files(x)"),
        *("x.load(x, allow_pickle=False)", "x.load(x, weights_only=True)", "import yaml\nyaml.safe_load(x)"),
    ],
)
def test_a_method_that_is_only_called_like_that_hides_nothing(sliced: SliceOf, code: str) -> None:
    files = two_services("import torch", entry=code, other="torch.x()")

    assert "torch" not in sliced(files).reached


@pytest.mark.parametrize(
    "top",
    [
        "import torch",
        "import torch.nn",
        "import torch as t",
        "try:\n    import torch\nexcept ImportError:\n    pass",
    ],
)
def test_an_import_that_nothing_names_is_kept_for_its_effect(sliced: SliceOf, top: str) -> None:
    part = sliced(two_services(top))

    assert part.reached["torch"].endswith(": imported for its effect")


@pytest.mark.parametrize(
    "top",
    [
        "import torch\ndef f(x: 'torch.Tensor'): ...",
        "import torch\ndef f() -> 'list[torch.Tensor]': ...",
        "import torch\nx: 'torch.Tensor'",
        "import torch\n__all__ = ['torch']",
        "import torch\ndef f(): torch.x()",
    ],
)
def test_an_import_that_something_names_is_not_for_its_effect(sliced: SliceOf, top: str) -> None:
    assert sliced(two_services(top)).reached == {}


def test_what_a_package_imports_is_there_for_others(sliced: SliceOf) -> None:
    files = {
        **two_services("import package", entry="return package.cv2.x()"),
        "package/__init__.py": "import torch, cv2",
    }

    assert set(sliced(files).reached) == {"cv2"}


def test_a_module_that_may_be_missing_is_not_needed_where_only_its_flag_is_asked(sliced: SliceOf) -> None:
    top = """
        try:
            import torch
            HAS_TORCH = True
        except ImportError:
            HAS_TORCH = False

        def to_gpu(x):
            return torch.tensor(x)
        """

    part = sliced(two_services(top, entry="return HAS_TORCH", other="return to_gpu(x)"))

    assert_slice(part, reached=set(), absent={"torch"})


GUARDED = [
    "import torch\n    VERSION = torch.version",
    "import torch\n    class Net(torch.nn.Module): ...",
]
NAMED_OUTSIDE = [
    "DTYPE = torch.float16",
    "class Net(torch.nn.Module): ...",
    "class Holder:\n    dtype = torch.float16",
    "@torch.no_grad()\ndef f(): ...",
    "def f(x: torch.Tensor): ...",
    "def f(x=torch.float16): ...",
    "x: torch.Tensor",
]
MAY_FAIL = ["try:\n    {}\nexcept ImportError:\n    pass", "with bentoml.importing():\n    {}"]


@pytest.mark.parametrize("named", NAMED_OUTSIDE)
def test_what_may_be_missing_is_needed_where_its_name_is_used_while_loading(
    sliced: SliceOf, named: str
) -> None:
    part = sliced(two_services(f"{MAY_FAIL[0].format('import torch')}\n{named}"))

    assert part.reached["torch"].endswith(": used while it loads")


@pytest.mark.parametrize("named", NAMED_OUTSIDE)
@pytest.mark.parametrize("call", ["bentoml.importing()", "ready(), bentoml.importing()"])
def test_a_placeholder_stands_for_what_is_imported_with_importing(
    sliced: SliceOf, call: str, named: str
) -> None:
    part = sliced(
        two_services(f"from bentoml import importing as ready\nwith {call}:\n    import torch\n{named}")
    )

    assert_slice(part, reached=set(), absent={"torch"})


@pytest.mark.parametrize("guarded", GUARDED)
@pytest.mark.parametrize("may_fail", MAY_FAIL)
def test_what_may_be_missing_is_not_needed_where_only_what_comes_with_it_is_named(
    sliced: SliceOf, may_fail: str, guarded: str
) -> None:
    part = sliced(two_services(may_fail.format(guarded)))

    assert_slice(part, reached=set(), absent={"torch"})


def test_annotations_that_are_never_looked_at_do_not_need_what_may_be_missing(sliced: SliceOf) -> None:
    top = """
        try:
            import torch
        except ImportError:
            ...

        def f(x: torch.Tensor) -> torch.Tensor: ...
        y: torch.Tensor
        """
    files = two_services(top)
    files["service.py"] = f"from __future__ import annotations\n{files['service.py']}"

    assert_slice(sliced(files), reached=set(), absent={"torch"})


def test_a_service_inside_a_class_has_a_slice_of_its_own(sliced: SliceOf) -> None:
    text = """
        import bentoml, cv2, regex, torch

        @bentoml.service
        class Entry:
            @bentoml.service
            class Inner:
                @bentoml.api
                def run(self): return torch.zeros(1)

            inner = bentoml.depends(Inner)
            size = regex.size()

            @bentoml.api
            def call(self): return cv2.Canny(1)
        """

    entry, inner = sliced({"service.py": text}), sliced({"service.py": text}, "Inner")

    assert (set(entry.reached), set(inner.reached)) == ({"cv2", "regex"}, {"regex", "torch"})


MADE = """
    import bentoml, cv2, regex, jax

    class Model:
        def load(self): return jax.load(1)

    def make(model):
        @bentoml.service
        class Made:
            def __init__(self): self.model = model().load()

            @bentoml.api
            def run(self): return regex.sub(1)
        return Made

    {how}

    @bentoml.service
    class Entry:
        made = bentoml.depends({what})

        @bentoml.api
        def call(self): return cv2.Canny(1)
    """


@pytest.mark.parametrize(
    ("how", "what"), [("Made = make(Model)", "Made"), ("ALL = [make(Model)]", "ALL[0]"), ("", "make(Model)")]
)
def test_a_service_that_a_function_makes_needs_what_the_function_is_given(
    sliced: SliceOf, how: str, what: str
) -> None:
    text = MADE.format(how=how, what=what)

    made, entry = sliced({"service.py": text}, "Made"), sliced({"service.py": text})

    assert_slice(made, reached={"jax", "regex"}, absent={"cv2"})
    # Calling the function, which every process does, may run the class that it is given.
    assert_slice(entry, reached={"jax", "cv2"}, absent={"regex"})


def test_a_service_that_no_class_in_the_source_shows_keeps_everything(sliced: SliceOf) -> None:
    text = """
        import bentoml, cv2, jax

        Made = bentoml.service(type("Made", (), {"run": bentoml.api(lambda self: jax.zeros(1))}))

        @bentoml.service
        class Entry:
            made = bentoml.depends(Made)
            def f(self): return cv2.Canny(1)
        """

    part = sliced({"service.py": text}, "Made")

    assert part.reached["cv2"] == "service.py makes it while it runs"


def test_what_a_computed_dependency_is_computed_with_is_used_while_loading(sliced: SliceOf) -> None:
    text = """
        import os, bentoml, jax

        @bentoml.service
        class Leaf: ...

        LEAVES = {"cpu": Leaf}

        @bentoml.service
        class Entry:
            leaf = bentoml.depends(LEAVES[os.environ.get(jax.x, "cpu") if False else "cpu"])
        """

    assert set(sliced({"service.py": text}).reached) == {"jax"}


def test_what_is_imported_for_type_checkers_is_not_imported(sliced: SliceOf) -> None:
    top = """
        import typing
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            import torch
            from pandas import DataFrame
        if not typing.TYPE_CHECKING:
            import cv2
        else:
            import jax
        """

    part = sliced(two_services(top, entry="y: torch.Tensor = cv2.x()\nreturn jax, DataFrame"))

    assert_slice(part, reached={"cv2"}, absent=set())


def test_what_is_imported_to_run_the_file_by_hand_is_not_imported(sliced: SliceOf) -> None:
    top = """
        if __name__ == "__main__":
            import matplotlib.pyplot as plt
            plt.show()
        """

    part = sliced(two_services(top))

    assert_slice(part, reached=set(), absent=set())


def test_what_is_registered_comes_with_the_registry(sliced: SliceOf) -> None:
    files = {
        **two_services("import registry, steps", entry="return registry.STEPS.run(x)"),
        "registry.py": """
            class Steps:
                def add(self, function): ...
                def run(self, x): ...

            STEPS = Steps()
            """,
        "steps.py": """
            import cv2, torch
            from registry import STEPS

            @STEPS.add
            def edges(x): return cv2.Canny(x)

            def unused(x): return torch.x()
            """,
    }

    entry, other = sliced(files, "Entry"), sliced(files, "Other")

    assert (set(entry.reached), set(other.reached)) == ({"cv2"}, set())


def test_what_is_there_anyway_is_neither_reached_nor_absent(sliced: SliceOf) -> None:
    top = "import os, json, bentoml.exceptions\nfrom pydantic import BaseModel"

    part = sliced(two_services(top, entry="return os, json, bentoml, BaseModel"))

    assert_slice(part, reached=set(), absent=set())


def test_modules_that_import_each_other_are_read_to_an_end(sliced: SliceOf) -> None:
    files = {
        **two_services("import a", entry="return a.f()"),
        "a.py": "import b\ndef f(): return b.f()",
        "b.py": "import a, torch\ndef f(): return a.f() or torch.x()",
    }

    assert set(sliced(files).reached) == {"torch"}

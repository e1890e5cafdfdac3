"""What endpoints take and return, as it is written, and what stands for it."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Discover

from bento_cli.project.signatures import contract_digest, signatures
from bento_cli.project.source import Project

SERVICE = """
    import bentoml
    from models import Params

    @bentoml.service
    class Entry:
        @bentoml.api
        async def generate(self, params: "Params", /, n: int = 20, *, key: str = "hidden") -> list[str]: ...

        @bentoml.task
        def train(self, *args, **kwargs): ...

        def helper(self, x: int) -> int: ...
    """
MODELS = """
    from pydantic import BaseModel

    class Base(BaseModel):
        seed: int = 0

    class Params(Base):
        prompt: str
        sizes: "list[Size]"

    class Size(BaseModel):
        width: int
    """


def digest(discovered: Discover, models: str = MODELS, service: str = SERVICE) -> str:
    discovery = discovered({"service.py": service, "models.py": models})
    return contract_digest(Project(Path.cwd()), discovery.definitions["Entry"])


def test_signatures_are_those_of_endpoints_without_the_values_of_defaults(discovered: Discover) -> None:
    discovery = discovered({"service.py": SERVICE, "models.py": MODELS})

    assert signatures(Project(Path.cwd()), discovery.definitions["Entry"]) == {
        "generate": "(params: 'Params', /, n: int=..., *, key: str=...) -> list[str]",
        "train": "(*args, **kwargs)",
    }


def test_a_field_of_a_class_that_an_endpoint_takes_is_part_of_its_contract(discovered: Discover) -> None:
    before = digest(discovered)

    assert digest(discovered, models=MODELS.replace("width: int", "width: float")) != before
    assert digest(discovered, models=MODELS.replace("seed: int = 0", "seed: int")) != before


def test_what_a_method_does_is_no_part_of_its_contract(discovered: Discover) -> None:
    before = digest(discovered)

    assert digest(discovered, service=SERVICE.replace("= 20", "= 30").replace("x: int", "x: str")) == before


def test_classes_that_name_one_another_have_a_contract(discovered: Discover) -> None:
    models = MODELS.replace("width: int", "width: Params")

    assert digest(discovered, models=models).startswith("sha256:")

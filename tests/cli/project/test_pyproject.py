"""`[tool.bentoml.build]` of pyproject.toml, in place of a bentofile."""

from __future__ import annotations

import pytest
from tests.cli.conftest import Files, WriteProject

from bento_cli.build import plan_build
from bento_cli.build.named import find_project
from bento_cli.errors import InputError
from bento_cli.project.bentofile import Bentofile, read_bentofile
from bento_cli.serve import find_servable
from bento_cli.yaml_file import validate

SERVICE = """
    import bentoml

    @bentoml.service
    class Entry: ...

    @bentoml.service
    class Other: ...
    """
TABLE = """
    [project]
    name = "Fine-Shop"
    dependencies = ["numpy>=2"]

    [tool.bentoml.build]
    service = "service:Other"
    labels = {owner = "vision"}

    [tool.bentoml.build.python]
    packages = ["pillow"]

    [[tool.bentoml.build.envs]]
    name = "TOKEN"
    """


@pytest.fixture
def files() -> Files:
    return {"service.py": SERVICE, "pyproject.toml": TABLE}


def problems(text: str, project: WriteProject) -> list[str]:
    with pytest.raises(InputError) as caught:
        validate(read_bentofile(project({"pyproject.toml": text})), Bentofile)
    return [str(problem) for problem in caught.value.problems]


def test_the_table_says_what_a_bentofile_would(project: WriteProject, files: Files) -> None:
    bentofile = validate(read_bentofile(project(files)), Bentofile)

    assert (bentofile.service, bentofile.labels) == ("service:Other", {"owner": "vision"})
    assert [env.name for env in bentofile.envs] == ["TOKEN"]


def test_the_projects_name_and_dependencies_are_the_bentos(project: WriteProject, files: Files) -> None:
    bentofile = validate(read_bentofile(project(files)), Bentofile)

    assert bentofile.name == "fine-shop"
    assert bentofile.python.packages == ("pillow", "numpy>=2")


def test_a_file_of_requirements_stands_for_all_of_them(project: WriteProject) -> None:
    text = '[project]\ndependencies = ["numpy"]\n[tool.bentoml.build.python]\nrequirements_txt = "r.txt"\n'
    bentofile = validate(read_bentofile(project({"pyproject.toml": text, "service.py": ""})), Bentofile)

    assert bentofile.python.packages == ()


def test_a_table_without_a_service_means_service_py(project: WriteProject) -> None:
    text = "[tool.bentoml.build]\nlabels = {}\n"
    project({"pyproject.toml": text, "service.py": "import bentoml\n\n@bentoml.service\nclass Entry: ...\n"})

    assert find_servable(".").graph.entry == "Entry"


@pytest.mark.parametrize("named", [".", "./pyproject.toml"])
def test_a_project_is_served_as_its_table_says(project: WriteProject, files: Files, named: str) -> None:
    project(files)

    assert find_servable(named).graph.entry == "Other"


def test_a_service_that_is_named_has_the_settings_of_the_table(project: WriteProject, files: Files) -> None:
    project(files)
    named = find_project("service:Entry")

    assert named is not None
    assert validate(named.file, Bentofile).labels == {"owner": "vision"}


def test_a_bentofile_wins_and_it_is_said(project: WriteProject, files: Files) -> None:
    root = project({**files, "bentofile.yaml": "service: service:Entry\n"})

    plan = plan_build(root)

    assert plan.graph.entry == "Entry"
    assert "bentofile.yaml is read, and `[tool.bentoml.build]` of pyproject.toml is not" in plan.notes


def test_a_pyproject_of_other_tools_is_none_of_ours(project: WriteProject) -> None:
    project({"service.py": SERVICE, "pyproject.toml": "[tool.ruff]\nnot TOML"})

    assert find_servable("service:Other").graph.entry == "Other"


def test_an_unknown_key_comes_with_its_line(project: WriteProject) -> None:
    text = """
        [tool.bentoml.build]
        service = "a:B"
        lables = {}

        [[tool.bentoml.build.envs]]
        name = "A"

        [[tool.bentoml.build.envs]]
        nmae = "B"
        name = "B"
        """

    assert problems(text, project) == [
        "pyproject.toml:3: unknown field `lables`, did you mean `labels`?",
        "pyproject.toml:9: unknown field `envs.1.nmae`, did you mean `name`?",
    ]


def test_what_is_no_toml_comes_with_its_line(project: WriteProject) -> None:
    assert problems("[tool.bentoml.build]\nservice = a:B\n", project) == [
        "pyproject.toml:2: not TOML: Invalid value"
    ]


def test_a_table_that_is_none_is_refused(project: WriteProject) -> None:
    assert problems("[tool.bentoml]\nbuild = 3\n", project) == [
        "pyproject.toml:2: expected the table `[tool.bentoml.build]`"
    ]

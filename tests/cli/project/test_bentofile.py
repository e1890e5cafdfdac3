"""`bentofile.yaml`: what it may say, and how what it may not say is refused."""

from __future__ import annotations

import pytest
from tests.cli.conftest import EXAMPLE, BentofileProblems, WriteProject, load_bentofile

from bento_cli.errors import NotFoundError


def test_the_examples_file_is_read() -> None:
    bentofile, _ = load_bentofile(EXAMPLE)

    assert bentofile.service == "service:ControlNet"
    assert bentofile.labels == {"owner": "bentoml-team", "project": "gallery"}


def test_a_service_is_enough(project: WriteProject) -> None:
    bentofile, _ = load_bentofile(project({"bentofile.yaml": "service: service:Entry"}))

    assert (bentofile.include, bentofile.exclude, bentofile.envs) == (("*",), (), ())


def test_a_folder_without_one_says_how_to_write_one(project: WriteProject) -> None:
    with pytest.raises(NotFoundError, match="no such file") as caught:
        load_bentofile(project({"other.py": ""}))

    assert caught.value.hint == 'write one in .: `service: "module:Class"` is enough'


def test_a_folder_that_is_not_there_is_not_found(project: WriteProject) -> None:
    with pytest.raises(NotFoundError, match="elsewhere: no such folder"):
        load_bentofile(project({"bentofile.yaml": ""}) / "elsewhere")


def test_an_unknown_field_comes_with_its_line_and_the_nearest_name(
    bentofile_problems: BentofileProblems,
) -> None:
    assert bentofile_problems("service: a:B\n\nlables: {}\n") == [
        "bentofile.yaml:3: unknown field `lables`, did you mean `labels`?"
    ]


def test_an_unknown_field_deep_inside_comes_with_the_nearest_name(
    bentofile_problems: BentofileProblems,
) -> None:
    text = """
        service: a:B
        envs:
          - nmae: TOKEN
            name: TOKEN
        services:
          Entry:
            python:
              pacakges: [torch]
        """

    assert bentofile_problems(text) == [
        "bentofile.yaml:3: unknown field `envs.0.nmae`, did you mean `name`?",
        "bentofile.yaml:8: unknown field `services.Entry.python.pacakges`, did you mean `packages`?",
    ]


def test_all_problems_come_at_once_in_the_order_of_their_lines(
    bentofile_problems: BentofileProblems,
) -> None:
    text = """
        docker:
          python_version: 3.10
        include: ["../shared/*.py"]
        envs:
          - name: 2FAST
        sevice: a:B
        """

    assert bentofile_problems(text) == [
        "bentofile.yaml: `service` is missing",
        "bentofile.yaml:2: `docker.python_version`: 3.1 is a number, "
        "and 3.10 would be 3.1: write it in quotes",
        "bentofile.yaml:3: `include.0`: '../shared/*.py' leads out of the project",
        "bentofile.yaml:5: `envs.0.name`: '2FAST' is no name of a variable, "
        "expected letters, digits and underscores",
        "bentofile.yaml:6: unknown field `sevice`, did you mean `service`?",
    ]


@pytest.mark.parametrize("service", ["service", "service:Entry", "service.py:Entry", "pkg.sub.service:Entry"])
def test_a_service_is_named(project: WriteProject, service: str) -> None:
    bentofile, _ = load_bentofile(project({"bentofile.yaml": f"service: {service}"}))

    assert bentofile.service == service


@pytest.mark.parametrize(
    "service", ["", ":", "service:", ":Entry", "pkg/service:Entry", "a..b:C", "a-b:C", "a:B:C"]
)
def test_a_service_string_of_another_form_is_refused(
    bentofile_problems: BentofileProblems, service: str
) -> None:
    assert bentofile_problems(f"service: '{service}'") == [
        f"bentofile.yaml:1: `service`: {service!r}: expected `module:Class`, such as `service:ControlNet`"
    ]


@pytest.mark.parametrize("version", ["3", "'2.7'", "'3.x'", "'3.11.1.1'", "[3]", "true"])
def test_a_python_version_that_is_none_is_refused(
    bentofile_problems: BentofileProblems, version: str
) -> None:
    [problem] = bentofile_problems(f"service: a:B\ndocker: {{python_version: {version}}}")

    assert "expected a Python version such as '3.11'" in problem


@pytest.mark.parametrize("pattern", ["../x", "a/../../x", "!../x", "..", "data/.."])
def test_a_pattern_that_leads_out_of_the_project_is_refused(
    bentofile_problems: BentofileProblems, pattern: str
) -> None:
    [problem] = bentofile_problems(f"service: a:B\nexclude:\n  - '{pattern}'")

    assert problem == f"bentofile.yaml:3: `exclude.0`: {pattern!r} leads out of the project"


@pytest.mark.parametrize("pattern", ["!", "data\\"])
def test_what_is_no_pattern_is_refused(bentofile_problems: BentofileProblems, pattern: str) -> None:
    [problem] = bentofile_problems(f"service: a:B\ninclude:\n  - '{pattern}'")

    assert problem.endswith("is no pattern as in a .gitignore")


def test_a_pattern_may_be_anchored_at_the_project(project: WriteProject) -> None:
    bentofile, _ = load_bentofile(project({"bentofile.yaml": "service: a:B\ninclude: [/service.py]"}))

    assert bentofile.include == ("/service.py",)


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("labels.team", 'labels: {team: "a\\nb"}'),
        ("labels.team", 'labels: {team: "a\\u2028b"}'),
        ("envs.0.value", 'envs: [{name: A, value: "a\\0b"}]'),
        ("envs.0.value", 'envs: [{name: A, value: "a\\x85b"}]'),
        ("python.packages.0", 'python: {packages: ["numpy\\nscipy"]}'),
        ("python.requirements_txt", 'python: {requirements_txt: "a\\rb"}'),
        ("include.0", 'include: ["a\\nb"]'),
    ],
)
def test_a_line_break_is_refused_with_the_field_and_its_line(
    bentofile_problems: BentofileProblems, field: str, text: str
) -> None:
    assert bentofile_problems(f"service: a:B\n{text}") == [
        f"bentofile.yaml:2: `{field}`: expected one line of text, found a line break or a NUL"
    ]


def test_a_value_longer_than_a_dockerfiles_line_is_refused(bentofile_problems: BentofileProblems) -> None:
    [problem] = bentofile_problems(f"service: a:B\nlabels:\n  team: {'x' * 40_000}")

    assert problem == "bentofile.yaml:3: `labels.team`: expected at most 30000 characters, found 40000"


@pytest.mark.parametrize("key", ["a=b", ""])
def test_a_label_whose_key_a_builder_would_split_is_refused(
    bentofile_problems: BentofileProblems, key: str
) -> None:
    [problem] = bentofile_problems(f"service: a:B\nlabels:\n  '{key}': x")

    assert problem.startswith(f"bentofile.yaml:3: `labels.{key}`: {key!r}: expected a label's key")


@pytest.mark.parametrize("name", ["Gallery", "a/b", "a--b", "gallery.", "x" * 64])
def test_a_name_that_no_image_can_have_is_refused(bentofile_problems: BentofileProblems, name: str) -> None:
    [problem] = bentofile_problems(f"service: a:B\nname: {name}")

    assert problem.startswith(f"bentofile.yaml:2: `name`: {name!r}: expected at most 63 lower-case letters")


@pytest.mark.parametrize("package", ["libgl1; rm -rf /", "$(id)", "Libgl1", "-o", "a b"])
def test_a_system_package_that_is_none_is_refused(
    bentofile_problems: BentofileProblems, package: str
) -> None:
    [problem] = bentofile_problems(f"service: a:B\ndocker: {{system_packages: ['{package}']}}")

    assert f"{package!r} is no name of a Debian package" in problem


@pytest.mark.parametrize("image", ["python 3.11", "", "python:3.11\\n", "$IMAGE", "-x", "a#b"])
def test_a_base_image_that_is_no_reference_is_refused(
    bentofile_problems: BentofileProblems, image: str
) -> None:
    [problem] = bentofile_problems(f'service: a:B\ndocker: {{base_image: "{image}"}}')

    assert "is no image reference such as `python:3.11-slim`" in problem


def test_an_index_that_is_no_url_is_refused(bentofile_problems: BentofileProblems) -> None:
    text = "service: a:B\npython:\n  index_url: https://host/simple --pre\n  extra_index_url: [wheels]\n"

    assert bentofile_problems(text) == [
        "bentofile.yaml:3: `python.index_url`: 'https://host/simple --pre': "
        "expected a URL such as `https://host/simple`",
        "bentofile.yaml:4: `python.extra_index_url.0`: 'wheels': expected a URL such as `https://host/simple`",
    ]


@pytest.mark.parametrize("credentials", ["me:secret", "secret", "${USER}:secret", "me:${secret}"])
def test_a_password_of_an_index_is_refused_and_not_shown(
    bentofile_problems: BentofileProblems, credentials: str
) -> None:
    text = f"service: a:B\npython:\n  extra_index_url: 'https://{credentials}@host/simple'\n"

    [problem] = bentofile_problems(text)

    assert problem == (
        "bentofile.yaml:3: `python.extra_index_url.0`: the URL of 'host/simple' holds a password, which "
        "images would hold too: write `https://user:${INDEX_PASSWORD}@…`, a variable where the Bento is built"
    )


def test_one_index_may_stand_for_a_list(project: WriteProject) -> None:
    text = "service: a:B\npython: {extra_index_url: 'https://me:${PASSWORD}@host/simple'}\n"

    bentofile, _ = load_bentofile(project({"bentofile.yaml": text}))

    assert bentofile.python.extra_index_url == ("https://me:${PASSWORD}@host/simple",)


@pytest.mark.parametrize("backend", ["gpu", "cuda128", "cu128 --pre", ""])
def test_builds_of_torch_that_nobody_has_are_refused(
    bentofile_problems: BentofileProblems, backend: str
) -> None:
    [problem] = bentofile_problems(f"service: a:B\npython:\n  torch_backend: '{backend}'\n")

    assert problem == (
        f"bentofile.yaml:3: `python.torch_backend`: {backend!r}: expected `auto`, `none`, `cpu`, or a build "
        "for GPUs such as `cu128`"
    )


def test_a_service_may_have_packages_and_a_python_of_its_own(project: WriteProject) -> None:
    text = """
        service: a:B
        services:
          B:
            slim: false
            python_version: "3.12"
            python: {packages: [torch], exclude: [numpy]}
        """

    bentofile, _ = load_bentofile(project({"bentofile.yaml": text}))

    said = bentofile.services["B"]
    assert (said.slim, said.python_version) == (False, "3.12")
    assert (said.python.packages, said.python.exclude) == (("torch",), ("numpy",))


def test_a_number_as_the_value_of_a_variable_is_to_be_quoted(bentofile_problems: BentofileProblems) -> None:
    text = "service: a:B\nenvs:\n  - name: THREADS\n    value: 010\n"

    assert bentofile_problems(text) == [
        "bentofile.yaml:4: `envs.0.value`: expected text, found the number 8: write it in quotes"
    ]

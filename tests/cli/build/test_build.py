"""From a project to a Bento: the same project gives the same one, and none of its code is run."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from tests.cli.conftest import EXAMPLE, PROJECTS, Files, WriteProject
from tests.conftest import CheckGolden

from bento_cli.build import plan_build
from bento_cli.build.writing import render_bento, write_bento
from bento_cli.errors import BentoError, InputError
from bento_cli.store import Store
from bento_cli.store.bento import Bento, Tag

Build = Callable[..., Bento]

SERVICE = """
    import bentoml

    @bentoml.service(labels={"team": "vision"})
    class Entry:
        @bentoml.api
        def predict(self, x: int) -> int:
            return x
    """
PROJECT = {"bentofile.yaml": "service: service:Entry\n", "service.py": SERVICE}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


@pytest.fixture
def build(project: WriteProject, store: Store) -> Build:
    """`build({"service.py": "..."})`: the Bento of such a project."""

    def build_bento(files: Files = PROJECT, version: str | None = None, **labels: str) -> Bento:
        bento, _ = write_bento(plan_build(project(files), labels=labels), store, version=version)
        return bento

    return build_bento


def problems_of(root: Path) -> list[str]:
    with pytest.raises(InputError) as caught:
        plan_build(root)
    return [str(problem) for problem in caught.value.problems]


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_bento_holds_the_project_the_runtime_and_a_folder_for_each_service(build: Build) -> None:
    found = files_below(build().path)

    assert {path for path in found if not path.startswith("runtime/")} == {
        ".dockerignore",
        "bento.yaml",
        "compose.yaml",
        "src/bentofile.yaml",
        "src/service.py",
        "services/Entry/Dockerfile",
        "services/Entry/compose.yaml",
        "services/Entry/requirements.txt",
    }
    assert {
        "runtime/bentoml/__init__.py",
        "runtime/bentoml/_process/worker.py",
        "runtime/bentoml/_serving/page/docs.js",
        "runtime/bentoml/py.typed",
    } <= found
    assert not any(path.endswith(".pyc") for path in found)


def test_the_same_project_gives_the_same_version(build: Build) -> None:
    assert build().tag == build().tag


def test_the_same_project_elsewhere_gives_the_same_version(
    build: Build, store: Store, tmp_path: Path
) -> None:
    here = build()
    shutil.copytree(tmp_path / "project", tmp_path / "elsewhere")

    elsewhere, is_new = write_bento(plan_build(tmp_path / "elsewhere"), store)

    assert (elsewhere.tag, is_new) == (here.tag, False)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("service.py", SERVICE + "# x"),
        ("data.txt", "x"),
        ("bentofile.yaml", "service: service:Entry\n# x\n"),
        ("bentofile.yaml", "service: service:Entry\nlabels: {a: b}\n"),
    ],
)
def test_a_changed_byte_gives_another_version(build: Build, name: str, text: str) -> None:
    assert build().tag != build({**PROJECT, name: text}).tag


def test_a_label_of_the_command_line_gives_another_version(build: Build) -> None:
    assert build().tag != build(team="b").tag


def test_arguments_are_in_the_manifest_and_in_the_images(project: WriteProject, store: Store) -> None:
    root = project({**PROJECT, "bentofile.yaml": "service: service:Entry\nargs: {size: small, steps: 20}\n"})

    bento, _ = write_bento(plan_build(root, arguments={"steps": None}), store)

    assert bento.manifest.args == {"size": "small", "steps": None}
    dockerfile = (bento.path / "services/Entry/Dockerfile").read_text(encoding="utf-8")
    assert r'ENV BENTOML_ARGUMENTS="{\"size\":\"small\",\"steps\":null}"' in dockerfile


def test_another_argument_gives_another_version(project: WriteProject, store: Store) -> None:
    root = project(PROJECT)

    versions = {write_bento(plan_build(root, arguments={"a": a}), store)[0].tag.version for a in (1, "1")}

    assert len(versions) == 2


def test_arguments_that_no_variable_can_hold_are_refused(project: WriteProject) -> None:
    bentofile = f"service: service:Entry\n\nargs:\n  prompt: {'x' * 40_000}\n"

    [problem] = problems_of(project({**PROJECT, "bentofile.yaml": bentofile}))

    assert problem.startswith("bentofile.yaml:3: `args` as JSON: expected at most 30000 characters")


def test_a_service_with_tasks_keeps_their_results_in_a_volume(build: Build) -> None:
    bento = build({**PROJECT, "service.py": SERVICE.replace("@bentoml.api", "@bentoml.task")})

    compose = yaml.safe_load((bento.path / "services/Entry/compose.yaml").read_text(encoding="utf-8"))
    dockerfile = (bento.path / "services/Entry/Dockerfile").read_text(encoding="utf-8")
    [volume] = compose["services"]["entry"]["volumes"]
    assert volume == "entry-tasks:/home/bento/tasks"
    # An empty volume takes its owner from the folder that it is mounted on.
    assert re.search(r"mkdir -p [^&]*/home/bento/tasks\b", dockerfile)


def test_a_file_that_can_be_run_gives_another_version(build: Build, tmp_path: Path) -> None:
    before = build()
    (tmp_path / "project" / "service.py").chmod(0o755)

    assert build().tag != before.tag


def test_what_others_may_do_with_a_file_is_the_same_everywhere(build: Build, tmp_path: Path) -> None:
    before = build()
    (tmp_path / "project" / "service.py").chmod(0o600)

    after = build()

    assert after.tag == before.tag
    assert (after.source / "service.py").stat().st_mode & 0o777 == 0o644


def test_files_are_copied_as_they_can_be_run(build: Build, project: WriteProject) -> None:
    root = project({**PROJECT, "run.sh": ""})
    (root / "run.sh").chmod(0o700)

    bento = build()

    assert (bento.source / "run.sh").stat().st_mode & 0o777 == 0o755


def test_a_version_may_be_chosen(build: Build) -> None:
    assert str(build(version="1.2.0").tag) == "entry:1.2.0"


def test_a_chosen_version_stands_for_one_content(build: Build) -> None:
    build(version="1")

    with pytest.raises(BentoError, match="with another content"):
        build({**PROJECT, "data.txt": "x"}, version="1")


def test_a_version_that_no_image_can_have_is_refused_before_anything_is_written(
    build: Build, tmp_path: Path
) -> None:
    with pytest.raises(BentoError, match="'1/2' is no version of a Bento"):
        build(version="1/2")

    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(("key", "value"), [("a=b", "c"), ("", "c"), ("a", "b\nc"), ("a", "\ud800")])
def test_a_label_of_the_command_line_that_no_image_can_have_is_refused(
    project: WriteProject, key: str, value: str
) -> None:
    with pytest.raises(BentoError, match="label "):
        plan_build(project(PROJECT), labels={key: value})


def test_labels_stand_in_the_manifest_and_on_the_image(build: Build) -> None:
    files = {**PROJECT, "bentofile.yaml": "service: service:Entry\nlabels: {owner: me, team: a}\n"}

    bento = build(files, stage="test")

    assert bento.manifest.labels == {"owner": "me", "team": "a", "stage": "test"}
    dockerfile = (bento.path / "services/Entry/Dockerfile").read_text(encoding="utf-8")
    labels = re.findall(r'^LABEL "([^"]*)"="([^"]*)"$', dockerfile, re.MULTILINE)
    assert labels[:-1] == [
        ("owner", "me"),
        ("team", "vision"),
        ("stage", "test"),
        ("org.opencontainers.image.title", "entry/entry"),
        ("org.opencontainers.image.version", bento.tag.version),
        ("org.bentoml.bento", str(bento.tag)),
        ("org.bentoml.service", "Entry"),
    ]


def test_where_packages_are_looked_for_stands_before_the_requirements(build: Build) -> None:
    bentofile = """
        service: service:Entry
        python:
          extra_index_url: [https://host/cpu]
          packages: [numpy]
        """

    bento = build({**PROJECT, "bentofile.yaml": bentofile})

    lines = (bento.path / "services/Entry/requirements.txt").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "--extra-index-url https://host/cpu"
    assert "numpy" in lines


def test_hashes_that_the_project_lists_stand_with_the_requirements(build: Build) -> None:
    files = {**PROJECT, "requirements.txt": "numpy==2.1 --hash=sha256:aa\n"}

    bento = build(files)

    text = (bento.path / "services/Entry/requirements.txt").read_text(encoding="utf-8")
    assert "numpy==2.1 \\\n    --hash=sha256:aa\n" in text


def test_what_is_said_of_a_service_decides_what_its_image_holds(build: Build) -> None:
    bentofile = """
        service: service:Entry
        python: {packages: [torch, numpy, scipy]}
        services:
          Entry:
            slim: false
            python: {packages: [numpy<2], exclude: [scipy]}
        """
    service = SERVICE.replace("return x", "import numpy, scipy; return x")

    bento = build({"service.py": service, "bentofile.yaml": bentofile})

    [entry] = bento.manifest.services
    assert entry.requirements == {
        "torch": "nothing imports it: kept everywhere",
        "numpy<2": "services.Entry.python.packages",
    }
    assert entry.left_out == {
        "numpy": "services.Entry.python.packages says otherwise",
        "scipy": "services.Entry.python.exclude",
    }
    assert entry.absent_modules == ("scipy",)


def test_a_password_of_an_index_is_a_secret_of_the_images(build: Build) -> None:
    bentofile = "service: service:Entry\npython: {index_url: 'https://me:${INDEX_PASSWORD}@host/simple'}\n"

    bento = build({**PROJECT, "bentofile.yaml": bentofile})

    assert bento.service("Entry").secrets == ("INDEX_PASSWORD",)


def test_variables_of_the_build_are_there_while_packages_are_installed(build: Build) -> None:
    bentofile = """
        service: service:Entry
        envs:
          - {name: UV_HTTP_TIMEOUT, value: "300", stage: build}
        """

    bento = build({**PROJECT, "bentofile.yaml": bentofile})

    stages = (bento.path / "services/Entry/Dockerfile").read_text(encoding="utf-8").split("\nFROM ")
    holding = [stage.partition("\n")[0] for stage in stages if 'ENV UV_HTTP_TIMEOUT="300"\n' in stage]
    assert holding == ["python AS packages"]


def test_a_bentos_name_with_a_dot_gives_compose_a_name_without(build: Build) -> None:
    bento = build({**PROJECT, "bentofile.yaml": "service: service:Entry\nname: my.demo\n"})

    compose = yaml.safe_load((bento.path / "compose.yaml").read_text(encoding="utf-8"))
    assert compose["name"] == "my-demo"


def test_the_graph_of_a_diamond_stands_in_the_manifest(store: Store) -> None:
    bento, _ = write_bento(plan_build(PROJECTS / "diamond"), store)

    assert [node.name for node in bento.graph] == ["Leaf", "Left", "Right", "Entry"]
    assert bento.graph == plan_build(PROJECTS / "diamond").graph


def test_services_over_files_get_an_image_each_with_its_own_packages(store: Store) -> None:
    bento, _ = write_bento(plan_build(PROJECTS / "services-over-files"), store)

    assert {s.name: (set(s.requirements), set(s.absent_modules)) for s in bento.manifest.services} == {
        "Embedder": ({"torch"}, set()),
        "Ranker": ({"numpy", "faiss-cpu"}, {"torch"}),
        "Entry": (set(), {"numpy", "faiss", "torch"}),
    }


def test_none_of_the_projects_code_is_run(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECTS / "module-that-raises")

    bento, _ = write_bento(plan_build(Path()), store)

    assert [node.name for node in bento.graph] == ["Leaf", "Entry"]
    assert not Path("written-by-the-module").exists()


def test_a_module_that_a_service_loads_and_include_leaves_out_is_an_error(project: WriteProject) -> None:
    files = {
        "bentofile.yaml": "service: service:Entry\ninclude: [service.py]\n",
        "service.py": SERVICE.replace("import bentoml", "import bentoml, helpers"),
        "helpers.py": "",
        "unused.py": "",
    }

    [problem] = problems_of(project(files))

    assert problem.startswith("helpers.py: Entry loads this file, and it is no part of the Bento")


def test_problems_of_the_bentofile_and_of_the_services_come_at_once(project: WriteProject) -> None:
    files = {
        "bentofile.yaml": "service: service:Entry\nlabels: {a: 1}\n",
        "service.py": SERVICE + "\n        b = bentoml.depends(Missing)\n",
    }

    assert [problem.partition(": ")[0] for problem in problems_of(project(files))] == [
        "bentofile.yaml:2",
        "service.py:9",
    ]


def test_problems_of_names_settings_and_requirements_come_at_once(project: WriteProject) -> None:
    bentofile = """
        service: service:Entry
        python: {packages: [a b]}
        services:
          Entri: {}
          Entry: {python: {packages: [c d]}}
        """
    service = SERVICE.replace("labels=", "workers=0, resources={'cpus': 1}, labels=")

    assert [
        problem.partition("; ")[0]
        for problem in problems_of(project({"bentofile.yaml": bentofile, "service.py": service}))
    ] == [
        "bentofile.yaml:2: 'a b' is no requirement such as `numpy>=2`: "
        "Expected semicolon (after name with no version specifier) or end",
        "bentofile.yaml:4: no service 'Entri', did you mean `Entry`?",
        "bentofile.yaml:5: 'c d' is no requirement such as `numpy>=2`: "
        "Expected semicolon (after name with no version specifier) or end",
        "service.py:3: `resources.cpus` of Entry: unknown key, did you mean `cpu`?",
        'service.py:3: `workers` of Entry: expected a number above 0, "cpu_count", or a list with an item '
        "a worker, found 0",
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Übersetzer", "'Übersetzer' is no name of a service: use letters, digits, `_` and `-`"),
        ("a b", "'a b' is no name of a service: use letters, digits, `_` and `-`"),
        ("../a", "'../a' is no name of a service: use letters, digits, `_` and `-`"),
        ("__", "'__' is no name of a service: use letters, digits, `_` and `-`"),
        ("x" * 64, f"'{'x' * 64}', the name of its container, has more than 63 characters"),
    ],
)
def test_a_service_whose_name_names_no_container_is_refused(
    project: WriteProject, name: str, expected: str
) -> None:
    files = {**PROJECT, "service.py": SERVICE.replace("labels=", f"name={name!r}, labels=")}

    assert problems_of(project(files)) == [f"service.py:4: {expected}"]


def test_two_services_that_would_share_an_image_are_refused(project: WriteProject) -> None:
    service = """
        import bentoml

        @bentoml.service
        class ImageNet: ...

        @bentoml.service(name="image_net")
        class Other: ...

        @bentoml.service
        class Entry:
            a = bentoml.depends(ImageNet)
            b = bentoml.depends(Other)
        """

    assert problems_of(project({**PROJECT, "service.py": service})) == [
        "service.py:7: 'image_net' and 'ImageNet' would share the image `image-net`; rename one"
    ]


@pytest.mark.parametrize(
    ("argument", "note"),
    [
        ("http={'port': 8080}", "`http.port` of Entry is 8080: in its container it listens on 3000"),
        ("runner_probe={'enabled': True}", "configuration of Entry, without effect here: `runner_probe`"),
        ("http={'port': 3000}", None),
        ("ssl={'enabled': True, 'certfile': 'cert.pem'}", None),
        ("cmd=[*COMMAND]", None),
        ("service_class=type('Own', (bentoml.Service,), {})", None),
    ],
)
def test_what_a_decorator_says_and_is_otherwise_here_is_noted(
    project: WriteProject, argument: str, note: str | None
) -> None:
    service = SERVICE.replace("labels=", f"{argument}, labels=")

    notes = plan_build(project({**PROJECT, "service.py": service})).container_notes

    assert [n.partition(", as all")[0] for n in notes] == ([] if note is None else [note])


def test_tls_between_services_is_noted(project: WriteProject) -> None:
    service = """
        import bentoml

        @bentoml.service(ssl={"enabled": True, "certfile": "cert.pem"})
        class Leaf: ...

        @bentoml.service
        class Entry:
            leaf = bentoml.depends(Leaf)
        """

    [note] = plan_build(project({**PROJECT, "service.py": service})).container_notes

    assert note.startswith("`ssl` of Leaf: services call each other without TLS")


EXTERNAL = """
    import bentoml

    @bentoml.service
    class Entry:
        near = bentoml.depends(url="http://near:3000")
        far = bentoml.depends(deployment="far", cluster="eu")
    """


def test_the_variable_that_says_where_another_deployment_is_is_noted(project: WriteProject) -> None:
    plan = plan_build(project({**PROJECT, "service.py": EXTERNAL}))

    assert plan.container_notes == (
        "Entry.far, the deployment far in eu, is found where BENTOML_DEPLOYMENT_FAR__EU says",
    )


def test_a_container_is_given_the_variables_that_the_project_leaves_open(build: Build) -> None:
    bentofile = "service: service:Entry\nenvs: [{name: API_KEY}, {name: SIZE, value: small}]\n"
    bento = build({**PROJECT, "service.py": EXTERNAL, "bentofile.yaml": bentofile})

    compose = yaml.safe_load((bento.path / "services/Entry/compose.yaml").read_text(encoding="utf-8"))

    variables = compose["services"]["entry"]["environment"]
    assert [name for name, value in variables.items() if value is None] == [
        "API_KEY",
        "BENTOML_DEPLOYMENT_FAR__EU",
    ]


def test_a_problem_of_a_configuration_is_where_the_service_is_marked(project: WriteProject) -> None:
    service = """
        import bentoml

        app = object()

        @bentoml.asgi_app(app)
        @bentoml.service(wrokers=2)
        class Entry: ...
        """

    assert problems_of(project({**PROJECT, "service.py": service})) == [
        "service.py:6: `wrokers` of Entry: unknown key, did you mean `workers`?"
    ]


def test_a_configuration_that_no_variable_can_hold_is_refused(project: WriteProject) -> None:
    files = {
        **PROJECT,
        "service.py": SERVICE.replace(
            "labels=", "monitoring={'type': 'own', 'options': {'a': {1, 2}}}, labels="
        ),
    }

    [problem] = problems_of(project(files))

    assert problem.startswith("service.py:3: Entry: its configuration cannot be written as JSON")


@pytest.mark.parametrize("broken", ["bentofile", "service", "requirements", "name"])
def test_an_error_leaves_the_store_as_it_was(build: Build, store: Store, tmp_path: Path, broken: str) -> None:
    build()
    before = files_below(tmp_path / "home")
    bentofile = {
        "bentofile": "service: service:Entry\nx: 1",
        "service": "service: service:Other",
        "requirements": "service: service:Entry\npython: {packages: [a b]}",
        "name": "service: service:Entry\nname: Upper",
    }[broken]

    with pytest.raises(BentoError):
        build({**PROJECT, "bentofile.yaml": bentofile})

    assert files_below(tmp_path / "home") == before


def test_an_error_while_files_are_copied_leaves_the_store_as_it_was(
    project: WriteProject, store: Store, tmp_path: Path
) -> None:
    plan = plan_build(project(PROJECT))
    (tmp_path / "project" / "service.py").unlink()

    with pytest.raises(OSError, match=r"service\.py"):
        write_bento(plan, store)

    assert files_below(tmp_path / "home") == set()


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What is written for the example, with what differs from one time to the next pinned."""
    root = tmp_path_factory.mktemp("example")
    shutil.copy(EXAMPLE / "service.py", root)
    bentofile = (EXAMPLE / "bentofile.yaml").read_text(encoding="utf-8")
    pinned = f'{bentofile}docker:\n  python_version: "3.11"\n'
    (root / "bentofile.yaml").write_text(pinned, encoding="utf-8")
    tag = Tag("control_net", "golden")
    files = render_bento(plan_build(root), tag, created="2026-01-01T00:00:00+00:00", digest="golden")
    files["bento.yaml"] = re.sub(r"(bentoml_version: ).*", r"\1golden", files["bento.yaml"])
    return files


@pytest.mark.parametrize(
    "path",
    [
        "bento.yaml",
        "compose.yaml",
        "compose.cpu.yaml",
        ".dockerignore",
        "services/ControlNet/Dockerfile",
        "services/ControlNet/compose.yaml",
        "services/SDXLControlNetService/Dockerfile",
        "services/SDXLControlNetService/compose.yaml",
    ],
)
def test_the_example_is_written_as_a_person_has_reviewed_it(
    example: dict[str, str], check_golden: CheckGolden, path: str
) -> None:
    check_golden(f"controlnet/{path}", example[path])


def test_others_can_go_through_every_folder_whatever_the_umask(build: Build) -> None:
    before = os.umask(0o077)
    try:
        root = build().path
    finally:
        os.umask(before)

    folders = [root, *(path for path in root.rglob("*") if path.is_dir())]
    assert {oct(folder.stat().st_mode & 0o777) for folder in folders} == {"0o755"}


def test_a_deployments_file_is_not_part_of_the_project(project: WriteProject, store: Store) -> None:
    root = project({**PROJECT, "config-file.yaml": "envs: [{name: TOKEN, value: secret}]"})

    bento, _ = write_bento(plan_build(root, leave_out=[root / "config-file.yaml"]), store)

    assert "src/config-file.yaml" not in files_below(bento.path)


TWO_SERVICES = """
    import bentoml

    @bentoml.service(image=bentoml.images.Image(python_version="3.12").python_packages("rich==14", "tomli"))
    class Back:
        @bentoml.api
        def run(self) -> str: ...

    @bentoml.service
    class Entry:
        back = bentoml.depends(Back)

        @bentoml.api
        def run(self) -> str:
            import rich, tomli
    """


def test_what_a_service_lists_in_its_image_is_held_by_it_and_by_those_that_reach_it(
    project: WriteProject,
) -> None:
    bentofile = "service: service:Entry\npython: {packages: [rich==13, numpy]}\n"

    plan = plan_build(project({"service.py": TWO_SERVICES, "bentofile.yaml": bentofile}))

    assert set(plan.requirements.by_service["Back"]) == {"rich==14", "tomli", "numpy"}
    assert set(plan.requirements.by_service["Entry"]) == {"tomli", "numpy", "rich==13"}
    whys = {d.requirement: d.why for d in plan.requirements.decisions if d.service == "Back"}
    assert whys["rich==14"] == "`image` of Back"
    assert whys["rich==13"] == "`image` of Back says otherwise"


def test_a_service_has_the_python_of_its_image(project: WriteProject) -> None:
    bentofile = "service: service:Entry\ndocker: {python_version: '3.10'}\n"

    plan = plan_build(project({"service.py": TWO_SERVICES, "bentofile.yaml": "service: service:Entry"}))
    said_in_file = plan_build(project({"service.py": TWO_SERVICES, "bentofile.yaml": bentofile}))

    assert plan.images["Back"].python_version == "3.12"
    assert said_in_file.images["Back"].python_version == "3.10"


def test_the_bentofile_takes_away_what_an_image_lists(project: WriteProject) -> None:
    bentofile = (
        "service: service:Entry\nservices: {Back: {python: {exclude: [tomli], packages: [rich==12]}}}\n"
    )

    plan = plan_build(project({"service.py": TWO_SERVICES, "bentofile.yaml": bentofile}))

    assert plan.requirements.by_service["Back"] == ("rich==12",)


def test_files_that_a_project_does_not_name_are_not_read_where_an_image_lists_packages(
    project: WriteProject,
) -> None:
    files = {"service.py": TWO_SERVICES, "bentofile.yaml": "service: service:Entry"}

    plan = plan_build(project({**files, "requirements.txt": "pytest"}))

    assert "pytest" not in {line.name for line in plan.listed.lines}


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        ("run(open('x').read())", "`image` of Entry is not known before the service starts, as "),
        ("python_packages('a b c')", "'a b c' is no requirement such as `numpy>=2`: "),
        ("requirements_file('../r.txt')", "'r.txt' leads out of the project"),
        ("requirements_file('no.txt')", "names no.txt, which is no file"),
        (
            "pyproject_toml('other/pyproject.toml')",
            "`pyproject_toml('other/pyproject.toml')`: the project's own",
        ),
        (
            "python_packages('a').run('b').python_packages('c')",
            "`image` of Entry: `python_packages()` comes after a command that runs once packages are",
        ),
        ("python_packages()", "`image` of Entry: `python_packages()` needs the name of a package"),
        ("run_script('no.sh')", "`image` of Entry, `run_script`: 'no.sh' is no file of the project"),
    ],
)
def test_what_an_image_is_told_in_vain_is_said_where_it_stands(
    project: WriteProject, told: str, problem: str
) -> None:
    service = f"import bentoml\n\n@bentoml.service(image=bentoml.images.Image().{told})\nclass Entry: ...\n"

    [found] = problems_of(project({**PROJECT, "service.py": service}))

    assert found.startswith(f"service.py:3: {problem}")


def test_two_indexes_that_are_each_the_first_are_refused(project: WriteProject) -> None:
    image = "bentoml.images.Image().python_packages('--index-url https://b/simple', 'a')"
    service = f"import bentoml\n\n@bentoml.service(image={image})\nclass Entry: ...\n"
    bentofile = "service: service:Entry\npython: {index_url: https://a/simple}\n"

    [found] = problems_of(project({"service.py": service, "bentofile.yaml": bentofile}))

    assert found == (
        "service.py:3: `image` of Entry has '--index-url https://b/simple', and the project "
        "'--index-url https://a/simple': there is one index"
    )


def test_a_cuda_without_images_is_said_once_with_its_line(project: WriteProject) -> None:
    bentofile = "service: service:Entry\ndocker: {cuda_version: 12.7}\n"

    [found] = problems_of(project({"service.py": TWO_SERVICES, "bentofile.yaml": bentofile}))

    assert found.startswith("bentofile.yaml:2: `docker.cuda_version`: no images for CUDA '12.7'; there are ")


def test_variables_of_docker_are_those_of_all_images_and_envs_wins(project: WriteProject) -> None:
    bentofile = """
        service: service:Entry
        docker: {env: [A=1, "B=$x=y"]}
        envs: [{name: A, value: "2"}]
        """

    plan = plan_build(project({"service.py": TWO_SERVICES, "bentofile.yaml": bentofile}))

    variables = [{name: image.environment.get(name) for name in "AB"} for image in plan.images.values()]
    assert variables == [{"A": "2", "B": "$x=y"}] * 2


def test_files_that_are_there_while_an_image_is_made_are_in_a_folder_of_its_service(build: Build) -> None:
    image = "bentoml.images.Image().build_include('data').run_script('setup.sh')"
    service = f"import bentoml\n\n@bentoml.service(image={image})\nclass Entry: ...\n"
    files = {**PROJECT, "service.py": service, "setup.sh": "", "data/a.txt": ""}

    bento = build({**files, "bentofile.yaml": "service: service:Entry\ninclude: ['*.py']\n"})

    folder = bento.path / "services/Entry/build"
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == ["a.txt", "setup.sh"]
    assert os.access(folder / "setup.sh", os.X_OK)

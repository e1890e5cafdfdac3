"""Which service holds which requirement, and what a project may list."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tests.cli.conftest import Files, WriteProject, load_bentofile

from bento_cli.errors import InputError
from bento_cli.project.slicing import Slice
from bento_cli.requirements import (
    Override,
    Requirements,
    absent_modules,
    assign,
    runtime_requirements,
    service_overrides,
)
from bento_cli.requirements.lists import Line, Listed, project_requirements
from bentoml._requirements import RUNTIME_REQUIREMENTS

ListedBy = Callable[[Files], Listed]


def slice_of(service: str, *reached: str, absent: tuple[str, ...] = ()) -> Slice:
    places = {module: f"service.py:1: `{module}`" for module in reached}
    return Slice(service=service, reached=places, absent=frozenset(absent), modules=("service",))


def lines(*texts: str) -> list[Line]:
    return [Line(text, text.partition("=")[0].partition(" ")[0].partition("[")[0]) for text in texts]


def adding(*texts: str) -> Override:
    return Override(packages=tuple(lines(*texts)))


def held(requirements: Requirements) -> Mapping[str, tuple[str, ...]]:
    return requirements.by_service


GPU = slice_of("Gpu", "torch", "diffusers", absent=("cv2",))
CPU = slice_of("Cpu", "cv2", absent=("torch", "diffusers"))


def test_a_requirement_goes_with_the_services_that_reach_its_module() -> None:
    found = assign(lines("torch", "opencv-python-headless", "diffusers==0.30"), [GPU, CPU], {})

    assert held(found) == {"Gpu": ("diffusers==0.30", "torch"), "Cpu": ("opencv-python-headless",)}


@pytest.mark.parametrize(
    ("requirement", "module"),
    [
        ("opencv-python", "cv2"),
        ("pillow", "PIL"),
        ("scikit-learn", "sklearn"),
        ("pipecat-ai", "pipecat"),
        ("azure-ai-ml", "azure"),
        ("llama-index-llms-ollama", "llama_index"),
        ("opentelemetry-sdk", "opentelemetry"),
        ("pyyaml", "yaml"),
        ("python-docx", "docx"),
        ("faiss-gpu", "faiss"),
        ("sentence-transformers", "sentence_transformers"),
        ("xgboost", "xgboost"),
        ("google-cloud-storage", "google"),
    ],
)
def test_a_distribution_brings_a_module_of_another_name(requirement: str, module: str) -> None:
    found = assign(lines(requirement), [slice_of("A", module), slice_of("B", absent=(module,))], {})

    assert held(found) == {"A": (requirement,), "B": ()}


def test_each_decision_says_why() -> None:
    found = assign(lines("torch"), [GPU, CPU], {})

    assert [(d.service, d.is_held, d.why) for d in found.decisions] == [
        ("Gpu", True, "service.py:1: `torch`"),
        ("Cpu", False, "not reached"),
    ]


def test_a_plug_in_that_nothing_imports_goes_with_its_host() -> None:
    found = assign(lines("diffusers", "torch", "accelerate", "opencv-python"), [GPU, CPU], {})

    assert held(found)["Cpu"] == ("opencv-python",)
    assert "plug-in of diffusers" in [d.why for d in found.decisions if d.requirement == "accelerate"]


def test_a_plug_in_of_a_plug_in_goes_with_both() -> None:
    found = assign(lines("sentencepiece", "transformers", "diffusers", "opencv-python"), [GPU, CPU], {})

    assert held(found) == {
        "Gpu": ("diffusers", "sentencepiece", "transformers"),
        "Cpu": ("opencv-python",),
    }


def test_a_plug_in_that_one_service_imports_goes_with_another_ones_host_too() -> None:
    trainer = slice_of("Trainer", "accelerate", "torch", absent=("diffusers",))
    artist = slice_of("Artist", "diffusers", absent=("accelerate", "torch"))

    found = assign(lines("torch", "diffusers", "accelerate"), [trainer, artist], {})

    assert held(found) == {"Trainer": ("accelerate", "torch"), "Artist": ("accelerate", "diffusers")}


@pytest.mark.parametrize("word", ["vllm", "vllm.entrypoints.api_server"])
def test_what_only_a_command_names_goes_with_its_service(word: str) -> None:
    engine = replace(slice_of("Engine"), command=("python", "-m", word))

    requirements = assign(lines("vllm==0.9"), [engine, slice_of("Entry")], {})

    assert held(requirements) == {"Engine": ("vllm==0.9",), "Entry": ()}
    assert requirements.decisions[0].why == f"`{word}` in its command"


def test_a_command_names_a_distribution_whose_modules_are_called_otherwise() -> None:
    engine = replace(slice_of("Engine"), command=("Text_Generation-Server",))

    requirements = assign(lines("text-generation-server"), [engine, slice_of("Entry")], {})

    assert held(requirements)["Entry"] == ()


def test_what_nothing_imports_and_nobody_knows_goes_everywhere() -> None:
    found = assign(lines("torch", "some-exporter"), [GPU, CPU], {})

    assert held(found) == {"Gpu": ("some-exporter", "torch"), "Cpu": ("some-exporter",)}
    assert "nothing imports it: kept everywhere" in [decision.why for decision in found.decisions]


@pytest.mark.parametrize("name", ["bentoml", "bentoml[grpc]>=1.3", "bento-toolchain"])
def test_the_runtime_is_left_out_with_a_note(name: str) -> None:
    found = assign(lines(name.partition(">")[0]), [GPU], {})

    assert held(found) == {"Gpu": ()}
    assert found.notes[0].endswith("is left out: the runtime is in every image")


def test_a_distribution_may_have_a_line_for_each_of_several_pythons() -> None:
    texts = ("torch==2.0; python_version < '3.11'", "torch==2.5; python_version >= '3.11'")

    found = assign([Line(text, "torch") for text in texts], [GPU], {})

    assert held(found) == {"Gpu": texts}


def test_what_is_added_for_one_service_goes_with_that_one() -> None:
    found = assign(lines("opencv-python"), [GPU, CPU], {"Gpu": adding("xformers")})

    assert held(found) == {"Gpu": ("xformers",), "Cpu": ("opencv-python",)}
    assert [(d.service, d.is_held, d.why) for d in found.decisions if d.requirement == "xformers"] == [
        ("Gpu", True, "services.Gpu.python.packages"),
        ("Cpu", False, "not reached"),
    ]


def test_what_is_added_for_one_service_takes_the_place_of_the_projects_line() -> None:
    found = assign(lines("torch"), [GPU, slice_of("Too", "torch"), CPU], {"Gpu": adding("torch==2.5")})

    assert held(found)["Gpu"] == ("torch==2.5",)
    assert held(found)["Too"] == ("torch",)
    assert [d.why for d in found.decisions if not d.is_held and d.requirement == "torch"] == [
        "services.Gpu.python.packages says otherwise",
        "not reached",
    ]


def test_what_is_added_and_listed_alike_is_held_once() -> None:
    found = assign(lines("torch"), [GPU, CPU], {"Gpu": adding("torch")})

    assert held(found)["Gpu"] == ("torch",)
    assert len(found.decisions) == 2


def test_a_plug_in_that_one_service_adds_is_not_kept_everywhere() -> None:
    found = assign(lines("some-exporter"), [GPU, CPU], {"Gpu": adding("some-exporter")})

    assert held(found) == {"Gpu": ("some-exporter",), "Cpu": ()}


def test_a_service_does_without_what_it_excludes() -> None:
    without = Override(exclude=frozenset({"torch"}))

    found = assign(lines("torch", "diffusers"), [GPU, slice_of("Too", "torch")], {"Gpu": without})

    assert held(found) == {"Gpu": ("diffusers",), "Too": ("torch",)}
    assert found.decisions[0].why == "services.Gpu.python.exclude"


def test_plug_ins_of_what_a_service_excludes_do_not_come_with_it() -> None:
    without = Override(exclude=frozenset({"diffusers"}))

    found = assign(lines("diffusers", "peft"), [GPU, slice_of("Too", "diffusers")], {"Gpu": without})

    assert held(found)["Gpu"] == ()


def test_a_service_that_is_not_slim_holds_all_requirements() -> None:
    found = assign(lines("torch", "opencv-python"), [GPU, CPU], {"Cpu": Override(is_slim=False)})

    assert held(found) == {"Gpu": ("torch",), "Cpu": ("opencv-python", "torch")}
    assert [d.why for d in found.decisions if d.service == "Cpu" and d.requirement == "torch"] == [
        "services.Cpu.slim is false"
    ]


def test_extras_of_the_runtime_bring_what_they_stand_for_to_every_service() -> None:
    found = assign([Line("bentoml[redis,grpc]>=1.3", "bentoml")], [GPU, CPU], {})

    assert held(found) == {"Gpu": ("redis>=5.2",), "Cpu": ("redis>=5.2",)}
    assert found.decisions[0].why == "extra `redis` of bentoml"
    assert found.notes[:2] == (
        "requirement 'bentoml[redis,grpc]>=1.3' is left out: the runtime is in every image",
        "extra `grpc` of bentoml brings nothing: the runtime has `redis`, `tracing`, `wsgi`",
    )


def test_a_line_of_the_project_stands_for_what_an_extra_brings() -> None:
    listed = [Line("bentoml[redis]", "bentoml"), Line("redis==5.3", "redis")]

    assert held(assign(listed, [GPU, CPU], {})) == {"Gpu": ("redis==5.3",), "Cpu": ("redis==5.3",)}


def test_a_module_that_no_requirement_brings_is_noted_with_where_it_is_used() -> None:
    found = assign(lines("diffusers"), [GPU], {})

    assert found.notes == (
        "no requirement brings `torch` (service.py:1: `torch`); it must come with another one",
    )


def test_a_module_that_the_runtime_brings_needs_no_requirement() -> None:
    assert assign([], [slice_of("A", "fastapi", "httpx", "starlette", "typing_extensions")], {}).notes == ()


def test_placeholders_stand_for_what_no_held_requirement_brings() -> None:
    part = slice_of("A", absent=("torch", "cv2", "fastapi", "np_tools"))

    assert absent_modules(part, ["opencv-python>=4", "NP.tools"]) == {"torch"}


def test_placeholders_stand_for_what_a_service_reaches_and_excludes() -> None:
    assert absent_modules(GPU, ["torch"], exclude=["diffusers"]) == {"cv2", "diffusers"}


def test_the_runtimes_own_requirements_have_their_version_ranges() -> None:
    assert any(line.startswith("pydantic>=") for line in runtime_requirements())
    assert not any(line.startswith(("docker", "jinja2")) for line in runtime_requirements())


def test_what_the_runtime_brings_to_every_image_is_what_its_requirements_bring() -> None:
    seen: set[str] = set()
    waiting = set(RUNTIME_REQUIREMENTS)
    while waiting:
        name = canonicalize_name(waiting.pop())
        seen.add(name)
        required = map(Requirement, metadata.requires(name) or ())
        waiting |= {one.name for one in required if one.marker is None or one.marker.evaluate()} - seen
    brought = {
        m for m, names in metadata.packages_distributions().items() if seen & {*map(canonicalize_name, names)}
    }

    # Others come with some versions of those alone.
    others = {"annotated_doc", "exceptiongroup", "opentelemetry", "sniffio"}
    assert absent_modules(slice_of("A", absent=tuple(brought - others)), []) == frozenset()


@pytest.fixture
def listed_by(project: WriteProject) -> ListedBy:
    """What a project of these files lists."""

    def find(files: Files) -> Listed:
        root = project(
            {"bentofile.yaml": "service: a:B\npython:\n  requirements_txt: requirements.txt\n", **files}
        )
        bentofile, file = load_bentofile(root)
        return project_requirements(root, bentofile, file)

    return find


def refused(listed_by: ListedBy, files: Files) -> list[str]:
    with pytest.raises(InputError) as caught:
        listed_by(files)
    return [str(problem) for problem in caught.value.problems]


def test_packages_are_listed_in_the_bentofile(listed_by: ListedBy) -> None:
    found = listed_by({"bentofile.yaml": "service: a:B\npython: {packages: ['NumPy>=2', 'Open_CLIP.torch']}"})

    assert found.lines == (Line("NumPy>=2", "numpy"), Line("Open_CLIP.torch", "open-clip-torch"))


@pytest.mark.parametrize(
    "text",
    [
        "torch==2.5.1",
        "uvicorn[standard]>=0.30,<1",
        "numpy<2; python_version < '3.12'",
        "detectron2 @ https://host/detectron2-0.6-py3-none-any.whl",
        "clip @ git+https://host/clip.git@main#egg=clip",
    ],
)
def test_a_requirement_is_kept_as_it_is_written(listed_by: ListedBy, text: str) -> None:
    found = listed_by({"requirements.txt": f"{text}\n"})

    assert [line.text for line in found.lines] == [text]


def test_a_requirements_file_may_have_comments_blank_lines_and_line_breaks(listed_by: ListedBy) -> None:
    text = """
        # what the model needs
        torch  # the newest

        numpy \\
            >=2

        pillow
        """

    found = listed_by({"requirements.txt": text})

    assert [line.name for line in found.lines] == ["torch", "numpy", "pillow"]


def test_a_requirements_file_may_name_others(listed_by: ListedBy) -> None:
    found = listed_by(
        {
            "requirements.txt": "-r requirements/gpu.txt\nnumpy\n",
            "requirements/gpu.txt": "--requirement=base.txt\ntorch\n",
            "requirements/base.txt": "-r ../requirements.txt\npillow\n",
        }
    )

    assert [line.name for line in found.lines] == ["pillow", "torch", "numpy"]


def test_a_requirement_may_have_hashes(listed_by: ListedBy) -> None:
    found = listed_by({"requirements.txt": "torch==2.5 \\\n  --hash=sha256:aa \\\n  --hash sha256:bb\n"})

    assert found.lines == (Line("torch==2.5", "torch", ("sha256:aa", "sha256:bb")),)


def test_a_file_of_constraints_requires_nothing(listed_by: ListedBy) -> None:
    found = listed_by(
        {
            "requirements.txt": "-c constraints.txt\nnumpy\n",
            "constraints.txt": "numpy<2\n-r more.txt\n",
            "more.txt": "pandas==2.2\n",
        }
    )

    assert [line.text for line in found.lines] == ["numpy"]
    assert [line.text for line in found.constraints] == ["numpy<2", "pandas==2.2"]


def test_what_a_resolver_wrote_for_the_sake_of_others_is_a_constraint(listed_by: ListedBy) -> None:
    text = """
        cublas==12.8 \\
            --hash=sha256:aa \\
            --hash=sha256:bb
            # via torch
        numpy==2.1
            # via
            #   -r requirements.in
            #   torch
        markupsafe==3.0   # via jinja2, torch
        pillow==11.0
            # via shop
        torch==2.5
            # via -r requirements.in
        """

    found = listed_by({"requirements.txt": text, "bentofile.yaml": "service: a:B\n"})

    assert [line.name for line in found.lines] == ["numpy", "markupsafe", "pillow", "torch"]
    assert found.constraints == (Line("cublas==12.8", "cublas", ("sha256:aa", "sha256:bb")),)


def test_where_packages_are_looked_for_is_kept(listed_by: ListedBy) -> None:
    text = """
        -i https://host/simple
        --extra-index-url https://host/cpu
        --extra-index-url=https://host/cpu
        -f https://host/wheels.html
        torch
        """

    found = listed_by({"requirements.txt": text})

    assert found.options == (
        "--index-url https://host/simple",
        "--extra-index-url https://host/cpu",
        "--find-links https://host/wheels.html",
    )


def test_where_the_bentofile_looks_for_packages_wins(listed_by: ListedBy) -> None:
    bentofile = """
        service: a:B
        python:
          requirements_txt: requirements.txt
          index_url: https://host/mine
          extra_index_url: [https://host/more]
          packages: [torch]
        """

    found = listed_by({"bentofile.yaml": bentofile, "requirements.txt": "-i https://host/theirs\nnumpy"})

    assert found.options == ("--index-url https://host/mine", "--extra-index-url https://host/more")
    assert found.notes == (
        "bentofile.yaml: `python.packages` is not read, as `python.requirements_txt` names a file",
    )


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"pyproject.toml": "[project]\ndependencies = ['numpy']\n"}, "numpy"),
        ({"requirements.txt": "pillow"}, "pillow"),
        ({"pyproject.toml": "[project]\ndependencies = ['numpy']\n", "requirements.txt": "pillow"}, "numpy"),
        ({"pyproject.toml": "[project]\nname = 'a'\n", "requirements.txt": "pillow"}, "pillow"),
    ],
)
def test_a_bentofile_without_packages_leaves_them_to_the_files_that_pip_reads(
    listed_by: ListedBy, files: Files, expected: str
) -> None:
    found = listed_by({"bentofile.yaml": "service: a:B\n", **files})

    assert [line.name for line in found.lines] == [expected]
    assert found.notes[0].endswith("as bentofile.yaml lists none")


UV_INDEXES = """
    [[tool.uv.index]]
    url = "https://host/more"

    [[tool.uv.index]]
    url = "https://host/torch"
    explicit = true

    [[tool.uv.index]]
    url = "https://host/simple"
    default = true
    """


def test_packages_are_looked_for_where_uv_does(listed_by: ListedBy) -> None:
    found = listed_by({"bentofile.yaml": "service: a:B\n", "pyproject.toml": UV_INDEXES})

    assert found.options == ("--extra-index-url https://host/more", "--index-url https://host/simple")
    assert found.notes == ("packages are looked for where `[[tool.uv.index]]` of pyproject.toml says",)


def test_an_index_of_the_bentofile_stands_for_those_of_uv(listed_by: ListedBy) -> None:
    bentofile = "service: a:B\npython: {index_url: https://host/mine}\n"

    found = listed_by({"bentofile.yaml": bentofile, "pyproject.toml": UV_INDEXES})

    assert found.options == ("--index-url https://host/mine",)


def test_an_index_of_uv_with_a_password_is_refused_at_its_line(listed_by: ListedBy) -> None:
    text = "[[tool.uv.index]]\nurl = 'https://me:secret@host/simple'\n"

    [problem] = refused(listed_by, {"bentofile.yaml": "service: a:B\n", "pyproject.toml": text})

    assert problem.startswith("pyproject.toml:1: `--extra-index-url`: the URL of 'host/simple' holds a")


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("-i https://me:secret@host/simple", "`--index-url`: the URL of 'host/simple' holds a password"),
        ("--find-links https://token@host/x", "`--find-links`: the URL of 'host/x' holds a password"),
        ("a @ https://me:secret@host/a-1-py3-none-any.whl", "the URL of 'host/a-1-py3-none-any.whl' holds a"),
    ],
)
def test_a_password_in_a_file_of_the_project_is_refused_and_not_shown(
    listed_by: ListedBy, line: str, shown: str
) -> None:
    [problem] = refused(listed_by, {"requirements.txt": f"numpy\n{line}\n"})

    assert problem.startswith(f"requirements.txt:2: {shown}")
    assert "secret" not in problem


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://me:${PASSWORD}@host/simple",
        "--index-url https://${TOKEN}@host/simple",
        "a @ git+ssh://git@host/a.git@main",
    ],
)
def test_a_password_may_be_that_of_whoever_builds(listed_by: ListedBy, line: str) -> None:
    found = listed_by({"requirements.txt": f"{line}\n"})

    assert (*found.options, *(found.text for found in found.lines)) == (line,)


def test_lines_that_are_no_requirements_come_with_their_places(listed_by: ListedBy) -> None:
    text = "numpy\ntorch=2\nmine wheel\n"

    problems = refused(listed_by, {"requirements.txt": text})

    assert [problem.partition(" is no requirement")[0] for problem in problems] == [
        "requirements.txt:2: 'torch=2'",
        "requirements.txt:3: 'mine wheel'",
    ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("-e .", "'.': the project itself is in every image; list what it requires"),
        (
            "--pre",
            "`--pre` is not read here; a requirement that names a pre-release, such as `numpy>=3.0rc1`,",
        ),
        (
            "--trusted-host host",
            "`--trusted-host` is not read here; an index is asked with `http://`, or with",
        ),
        (
            "--no-deps",
            "`--no-deps` is not read here; what is: -c, -r, --extra-index-url, --find-links, --index",
        ),
        ("--only-binary torch!", "`--only-binary` is not read here; what is: -c, -r, "),
        ("torch --config-settings=a=b", "`--config-settings` of 'torch' is not read here; `--hash` is"),
        ("torch \\\n  --global-option x", "`--global-option` of 'torch' is not read here; `--hash` is"),
        ("-c missing.txt", "names missing.txt, which is no file"),
        ("--find-links ./wheels", "`find_links`: expected a URL or a folder of the project, found 'wheels'"),
        ("-r missing.txt", "names missing.txt, which is no file"),
        ("-r ../secret.txt", "'secret.txt' leads out of the project"),
    ],
)
def test_an_option_that_is_not_acted_on_is_refused(listed_by: ListedBy, line: str, expected: str) -> None:
    [problem] = refused(listed_by, {"requirements.txt": f"numpy\n{line}\n"})

    assert problem.startswith(f"requirements.txt:2: {expected}")


def test_a_requirements_file_that_is_not_there_is_shown_where_it_is_named(listed_by: ListedBy) -> None:
    assert refused(listed_by, {}) == ["bentofile.yaml:3: names requirements.txt, which is no file"]


def test_a_requirements_file_outside_of_the_project_is_refused(listed_by: ListedBy) -> None:
    bentofile = "service: a:B\npython:\n  requirements_txt: ../requirements.txt\n"

    assert refused(listed_by, {"bentofile.yaml": bentofile, "../requirements.txt": "numpy"}) == [
        "bentofile.yaml:3: 'requirements.txt' leads out of the project"
    ]


def test_what_a_service_excludes_is_a_requirement_of_the_project(project: WriteProject) -> None:
    text = "service: a:B\nservices:\n  A:\n    python: {exclude: [torhc]}\n"
    bentofile, file = load_bentofile(project({"bentofile.yaml": text}))

    with pytest.raises(InputError, match=r"bentofile.yaml:4: no requirement 'torhc', did you mean `torch`\?"):
        service_overrides(bentofile, file, ["A"], Listed(lines=tuple(lines("torch"))))


def test_what_is_added_for_a_service_comes_with_its_place_when_it_is_none(project: WriteProject) -> None:
    text = """
        service: a:B
        services:
          A:
            python: {packages: [torch=2]}
          B:
            python: {packages: [a b]}
        """
    bentofile, file = load_bentofile(project({"bentofile.yaml": text}))

    with pytest.raises(InputError) as caught:
        service_overrides(bentofile, file, ["A", "B"], Listed(lines=()))

    assert [problem.line for problem in caught.value.problems] == [4, 6]

"""Whatever stands in a bentofile, its files say that and nothing more, or it is refused by name."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.conftest import GOLDEN

from bento_cli.build import plan_build
from bento_cli.build.writing import render_bento
from bento_cli.errors import BentoError
from bento_cli.store.bento import Manifest, Tag
from bento_cli.yaml_file import parse_yaml, validate

Instruction: TypeAlias = tuple[str, str]
Files: TypeAlias = dict[str, str]

TAG = Tag("entry", "1")

_RUN_STAGES = ("\nFROM base AS image", "\nFROM base AS installed")

# What ends or changes something in one of the languages on the way.
_PIECES = st.sampled_from(
    [
        *("\n", "\r\n", "\0", "\x85", "\u2028", "\ud83d", "\x1b", "\x7f", "\ufeff", "\t", " ", "é", "😀"),
        *("\\", "\\\n", '"', "'", "`", "$", "${HOME}", "$(id)", "{{ 7 * 7 }}", "{% raw %}", "#", ";", "&&"),
        *("=", ":", ",", "-", "--", ".", "..", "/", "*", "!", "[", "]", "~", "<", ">", "@", "yes", "null"),
        *("RUN id", "<<EOF", "# syntax=a", "# escape=`", "a", "B", "0"),
    ]
)
hostile = st.lists(_PIECES, min_size=1, max_size=6).map("".join) | st.text(max_size=20)
every_field = settings(max_examples=60, deadline=None, derandomize=True)


def instructions(text: str) -> Iterator[Instruction]:
    """The instructions of a Dockerfile as its format is described: one a line, `\\` joins the next."""
    pending = ""
    for line in text.split("\n"):
        if line.lstrip().startswith("#") or not (pending or line.strip()):
            continue
        pending += line
        if pending.endswith("\\"):
            pending = pending[:-1]
            continue
        name, _, rest = pending.lstrip().partition(" ")
        yield name, rest
        pending = ""
    assert not pending


def pairs(rest: str) -> dict[str, str]:
    """The names and values of an ENV or LABEL instruction; fails where one would be expanded."""
    found = {}
    for word in re.findall(r'(?:[^\s"\\]|\\.|"(?:[^"\\]|\\.)*")+', rest):
        name, equals, value = word.partition("=")
        assert equals
        found[unquoted(name)] = unquoted(value)
    return found


def unquoted(word: str) -> str:
    """A word without its quotes; in double quotes, `\\` makes the next character stand for itself."""
    if not word.startswith('"'):
        assert re.fullmatch(r"[A-Za-z0-9_.-]*", word)
        return word
    assert len(word) > 1
    assert word.endswith('"')
    assert "$" not in re.sub(r"\\.", "", word)
    return re.sub(r"\\(.)", r"\1", word[1:-1])


def said(text: str, wanted: str) -> dict[str, str]:
    """What all ENV or all LABEL instructions of the stages that are run say."""
    found: dict[str, str] = {}
    for name, rest in instructions(run_stages(text)):
        if name == wanted:
            found.update(pairs(rest))
    return found


def run_stages(text: str) -> str:
    """The part of a Dockerfile that is about what runs, and not about how its parts are made."""
    start = min(text.index(stage) for stage in _RUN_STAGES if stage in text)
    # The one line that expands something.
    return text[start:].replace('ENV PATH="/opt/venv/bin:$PATH"\n', "")


class Builder:
    """Writes a project of what it is given and renders the files of its Bento."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def files(self, decorator: str = "@bentoml.service", **fields: Any) -> Files:
        service = f"import bentoml\n\n{decorator}\nclass Entry: ...\n"
        (self._root / "service.py").write_text(service, encoding="utf-8")
        (self._root / "setup.sh").touch()
        text = yaml.safe_dump({"service": "service:Entry", **fields})
        (self._root / "bentofile.yaml").write_text(text, encoding="utf-8")
        return render_bento(plan_build(self._root), TAG, created="", digest="")

    def files_or_refusal(self, field: str, **fields: Any) -> Files | None:
        """The files; None where the value is refused, which must name the field or its line."""
        try:
            return self.files(**fields)
        except BentoError as error:
            refusal = error.message
        assert re.search(rf"{re.escape(field)}|^(bentofile\.yaml|service\.py):\d+: ", refusal)
        return None


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    root = tmp_path_factory.mktemp("hostile")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        yield Builder(root)


def dockerfile(files: Files) -> str:
    return files["services/Entry/Dockerfile"]


def manifest(files: Files) -> Manifest:
    return validate(parse_yaml(files["bento.yaml"], Path("bento.yaml")), Manifest)


def names_of_instructions(files: Files) -> list[str]:
    return [name for name, _ in instructions(dockerfile(files))]


@every_field
@given(key=hostile, value=hostile)
@example(key="a b", value='x" RUN id')
@example(key='"', value="\\")
def test_labels(builder: Builder, key: str, value: str) -> None:
    files = builder.files_or_refusal("labels", labels={key: value})

    if files is not None:
        assert said(dockerfile(files), "LABEL").items() >= {key: value}.items()
        assert manifest(files).labels == {key: value}
        assert names_of_instructions(files) == names_of_instructions(builder.files(labels={"a": "b"}))


@every_field
@given(name=hostile, value=hostile)
def test_names_of_variables(builder: Builder, name: str, value: str) -> None:
    files = builder.files_or_refusal("envs", envs=[{"name": name, "value": value or "x"}])

    assert files is None or said(dockerfile(files), "ENV").items() >= {name: value or "x"}.items()


@every_field
@given(value=hostile.filter(bool))
@example(value="\\")
@example(value="$")
def test_values_of_variables(builder: Builder, value: str) -> None:
    files = builder.files_or_refusal("envs.0.value", envs=[{"name": "VALUE", "value": value}])

    if files is not None:
        assert said(dockerfile(files), "ENV")["VALUE"] == value
        assert manifest(files).envs == ({"name": "VALUE", "value": value, "stage": "all"},)
        plain = builder.files(envs=[{"name": "VALUE", "value": "x"}])
        assert names_of_instructions(files) == names_of_instructions(plain)


@pytest.mark.docker
@settings(max_examples=10, deadline=None, derandomize=True)
@given(key=hostile, value=hostile, env=hostile.filter(bool))
@example(key='"$x" \\', value="${HOME} `id` \\", env="'$(id)' \\\" #")
def test_an_engine_reads_labels_and_variables_as_they_were_written(
    builder: Builder, key: str, value: str, env: str
) -> None:
    said = {"labels": {key: value}, "envs": [{"name": "VALUE", "value": env}]}
    files = builder.files_or_refusal("bentofile", **said)

    if files is not None:
        config = read_by_engine(dockerfile(files))
        assert config["Labels"][key] == value
        assert f"VALUE={env}" in config["Env"]


def read_by_engine(text: str) -> dict[str, Any]:
    """What a container engine makes of the ENV and LABEL lines of a Dockerfile."""
    lines = [line for line in run_stages(text).split("\n") if line.startswith(("ENV ", "LABEL "))]
    name = "bento-hostile-values"
    build = ["docker", "build", "--quiet", "--tag", name, "-"]
    subprocess.run(build, input="\n".join(["FROM scratch", *lines]).encode(), capture_output=True, check=True)
    inspect = ["docker", "image", "inspect", name, "--format", "{{json .Config}}"]
    config = json.loads(subprocess.run(inspect, capture_output=True, check=True).stdout)
    subprocess.run(["docker", "rmi", name], capture_output=True, check=True)
    return dict(config)


@pytest.mark.docker
@settings(max_examples=10, deadline=None, derandomize=True)
@given(key=hostile, value=hostile, env=hostile.filter(bool), command=hostile)
@example(key="# syntax=a", value="\\", env="<<EOF", command="<<EOF\nRUN id\nEOF\\")
def test_an_engine_and_a_linter_find_nothing_wrong_with_files(
    builder: Builder, tmp_path_factory: pytest.TempPathFactory, key: str, value: str, env: str, command: str
) -> None:
    files = builder.files_or_refusal(
        "bentofile",
        decorator=f"@bentoml.service(image=bentoml.images.Image().run({command!a}))",
        labels={key: value},
        docker={"env": {"VALUE": env}},
        envs=[{"name": "GIVEN_LATER"}],
    )

    if files is not None:
        folder = tmp_path_factory.mktemp("checked")
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        assert "Check complete, no warnings found" in output_of(
            "docker", "build", "--check", *BUILD, cwd=folder
        )
        # It takes the quote behind an escaped backslash for an escaped one; the engine does not.
        if not any(text.endswith("\\") for text in (value, env)):
            assert "DL1000" not in codes_of_hadolint(folder / BUILD[1])  # what it cannot parse
        read = output_of("docker", "compose", "config", "--format", "json", cwd=folder, GIVEN_LATER=env)
        value = json.loads(read)["services"]["entry"]["environment"]["GIVEN_LATER"]
        assert value.replace("$$", "$") == env  # written so that it can be read again


BUILD = ("--file", "services/Entry/Dockerfile", ".")


def output_of(*command: str, cwd: Path, **variables: str) -> str:
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def codes_of_hadolint(dockerfile: Path) -> list[str]:
    hadolint = sysconfig.get_path("scripts") + "/hadolint"
    found = subprocess.check_output([hadolint, "--no-fail", "--format", "json", str(dockerfile)])
    return [finding["code"] for finding in json.loads(found)]


def test_a_linter_finds_nothing_at_all_in_what_is_written_for_the_example() -> None:
    dockerfiles = sorted((GOLDEN / "controlnet").rglob("Dockerfile"))

    assert [codes_of_hadolint(dockerfile) for dockerfile in dockerfiles] == [[], []]


@pytest.mark.docker
@settings(max_examples=5, deadline=None, derandomize=True)
@given(text=hostile)
@example(text='a\\\n# b \'\n<<EOF\n$HOME "${x}" \u2028\\')
def test_a_shell_is_given_the_command_as_it_was_written(
    builder: Builder, tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    command = f"printf %s {shlex.quote(text)} > /said"
    image = f"bentoml.images.Image().run({command!a})"
    files = builder.files_or_refusal("service.py", decorator=f"@bentoml.service(image={image})")

    if files is not None:
        [run] = [line for line in dockerfile(files).split("\n") if '"-c"' in line]
        folder = tmp_path_factory.mktemp("run")
        lines = ["FROM debian:bookworm-slim", f"RUN {run.strip()}", "FROM scratch", "COPY --from=0 /said /"]
        (folder / "Dockerfile").write_text("\n".join(lines), encoding="utf-8")
        output_of("docker", "build", "--output", f"type=local,dest={folder}", ".", cwd=folder)
        assert (folder / "said").read_bytes().decode() == text


@every_field
@given(
    method=st.sampled_from(["run", "run_script", "build_include", "system_packages", "python_packages"]),
    text=hostile,
)
@example(method="run", text="a\nRUN id")
@example(method="python_packages", text="a\n--index-url https://host")
def test_what_an_image_is_told(builder: Builder, method: str, text: str) -> None:
    image = f"bentoml.images.Image().{method}({text!a})"
    files = builder.files_or_refusal("service.py:3: `", decorator=f"@bentoml.service(image={image})")

    if files is not None and method == "run":
        commands = [
            rest for name, rest in instructions(dockerfile(files)) if name == "RUN" and '"-c"' in rest
        ]
        assert [json.loads(command.strip())[-1] for command in commands] == [text]


@every_field
@given(text=hostile)
def test_the_base_that_an_image_is_told(builder: Builder, text: str) -> None:
    image = f"bentoml.images.Image({text!a})"
    files = builder.files_or_refusal("service.py:3: `", decorator=f"@bentoml.service(image={image})")

    if files is not None:
        plain = builder.files(decorator="@bentoml.service(image=bentoml.images.Image('python'))")
        assert names_of_instructions(files) == names_of_instructions(plain)


@every_field
@given(
    field=st.sampled_from(
        ["cuda_version", "setup_script", "dockerfile_template", "distro", "python_version"]
    ),
    text=hostile,
    is_of_service=st.booleans(),
)
def test_what_is_one_of_a_few_or_a_file_of_the_project(
    builder: Builder, field: str, text: str, is_of_service: bool
) -> None:
    own = {"docker": {field: text}}
    files = builder.files_or_refusal(
        f"docker.{field}", **({"services": {"Entry": own}} if is_of_service else own)
    )

    # What is fine is a version that fits, or another spelling of the one file that there is.
    assert files is None or re.fullmatch(r"[0-9.]+|(\./)*(setup\.sh|bentofile\.yaml|service\.py)", text)


@every_field
@given(name=hostile, value=hostile)
def test_variables_of_docker(builder: Builder, name: str, value: str) -> None:
    files = builder.files_or_refusal("docker.env", docker={"env": {name: value or "x"}})

    assert files is None or said(dockerfile(files), "ENV").items() >= {name: value or "x"}.items()


@every_field
@given(
    value=st.sampled_from(
        [
            "{{ ''.__class__.__mro__[1].__subclasses__() }}",
            "{{ image.__init__.__globals__ }}",
            "{{ self.__init__.__globals__.__builtins__ }}",
            "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
            "{% for x in ().__class__.__base__.__subclasses__() %}{{ x }}{% endfor %}",
            "{{ bento__path.__class__ }}",
            "{{ lipsum.__globals__['os'].environ }}",
            "{% include '/etc/passwd' %}",
            "{% import '../../../etc/passwd' as x %}",
            "{{ range(10**9) | list }}",
            "{{ image.environment.update({'A': 'b'}) }}",
            "{{ 1 / 0 }}",
        ]
    )
)
def test_a_template_of_the_project_reaches_nothing_but_its_values(
    project_template: Callable[[str], Files], value: str
) -> None:
    text = f"{{% extends bento_base_template %}}{{% block SETUP_BENTO_USER %}}{value}{{% endblock %}}"

    with pytest.raises(
        BentoError, match=r"`dockerfile_template` of Entry: |Dockerfile\.j2: nothing is called"
    ):
        project_template(text)


@pytest.fixture(scope="module")
def project_template(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Files]:
    """`project_template("{% extends ... %}")`: the files of a project with that template."""
    root = tmp_path_factory.mktemp("template")
    (root / "service.py").write_text("import bentoml\n\n@bentoml.service\nclass Entry: ...\n")
    said = {"service": "service:Entry", "docker": {"dockerfile_template": "Dockerfile.j2"}}
    (root / "bentofile.yaml").write_text(json.dumps(said))

    def files(text: str) -> Files:
        (root / "Dockerfile.j2").write_text(text)
        return render_bento(plan_build(root), TAG, created="", digest="")

    return files


@every_field
@given(text=hostile)
def test_descriptions(builder: Builder, text: str) -> None:
    files = builder.files_or_refusal("description", description=text)

    if files is not None:
        assert manifest(files).description == text
        assert names_of_instructions(files) == names_of_instructions(builder.files())


@every_field
@given(text=hostile)
def test_names(builder: Builder, text: str) -> None:
    files = builder.files_or_refusal("name", name=text)

    assert files is None or re.fullmatch(r"[a-z0-9._-]+", text)


@every_field
@given(
    field=st.sampled_from(["python_version", "base_image", "system_packages"]),
    text=hostile,
)
def test_what_stands_as_a_word_in_a_dockerfile(builder: Builder, field: str, text: str) -> None:
    value = [text] if field == "system_packages" else text
    files = builder.files_or_refusal(f"docker.{field}", docker={field: value})

    if files is not None:
        plain = {"python_version": "3.11", "base_image": "python", "system_packages": ["git"]}[field]
        assert text in dockerfile(files)
        assert names_of_instructions(files) == names_of_instructions(builder.files(docker={field: plain}))


@every_field
@given(
    field=st.sampled_from(["packages", "index_url", "extra_index_url", "find_links", "requirements_txt"]),
    text=hostile,
)
@example(field="packages", text="a --index-url https://host")
@example(field="index_url", text="https://host/simple -r x")
def test_what_stands_in_the_requirements(builder: Builder, field: str, text: str) -> None:
    value = text if field in ("index_url", "requirements_txt") else [text]
    files = builder.files_or_refusal(f"python.{field}", python={field: value})

    if files is not None:
        # Each line is one that was asked for; the others are the same without it.
        lines = files["services/Entry/requirements.txt"].splitlines()
        plain = builder.files()["services/Entry/requirements.txt"].splitlines()
        added = [line for line in lines if line not in plain]
        assert all(line.endswith(text.strip()) for line in added)
        assert len(added) <= 1


@every_field
@given(field=st.sampled_from(["include", "exclude"]), text=hostile)
def test_patterns(builder: Builder, field: str, text: str) -> None:
    value = ["*", text] if field == "include" else [text]
    files = builder.files_or_refusal(field, **{field: value})

    assert files is None or names_of_instructions(files) == names_of_instructions(builder.files())


@every_field
@given(text=hostile)
def test_services(builder: Builder, text: str) -> None:
    assert builder.files_or_refusal("service", service=text) is None
    assert builder.files_or_refusal("services", services={text: {}}) is None


@every_field
@given(name=hostile, value=hostile.filter(bool))
def test_what_a_decorator_says(builder: Builder, name: str, value: str) -> None:
    arguments = f"labels={{{name!a}: {value!a}}}, envs=[{{'name': 'VALUE', 'value': {value!a}}}]"
    files = builder.files_or_refusal("service.py:3: `", decorator=f"@bentoml.service({arguments})")

    if files is not None:
        assert said(dockerfile(files), "LABEL").items() >= {name: value}.items()
        assert said(dockerfile(files), "ENV")["VALUE"] == value

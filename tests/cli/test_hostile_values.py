"""Whatever stands in a bentofile, its files say that and nothing more, or it is refused by name."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bento_cli.bento import Manifest, Tag
from bento_cli.build import plan_build
from bento_cli.errors import BentoError
from bento_cli.writing import render_bento
from bento_cli.yaml_file import parse_yaml, validate

Instruction: TypeAlias = tuple[str, str]
Files: TypeAlias = dict[str, str]

TAG = Tag("entry", "1")

# What ends or changes something in one of the languages on the way.
_PIECES = st.sampled_from(
    [
        *("\n", "\r\n", "\0", "\x85", "\u2028", "\ud83d", "\x1b", "\x7f", "\ufeff", "\t", " ", "é", "😀"),
        *("\\", "\\\n", '"', "'", "`", "$", "${HOME}", "$(id)", "{{ 7 * 7 }}", "{% raw %}", "#", ";", "&&"),
        *("=", ":", ",", "-", "--", ".", "..", "/", "*", "!", "[", "]", "~", "<", ">", "@", "yes", "null"),
        *("RUN id", "<<EOF", "a", "B", "0"),
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
    return text[text.index("\nFROM base AS image") :]


class Builder:
    """Writes a project of what it is given and renders the files of its Bento."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def files(self, decorator: str = "@bentoml.service", **fields: Any) -> Files:
        service = f"import bentoml\n\n{decorator}\nclass Entry: ...\n"
        (self._root / "service.py").write_text(service, encoding="utf-8")
        text = yaml.safe_dump({"service": "service:Entry", **fields})
        (self._root / "bentofile.yaml").write_text(text, encoding="utf-8")
        return render_bento(plan_build(self._root), TAG, created="", digest="")

    def files_or_refusal(self, field: str, **fields: Any) -> Files | None:
        """The files; None where the value is refused, which must name the field or its line."""
        try:
            return self.files(**fields)
        except BentoError as error:
            refusal = error.message
        assert field in refusal or re.search(r"^bentofile\.yaml:\d+: ", refusal)
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
@given(key=hostile, value=hostile, env=hostile.filter(bool))
def test_an_engine_finds_nothing_wrong_with_a_dockerfile(
    builder: Builder, tmp_path_factory: pytest.TempPathFactory, key: str, value: str, env: str
) -> None:
    said = {"labels": {key: value}, "envs": [{"name": "VALUE", "value": env}]}
    files = builder.files_or_refusal("bentofile", **said)

    if files is not None:
        folder = tmp_path_factory.mktemp("checked")
        (folder / "Dockerfile").write_text(dockerfile(files), encoding="utf-8")
        checked = subprocess.run(
            ["docker", "build", "--check", str(folder)], capture_output=True, text=True, check=False
        )
        assert checked.stdout.startswith("Check complete, no warnings found"), checked.stderr


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

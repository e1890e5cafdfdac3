"""Locks of services: what is asked, how uv answers, and that the answer is kept."""

from __future__ import annotations

import base64
import http.server
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from tests.cli.conftest import RUNTIME, AddWheel, WriteProject
from typer.testing import CliRunner

from bento_cli.build import plan_build
from bento_cli.build.building import built
from bento_cli.build.locking import lock_build
from bento_cli.build.writing import write_bento
from bento_cli.commands.build import app
from bento_cli.console import Console
from bento_cli.errors import BentoError, InputError
from bento_cli.lock import (
    Lock,
    Package,
    Question,
    Resolver,
    UnresolvableError,
    Wanted,
    checked_platform,
    lock_services,
    read_packages,
)
from bento_cli.lock.announced import Announced
from bento_cli.lock.kept import KeptLocks
from bento_cli.lock.torch import torch_backend
from bento_cli.lock.uv import Uv, compile_arguments, in_words
from bento_cli.store import Store

Ask = Callable[..., list[str]]

PROJECT = Question(requirements=("numpy", "torch"), python_version="3.11", platform="linux/amd64")


class Answers:
    """Answers with what is given, one after the other, and remembers what it was asked."""

    def __init__(self, *answers: str) -> None:
        self.waiting = list(answers)
        self.asked: list[Question] = []

    def resolve(self, question: Question) -> str:
        self.asked.append(question)
        return self.waiting.pop(0)

    def exported(self, project: Path) -> str:
        return self.waiting.pop(0)


def wanted(*requirements: str, torch_backend: str | None = None, **hashes: str) -> Wanted:
    return Wanted(
        requirements=requirements,
        python_version="3.11",
        torch_backend=torch_backend,
        hashes={name: frozenset(listed.split()) for name, listed in hashes.items()},
    )


def test_a_service_is_resolved_with_the_versions_of_the_project() -> None:
    resolver = Answers("numpy==2.1\ntorch==2.5\n", "numpy==2.1\n")

    locks = lock_services(PROJECT, {"Cpu": wanted("numpy")}, resolver)

    assert [q.constraints for q in resolver.asked] == [(), ("numpy==2.1", "torch==2.5")]
    assert locks["Cpu"].packages == (Package("numpy==2.1"),)


def test_a_service_that_holds_all_of_the_project_is_not_asked_about_again() -> None:
    resolver = Answers("numpy==2.1\ntorch==2.5\n")

    locks = lock_services(PROJECT, {"Gpu": wanted("torch", "numpy")}, resolver)

    assert [package.name for package in locks["Gpu"].packages] == ["numpy", "torch"]


def test_services_that_want_the_same_are_asked_about_once() -> None:
    resolver = Answers("numpy==2.1\ntorch==2.5\n", "numpy==2.1\n")

    locks = lock_services(PROJECT, {"A": wanted("numpy"), "B": wanted("numpy")}, resolver)

    assert locks["A"] == locks["B"]


def test_builds_for_a_cpu_and_for_cuda_are_of_one_version() -> None:
    resolver = Answers("torch==2.5.1+cu128 ; sys_platform == 'linux'\nnumpy==2.1\n", "torch==2.5.1+cpu\n")

    locks = lock_services(PROJECT, {"Cpu": wanted("torch", torch_backend="cpu")}, resolver)

    assert resolver.asked[1].constraints == ("torch==2.5.1 ; sys_platform == 'linux'", "numpy==2.1")
    assert locks["Cpu"].summary == "1 packages for Python 3.11, linux/amd64, torch for cpu"


@pytest.mark.parametrize(
    "service",
    [replace(wanted("torch<2.5"), overrules=True), replace(wanted("torch<2.5"), python_version="3.12")],
)
def test_versions_that_need_not_fit_a_service_are_taken_where_they_do(service: Wanted) -> None:
    resolver = Answers("numpy==2.1\ntorch==2.5\n", "numpy==2.1\ntorch==2.4\n")
    project = replace(PROJECT, constraints=("numpy<3",))

    lock_services(project, {"A": service}, resolver)

    assert resolver.asked[1].constraints == ("numpy<3",)
    assert resolver.asked[1].preferences == ("numpy==2.1", "torch==2.5")


def test_versions_that_a_project_holds_already_are_not_asked_for() -> None:
    resolver = Answers("numpy==2.0\n")

    lock_services(PROJECT, {"A": wanted("numpy")}, resolver, pins="numpy==2.0\nscipy @ https://host/s.whl\n")

    assert [q.constraints for q in resolver.asked] == [("numpy==2.0",)]


def test_no_file_is_taken_but_those_whose_hashes_the_project_lists() -> None:
    text = "numpy==2.1 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\ntorch==2.5\n"
    listing = wanted("numpy", "torch", numpy="sha256:bb sha256:cc")

    lock = lock_services(PROJECT, {"A": listing}, Answers(text))["A"]

    assert str(lock) == "numpy==2.1 \\\n    --hash=sha256:bb\ntorch==2.5\n"


def test_hashes_that_no_file_has_are_refused() -> None:
    listing = wanted("numpy", "torch", numpy="sha256:cc")

    with pytest.raises(UnresolvableError, match=r"no file of numpy==2.1 has a hash that the project lists"):
        lock_services(PROJECT, {"A": listing}, Answers("numpy==2.1 --hash=sha256:aa\n"))


def test_a_lock_is_read_as_it_was_written() -> None:
    text = "numpy==2.1 ; python_version < '3.12' \\\n    --hash=sha256:aa\nmine @ https://host/mine.whl\n"

    packages = read_packages(f"# a comment\n--index-url https://host/simple\n{text}")

    assert "".join(f"{package}\n" for package in packages) == text
    assert {p.name: p.version for p in packages} == {"numpy": "2.1", "mine": "https://host/mine.whl"}


@pytest.mark.parametrize(
    "comment",
    ["    # via mid, -r requirements.in\n", "    # via mid[all]\n", ""],
)
def test_who_requires_a_package_is_no_part_of_it(comment: str) -> None:
    [package] = read_packages(f"leaf==1.0 \\\n    --hash=sha256:aa\n{comment}")

    assert package.hashes == ("sha256:aa",)
    assert package.required_by == (("mid",) if comment else ())


def test_a_package_is_there_for_the_nearest_one_that_is_listed() -> None:
    text = (
        "leaf==1 # via mid\nmid==1 # via far, near\nnear==1 # via far[all]\nfar==1 # via -r requirements.in\n"
    )
    lock = Lock(packages=read_packages(text), python_version="3.11", platform="linux/amd64")

    assert lock.brought_by(["far"]) == {"leaf": "far", "mid": "far", "near": "far", "far": None}
    assert lock.brought_by(["far", "near"])["mid"] in ("far", "near")


@pytest.fixture
def ask(wheels: Path) -> Ask:
    """`ask("numpy<3")`: what uv makes of these requirements with the wheels that are there."""

    def resolve(
        *requirements: str, constraints: tuple[str, ...] = (), preferences: tuple[str, ...] = ()
    ) -> list[str]:
        question = Question(
            requirements=requirements,
            index_options=("--no-index", f"--find-links {wheels.as_uri()}"),
            python_version="3.12",
            platform="linux/amd64",
            constraints=constraints,
            preferences=preferences,
        )
        return [str(package) for package in read_packages(Uv().resolve(question))]

    return resolve


def test_a_lock_holds_all_that_is_needed_with_hashes(add_wheel: AddWheel, ask: Ask) -> None:
    model, array = add_wheel("model", "1.0", "array>=2"), add_wheel("array", "2.1")

    assert ask("model") == [
        f"array==2.1 \\\n    --hash={array}",
        f"model==1.0 \\\n    --hash={model}",
    ]


def test_a_constraint_decides_the_version_and_brings_nothing(add_wheel: AddWheel, ask: Ask) -> None:
    for version in ("1.0", "2.0"):
        add_wheel("array", version)

    [line] = ask("array", constraints=("array==1.0", "other==3"))

    assert line.startswith("array==1.0 ")


def test_a_preference_gives_way(add_wheel: AddWheel, ask: Ask) -> None:
    for name in ("array", "image"):
        for version in ("1.0", "2.0"):
            add_wheel(name, version)

    lines = ask("array>=2", "image", preferences=("array==1.0", "image==1.0"))

    assert [line.partition(" ")[0] for line in lines] == ["array==2.0", "image==1.0"]


def test_a_marker_is_decided_for_the_images_python(add_wheel: AddWheel, ask: Ask) -> None:
    add_wheel("array", "1.0")
    add_wheel("old", "1.0")

    lines = ask("array", "old; python_version < '3.12'", "old; sys_platform == 'win32'")

    assert [line.partition(" ")[0] for line in lines] == ["array==1.0"]


def test_versions_that_do_not_fit_are_refused_in_uvs_words(add_wheel: AddWheel, ask: Ask) -> None:
    add_wheel("array", "1.0")
    add_wheel("model", "1.0", "array>=2")

    with pytest.raises(UnresolvableError) as caught:
        ask("model", "array<2")

    assert caught.value.words.startswith("all versions of model depend on array>=2 and you require model")
    assert "unsatisfiable" not in caught.value.words


def test_an_index_that_does_not_answer_leaves_a_build_without_locks(wheels: Path) -> None:
    question = replace(PROJECT, index_options=("--index-url http://127.0.0.1:1/simple",))

    with pytest.raises(BentoError, match=r"no lock could be made: .*127\.0\.0\.1:1/simple/") as caught:
        Uv().resolve(question)

    assert caught.value.hint is not None
    assert caught.value.hint.startswith("`bento build --no-lock`, or `lock_packages: false`")


def test_nobody_is_asked_offline(wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")

    with pytest.raises(BentoError, match="no lock could be made: numpy was not found in the cache"):
        Uv().resolve(replace(PROJECT, requirements=("numpy",)))


class PrivateIndex(http.server.SimpleHTTPRequestHandler):
    """A folder of wheels as a package index, for the user `me` with the password `secret` alone."""

    def do_GET(self) -> None:
        if self.headers.get("Authorization") != "Basic " + base64.b64encode(b"me:secret").decode():
            self.send_response(401)
            self.send_header("WWW-Authenticate", "Basic")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.path.endswith("/"):
            name = Path(self.path).name.replace("-", "_")
            names = [path.name for path in Path(self.directory).glob(f"{name}-*.whl")]
            page = "".join(f'<a href="/{name}">{name}</a>' for name in names).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)
        else:
            super().do_GET()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class calls it so
        pass


def test_the_index_of_a_project_is_asked_before_that_of_whoever_builds(
    wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:2/simple")
    question = replace(PROJECT, index_options=("--index-url http://127.0.0.1:1/simple",))

    with pytest.raises(BentoError, match=r"127\.0\.0\.1:1/simple/"):
        Uv().resolve(question)


def test_wheels_that_pip_is_set_up_with_are_found(
    wheels: Path, add_wheel: AddWheel, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = add_wheel("array", "1.0")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("PIP_NO_INDEX", "1")

    text = Uv().resolve(replace(PROJECT, requirements=("array",)))

    assert read_packages(text) == (Package("array==1.0", (digest,)),)
    assert str(wheels) not in text


@pytest.fixture
def private_index(wheels: Path) -> Iterator[str]:
    """Its address, as a project writes it."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(PrivateIndex, directory=wheels)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://me:${{INDEX_PASSWORD}}@127.0.0.1:{server.server_port}/simple"
        server.shutdown()
        thread.join()


def test_a_private_index_is_asked_with_the_password_of_whoever_builds(
    add_wheel: AddWheel, private_index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = add_wheel("array", "1.0")
    monkeypatch.setenv("INDEX_PASSWORD", "secret")

    text = Uv().resolve(
        replace(PROJECT, requirements=("array",), index_options=(f"--index-url {private_index}",))
    )

    assert read_packages(text) == (Package("array==1.0", (digest,)),)


def test_a_url_with_a_password_stays_as_it_was_written(
    add_wheel: AddWheel, private_index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = add_wheel("array", "1.0")
    monkeypatch.setenv("INDEX_PASSWORD", "secret")
    line = f"array @ {private_index.removesuffix('simple')}array-1.0-py3-none-any.whl"

    text = Uv().resolve(replace(PROJECT, requirements=(line,)))

    assert read_packages(text) == (Package(line, (digest,)),)


def test_an_error_does_not_show_the_password(private_index: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INDEX_PASSWORD", "wrong-secret")

    with pytest.raises((BentoError, UnresolvableError)) as caught:
        Uv().resolve(
            replace(PROJECT, requirements=("array",), index_options=(f"--index-url {private_index}",))
        )

    assert "wrong-secret" not in str(caught.value)


def test_a_password_that_is_not_set_is_asked_for(private_index: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INDEX_PASSWORD", raising=False)

    with pytest.raises(BentoError, match="INDEX_PASSWORD: not set, and an index"):
        Uv().resolve(replace(PROJECT, index_options=(f"--index-url {private_index}",)))


UV_LOCK = """
    version = 1
    requires-python = ">=3.10"

    [[package]]
    name = "array"
    version = "1.0"
    source = { registry = "https://host/simple" }
    wheels = [{ url = "https://host/array-1.0-py3-none-any.whl", hash = "sha256:{digest}" }]

    [[package]]
    name = "shop"
    version = "0"
    source = { virtual = "." }
    dependencies = [{ name = "array" }]

    [package.optional-dependencies]
    more = [{ name = "more" }]

    [package.metadata]
    requires-dist = [{ name = "array" }, { name = "more", marker = "extra == 'more'" }]
    provides-extras = ["more"]

    [[package]]
    name = "more"
    version = "2.0"
    source = { registry = "https://host/simple" }
    wheels = [{ url = "https://host/more-2.0-py3-none-any.whl", hash = "sha256:{digest}" }]
    """
PYPROJECT = """
    [project]
    name = "shop"
    version = "0"
    requires-python = ">=3.10"
    dependencies = ["array"]
    optional-dependencies = {more = ["more"]}
    """


def test_the_versions_of_a_uv_lock_are_read_without_an_index(wheels: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "uv.lock").write_text(UV_LOCK.replace("{digest}", "0" * 64))
    (project / "pyproject.toml").write_text(PYPROJECT)

    packages = read_packages(Uv().exported(project))

    hashes = (f"sha256:{'0' * 64}",)
    assert packages == (Package("array==1.0", hashes), Package("more==2.0", hashes))


def test_a_uv_lock_whose_extras_exclude_each_other_gives_what_it_has_without_them(
    wheels: Path, tmp_path: Path
) -> None:
    excluded = "[tool.uv]\n    conflicts = [[{extra = 'more'}, {extra = 'other'}]]\n"
    project = PYPROJECT.replace("more = ", "other = [], more = ") + f"\n    {excluded}"
    lock = UV_LOCK.replace("{digest}", "0" * 64).replace('["more"]', '["more", "other"]')
    conflicts = "conflicts = [[{ package = 'shop', extra = 'more' }, { package = 'shop', extra = 'other' }]]"
    (tmp_path / "uv.lock").write_text(
        lock.replace("\n    [[package]]", f"\n    {conflicts}\n    [[package]]", 1)
    )
    (tmp_path / "pyproject.toml").write_text(project)

    assert [package.name for package in read_packages(Uv().exported(tmp_path))] == ["array"]


def test_a_uv_lock_that_cannot_be_read_is_shown_where_it_is(wheels: Path, tmp_path: Path) -> None:
    (tmp_path / "uv.lock").write_text("version = 1\n[[package]]\n")
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)

    with pytest.raises(BentoError, match=r"uv\.lock") as caught:
        Uv().exported(tmp_path)

    assert caught.value.hint == "`uv lock` makes it anew"


def test_what_uv_is_asked_names_the_images_python_and_platform() -> None:
    arguments = compile_arguments(replace(PROJECT, platform="linux/arm64", torch_backend="cu128"))

    assert {
        "--python-version=3.11",
        "--python-platform=aarch64-manylinux_2_36",
        "--torch-backend=cu128",
    } <= set(arguments)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (
            "error: No solution found when resolving dependencies\n"
            "  cause: Because a was not found in the package registry and you require a==9, we can conclude "
            "that your requirements are unsatisfiable.\n",
            "a was not found in the package registry and you require a==9",
        ),
        (
            "  × No solution found when resolving dependencies:\n"
            "  ╰─▶ Because only a<=1 is available and you require a>1, we can\n"
            "      conclude that your requirements are unsatisfiable.\n\n"
            "      hint: Pre-releases are available for `a`\n",
            "only a<=1 is available and you require a>1",
        ),
        (
            "error: Failed to fetch: `https://host/simple/a/`\n  Caused by: dns error\n",
            "Failed to fetch: `https://host/simple/a/`; dns error",
        ),
        ("", "uv said nothing"),
    ],
)
def test_what_uv_says_is_shortened(output: str, words: str) -> None:
    assert in_words(output) == words


def test_a_question_that_was_asked_once_is_not_asked_again(tmp_path: Path) -> None:
    first = KeptLocks(tmp_path / "locks", Answers("numpy==2.1\n")).resolve(PROJECT)

    assert KeptLocks(tmp_path / "locks", Answers()).resolve(PROJECT) == first


@pytest.mark.parametrize(
    "question",
    [
        replace(PROJECT, requirements=("numpy",)),
        replace(PROJECT, constraints=("numpy<2",)),
        replace(PROJECT, python_version="3.12"),
        replace(PROJECT, torch_backend="cpu"),
    ],
)
def test_another_question_is_asked(tmp_path: Path, question: Question) -> None:
    kept = KeptLocks(tmp_path, Answers("numpy==2.1\n", "numpy==1.9\n"))
    kept.resolve(PROJECT)

    assert kept.resolve(question) == "numpy==1.9\n"


def test_a_person_is_told_once_that_somebody_is_asked(tmp_path: Path) -> None:
    said: list[str] = []
    resolver = Announced(Answers("numpy==2.1\n", "numpy==1.9\n"), lambda: said.append("asking"))
    for question in (PROJECT, PROJECT, replace(PROJECT, python_version="3.12")):
        KeptLocks(tmp_path, resolver).resolve(question)

    assert said == ["asking"]


def test_a_question_is_asked_again_for_newer_versions(tmp_path: Path) -> None:
    KeptLocks(tmp_path, Answers("numpy==2.1\n")).resolve(PROJECT)

    KeptLocks(tmp_path, Answers("numpy==2.2\n"), is_renewed=True).resolve(PROJECT)

    assert KeptLocks(tmp_path, Answers()).resolve(PROJECT) == "numpy==2.2\n"


@pytest.mark.parametrize(("variable", "asked"), [("UV_DEFAULT_INDEX", 2), ("UV_INDEX_MINE_PASSWORD", 1)])
def test_an_answer_is_kept_for_the_settings_that_decide_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, asked: int
) -> None:
    resolver = Answers("numpy==2.1\n", "numpy==2.1\n")

    for value in ("a", "b"):
        monkeypatch.setenv(variable, value)
        KeptLocks(tmp_path, resolver).resolve(PROJECT)

    assert len(resolver.asked) == asked


@pytest.mark.parametrize(
    ("setting", "gpu", "environment", "expected"),
    [
        ("auto", False, {}, "cpu"),
        ("auto", True, {}, "cu128"),
        ("auto", True, {"UV_TORCH_BACKEND": "cu126"}, "cu126"),
        ("none", True, {"UV_TORCH_BACKEND": "cu126"}, None),
        ("cu118", True, {"UV_TORCH_BACKEND": "cu126"}, "cu118"),
        ("cu118", False, {}, "cpu"),
        ("cpu", True, {}, "cpu"),
    ],
)
def test_builds_of_torch_are_those_that_a_service_can_use(
    setting: str, gpu: bool, environment: dict[str, str], expected: str | None
) -> None:
    backend = torch_backend(
        setting,
        has_gpu=gpu,
        cuda="12.8",
        has_own_index=False,
        environment=environment,
    )

    assert backend == expected


def test_a_project_with_an_index_of_its_own_has_its_builds_of_torch_there() -> None:
    backend = torch_backend("auto", has_gpu=False, cuda=None, has_own_index=True, environment={})

    assert backend is None


SERVICES = """
    import bentoml

    @bentoml.service
    class Leaf:
        @bentoml.api
        def embed(self, x: int) -> int:
            import array_tools
            return x

    @bentoml.service
    class Entry:
        leaf = bentoml.depends(Leaf)

        @bentoml.api
        def predict(self, x: int) -> int:
            return x
    """
BENTOFILE = "service: service:Entry\npython:\n  packages: [array-tools]\n"
FILES = {"service.py": SERVICES, "bentofile.yaml": BENTOFILE}


def locked(root: Path, resolver: Resolver) -> dict[str, list[str]]:
    """The packages of each service's lock without those of the runtime."""
    plan = lock_build(plan_build(root), resolver)
    return {
        service: [package.requirement for package in lock.packages if package.name not in RUNTIME]
        for service, lock in plan.locks.items()
    }


def test_a_bento_holds_a_lock_for_each_service(
    project: WriteProject, wheels: Path, add_wheel: AddWheel, runtime_wheels: None, tmp_path: Path
) -> None:
    digest = add_wheel("array_tools", "2.1", "more")
    add_wheel("more", "1.0")
    bentofile = f"{BENTOFILE}  no_index: true\n  find_links: {wheels.as_uri()}\n"
    root = project({**FILES, "bentofile.yaml": bentofile})

    bento, _ = write_bento(lock_build(plan_build(root), Uv()), Store(tmp_path / "home"))

    text = (bento.path / "services/Leaf/requirements.txt").read_text(encoding="utf-8")
    assert text.startswith(f"--find-links {wheels.as_uri()}\n--no-index\n")
    assert f"\narray-tools==2.1 \\\n    --hash={digest}\n" in text
    assert [(s.name, len(s.lock.packages) - len(RUNTIME)) for s in bento.manifest.services if s.lock] == [
        ("Leaf", 2),
        ("Entry", 0),
    ]


def test_a_bento_whose_locks_are_kept_is_built_without_an_index(
    project: WriteProject, tmp_path: Path
) -> None:
    root = project(FILES)
    first = locked(root, KeptLocks(tmp_path, Answers("array-tools==2.1\n", "")))

    assert (
        locked(root, KeptLocks(tmp_path, Answers())) == first == {"Leaf": ["array-tools==2.1"], "Entry": []}
    )


def test_what_is_built_on_the_way_to_images_has_locks(
    project: WriteProject,
    no_index: None,
    add_wheel: AddWheel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "home"))
    add_wheel("array_tools", "2.1")

    bento = built(str(project(FILES)), Console(quiet=True))

    assert all(service.lock for service in bento.manifest.services)


def test_locks_are_for_the_platform_that_is_asked_for(project: WriteProject) -> None:
    resolver = Answers("", "")

    plan = lock_build(plan_build(project(FILES)), resolver, platform="linux/arm64")

    assert {question.platform for question in resolver.asked} == {"linux/arm64"}
    assert plan.locks["Leaf"].platform == "linux/arm64"


def test_a_platform_without_locks_is_refused() -> None:
    with pytest.raises(BentoError, match="'windows/amd64' is no platform of images; platforms: linux/amd64"):
        checked_platform("windows/amd64")


def test_a_project_may_have_no_locks(project: WriteProject, tmp_path: Path) -> None:
    root = project({**FILES, "bentofile.yaml": f"{BENTOFILE}  lock_packages: false\n"})

    plan = lock_build(plan_build(root), Answers())

    assert plan.locks == {}


def test_versions_that_do_not_fit_are_shown_at_their_lines(
    project: WriteProject, wheels: Path, add_wheel: AddWheel, runtime_wheels: None
) -> None:
    add_wheel("array_tools", "2.1", "pydantic<2")
    bentofile = f"{BENTOFILE}  no_index: true\n  find_links: {wheels.as_uri()}\n"
    root = project({**FILES, "bentofile.yaml": bentofile})

    with pytest.raises(InputError) as caught:
        locked(root, Uv())

    [problem] = caught.value.problems
    assert str(problem).startswith("bentofile.yaml:3: no versions fit for all services together, Python 3.")
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("the runtime needs pydantic>=2")


def test_the_versions_of_a_uv_lock_are_those_of_the_services(project: WriteProject, wheels: Path) -> None:
    files = {**FILES, "uv.lock": UV_LOCK.replace("{digest}", "0" * 64), "pyproject.toml": PYPROJECT}
    resolver = Answers("array==1.0\n", "array-tools==2.1\n", "\n")

    locked(project(files), resolver)

    assert {question.constraints for question in resolver.asked} == {("array==1.0",)}


def test_a_lock_holds_no_file_that_the_uv_lock_does_not(project: WriteProject) -> None:
    files = {**FILES, "uv.lock": UV_LOCK, "pyproject.toml": PYPROJECT}

    class Replaced(Answers):
        def resolve(self, question: Question) -> str:
            return "array==1.0 --hash=sha256:bb\n"

    with pytest.raises(InputError, match=r"no file of array==1\.0 has a hash that the project lists"):
        locked(project(files), Replaced("array==1.0 --hash=sha256:aa\n"))


def test_the_line_that_a_service_overrules_is_not_asked_about_for_all(project: WriteProject) -> None:
    bentofile = f"{BENTOFILE}services:\n  Leaf: {{python: {{packages: [array-tools<2]}}}}\n"
    resolver = Answers("", "array-tools==1.0\n", "")

    locked(project({**FILES, "bentofile.yaml": bentofile}), resolver)

    leaf = next(question for question in resolver.asked if "array-tools<2" in question.requirements)
    assert "array-tools<2" not in resolver.asked[0].requirements
    assert leaf.constraints == ()


def test_versions_that_services_do_not_share_are_noted(project: WriteProject) -> None:
    bentofile = f"{BENTOFILE}services:\n  Leaf: {{python: {{packages: [array-tools<2]}}}}\n"

    class OldForTheLeaf(Answers):
        def resolve(self, question: Question) -> str:
            return "array==1.0\n" if "array-tools<2" in question.requirements else "array==2.0+cpu\n"

    plan = lock_build(plan_build(project({**FILES, "bentofile.yaml": bentofile})), OldForTheLeaf())

    assert plan.notes[-1] == "array is 1.0 in Leaf and 2.0 in Entry"


def test_a_service_with_a_python_of_its_own_is_locked_for_that(project: WriteProject) -> None:
    bentofile = f"{BENTOFILE}services: {{Leaf: {{python_version: '3.13'}}}}\n"

    resolver = Answers("", "", "")

    plan = lock_build(plan_build(project({**FILES, "bentofile.yaml": bentofile})), resolver)

    assert [question.python_version for question in resolver.asked].count("3.13") == 1
    assert plan.locks["Leaf"].python_version == plan.images["Leaf"].python_version == "3.13"
    assert plan.locks["Entry"].python_version == plan.images["Entry"].python_version != "3.13"


def test_constraints_of_a_requirements_file_hold_for_every_service(project: WriteProject) -> None:
    files = {
        "service.py": SERVICES,
        "bentofile.yaml": "service: service:Entry\npython: {requirements_txt: requirements.txt}\n",
        "requirements.txt": "-c constraints.txt\narray-tools\n",
        "constraints.txt": "more<2\n",
    }
    resolver = Answers("array-tools==2.1\n", "")

    locked(project(files), resolver)

    assert all("more<2" in question.constraints for question in resolver.asked)


def test_an_image_holds_the_libraries_of_what_a_requirement_brings(project: WriteProject) -> None:
    text = "array-tools==2.1\nopencv-python==5.0 # via array-tools\nsoundfile==1.0 # via array-tools\n"
    bentofile = f"{BENTOFILE}docker: {{system_packages: [libgl1]}}\n"

    plan = lock_build(plan_build(project({**FILES, "bentofile.yaml": bentofile})), Answers(text, ""))

    assert plan.images["Leaf"].system_packages == {
        "libgl1": "docker.system_packages of bentofile.yaml",
        "libglib2.0-0": "opencv-python, brought by array-tools",
        "libsndfile1": "soundfile, brought by array-tools",
        "libxcb1": "opencv-python, brought by array-tools",
    }
    assert plan.images["Entry"].system_packages.keys() == {"libgl1"}


def test_a_wheel_of_the_project_is_locked_with_what_it_needs(
    project: WriteProject, wheels: Path, add_wheel: AddWheel, no_index: None, tmp_path: Path
) -> None:
    digest, more = add_wheel("array_tools", "2.1", "more"), add_wheel("more", "1.0")
    name = "array_tools-2.1-py3-none-any.whl"
    bentofile = f"service: service:Entry\npython: {{wheels: [libs/{name}]}}\n"
    root = project({**FILES, "bentofile.yaml": bentofile, "libs/more-9.0-py3-none-any.whl": "of nobody"})
    (wheels / name).replace(root / "libs" / name)

    bento, _ = write_bento(lock_build(plan_build(root), Uv()), Store(tmp_path / "home"))

    text = (bento.path / "services/Leaf/requirements.txt").read_text(encoding="utf-8")
    assert text.startswith("--find-links /build/wheels\n")
    assert f"\narray-tools==2.1 \\\n    --hash={digest}\n" in text
    assert f"\nmore==1.0 \\\n    --hash={more}\n" in text
    dockerfile = (bento.path / "services/Leaf/Dockerfile").read_text(encoding="utf-8")
    assert f'COPY ["src/libs/{name}","/build/wheels/"]' in dockerfile.replace(", ", ",")


def test_a_wheel_with_other_content_is_another_question(
    project: WriteProject, wheels: Path, add_wheel: AddWheel, no_index: None, tmp_path: Path
) -> None:
    name = "array_tools-2.1-py3-none-any.whl"
    root = project({**FILES, "bentofile.yaml": f"service: service:Entry\npython: {{wheels: [{name}]}}\n"})
    digests = []
    for version in ("1.0", "2.0"):
        add_wheel("more", version)
        digests.append(add_wheel("array_tools", "2.1", f"more=={version}"))
        (wheels / name).replace(root / name)
        plan = lock_build(plan_build(root), KeptLocks(tmp_path / "locks", Uv()))

    [package] = [package for package in plan.locks["Leaf"].packages if package.name == "array-tools"]
    assert package.hashes == (digests[-1],)


def test_an_image_is_made_of_the_builds_of_torch_that_its_lock_holds(
    project: WriteProject, wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UV_TORCH_BACKEND", raising=False)
    root = project(FILES)
    resolver = Answers("torch==2.5+cpu\n", "")

    bento, _ = write_bento(lock_build(plan_build(root), resolver), Store(tmp_path / "home"))

    backends = {
        service.name: service.lock and service.lock.torch_backend for service in bento.manifest.services
    }
    assert backends == {"Leaf": "cpu", "Entry": None}
    dockerfile = (bento.path / "services/Leaf/Dockerfile").read_text(encoding="utf-8")
    assert 'ENV UV_TORCH_BACKEND="cpu"\n' in dockerfile


@pytest.mark.parametrize(
    ("said", "gpu", "cpu"),
    [
        ("packages: [torch]", "cu128", "cpu"),
        ("packages: [torch==2.5.1]", "cu124", "cpu"),
        ("packages: ['torch>=2.1,<2.7']", "cu124", "cpu"),
        ("packages: ['torch>=2.11']", "cu130", "cpu"),
        ("packages: [torch==2.15.0]", "cu132", "cpu"),
        ("packages: [torch], torch_backend: cu126", "cu126", "cpu"),
        ("packages: [torch], torch_backend: none", None, None),
        ("packages: [torch], index_url: 'https://host/simple'", None, None),
    ],
)
def test_whose_builds_of_torch_services_hold_is_shown_and_in_the_bento(
    said: str,
    gpu: str | None,
    cpu: str | None,
    project: WriteProject,
    wheels: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "home"))
    service = SERVICES.replace("@bentoml.service", "@bentoml.service(resources={'gpu': 1})", 1)
    service = service.replace(
        "import bentoml\n", "import bentoml, torch\n    CUDA = torch.cuda.is_available()\n"
    )
    root = project({"service.py": service, "bentofile.yaml": f"service: service:Entry\npython: {{{said}}}\n"})
    lock_build(plan_build(root), kept_below(tmp_path, Answers("torch==2.9\n", "torch==2.9\n")))

    result = CliRunner().invoke(app, ["."])

    for backend in (gpu, cpu):
        assert f"torch {f'for {backend}' if backend else 'as the package index has it'}" in result.stderr
    manifest = Store().get("entry").manifest
    assert {s.name: s.lock and s.lock.torch_backend for s in manifest.services} == {"Leaf": gpu, "Entry": cpu}


@pytest.mark.parametrize(("version", "is_newer"), [("2.15.0", True), ("2.15.0+cpu", False), ("2.8.0", False)])
def test_a_torch_of_an_index_that_needs_a_newer_driver_is_noted(
    version: str, is_newer: bool, project: WriteProject, wheels: Path
) -> None:
    service = SERVICES.replace("@bentoml.service", "@bentoml.service(resources={'gpu': 1})", 1)
    bentofile = "service: service:Entry\npython: {packages: [array-tools], torch_backend: none}\n"
    plan = plan_build(project({"service.py": service, "bentofile.yaml": bentofile}))
    image = replace(plan.images["Leaf"], base_image="nvidia/cuda:12.8.1-base-ubuntu24.04")
    plan = replace(plan, images={**plan.images, "Leaf": image})

    notes = lock_build(plan, Answers(f"array-tools==2.1\ntorch=={version}\n", "")).notes

    noted = [
        note for note in notes if note.startswith(f"torch {version} in Leaf is built for CUDA 13.2, newer")
    ]
    assert bool(noted) == is_newer


def test_nothing_of_a_bento_holds_a_password(
    project: WriteProject,
    add_wheel: AddWheel,
    runtime_wheels: None,
    private_index: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add_wheel("array_tools", "2.1")
    monkeypatch.setenv("INDEX_PASSWORD", "secret")
    root = project({**FILES, "bentofile.yaml": f"{BENTOFILE}  index_url: {private_index}\n"})

    bento, _ = write_bento(lock_build(plan_build(root), kept_below(tmp_path)), Store(tmp_path / "home"))

    assert bento.service("Leaf").secrets == ("INDEX_PASSWORD",)
    texts = [path.read_bytes() for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert not any(b"me:secret" in text for text in texts)
    assert any(b"me:${INDEX_PASSWORD}@" in text for text in texts)


def kept_below(folder: Path, resolver: Resolver | None = None) -> Resolver:
    return KeptLocks(folder / "home" / "locks", resolver or Uv())

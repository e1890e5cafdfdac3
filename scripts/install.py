"""Installs into the environment that runs this what the project needs, `install.py project`, or its example.

`install.py reference` makes an environment for the implementation that tests/compat compares with, and
`install.py ray` one for Ray Serve, which `make bench` compares with too.
uv does the work with pip's settings, so that what a machine is set up with holds here too. For the example
torch is its CPU build: from `$TORCH_INDEX`, else from a folder of wheels that pip looks in, else from the
index that uv knows for CPU builds. Gigabytes of CUDA are never downloaded unasked.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "controlnet"
REFERENCE = ROOT / ".venv-reference"
# Not the newest: 1.4.40 asks for a release of certifi that not every index has.
REFERENCE_RELEASE = "bentoml==1.4.39"
# Both stand on the same releases of these, so that what differs is their own doing.
SHARED = ("numpy", "pandas", "pillow", "pydantic", "starlette")
RAY = ROOT / ".venv-ray"
RAY_RELEASE = "ray[serve]==2.60.0"
# It brings aiohttp, and so is where FastAPI with that client runs: on the same releases as here.
SHARED_WITH_RAY = ("fastapi", "httptools", "numpy", "pydantic", "starlette", "uvicorn", "uvloop")


def main() -> None:
    what = sys.argv[1]
    if what == "project":
        # uv comes first, so that it can install the rest.
        run(sys.executable, "-m", "pip", "install", "--quiet", "--quiet", "--upgrade", "uv")
        install("--editable", str(ROOT), "--group", f"{ROOT / 'pyproject.toml'}:dev")
    elif what == "example":
        install_torch()
        install(*example_requirements())
    elif what == "reference":
        install_reference()
    elif what == "ray":
        make_environment(RAY)
        install(RAY_RELEASE, *releases(SHARED_WITH_RAY), python=python_of(RAY))
    else:
        sys.exit(f"{what!r}: expected `project`, `example`, `reference` or `ray`")


def install_reference() -> None:
    """A new environment for the existing implementation, which no path of ours leads to."""
    make_environment(REFERENCE)
    install_torch(python_of(REFERENCE))
    install(REFERENCE_RELEASE, "uv", *releases(SHARED), python=python_of(REFERENCE))


def make_environment(folder: Path) -> None:
    """An empty one, in place of what is there."""
    run(sys.executable, "-m", "uv", "venv", "--quiet", "--clear", "--python", sys.executable, str(folder))


def python_of(folder: Path) -> str:
    return str(folder / "bin" / "python")


def releases(names: Iterable[str]) -> list[str]:
    """The releases of these that are installed here, as requirements."""
    return [f"{name}=={version(name)}" for name in names]


def install(*arguments: str, python: str = sys.executable) -> None:
    """`uv pip install` with the index and the folders that pip is set up with."""
    settings = {"UV_LINK_MODE": os.environ.get("UV_LINK_MODE", "copy")}
    index = pip_setting("index-url")
    if index and "UV_DEFAULT_INDEX" not in os.environ:
        settings["UV_DEFAULT_INDEX"] = index
    links = pip_setting("find-links")
    if links and "UV_FIND_LINKS" not in os.environ:
        settings["UV_FIND_LINKS"] = ",".join(links.split())
    command = [
        sys.executable,
        "-m",
        "uv",
        "pip",
        "install",
        "--quiet",
        "--python",
        python,
        # A tenth of the reference is ever imported, and torch takes a minute to compile.
        *(["--compile-bytecode"] if python == sys.executable else []),
    ]
    run(*command, *arguments, **settings)


def install_torch(python: str = sys.executable) -> None:
    """The CPU build of torch, or a refusal that says how to get one."""
    index = os.environ.get("TORCH_INDEX")
    try:
        if index:
            install("--index-url", index, "torch", python=python)
        elif wheel_version := torch_on_disk():
            install(f"torch=={wheel_version}", python=python)
        elif platform.system() == "Darwin":
            install("torch", python=python)  # the only build there is has no CUDA
        else:
            install("--torch-backend", "cpu", "torch", python=python)
    except subprocess.CalledProcessError as error:
        sys.exit(
            "no CPU build of torch could be installed.\n"
            "Set TORCH_INDEX to a package index that has one, or pip's `find-links` to a folder of wheels "
            f"with one for Python {platform.python_version()}. (exit code {error.returncode})"
        )


def torch_on_disk() -> str | None:
    """The newest torch for this Python among the folders of wheels that pip looks in."""
    from packaging.tags import sys_tags
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    supported = set(sys_tags())
    versions = []
    for folder in (pip_setting("find-links") or "").split():
        for path in Path(folder.removeprefix("file://")).glob("torch-*.whl"):
            try:
                _, version, _, tags = parse_wheel_filename(path.name)
            except InvalidWheelFilename:
                continue
            if tags & supported:
                versions.append(version)
    return str(max(versions)) if versions else None


def example_requirements() -> list[str]:
    import yaml

    bentofile = yaml.safe_load((EXAMPLE / "bentofile.yaml").read_text(encoding="utf-8"))
    return [line for line in bentofile["python"]["packages"] if line != "torch"]


def pip_setting(name: str) -> str | None:
    """A setting of pip: from its variable, or its configuration files."""
    variable = "PIP_" + name.upper().replace("-", "_")
    if os.environ.get(variable):
        return os.environ[variable]
    result = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", f"global.{name}"],
        capture_output=True,
        text=True,
        check=False,
    )
    return result.stdout.strip() or None


def run(*command: str, **settings: str) -> None:
    subprocess.run(command, check=True, env={**os.environ, **settings})


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as failed:
        sys.exit(failed.returncode)

"""How a service's image is to be made, as data: `@bentoml.service(image=bentoml.images.Image(...))`.

Nothing is done when it is declared; the toolchain reads it from the source.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from bentoml.exceptions import BentoMLConfigException

_LISTS_PACKAGES: Final = frozenset({"python_packages", "requirements_file", "pyproject_toml", "uv_lock"})
_RUNS: Final = frozenset({"run", "run_script"})


@dataclass
class Image:
    """What an image holds beside its service, told step by step; every method returns the image itself.

    Args:
        base_image: the image that it begins with.
        distro: of the base image, where that is not named.
        python_version: of the interpreter in it.
        lock_python_packages: whether versions are found when the Bento is built.
        python_requirements: lines of a requirements.txt.
        steps: what was told, in order: the name of the method, and what it was given.
    """

    base_image: str = ""
    distro: str = "debian"
    python_version: str | None = None
    lock_python_packages: bool = True
    pack_git_packages: bool = True
    python_requirements: str = ""
    steps: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)

    def system_packages(self, *packages: str) -> Image:
        """Install packages of the distribution."""
        return self._then("system_packages", *packages)

    def python_packages(self, *packages: str) -> Image:
        """Install Python packages.

        Raises:
            BentoMLConfigException: none is named, or a command has come between these and earlier ones.
        """
        if not packages:
            raise BentoMLConfigException("`python_packages()` needs the name of a package")
        return self._then("python_packages", *packages)

    def requirements_file(self, path: str) -> Image:
        """Install what a file of requirements lists."""
        return self._then("requirements_file", path)

    def pyproject_toml(self, path: str = "pyproject.toml") -> Image:
        """Install what a project depends on."""
        return self._then("pyproject_toml", path)

    def uv_lock(self, path: str = "uv.lock") -> Image:
        """Install what a lock of uv holds."""
        return self._then("uv_lock", path)

    def run(self, command: str) -> Image:
        """Run a command while the image is made: once its Python packages are there, where some were told."""
        return self._then("run", command)

    def run_script(self, path: str) -> Image:
        """Run a script of the project, as `run` does a command."""
        return self._then("run_script", path)

    def build_include(self, *paths: str) -> Image:
        """Have files and folders of the project there while commands run."""
        return self._then("build_include", *paths)

    @property
    def lists_packages(self) -> bool:
        """Whether it was told of Python packages."""
        return bool(self.python_requirements) or any(method in _LISTS_PACKAGES for method, _ in self.steps)

    def _then(self, method: str, *arguments: str) -> Image:
        if method in _LISTS_PACKAGES and self._runs_with_packages():
            raise BentoMLConfigException(
                f"`{method}()` comes after a command that runs once packages are installed: tell it before"
            )
        self.steps.append((method, arguments))
        return self

    def _runs_with_packages(self) -> bool:
        """Whether a command was told after packages."""
        has_packages = bool(self.python_requirements)
        for method, _ in self.steps:
            if has_packages and method in _RUNS:
                return True
            has_packages = has_packages or method in _LISTS_PACKAGES
        return False


PythonImage = Image
"""The name that older projects have for it."""

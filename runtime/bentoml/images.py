"""How a service's image is to be made, as data: `@bentoml.service(image=bentoml.images.Image(...))`.

Nothing is done when it is declared; the toolchain reads it from the source.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Image:
    """What an image holds beside its service, told step by step; every method returns the image itself.

    Args:
        base_image: the image that it begins with.
        python_version: of the interpreter in it.
        distro: of the base image, where that is not named.
        steps: what was told, in order: the name of the method, and what it was given.
    """

    base_image: str = ""
    python_version: str | None = None
    distro: str = "debian"
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
            ValueError: none is named.
        """
        if not packages:
            raise ValueError("`python_packages()` needs the name of a package")
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
        """Run a command while the image is made."""
        return self._then("run", command)

    def run_script(self, path: str) -> Image:
        """Run a script while the image is made."""
        return self._then("run_script", path)

    def build_include(self, *paths: str) -> Image:
        """Copy paths of the project before packages are installed."""
        return self._then("build_include", *paths)

    def _then(self, method: str, *arguments: str) -> Image:
        self.steps.append((method, arguments))
        return self


PythonImage = Image
"""The name that older projects have for it."""

"""The resolver that is uv, called as a program."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from bento_cli.errors import BentoError, shown
from bento_cli.lock import Question, UnresolvableError
from bento_cli.lock.settings import DEFAULT_INDEX, Settings
from bento_cli.lock.torch import VARIABLE

# The C library that base images have: Debian 12's, and a newer one where there is CUDA.
_PLATFORMS: Final = {
    "linux/amd64": "x86_64-manylinux_2_36",
    "linux/arm64": "aarch64-manylinux_2_36",
}
_QUIETLY: Final = ("--quiet", "--color=never", "--no-header", "--no-python-downloads")
_NO_SOLUTION: Final = 1
_OFFLINE: Final = "not found in the cache"
_MAX_WORDS: Final = 600
_WITHOUT_LOCKS: Final = (
    "`bento build --no-lock`, or `lock_packages: false` below `python`, builds without: "
    "versions are then chosen when the images are built"
)
_ANOTHER_INDEX: Final = "UV_DEFAULT_INDEX=https://… asks another index, as does `index_url` below `python`"
_WITHOUT_BACKEND: Final = "`torch_backend: none` below `python` takes torch from where all packages are"
# What uv says of a request besides which one failed and why.
_ABOUT_REQUESTS: Final = ("Request failed after", "client error", "error resolving DNS", "error sending")
_VARIABLE: Final = re.compile(r"\$\{([A-Z0-9_]+)\}")


class Uv:
    """Asks the package indexes, by the settings that uv finds for this user and in `UV_*` variables."""

    def resolve(self, question: Question) -> str:
        """The answer to a question."""
        links = ["--find-links wheels"] if question.wheels else []
        lines = (*question.index_options, *links, *question.requirements)
        secrets = _values(variables_in(lines))
        with tempfile.TemporaryDirectory(prefix="bento-lock-") as folder:
            # uv puts `${NAME}` in place in files only, and names a file in its errors.
            _write(Path(folder, "requirements.in"), lines)
            _write(Path(folder, "constraints.txt"), question.constraints)
            _write(Path(folder, "lock.txt"), question.preferences)
            Path(folder, "wheels").mkdir()
            for path in {Path(path).name: Path(path) for path, _ in question.wheels}.values():
                Path(folder, "wheels", path.name).symlink_to(path)
            result = _run(compile_arguments(question), Path(folder), _own_index(question.index_options))
            words = in_words(result.stderr, secrets)
            if result.returncode == _NO_SOLUTION and _OFFLINE not in words:
                raise UnresolvableError(words)
            if result.returncode:
                ways = [_WITHOUT_LOCKS]
                if question.torch_backend and "torch" in words:
                    ways.append(_WITHOUT_BACKEND)
                elif not question.index_options:
                    ways.append(_ANOTHER_INDEX)
                raise BentoError(f"no lock could be made: {words}", hint="\n      ".join(ways))
            return Path(folder, "lock.txt").read_text(encoding="utf-8")

    def exported(self, project: Path) -> str:
        """What `uv.lock` holds; no index is asked. Extras and groups count unless they exclude each other."""
        arguments = ["export", "--frozen", "--no-emit-workspace", "--no-annotate", *_QUIETLY]
        result = _run([*arguments, "--all-extras", "--all-groups"], project)
        if result.returncode:
            result = _run(arguments, project)
        if result.returncode:
            message = f"{shown(project / 'uv.lock')}: {in_words(result.stderr)}"
            raise BentoError(message, hint="`uv lock` makes it anew")
        return result.stdout


def compile_arguments(question: Question) -> list[str]:
    """The command line of a question whose lines are in files."""
    backend = question.torch_backend
    return [
        *("pip", "compile", "requirements.in", "--constraint=constraints.txt", "--output-file=lock.txt"),
        *("--generate-hashes", "--annotation-style=line", *_QUIETLY),
        *(f"--python={sys.executable}", f"--python-version={question.python_version}"),
        f"--python-platform={_PLATFORMS[question.platform]}",
        *([f"--torch-backend={backend}"] if backend else []),
    ]


def in_words(output: str, secrets: Sequence[str] = ()) -> str:
    """What uv says went wrong, on one line: without its frame, its advice and the end that adds nothing.

    Args:
        secrets: texts that are not to be shown.
    """
    said = re.split(r"^\s*hint:", output, maxsplit=1, flags=re.MULTILINE)[0]
    clauses = re.split(
        r"^[\s╰├─▶│×]*(?:error: |cause: |Caused by: |× )|^[\s│]*[╰├]─▶ ", said, flags=re.MULTILINE
    )
    clauses = [" ".join(clause.split()) for clause in clauses if clause.strip()]
    text = "; ".join(clause for clause in clauses if not clause.startswith(_ABOUT_REQUESTS))
    text = re.sub(r"^No solution found when resolving dependencies[:;\s]*", "", text)
    text = re.sub(r",? we can conclude that your requirements are unsatisfiable\.?$", "", text)
    text = text.removeprefix("Because ").rstrip(".") or "uv said nothing"
    for secret in secrets:
        text = text.replace(secret, "****")
    return text if len(text) <= _MAX_WORDS else f"{text[:_MAX_WORDS]}…"


def variables_in(lines: Sequence[str]) -> tuple[str, ...]:
    """Names of the variables that lines of a requirements.txt hold as `${NAME}`."""
    return tuple(sorted({name for line in lines for name in _VARIABLE.findall(line)}))


def _own_index(options: Sequence[str]) -> dict[str, str]:
    """A variable with the index of a project: to uv one of whoever builds is more than a line of a file."""
    named = [option.split(maxsplit=1)[1] for option in options if option.startswith("--index-url ")]
    return {DEFAULT_INDEX: _VARIABLE.sub(lambda found: os.environ[found[1]], named[-1])} if named else {}


def _run(
    arguments: Sequence[str], folder: Path, settings: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    variables = {
        **os.environ,
        **Settings(os.environ).index_variables(),
        "UV_NO_PROGRESS": "1",
        **(settings or {}),
    }
    variables.pop(VARIABLE, None)  # each service has its own
    variables.pop("VIRTUAL_ENV", None)
    return subprocess.run(
        [_program(), *arguments],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )


def _values(names: Sequence[str]) -> list[str]:
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        raise BentoError(
            f"{', '.join(missing)}: not set, and an index of the project is asked with it",
            hint=f"export {missing[0]}=…",
        )
    return [os.environ[name] for name in names]


def _write(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _program() -> str:
    # Only a build that has a lock to make pays for this.
    from uv import find_uv_bin

    try:
        return find_uv_bin()
    except FileNotFoundError as error:
        raise BentoError(f"uv is installed without its program: {error}", hint=_WITHOUT_LOCKS) from None

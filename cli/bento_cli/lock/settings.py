"""Settings of whoever builds that say where uv looks for packages: its own, else those of pip."""

from __future__ import annotations

import configparser
import hashlib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bento_cli.errors import BentoError, shown

DEFAULT_INDEX: Final = "UV_DEFAULT_INDEX"

_INDEX_VARIABLES: Final = (
    DEFAULT_INDEX,
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "UV_INDEX",
    "UV_INDEX_URL",
    "UV_NO_INDEX",
)
# What pip calls them, what uv does, and what stands between several.
_OF_PIP: Final = {
    "index-url": (DEFAULT_INDEX, " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "no-index": ("UV_NO_INDEX", " "),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "cert": ("SSL_CERT_FILE", " "),
}
_NAMES_INDEX: Final = re.compile(
    r"^\s*(?:\[\[\s*index|(?:pip\.)?(?:(?:extra-)?index(?:-url)?|find-links|no-index)\s*=)", re.MULTILINE
)
# Variables of uv that say who somebody is or how uv works, and not what it finds.
_WITHOUT_EFFECT: Final = (
    "_BYTECODE",
    "_CACHE",
    "_DIR",
    "_LINK_MODE",
    "_OFFLINE",
    "_PASSWORD",
    "_PROGRESS",
    "_RETRIES",
    "_TIMEOUT",
    "_TOKEN",
    "_USERNAME",
)


@dataclass(frozen=True)
class Settings:
    """Variables and files; nothing is read before somebody asks.

    Args:
        environment: variables of whoever builds.
        etc: the folder with the files for all users of this machine.
    """

    environment: Mapping[str, str]
    etc: Path = Path("/etc")

    def index_variables(self) -> dict[str, str]:
        """Variables for uv: its own, and pip's settings where uv has none that name an index.

        Raises:
            BentoError: a file of pip cannot be read.
        """
        own = {name: self.environment[name] for name in _INDEX_VARIABLES if self.environment.get(name)}
        if own or self._a_file_of_uv_names_index():
            return own
        said = self._of_pip()
        return {
            variable: separator.join(said[name].split())
            for name, (variable, separator) in _OF_PIP.items()
            if said.get(name) and not self.environment.get(variable)
        }

    def names_index(self) -> bool:
        """Whether they say at all where packages are looked for."""
        is_said = any(name in _INDEX_VARIABLES for name in self.index_variables())
        return is_said or self._a_file_of_uv_names_index()

    def deciding(self) -> dict[str, str]:
        """All that an answer of uv may depend on besides the question."""
        variables = {
            name: value
            for name, value in self.environment.items()
            if name.startswith("UV_") and not name.endswith(_WITHOUT_EFFECT)
        }
        files = {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in self._files_of_uv()}
        return {**variables, **self.index_variables(), **files}

    def _a_file_of_uv_names_index(self) -> bool:
        return any(_NAMES_INDEX.search(_text(path)) for path in self._files_of_uv())

    def _files_of_uv(self) -> Iterator[Path]:
        if self.environment.get("UV_CONFIG_FILE"):
            paths = [Path(self.environment["UV_CONFIG_FILE"])]
        elif self.environment.get("UV_NO_CONFIG"):
            paths = []
        else:
            folders = [self._user_folder, *self._machine_folders, self.etc]
            paths = [folder / "uv" / "uv.toml" for folder in folders]
        yield from (path for path in paths if path.is_file())

    def _of_pip(self) -> dict[str, str]:
        """What pip would install with: later files win, then the section of its command, then variables."""
        found: dict[str, str] = {}
        parsers = [_parsed(path) for path in self._files_of_pip()]
        for section in ("global", "install"):
            for parser in parsers:
                if parser.has_section(section):
                    found |= {name.replace("_", "-"): value for name, value in parser.items(section)}
        for name in _OF_PIP:
            value = self.environment.get("PIP_" + name.upper().replace("-", "_"))
            if value:
                found[name] = value
        if found.get("no-index", "").lower() in ("0", "false", "no", "off"):
            del found["no-index"]
        return found

    def _files_of_pip(self) -> Iterator[Path]:
        """The most general first."""
        chosen = self.environment.get("PIP_CONFIG_FILE")
        if chosen == os.devnull:
            return
        folders = [
            *(folder / "pip" for folder in self._machine_folders),
            self.etc,
            self._home / ".pip",
            self._user_folder / "pip",
            self._home / "Library" / "Application Support" / "pip",
            Path(sys.prefix),
        ]
        paths = [*(folder / "pip.conf" for folder in folders), *([Path(chosen)] if chosen else [])]
        yield from (path for path in paths if path.is_file())

    @property
    def _home(self) -> Path:
        return Path(self.environment.get("HOME") or "~").expanduser()

    @property
    def _user_folder(self) -> Path:
        return Path(self.environment.get("XDG_CONFIG_HOME") or self._home / ".config")

    @property
    def _machine_folders(self) -> list[Path]:
        listed = self.environment.get("XDG_CONFIG_DIRS")
        return [Path(folder) for folder in listed.split(":") if folder] if listed else [self.etc / "xdg"]


def _parsed(path: Path) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(_text(path), str(path))
    except configparser.Error as error:
        reason = " ".join(str(error).split())
        raise BentoError(
            f"{shown(path)}: pip could not read it either: {reason}",
            hint="PIP_CONFIG_FILE=/dev/null builds without pip's settings",
        ) from None
    return parser


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")

"""Where uv looks for packages when a project does not say it: uv's settings, else pip's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bento_cli.errors import BentoError
from bento_cli.lock.settings import Settings

Home = Callable[..., Settings]

PIP = "[global]\nindex-url = https://host/simple\n"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """`home({".config/pip/pip.conf": "..."}, PIP_X="y")`: the settings of somebody with these files."""

    def write(files: dict[str, str], **variables: str) -> Settings:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return Settings({"HOME": str(tmp_path), **variables}, etc=tmp_path / "etc")

    return write


def test_what_pip_is_set_up_with_holds(home: Home) -> None:
    text = f"{PIP}extra-index-url = https://a/simple\n  https://b/simple\nfind-links = /wheels https://c/\n"

    assert home({".config/pip/pip.conf": text}).index_variables() == {
        "UV_DEFAULT_INDEX": "https://host/simple",
        "UV_INDEX": "https://a/simple https://b/simple",
        "UV_FIND_LINKS": "/wheels,https://c/",
    }


def test_what_pip_trusts_is_trusted(home: Home) -> None:
    settings = home({}, PIP_CERT="/ca.pem", PIP_TRUSTED_HOST="host", PIP_NO_INDEX="no")

    assert settings.index_variables() == {"SSL_CERT_FILE": "/ca.pem", "UV_INSECURE_HOST": "host"}
    assert not settings.names_index()


@pytest.mark.parametrize(
    ("files", "variables"),
    [
        ({".config/pip/pip.conf": f"{PIP}[install]\nindex_url = https://other/simple\n"}, {}),
        ({".config/pip/pip.conf": PIP}, {"PIP_INDEX_URL": "https://other/simple"}),
        ({".pip/pip.conf": PIP, ".config/pip/pip.conf": PIP.replace("host", "other")}, {}),
        ({"etc/pip.conf": PIP, ".pip/pip.conf": PIP.replace("host", "other")}, {}),
    ],
)
def test_pips_own_order_decides(home: Home, files: dict[str, str], variables: dict[str, str]) -> None:
    settings = home(files, **variables).index_variables()

    assert settings == {"UV_DEFAULT_INDEX": "https://other/simple"}


@pytest.mark.parametrize(
    "text",
    [
        'index-url = "https://own/simple"\n',
        '[[index]]\nurl = "https://own/simple"\n',
        '[pip]\nfind-links = ["/wheels"]\n',
    ],
)
def test_a_file_of_uv_that_names_an_index_stands_in_for_all_of_pips(home: Home, text: str) -> None:
    settings = home({".config/pip/pip.conf": PIP, ".config/uv/uv.toml": text})

    assert settings.index_variables() == {}
    assert settings.names_index()


def test_a_variable_of_uv_stands_in_for_all_of_pips(home: Home) -> None:
    settings = home({".config/pip/pip.conf": PIP}, UV_FIND_LINKS="/wheels")

    assert settings.index_variables() == {"UV_FIND_LINKS": "/wheels"}


def test_other_settings_of_uv_leave_pips_as_they_are(home: Home) -> None:
    settings = home(
        {".config/pip/pip.conf": PIP, ".config/uv/uv.toml": "offline = false\n"}, UV_HTTP_TIMEOUT="3"
    )

    assert settings.index_variables() == {"UV_DEFAULT_INDEX": "https://host/simple"}


def test_a_file_that_pip_cannot_read_is_named(home: Home) -> None:
    with pytest.raises(BentoError, match=r"pip\.conf: pip could not read it either"):
        home({".config/pip/pip.conf": "index-url = x\n"}).index_variables()


def test_pip_without_settings_is_asked_for_none(home: Home) -> None:
    assert home({".config/pip/pip.conf": PIP}, PIP_CONFIG_FILE="/dev/null").index_variables() == {}


@pytest.mark.parametrize(
    ("files", "variables"),
    [
        ({".config/uv/uv.toml": 'prerelease = "allow"\n'}, {}),
        ({".config/pip/pip.conf": PIP}, {}),
        ({}, {"UV_EXCLUDE_NEWER": "2026-01-01"}),
    ],
)
def test_settings_that_may_change_an_answer_decide_it(
    home: Home, files: dict[str, str], variables: dict[str, str]
) -> None:
    before = home({}).deciding()

    assert home(files, **variables).deciding() != before


@pytest.mark.parametrize("name", ["UV_OFFLINE", "UV_CACHE_DIR", "UV_INDEX_MINE_PASSWORD", "UV_LINK_MODE"])
def test_settings_of_how_uv_works_do_not(home: Home, name: str) -> None:
    assert home({}, **{name: "1"}).deciding() == home({}).deciding()

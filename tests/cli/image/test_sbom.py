"""The bill of materials of an image, read by the library of those who define it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from bento_cli.image.sbom import sbom
from bento_cli.lock import Package
from bento_cli.store.bento import Tag

TAG = Tag("shop", "v1")
DIGEST = "0123456789abcdef" * 4

PACKAGES = (
    Package("fastapi==0.115.0", (f"sha256:{DIGEST}", f"sha256:{DIGEST[::-1]}")),
    Package("starlette==0.40.0", (f"sha256:{DIGEST}",), required_by=("fastapi",)),
    Package("torch==2.4.0+cpu"),
    Package("own @ https://reader:secret@files.example/own-1.0.whl"),
    Package("tool @ git+https://code.example/tool@0123abc"),
)


@pytest.fixture
def bill() -> dict[str, Any]:
    return dict(json.loads(sbom(TAG, "Cart", "python:3.11-slim-bookworm", PACKAGES)))


def component(bill: dict[str, Any], name: str) -> dict[str, Any]:
    return dict(next(found for found in bill["components"] if found["name"] == name))


@pytest.mark.parametrize("packages", [PACKAGES, ()])
@pytest.mark.parametrize("base", ["python:3.11", "host:5000/python", "python@sha256:" + DIGEST, "debian"])
def test_it_is_what_the_official_schema_asks_for(packages: tuple[Package, ...], base: str) -> None:
    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(sbom(TAG, "Cart", base, packages))

    assert problem is None


def test_the_same_lock_gives_the_same_bill(bill: dict[str, Any]) -> None:
    assert json.loads(sbom(TAG, "Cart", "python:3.11-slim-bookworm", PACKAGES)) == bill


@pytest.mark.parametrize(
    ("tag", "service", "packages"),
    [(Tag("shop", "v2"), "Cart", PACKAGES), (TAG, "Shop", PACKAGES), (TAG, "Cart", PACKAGES[:-1])],
)
def test_its_number_is_that_of_no_other_bill(
    bill: dict[str, Any], tag: Tag, service: str, packages: tuple[Package, ...]
) -> None:
    other = json.loads(sbom(tag, service, "python:3.11-slim-bookworm", packages))

    assert other["serialNumber"] != bill["serialNumber"]


def test_a_package_is_named_as_scanners_look_it_up(bill: dict[str, Any]) -> None:
    found = component(bill, "torch")

    assert found["purl"] == PackageURL("pypi", name="torch", version="2.4.0+cpu").to_string()
    assert found["version"] == "2.4.0+cpu"


def test_a_package_has_the_hashes_that_the_lock_admits(bill: dict[str, Any]) -> None:
    assert component(bill, "fastapi")["hashes"] == [
        {"alg": "SHA-256", "content": DIGEST},
        {"alg": "SHA-256", "content": DIGEST[::-1]},
    ]


def test_where_a_package_is_from_is_told_without_a_password(bill: dict[str, Any]) -> None:
    found = component(bill, "own")

    assert found["externalReferences"] == [
        {"type": "distribution", "url": "https://files.example/own-1.0.whl"}
    ]
    assert "secret" not in json.dumps(bill)


def test_a_repository_is_told_from_a_file(bill: dict[str, Any]) -> None:
    url = "git+https://code.example/tool@0123abc"

    assert component(bill, "tool")["externalReferences"] == [{"type": "vcs", "url": url}]
    assert PackageURL.from_string(component(bill, "tool")["purl"]).qualifiers == {"vcs_url": url}


def test_it_says_what_brought_a_package(bill: dict[str, Any]) -> None:
    depends_on = {entry["ref"]: entry["dependsOn"] for entry in bill["dependencies"]}

    assert depends_on["pkg:pypi/fastapi@0.115.0"] == ["pkg:pypi/starlette@0.40.0"]
    assert "pkg:pypi/starlette@0.40.0" not in depends_on["image"]


def test_it_names_the_image_and_what_that_stands_on(bill: dict[str, Any]) -> None:
    assert bill["metadata"]["component"]["name"] == "shop/cart"
    assert component(bill, "python")["version"] == "3.11-slim-bookworm"

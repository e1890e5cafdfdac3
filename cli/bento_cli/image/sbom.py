"""What an image holds, as CycloneDX has it: the packages of its lock, on what they stand."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

from bento_cli.lock import Package
from bento_cli.names import kebab_case
from bento_cli.store.bento import Tag
from bentoml._version import __version__

SBOM_NAME: Final = "sbom.cdx.json"
_SPEC: Final = "1.6"
_ALGORITHMS: Final = {"sha256": "SHA-256", "sha384": "SHA-384", "sha512": "SHA-512"}


def sbom(tag: Tag, service: str, base_image: str, packages: Sequence[Package]) -> str:
    """The bill of materials of one service's image: the same for the same lock, and without a time.

    What the base image holds is for a scanner of images to tell; it is named here.
    """
    image = tag.image(service)
    components = {_reference(package): _component(package) for package in packages}
    base = _base(base_image)
    runtime = {"type": "library", "bom-ref": "runtime", "name": "bentoml", "version": __version__}
    content: dict[str, object] = {
        "bomFormat": "CycloneDX",
        "specVersion": _SPEC,
        "version": 1,
        "metadata": {
            "tools": {
                "components": [{"type": "application", "name": "bento-toolchain", "version": __version__}]
            },
            "component": {
                "type": "container",
                "bom-ref": "image",
                "name": f"{tag.name}/{kebab_case(service)}",
                "version": tag.version,
            },
        },
        "components": [base, runtime, *components.values()],
        "dependencies": list(_dependencies(packages)),
    }
    digest = hashlib.sha256(json.dumps([image, content]).encode()).hexdigest()
    serial = {"serialNumber": uuid.uuid5(uuid.NAMESPACE_OID, digest).urn}
    return json.dumps({**serial, **content}, indent=2, ensure_ascii=False) + "\n"


def _component(package: Package) -> dict[str, object]:
    """A package; the hashes are of all files of that version which the lock admits."""
    url = _url(package)
    component: dict[str, object] = {
        "type": "library",
        "bom-ref": _reference(package),
        "name": package.name,
        "purl": _reference(package),
    }
    if url is None:
        component["version"] = package.version
    else:
        kind = "vcs" if _is_repository(url) else "distribution"
        component["externalReferences"] = [{"type": kind, "url": url}]
    hashes = [(_ALGORITHMS.get(name), value) for name, _, value in (h.partition(":") for h in package.hashes)]
    known = [{"alg": algorithm, "content": value} for algorithm, value in hashes if algorithm is not None]
    return {**component, "hashes": known} if known else component


def _reference(package: Package) -> str:
    """The package as a purl, which names it everywhere."""
    url = _url(package)
    if url is None:
        return f"pkg:pypi/{package.name}@{quote(package.version, safe='')}"
    kind = "vcs_url" if _is_repository(url) else "download_url"
    return f"pkg:pypi/{package.name}?{kind}={quote(url, safe='')}"


def _is_repository(url: str) -> bool:
    return "+" in url.partition("://")[0]


def _url(package: Package) -> str | None:
    """Where a package is from that no index has, without what stands there to be let in."""
    if "://" not in package.version:
        return None
    parts = urlsplit(package.version)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _base(image: str) -> dict[str, object]:
    folder, slash, last = image.rpartition("/")
    name, _, version = last.partition("@" if "@" in last else ":")
    component: dict[str, object] = {"type": "container", "bom-ref": "base", "name": f"{folder}{slash}{name}"}
    return {**component, "version": version} if version else component


def _dependencies(packages: Iterable[Package]) -> Iterable[Mapping[str, object]]:
    """Which package brought which; the image has those that are there for themselves."""
    listed = list(packages)
    own = [_reference(package) for package in listed if not package.required_by]
    yield {"ref": "image", "dependsOn": ["base", "runtime", *own]}
    yield {"ref": "base", "dependsOn": []}
    yield {"ref": "runtime", "dependsOn": []}
    for package in listed:
        brought = [_reference(other) for other in listed if package.name in other.required_by]
        yield {"ref": _reference(package), "dependsOn": brought}

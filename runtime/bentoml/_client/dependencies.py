"""What stands behind the dependencies of a running service: clients, each at the address of its peer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from bentoml._client.external import ExternalPeer, close_external
from bentoml._client.peer import Peer, close_peer
from bentoml._dependency import Dependency
from bentoml._environment import (
    deployment_addresses,
    deployment_variable,
    peer_addresses,
    peer_variable,
    split_addresses,
)
from bentoml._service import Service
from bentoml.exceptions import BentoMLConfigException

AnyPeer: TypeAlias = Peer | ExternalPeer


def connect_peers(
    service: Service[Any],
    dependencies: Mapping[str, Dependency],
    timeout_s: float,
    environ: Mapping[str, str],
) -> dict[str, AnyPeer]:
    """A client for each of these dependencies of `service`, by attribute; one client for each peer.

    Raises:
        BentoMLConfigException: names every variable that holds no address.
    """
    clients: dict[tuple[str, str | None], AnyPeer] = {}
    peers: dict[str, AnyPeer] = {}
    missing: list[str] = []
    for attribute, dependency in dependencies.items():
        addresses, variable = _addresses(f"{service.name}.{attribute}", dependency, environ)
        if not addresses:
            missing.append(f"{variable} (for `{service.name}.{attribute}`)")
            continue
        # One address may be known by a class in one place and by none in another.
        peer = addresses[0], dependency.on.name if dependency.on is not None else None
        if peer not in clients:
            clients[peer] = _client(dependency, addresses[0], timeout_s)
        peers[attribute] = clients[peer]
    if missing:
        raise BentoMLConfigException(
            f"{service.name} does not know where its peers are; set {', '.join(missing)} to `http://host:port`"
        )
    return peers


async def close_peers(peers: Mapping[str, AnyPeer]) -> None:
    """Close the connections to all of them."""
    for peer in {id(peer): peer for peer in peers.values()}.values():
        await (close_peer(peer) if isinstance(peer, Peer) else close_external(peer))


def _addresses(where: str, dependency: Dependency, environ: Mapping[str, str]) -> tuple[tuple[str, ...], str]:
    """The addresses that lead to a dependency, and the variable that may hold them."""
    if dependency.url is not None:
        return split_addresses(dependency.url, f"`{where}`"), ""
    if dependency.deployment is not None:
        variable = deployment_variable(dependency.deployment, dependency.cluster)
        return deployment_addresses(dependency.deployment, dependency.cluster, environ), variable
    name = dependency.on.name if dependency.on is not None else ""
    return peer_addresses(name, environ), peer_variable(name)


def _client(dependency: Dependency, address: str, timeout_s: float) -> AnyPeer:
    if dependency.on is None or dependency.edge.is_external:
        return ExternalPeer(address, dependency.on, timeout_s)
    return Peer(dependency.on, address, timeout_s)

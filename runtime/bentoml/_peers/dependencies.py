"""What stands behind the dependencies of a running service: clients, each at the address of its peer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, TypeAlias

from bentoml._dependency import Dependency
from bentoml._environment import (
    deployment_addresses,
    deployment_token_variable,
    deployment_variable,
    peer_addresses,
    peer_variable,
    split_addresses,
)
from bentoml._peers.blocking import BlockingLoop
from bentoml._peers.external import ExternalPeer, close_external
from bentoml._peers.peer import Peer, close_peer
from bentoml._peers.remote_endpoint import Limits
from bentoml._service import Service
from bentoml._wire import token_for
from bentoml.exceptions import BentoMLConfigException

AnyPeer: TypeAlias = Peer | ExternalPeer


class Peers:
    """The clients of one running service.

    Attributes:
        by_attribute: for each dependency; those on one peer have one client.
    """

    def __init__(self, by_attribute: Mapping[str, AnyPeer], blocking: BlockingLoop) -> None:
        self.by_attribute = by_attribute
        self._blocking = blocking

    async def close(self) -> None:
        """Close their connections."""
        for peer in self.by_attribute.values():
            if isinstance(peer, ExternalPeer):
                await close_external(peer)
        await self._close_here()
        await asyncio.to_thread(self._blocking.stop, self._close_here)

    async def _close_here(self) -> None:
        """Close the connections that belong to the running loop."""
        for peer in self.by_attribute.values():
            if isinstance(peer, Peer):
                close_peer(peer)


def connect_peers(
    service: Service[Any], dependencies: Mapping[str, Dependency], limits: Limits, environ: Mapping[str, str]
) -> Peers:
    """Clients for these dependencies of `service`; they connect with the first call.

    Args:
        limits: how long callers wait, where their own callers wait longer.

    Raises:
        BentoMLConfigException: names every variable that holds no address, or one that holds what it may not.
    """
    blocking = BlockingLoop()
    clients: dict[tuple[tuple[str, ...], str | None, str | None], AnyPeer] = {}
    by_attribute: dict[str, AnyPeer] = {}
    missing: list[str] = []
    for attribute, dependency in dependencies.items():
        where = f"{service.name}.{attribute}"
        addresses, variable = _addresses(where, dependency, environ)
        if not addresses:
            missing.append(f"{variable} (for `{where}`)")
            continue
        if dependency.edge.is_external and len(addresses) > 1:
            raise BentoMLConfigException(
                f"{variable or f'`{where}`'}: {len(addresses)} base URLs, expected one; what is outside the "
                "graph balances its calls itself"
            )
        # One address may be known by a class in one place and by none in another.
        key = (
            addresses,
            dependency.on.name if dependency.on is not None else None,
            _token(dependency, environ),
        )
        if key not in clients:
            clients[key] = _client(dependency, addresses, variable, limits, environ, blocking)
        by_attribute[attribute] = clients[key]
    if missing:
        raise BentoMLConfigException(
            f"{service.name} does not know where its peers are; set {', '.join(missing)} to `http://host:port`"
        )
    return Peers(by_attribute, blocking)


def _addresses(where: str, dependency: Dependency, environ: Mapping[str, str]) -> tuple[tuple[str, ...], str]:
    """The addresses that lead to a dependency, and the variable that may hold them."""
    if dependency.url is not None:
        return split_addresses(dependency.url, f"`{where}`"), ""
    if dependency.deployment is not None:
        variable = deployment_variable(dependency.deployment, dependency.cluster)
        return deployment_addresses(dependency.deployment, dependency.cluster, environ), variable
    name = dependency.on.name if dependency.on is not None else ""
    return peer_addresses(name, environ), peer_variable(name)


def _token(dependency: Dependency, environ: Mapping[str, str]) -> str | None:
    """What a deployment asks its callers for; None where nobody says."""
    if dependency.deployment is None:
        return None
    return environ.get(deployment_token_variable(dependency.deployment, dependency.cluster)) or None


def _client(
    dependency: Dependency,
    addresses: tuple[str, ...],
    variable: str,
    limits: Limits,
    environ: Mapping[str, str],
    blocking: BlockingLoop,
) -> AnyPeer:
    on = dependency.on
    if on is None or dependency.edge.is_external:
        return ExternalPeer(addresses[0], on, limits.answer_s, _token(dependency, environ))
    return Peer(
        on, addresses, source=variable, limits=limits, token=token_for(on.name, environ), blocking=blocking
    )

"""Which GPUs of this machine each service of a graph is dealt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bento_cli.errors import BentoError
from bentoml._config import ServiceConfig
from bentoml._gpus import GPU_COLUMNS, Gpus, Share, as_rows

Shares = Mapping[str, Sequence[Share]]
"""By the name of a service, the shares of its workers."""


def deal_gpus(configs: Mapping[str, ServiceConfig], gpu_count: int) -> dict[str, tuple[Share, ...]]:
    """Deal out the GPUs of a machine, to the services in turn.

    Services that want whole ones have them to themselves, and fractions share one as long as they fit. A
    service that asks for none has no shares, and its workers see what they like; so it is for all of them
    where there are no GPUs.

    Raises:
        BentoError: the services want more than there are; says who wants what.
    """
    gpus = Gpus.of(gpu_count)
    if not gpu_count:
        return {}
    dealt = {service: gpus.deal(config) for service, config in configs.items()}
    shares = {service: own for service, own in dealt.items() if own}
    if any(gpus.lacks(own) for own in shares.values()):
        wanted = len({gpu for own in shares.values() for share in own for gpu in share.gpus})
        raise BentoError(
            f"the services want {wanted} GPUs, this machine has {gpu_count}:\n" + gpu_table(shares),
            hint='let services share one, `resources={"gpu": 0.5}`, or say yourself what all of them see, '
            "`CUDA_VISIBLE_DEVICES=0`",
        )
    return shares


def gpu_table(shares: Shares, got: str = GPU_COLUMNS[-1]) -> str:
    """Who wants what, a line for each share.

    Args:
        got: the head of the column with what each is dealt.
    """
    rows = [(service, *share.cells()) for service, own in shares.items() for share in own]
    return "\n".join(as_rows(("service", *GPU_COLUMNS[:-1], got), rows))

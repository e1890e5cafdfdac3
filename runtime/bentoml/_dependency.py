"""`bentoml.depends()`: an edge of the graph, and what an instance finds behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from bentoml._environment import DEPLOYMENT_SECRET, deployment_variable
from bentoml._graph import Edge

if TYPE_CHECKING:
    from bentoml._service import Service

T = TypeVar("T")

_LOCAL_INSTANCES = "__bento_local_instances__"


class Dependency:
    """What `depends()` leaves in the class. An instance's attribute is the other service.

    In a running service that is a client of the peer, put in place before `__init__`. Where a service
    class is instantiated by hand, as in a test, it is a local instance of the other class, made on
    first use and shared by all who depend on it.
    """

    def __init__(
        self,
        on: Service[Any] | None = None,
        *,
        url: str | None = None,
        deployment: str | None = None,
        cluster: str | None = None,
    ) -> None:
        if on is None and url is None and deployment is None:
            raise ValueError("`depends()` needs a service, `url=` or `deployment=`")
        if url is not None and deployment is not None:
            raise ValueError("`depends()` takes `url=` or `deployment=`, not both")
        if cluster is not None and deployment is None:
            raise ValueError("`depends(cluster=)` goes with `deployment=`")
        if deployment is not None and deployment_variable(deployment, cluster) == DEPLOYMENT_SECRET:
            raise ValueError(f"`depends(deployment={deployment!r})`: {DEPLOYMENT_SECRET} is no address")
        # Asked by shape and not by class: the module of `Service` imports this one.
        if on is not None and not hasattr(on, "endpoints"):
            raise TypeError(f"`depends()` takes a class marked with `@bentoml.service`, found {on!r}")
        self.on = on
        self.url = url
        self.deployment = deployment
        self.cluster = cluster
        self.attribute = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.attribute = name

    @property
    def edge(self) -> Edge:
        """This dependency as data."""
        return Edge(
            attribute=self.attribute,
            service=self.on.name if self.on else None,
            url=self.url,
            deployment=self.deployment,
            cluster=self.cluster,
        )

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        if instance is None:
            return self
        # From then on the attribute is found in the instance, without a call.
        value = vars(instance)[self.attribute] = self._local_instance(instance)
        return value

    def _local_instance(self, instance: object) -> object:
        if self.on is None or self.edge.is_external:
            raise RuntimeError(
                f"`{type(instance).__name__}.{self.attribute}` is external ({self.edge}); outside a running "
                f"service, pass an object: `{type(instance).__name__}({self.attribute}=...)`"
            )
        return local_instance(self.on, instance.__dict__.setdefault(_LOCAL_INSTANCES, {}))

    def __repr__(self) -> str:
        return f"<Dependency {self.attribute or '?'}: {self.edge}>"


def local_instance(service: Service[Any], instances: dict[str, object]) -> object:
    """An instance of a service for those who depend on it in this process.

    Args:
        instances: those that there are, by the service's name; a diamond has one leaf.
    """
    if service.name not in instances:

        def share(new: object) -> None:
            vars(new)[_LOCAL_INSTANCES] = instances

        instances[service.name] = service.instantiate(before_init=share)
    return instances[service.name]


# A class too: to mypy, which does not follow decorators of classes, a marked class is still one.
@overload
def depends(
    on: Service[T] | type[T],
    *,
    url: str | None = None,
    deployment: str | None = None,
    cluster: str | None = None,
) -> T: ...


@overload
def depends(
    on: None = None,
    *,
    url: str | None = None,
    deployment: str | None = None,
    cluster: str | None = None,
) -> Any: ...


def depends(
    on: Any = None,
    *,
    url: str | None = None,
    deployment: str | None = None,
    cluster: str | None = None,
) -> Any:
    """Declare that a service calls another one: `iris = bentoml.depends(IrisClassifier)`.

    Args:
        on: the other service's class; type checkers see its methods behind the attribute.
        url: where an external deployment answers.
        deployment: the name of an external deployment, looked up when deploying.
        cluster: where that deployment is, when not in the default one.

    Raises:
        ValueError: neither a class nor an external deployment is given, or two at once.
        TypeError: `on` is not marked with `@bentoml.service`.
    """
    return Dependency(on, url=url, deployment=deployment, cluster=cluster)

"""Project → ServiceGraph, read from the source; nothing of the project is imported or run."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from pydantic import BaseModel, ConfigDict, ValidationError

from bento_cli.bentofile import Env, LabelKey, OneLine
from bento_cli.errors import InputError, Problem, nearest, shown
from bento_cli.literals import literal
from bento_cli.source import Module, Project, Symbol, bound_names, statements
from bento_cli.yaml_file import in_words
from bentoml._environment import peer_variable
from bentoml._graph import Edge, ServiceGraph, ServiceNode, find_cycle

_DECORATORS = {"bentoml.service"}
_ENDPOINTS = {"bentoml.api", "bentoml.task"}
_DEPENDS = {"bentoml.depends"}
# Attributes of a dependency that are not endpoints of the service behind it.
_PROXY_ATTRIBUTES = {"to_async", "to_sync"}
_OWN_ARGUMENTS = {"name", "image", "description", "path_prefix", "envs", "labels", "cmd", "service_class"}
# Bases that bring no endpoint; of others outside the project nobody here knows.
_PLAIN_BASES = {"object", "ABC", "Generic", "Protocol"}


@dataclass(frozen=True)
class Definition:
    """Where a class stands."""

    module: Module
    node: ast.ClassDef


@dataclass(frozen=True, kw_only=True)
class Discovery:
    """The graph, where each of its services is defined, and what could not be read.

    Args:
        unknown: what the source leaves open, and that stops nothing.
        computed: services of whose configuration the source leaves something open.
    """

    graph: ServiceGraph
    definitions: Mapping[str, Definition]
    unknown: tuple[Problem, ...] = ()
    computed: frozenset[str] = frozenset()


def discover(project: Project, service: str, at: Callable[[str], Problem]) -> Discovery:
    """The graph whose entry is `service`, `module:Class`.

    Args:
        at: makes a problem of the place that names the entry.

    Raises:
        InputError: every problem of the services found, each with its file and line.
    """
    return _Discoverer(project).run(service, at)


def lineage(project: Project, definition: Definition) -> list[Definition]:
    """A class and its base classes in the project, in the order in which later ones win."""
    found: list[Definition] = []
    waiting = [definition]
    while waiting:
        current = waiting.pop(0)
        if current not in found:
            found.append(current)
            bases = (_class_of(project, current.module, base) for base in current.node.bases)
            waiting.extend(base for base in bases if base is not None)
    return found[::-1]


def is_service(project: Project, definition: Definition) -> bool:
    """Whether a class is marked with `@bentoml.service`."""
    return _service_decorator(project, definition) is not None


class _Declared(BaseModel):
    """What a decorator says beside the configuration."""

    model_config = ConfigDict(extra="ignore")

    name: str | None = None
    description: str | None = None
    envs: tuple[Env, ...] = ()
    labels: dict[LabelKey, OneLine] = {}


@dataclass(frozen=True, kw_only=True)
class _Arguments:
    """A decorator's arguments: the values of those that are literals, and where each stands."""

    values: dict[str, object]
    places: dict[str, ast.expr]
    module: Module
    computed: dict[str, ast.expr]


@dataclass(frozen=True, kw_only=True)
class _Found:
    node: ServiceNode
    definition: Definition
    peers: tuple[Symbol, ...]
    behind: Mapping[str, Definition]


@dataclass
class _Discoverer:
    project: Project
    problems: list[Problem] = field(default_factory=list)
    unknown: list[Problem] = field(default_factory=list)
    computed: set[str] = field(default_factory=set)
    found: dict[Symbol, _Found] = field(default_factory=dict)

    def run(self, service: str, at: Callable[[str], Problem]) -> Discovery:
        entry = self._entry(service, at)
        waiting = [entry]
        while waiting:
            symbol = waiting.pop(0)
            if symbol not in self.found:
                self.found[symbol] = self._read(symbol)
                waiting += self.found[symbol].peers
        self._check_names()
        self._check_cycle()
        self._check_calls()
        if self.problems:
            raise InputError(dict.fromkeys(self.problems))
        nodes = {item.node.name: item.node for item in self.found.values()}
        return Discovery(
            graph=ServiceGraph(entry=self.found[entry].node.name, services=nodes),
            definitions={item.node.name: item.definition for item in self.found.values()},
            unknown=tuple(dict.fromkeys(self.unknown)),
            computed=frozenset(self.computed),
        )

    def _entry(self, service: str, at: Callable[[str], Problem]) -> Symbol:
        """The class that `module:Class`, `file.py:Class` or `module` names."""
        module_name, _, attribute = service.partition(":")
        module_name = module_name.removesuffix(".py")
        module = self.project.module(module_name)
        if module is None:
            beside = self.project.modules_beside(module_name)
            hint = nearest(module_name, beside, "modules")
            raise InputError([at(f"service {service!r}: no module {module_name!r} in this project{hint}")])
        services = {name: s for name in module.bindings if (s := self._service(module, ast.Name(name)))}
        own = [name for name, symbol in services.items() if symbol.module == module.name]
        if not attribute and len(own or services) == 1:
            attribute = next(iter(own or services))
        if attribute in services:
            return services[attribute]
        if attribute:
            what = f"service {service!r}: {module.path.name} has no service {attribute!r}"
        else:
            what = f"service {service!r}: name one of {module.path.name}, as `module:Class`"
        raise InputError([at(what + nearest(attribute, services, "services"))])

    def _service(self, module: Module, node: ast.expr) -> Symbol | None:
        """The service class that an expression names."""
        symbol = self.project.resolve(module, node)
        definition = _definition(self.project, symbol) if symbol else None
        return symbol if definition and _service_decorator(self.project, definition) else None

    def _read(self, symbol: Symbol) -> _Found:
        definition = _definition(self.project, symbol)
        assert definition is not None  # noqa: S101  # only symbols of service classes come here
        arguments = _arguments(self.project, definition)
        declared = self._declared(arguments, definition.node.name)
        name = declared.name or definition.node.name
        self._note_computed(arguments, name)
        edges: list[Edge] = []
        endpoints: list[str] = []
        peers: list[Symbol] = []
        behind: dict[str, Definition] = {}
        for attribute, (module, member) in self._members(definition).items():
            if _is_endpoint(self.project, module, member):
                endpoints.append(attribute)
            elif call := _depends_call(self.project, module, member):
                edge, target = self._edge(attribute, *call)
                edges.append(edge)
                if target and (other := _definition(self.project, target)):
                    behind[attribute] = other
                    peers += [] if edge.is_external else [target]
        self._check_strays(definition)
        node = ServiceNode(
            name=name,
            target=f"{symbol.module}:{symbol.name}",
            endpoints=tuple(endpoints),
            dependencies=tuple(edges),
            config={key: value for key, value in arguments.values.items() if key not in _OWN_ARGUMENTS},
            envs=tuple(env.model_dump() for env in declared.envs),
            labels=declared.labels,
            description=declared.description or ast.get_docstring(definition.node),
        )
        return _Found(node=node, definition=definition, peers=tuple(peers), behind=behind)

    def _declared(self, arguments: _Arguments, name: str) -> _Declared:
        """What the decorator says beside the configuration; what does not fit is a problem."""
        values = arguments.values
        try:
            return _Declared.model_validate(values)
        except ValidationError as error:
            for item in error.errors():
                key, *rest = item["loc"]
                where = ".".join(str(part) for part in (key, *rest) if part != "[key]")
                message = f"`{where}` of {name}: {in_words(item)}"
                self.problems.append(arguments.module.problem(arguments.places[str(key)], message))
            wrong = {item["loc"][0] for item in error.errors()}
            return _Declared.model_validate({k: v for k, v in values.items() if k not in wrong})

    def _note_computed(self, arguments: _Arguments, name: str) -> None:
        """Say which arguments nobody knows before the service starts; its name cannot be one of them."""
        for key, node in arguments.computed.items():
            if key == "name":
                message = f"`name` of {name} must be a literal: files and variables are named after it"
                self.problems.append(arguments.module.problem(node, message))
            elif key == "image":
                message = f"`image` of {name} is not acted on: bentofile.yaml says what its image holds"
                self.unknown.append(arguments.module.problem(node, message))
            else:
                message = f"`{key}` of {name} is not known before the service starts"
                self.unknown.append(arguments.module.problem(node, message))
                if key not in _OWN_ARGUMENTS:
                    self.computed.add(name)

    def _members(self, definition: Definition) -> dict[str, tuple[Module, ast.stmt]]:
        """What each name of a class is bound to in the end, inherited ones first."""
        members: dict[str, tuple[Module, ast.stmt]] = {}
        for owner in lineage(self.project, definition):
            for statement in statements(owner.node.body):
                members.update((name, (owner.module, statement)) for name in bound_names(statement))
        return members

    def _edge(self, attribute: str, module: Module, call: ast.Call) -> tuple[Edge, Symbol | None]:
        """One `depends(...)`: the edge, and the service class that it names."""
        given: dict[str, str | None] = {}
        for keyword in call.keywords:
            if keyword.arg in ("url", "deployment", "cluster"):
                given[keyword.arg] = self._text(module, keyword.value, keyword.arg)
        url, deployment, cluster = (given.get(key) for key in ("url", "deployment", "cluster"))
        on = call.args[0] if call.args else next((k.value for k in call.keywords if k.arg == "on"), None)
        if isinstance(on, ast.Constant) and on.value is None:
            on = None
        if url is not None and deployment is not None:
            self._problem(module, call, "`depends()` takes `url=` or `deployment=`, not both")
        if cluster is not None and deployment is None:
            self._problem(module, call, "`depends(cluster=)` goes with `deployment=`")
        if on is None and url is None and deployment is None:
            self._problem(module, call, "`depends()` needs a service, `url=` or `deployment=`")
        edge = Edge(attribute=attribute, url=url, deployment=deployment, cluster=cluster)
        if on is None:
            return edge, None
        symbol = self._service(module, on)
        definition = _definition(self.project, symbol) if symbol else None
        if definition is not None:
            name = _arguments(self.project, definition).values.get("name") or definition.node.name
            return replace(edge, service=str(name)), symbol
        if not edge.is_external:  # the class of an external one may come from an installed package
            what = ast.unparse(on)
            self._problem(module, on, f"`{what}` is no class marked with `@bentoml.service` in this project")
        return edge, None

    def _text(self, module: Module, node: ast.expr, what: str) -> str | None:
        """The text that an argument of `depends()` is; the expression itself when it is computed."""
        try:
            value = literal(self.project, module, node)
        except ValueError:
            self.unknown.append(
                module.problem(node, f"`{what}` of `depends()` is not known before the service starts")
            )
            return ast.unparse(node)
        if value is None or isinstance(value, str):
            return value
        self._problem(module, node, f"`{what}` of `depends()`: expected text, found {value!r}")
        return None

    def _check_strays(self, definition: Definition) -> None:
        """Calls of `depends()` that make no dependency where they stand."""
        for owner in lineage(self.project, definition):
            found = (_depends_call(self.project, owner.module, s) for s in statements(owner.node.body))
            declared = {item[1] for item in found if item}
            calls = (node for node in ast.walk(owner.node) if isinstance(node, ast.Call))
            for call in calls:
                if call not in declared and _names(self.project, owner.module, call, _DEPENDS):
                    message = "`depends()` works as `name = bentoml.depends(...)` in a class's body only"
                    self._problem(owner.module, call, message)

    def _problem(self, module: Module, node: ast.expr | ast.stmt, message: str) -> None:
        self.problems.append(module.problem(node, message))

    def _check_names(self) -> None:
        by_variable: dict[str, _Found] = {}
        for item in self.found.values():
            variable = peer_variable(item.node.name)
            first = by_variable.setdefault(variable, item)
            if first is item:
                continue
            where = shown(first.definition.module.path, first.definition.node.lineno)
            if first.node.name == item.node.name:
                message = f"a second service named {item.node.name!r}; the first is at {where}"
            else:
                message = f"{item.node.name!r} and {first.node.name!r} ({where}) would share {variable}"
            self._problem(item.definition.module, item.definition.node, f"{message}; rename one")

    def _check_cycle(self) -> None:
        symbols = {symbol.dotted: symbol for symbol in self.found}
        cycle = find_cycle({s.dotted: tuple(p.dotted for p in f.peers) for s, f in self.found.items()})
        if cycle is not None:
            found = [self.found[symbols[dotted]] for dotted in cycle]
            message = f"services depend on each other in a circle: {' → '.join(f.node.name for f in found)}"
            self._problem(found[0].definition.module, found[0].definition.node, message)

    def _check_calls(self) -> None:
        """Uses of `self.<dependency>.<method>` where the other service has no such endpoint."""
        for item in self.found.values():
            endpoints = {attribute: self._endpoints(other) for attribute, other in item.behind.items()}
            names = {edge.attribute: edge.service for edge in item.node.dependencies}
            for owner in lineage(self.project, item.definition):
                for node in ast.walk(owner.node):
                    match node:
                        case ast.Attribute(
                            value=ast.Attribute(value=ast.Name(id="self"), attr=attribute), attr=method
                        ):
                            known = endpoints.get(attribute)
                        case _:
                            continue
                    if known is None or method in known or method in _PROXY_ATTRIBUTES:
                        continue
                    hint = nearest(method, known, "its endpoints")
                    message = f"{names[attribute]} has no endpoint {method!r}{hint}"
                    self._problem(owner.module, node, message)

    def _endpoints(self, definition: Definition) -> list[str] | None:
        """The names of a service's endpoints; None when a base class may bring more."""
        for owner in lineage(self.project, definition):
            for base in owner.node.bases:
                if _class_of(self.project, owner.module, base) is None and not _is_plain(base):
                    return None
        members = self._members(definition).items()
        return [name for name, (module, member) in members if _is_endpoint(self.project, module, member)]


def _definition(project: Project, symbol: Symbol) -> Definition | None:
    module = project.module(symbol.module)
    if module is not None:
        for statement in reversed(module.bindings.get(symbol.name, [])):
            if isinstance(statement, ast.ClassDef):
                return Definition(module, statement)
    return None


def _class_of(project: Project, module: Module, base: ast.expr) -> Definition | None:
    """The project's class that a base class's expression names, `Base[T]` too."""
    symbol = project.resolve(module, base.value if isinstance(base, ast.Subscript) else base)
    return _definition(project, symbol) if symbol else None


def _is_plain(base: ast.expr) -> bool:
    node = base.value if isinstance(base, ast.Subscript) else base
    return ast.unparse(node).rpartition(".")[2] in _PLAIN_BASES


def _service_decorator(project: Project, definition: Definition) -> tuple[Module, ast.expr] | None:
    """The decorator that makes a class a service, and the module it is written in."""
    for decorator in definition.node.decorator_list:
        found = _written(project, definition.module, decorator, _DECORATORS)
        if found is not None:
            return found
    return None


def _is_endpoint(project: Project, module: Module, member: ast.stmt) -> bool:
    match member:
        case ast.FunctionDef(decorator_list=decorators) | ast.AsyncFunctionDef(decorator_list=decorators):
            return any(_names(project, module, decorator, _ENDPOINTS) for decorator in decorators)
        case ast.Assign(value=ast.Call() as call):
            return _names(project, module, call, _ENDPOINTS)
    return False


def _depends_call(project: Project, module: Module, member: ast.stmt) -> tuple[Module, ast.Call] | None:
    """The `depends(...)` that a statement of a class's body binds, and the module it is written in."""
    value = member.value if isinstance(member, ast.Assign | ast.AnnAssign) else None
    found = _written(project, module, value, _DEPENDS) if value is not None else None
    match found:
        case (Module() as home, ast.Call() as call):
            return home, call
    return None


def _written(
    project: Project, module: Module, node: ast.expr, wanted: set[str]
) -> tuple[Module, ast.expr] | None:
    """`wanted` or a call of it, as it stands or behind a name: `gpu = bentoml.service(...)`, then `@gpu`."""
    if _names(project, module, node, wanted):
        return module, node
    symbol = project.resolve(module, node)
    home = project.module(symbol.module) if symbol else None
    match home.bindings.get(symbol.name) if home and symbol else None:
        case [ast.Assign(value=ast.Call() as call)] if home and _names(project, home, call, wanted):
            return home, call
    return None


def _names(project: Project, module: Module, node: ast.expr, wanted: set[str]) -> bool:
    """Whether a decorator or call, with or without arguments, is one of the names wanted."""
    target = node.func if isinstance(node, ast.Call) else node
    symbol = project.resolve(module, target)
    return symbol is not None and symbol.dotted in wanted


def _arguments(project: Project, definition: Definition) -> _Arguments:
    """The decorator's arguments; those that are no literals nor names bound to such are `computed`."""
    found = _service_decorator(project, definition)
    module, decorator = found or (definition.module, ast.Constant(None))
    arguments = _Arguments(values={}, places={}, module=module, computed={})
    for keyword in decorator.keywords if isinstance(decorator, ast.Call) else ():
        # `**settings` is like a mapping that is unpacked into another one.
        node = keyword.value if keyword.arg else ast.Dict(keys=[None], values=[keyword.value])
        try:
            value = literal(project, module, node)
        except ValueError:
            arguments.computed[keyword.arg or f"**{ast.unparse(keyword.value)}"] = keyword.value
            continue
        values = {keyword.arg: value} if keyword.arg else value
        assert isinstance(values, dict)  # noqa: S101  # what a dictionary's display is
        arguments.values.update(values)
        arguments.places.update(dict.fromkeys(values, keyword.value))
    return arguments

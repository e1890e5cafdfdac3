"""Project → ServiceGraph, read from the source; nothing of the project is imported or run."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from bento_cli.errors import InputError, Problem
from bento_cli.source import Module, Project, Symbol
from bentoml._environment import peer_variable
from bentoml._graph import Edge, ServiceGraph, ServiceNode, find_cycle

_DECORATORS = {"bentoml.service"}
_ENDPOINTS = {"bentoml.api", "bentoml.task"}
_DEPENDS = {"bentoml.depends"}
# Attributes of a dependency that are not endpoints of the service behind it.
_PROXY_ATTRIBUTES = {"to_async", "to_sync", "is_ready", "close", "call", "client_url", "request"}
_OWN_ARGUMENTS = {"name", "image", "description", "path_prefix", "envs", "labels", "cmd", "service_class"}


@dataclass(frozen=True)
class Definition:
    """Where a service's class stands."""

    module: Module
    node: ast.ClassDef


@dataclass(frozen=True, kw_only=True)
class Discovery:
    """The graph, where each of its services is defined, and what could not be read."""

    graph: ServiceGraph
    definitions: Mapping[str, Definition]
    unknown: tuple[Problem, ...] = ()


def discover(project: Project, service: str) -> Discovery:
    """The graph whose entry is `service`, `module:Class`.

    Raises:
        InputError: every problem of the services found, each with its file and line.
    """
    return _Discoverer(project).run(service)


@dataclass
class _Found:
    node: ServiceNode
    definition: Definition
    line: int


@dataclass
class _Discoverer:
    project: Project
    problems: list[Problem] = field(default_factory=list)
    unknown: list[Problem] = field(default_factory=list)
    found: dict[Symbol, _Found] = field(default_factory=dict)
    classes: dict[Symbol, str] = field(default_factory=dict)

    def run(self, service: str) -> Discovery:
        entry = self._entry(service)
        waiting = [entry]
        while waiting:
            symbol = waiting.pop(0)
            if symbol not in self.found:
                waiting += self._read(symbol)
        self._check_names()
        names = {symbol: item.node.name for symbol, item in self.found.items()}
        nodes = {item.node.name: item.node for item in self.found.values()}
        graph = ServiceGraph(entry=names[entry], services=nodes)
        self._check_cycle(graph)
        self._check_calls(nodes)
        if self.problems:
            raise InputError(self.problems)
        definitions = {item.node.name: item.definition for item in self.found.values()}
        return Discovery(graph=graph, definitions=definitions, unknown=tuple(self.unknown))

    def _entry(self, service: str) -> Symbol:
        """The class that `module:Class`, `file.py:Class` or `module` names."""
        module_name, _, attribute = service.partition(":")
        module_name = module_name.removesuffix(".py")
        module = self.project.module(module_name)
        if module is None:
            files = sorted(path.stem for path in self.project.root.glob("*.py"))
            near = difflib.get_close_matches(module_name, files, n=1)
            message = f"service {service!r}: no module {module_name!r} here"
            message += f", did you mean `{near[0]}`?" if near else f"; modules: {', '.join(files) or 'none'}"
            raise InputError([Problem(self.project.root, None, message)])
        services = [name for name in module.bindings if self._service_definition(Symbol(module_name, name))]
        if not attribute and len(services) == 1:
            attribute = services[0]
        symbol = self.project.resolve(module, ast.Name(attribute)) if attribute else None
        if symbol is None or self._service_definition(symbol) is None:
            what = (
                f"has no service {attribute!r}"
                if attribute
                else "has several services; name one, `module:Class`"
            )
            near = difflib.get_close_matches(attribute, services, n=1)
            hint = f", did you mean `{near[0]}`?" if near else f"; services: {', '.join(services) or 'none'}"
            raise InputError([Problem(module.path, None, what + hint)])
        return symbol

    def _definition(self, symbol: Symbol) -> Definition | None:
        module = self.project.module(symbol.module)
        if module is None:
            return None
        for statement in reversed(module.bindings.get(symbol.name, [])):
            if isinstance(statement, ast.ClassDef):
                return Definition(module, statement)
        return None

    def _service_definition(self, symbol: Symbol) -> Definition | None:
        definition = self._definition(symbol)
        return definition if definition and _is_service(self.project, definition) else None

    def _read(self, symbol: Symbol) -> list[Symbol]:
        """Read one service; returns those it depends on."""
        definition = self._definition(symbol)
        assert definition is not None  # noqa: S101  # only symbols of service classes come here
        _module, cls = definition.module, definition.node
        arguments = self._decorator_arguments(definition)
        name = arguments.pop("name", cls.name)
        edges: list[Edge] = []
        endpoints: list[str] = []
        following: list[Symbol] = []
        for owner, member in self._members(definition):
            if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef):
                if any(_names(self.project, owner, d, _ENDPOINTS) for d in member.decorator_list):
                    endpoints.append(member.name)
            elif call := _depends_call(self.project, owner, member):
                edge, target = self._edge(owner, _target_name(member), call)
                if edge is not None:
                    edges.append(edge)
                if target is not None:
                    following.append(target)
        config = {key: value for key, value in arguments.items() if key not in _OWN_ARGUMENTS}
        node = ServiceNode(
            name=str(name),
            target=f"{symbol.module}:{symbol.name}",
            endpoints=tuple(dict.fromkeys(endpoints)),
            dependencies=tuple({edge.attribute: edge for edge in edges}.values()),
            config=config,
            envs=tuple(_mappings(arguments.get("envs"))),
            labels=next(iter(_mappings([arguments.get("labels", {})])), {}),
            description=_text(arguments.get("description")) or ast.get_docstring(cls),
        )
        self.found[symbol] = _Found(node, definition, cls.lineno)
        return following

    def _decorator_arguments(self, definition: Definition) -> dict[str, object]:
        """The decorator's arguments that are literals, or names bound to literals; others are noted."""
        arguments: dict[str, object] = {}
        module = definition.module
        for decorator in definition.node.decorator_list:
            if not isinstance(decorator, ast.Call) or not _names(
                self.project, module, decorator, _DECORATORS
            ):
                continue
            for keyword in decorator.keywords:
                if keyword.arg is None:
                    self._note(
                        module,
                        keyword.value,
                        "`**` in `@bentoml.service` is not known before the service starts",
                    )
                    continue
                try:
                    arguments[keyword.arg] = _literal(self.project, module, keyword.value)
                except ValueError:
                    what = f"`{keyword.arg}` of {definition.node.name} is not known before the service starts"
                    self._note(module, keyword.value, what)
        return arguments

    def _note(self, module: Module, node: ast.expr, message: str) -> None:
        self.unknown.append(Problem(module.path, node.lineno, message, node.col_offset + 1))

    def _members(self, definition: Definition) -> Iterator[tuple[Module, ast.stmt]]:
        """The statements of a class's body, those of base classes in the project first."""
        for base in definition.node.bases:
            symbol = self.project.resolve(definition.module, base)
            inherited = self._definition(symbol) if symbol else None
            if inherited and inherited.node is not definition.node:
                yield from self._members(inherited)
        for statement in definition.node.body:
            yield definition.module, statement

    def _edge(self, module: Module, attribute: str, call: ast.Call) -> tuple[Edge | None, Symbol | None]:
        """One `depends(...)`: the edge, and the service class behind it when it is inside the graph."""
        given: dict[str, str | None] = {}
        for keyword in call.keywords:
            if keyword.arg in ("url", "deployment", "cluster"):
                try:
                    given[keyword.arg] = _text(_literal(self.project, module, keyword.value))
                except ValueError:
                    self._problem(module, keyword.value, f"`{keyword.arg}` of `depends()` must be a literal")
                    return None, None
        on = call.args[0] if call.args else next((k.value for k in call.keywords if k.arg == "on"), None)
        if given.get("url") and given.get("deployment"):
            self._problem(module, call, "`depends()` takes `url=` or `deployment=`, not both")
        if given.get("cluster") and not given.get("deployment"):
            self._problem(module, call, "`depends(cluster=)` goes with `deployment=`")
        if on is None:
            if not (given.get("url") or given.get("deployment")):
                self._problem(module, call, "`depends()` needs a service, `url=` or `deployment=`")
            return Edge(attribute=attribute, **given), None
        symbol = self.project.resolve(module, on)
        definition = self._service_definition(symbol) if symbol else None
        if symbol is None or definition is None:
            what = ast.unparse(on)
            self._problem(module, on, f"`{what}` is no class marked with `@bentoml.service` in this project")
            return None, None
        name = str(self._quiet_name(definition))
        edge = Edge(attribute=attribute, service=name, **given)
        return edge, None if edge.is_external else symbol

    def _quiet_name(self, definition: Definition) -> object:
        """A service's name, without noting again what its decorator hides."""
        noted = list(self.unknown)
        name = self._decorator_arguments(definition).get("name", definition.node.name)
        self.unknown[:] = noted
        return name

    def _problem(self, module: Module, node: ast.expr | ast.stmt, message: str) -> None:
        self.problems.append(Problem(module.path, node.lineno, message, node.col_offset + 1))

    def _check_names(self) -> None:
        by_variable: dict[str, _Found] = {}
        for item in self.found.values():
            first = by_variable.setdefault(peer_variable(item.node.name), item)
            if first is item:
                continue
            where = f"{first.definition.module.path}:{first.line}"
            if first.node.name == item.node.name:
                message = f"a second service named {item.node.name!r}; the first is at {where}"
            else:
                variable = peer_variable(item.node.name)
                message = f"{item.node.name!r} and {first.node.name!r} ({where}) would share {variable}"
            self.problems.append(Problem(item.definition.module.path, item.line, f"{message}; rename one"))

    def _check_cycle(self, graph: ServiceGraph) -> None:
        known = graph.services.keys()
        peers = {name: tuple(p for p in graph.peers(name) if p in known) for name in known}
        cycle = find_cycle(peers)
        if cycle is not None:
            item = next(item for item in self.found.values() if item.node.name == cycle[0])
            message = f"services depend on each other in a circle: {' → '.join(cycle)}"
            self.problems.append(Problem(item.definition.module.path, item.line, message))

    def _check_calls(self, nodes: Mapping[str, ServiceNode]) -> None:
        """Calls of `self.<dependency>.<method>` where the other service has no such endpoint."""
        for item in self.found.values():
            edges = {edge.attribute: edge for edge in item.node.dependencies}
            for node in ast.walk(item.definition.node):
                match node:
                    case ast.Attribute(
                        value=ast.Attribute(value=ast.Name(id="self"), attr=attribute), attr=method
                    ):
                        edge = edges.get(attribute)
                    case _:
                        continue
                if (
                    edge is None
                    or edge.service is None
                    or edge.service not in nodes
                    or method in _PROXY_ATTRIBUTES
                ):
                    continue
                endpoints = nodes[edge.service].endpoints
                if method not in endpoints:
                    near = difflib.get_close_matches(method, endpoints, n=1)
                    hint = (
                        f"did you mean `{near[0]}`?"
                        if near
                        else f"its endpoints: {', '.join(endpoints) or 'none'}"
                    )
                    self._problem(
                        item.definition.module, node, f"{edge.service} has no endpoint {method!r}; {hint}"
                    )


def _is_service(project: Project, definition: Definition) -> bool:
    return any(_names(project, definition.module, d, _DECORATORS) for d in definition.node.decorator_list)


def _names(project: Project, module: Module, node: ast.expr, wanted: set[str]) -> bool:
    """Whether a decorator or call, with or without arguments, is one of the names wanted."""
    target = node.func if isinstance(node, ast.Call) else node
    symbol = project.resolve(module, target)
    return symbol is not None and symbol.dotted in wanted


def _depends_call(project: Project, module: Module, member: ast.stmt) -> ast.Call | None:
    value = member.value if isinstance(member, ast.Assign | ast.AnnAssign) else None
    if isinstance(value, ast.Call) and _names(project, module, value, _DEPENDS) and _target_name(member):
        return value
    return None


def _target_name(member: ast.stmt) -> str:
    match member:
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return name
    return ""


def _literal(project: Project, module: Module, node: ast.expr) -> object:
    """The value of a literal, of a name bound once to a literal, and of literals made of such.

    Raises:
        ValueError: it is computed.
    """
    match node:
        case ast.Dict(keys=keys, values=values):
            if any(key is None for key in keys):
                raise ValueError("unpacks a mapping")
            return {
                _literal(project, module, k): _literal(project, module, v)
                for k, v in zip(keys, values, strict=True)
                if k
            }
        case ast.List(elts=items):
            return [_literal(project, module, item) for item in items]
        case ast.Tuple(elts=items):
            return tuple(_literal(project, module, item) for item in items)
        case ast.Call(func=ast.Name(id="dict"), args=[], keywords=keywords) if all(k.arg for k in keywords):
            return {k.arg: _literal(project, module, k.value) for k in keywords}
        case ast.Name() | ast.Attribute():
            return _bound_literal(project, module, node)
    return ast.literal_eval(node)


def _bound_literal(project: Project, module: Module, node: ast.expr) -> object:
    symbol = project.resolve(module, node)
    home = symbol and project.module(symbol.module)
    bound = home.bindings.get(symbol.name, []) if home and symbol else []
    match bound:
        case [ast.Assign(targets=[ast.Name()], value=value)] | [ast.AnnAssign(value=ast.expr() as value)]:
            # A name bound to itself through another module ends in Python's own recursion limit.
            try:
                return _literal(project, home or module, value)
            except RecursionError:
                pass
    raise ValueError(f"{ast.unparse(node)} is computed")


def _mappings(value: object) -> Iterator[dict[str, str]]:
    for item in value if isinstance(value, list | tuple) else ():
        if isinstance(item, Mapping):
            yield {str(key): str(text) for key, text in item.items()}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None

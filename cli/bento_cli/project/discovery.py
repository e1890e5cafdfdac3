"""Project → ServiceGraph, read from the source.

Nothing of the project is imported or run, unless the source leaves open which services there are.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from bento_cli.errors import InputError, Problem, nearest, shown
from bento_cli.names import MAX_LENGTH, kebab_case
from bento_cli.project.declaration import checked_config, declaration_of
from bento_cli.project.definitions import (
    Arguments,
    Definition,
    arguments_of,
    class_of,
    definition_of,
    depends_call,
    is_depends,
    is_endpoint,
    is_service,
    is_task,
    lineage,
    mark_of,
    members_of,
    own_code,
)
from bento_cli.project.imported import ImportedGraph, ImportedService, import_graph
from bento_cli.project.literals import literal
from bento_cli.project.source import Module, Project, Symbol, statements
from bentoml._config import ServiceConfig
from bentoml._environment import peer_variable
from bentoml._graph import Edge, ServiceGraph, ServiceNode, find_cycle
from bentoml._loader import split_target
from bentoml.exceptions import ImportServiceError
from bentoml.images import Image

# Attributes of a dependency that are not endpoints of the service behind it.
_PROXY_ATTRIBUTES = {"to_async", "to_sync"}
# Bases that bring no endpoint; of others outside the project nobody here knows.
_PLAIN_BASES = {"object", "ABC", "Generic", "Protocol"}


@dataclass(frozen=True, kw_only=True)
class Discovery:
    """The graph, where each of its services is defined, and what could not be read.

    Args:
        configs: what each of them declares about itself, checked.
        marks: what makes each of them a service: the decorator, or the call of `bentoml.Service`.
        commands: for services that an external server answers for, the words of its command.
        images: for services that say so outright, what `image=` declares.
        unknown: what the source leaves open, and that stops nothing.
        imported: services that only importing the project has found.
        computed: services of whose configuration the source leaves something open.
    """

    graph: ServiceGraph
    configs: Mapping[str, ServiceConfig]
    definitions: Mapping[str, Definition]
    marks: Mapping[str, tuple[Module, ast.expr]]
    commands: Mapping[str, tuple[str, ...]]
    images: Mapping[str, Image] = field(default_factory=dict)
    unknown: tuple[Problem, ...] = ()
    computed: frozenset[str] = frozenset()
    imported: frozenset[str] = frozenset()

    def problem(self, service: str, message: str) -> Problem:
        """A problem with what a service declares."""
        module, mark = self.marks[service]
        return module.problem(mark, message)


class DiscoveryError(InputError):
    """What is wrong with services; with the names of all, where it is known which there are."""

    def __init__(self, problems: Iterable[Problem], *, services: Sequence[str] | None) -> None:
        super().__init__(problems)
        self.services = services


def discover(project: Project, service: str, at: Callable[[str], Problem]) -> Discovery:
    """The graph whose entry is `service`, `module:Class`.

    Where the source leaves open what a dependency or the entry stands for, the project is imported in a
    process of its own; `unknown` of the result says so, and why.

    Args:
        at: makes a problem of the place that names the entry.

    Raises:
        InputError: the entry is no service, or the project raised an error while it was imported.
        DiscoveryError: every problem of the services found, each with its file and line.
    """
    reader = _Discoverer(project)
    discovery = reader.run(service, at)
    if discovery is not None:
        return discovery
    try:
        imported = import_graph(project, service)
    except InputError as error:
        raise InputError([*reader.open, *error.problems]) from None
    discovery = _Discoverer(project, imported).run(service, at)
    assert discovery is not None  # noqa: S101  # with a graph at hand nothing is left open
    return discovery


def discover_unimported(project: Project, service: str, at: Callable[[str], Problem]) -> Discovery | None:
    """The same of a project that is imported in no case; None where its graph is left open.

    Raises:
        InputError: the entry is no service.
        DiscoveryError: every problem of the services found, each with its file and line.
    """
    return _Discoverer(project).run(service, at)


@dataclass(frozen=True, kw_only=True)
class _Found:
    node: ServiceNode
    definition: Definition
    config: ServiceConfig | None
    mark: tuple[Module, ast.expr]
    command: tuple[str, ...]
    peers: tuple[Symbol, ...]
    behind: Mapping[str, Definition]
    image: Image | None = None
    leaves_open: bool = False
    is_imported: bool = False


@dataclass
class _Discoverer:
    project: Project
    imported: ImportedGraph | None = None
    problems: list[Problem] = field(default_factory=list)
    # What only running the project tells about its graph.
    open: list[Problem] = field(default_factory=list)
    unknown: list[Problem] = field(default_factory=list)
    found: dict[Symbol, _Found] = field(default_factory=dict)
    # Whether every dependency leads to a service.
    is_whole: bool = True

    def run(self, service: str, at: Callable[[str], Problem]) -> Discovery | None:
        """What is found; None where `open` says why that is not all."""
        entry = self._entry(service, at)
        waiting = [entry] if entry else []
        while waiting:
            symbol = waiting.pop(0)
            if symbol not in self.found:
                self.found[symbol] = self._read(symbol)
                waiting += self.found[symbol].peers
        self._check_names()
        self._check_containers()
        self._check_cycle()
        self._check_calls()
        if self.problems:
            names = [item.node.name for item in self.found.values()]
            is_whole = self.is_whole and (not self.open or self.imported is not None)
            raise DiscoveryError(dict.fromkeys(self.problems), services=names if is_whole else None)
        if entry is None or (self.open and self.imported is None):
            return None
        found = {item.node.name: item for item in self.found.values()}
        nodes = {name: item.node for name, item in found.items()}
        return Discovery(
            graph=ServiceGraph(entry=self.found[entry].node.name, services=nodes),
            configs={name: item.config for name, item in found.items() if item.config is not None},
            definitions={name: item.definition for name, item in found.items()},
            marks={name: item.mark for name, item in found.items()},
            commands={name: item.command for name, item in found.items() if item.command},
            images={name: item.image for name, item in found.items() if item.image is not None},
            unknown=tuple(dict.fromkeys([*self.open, *self.unknown])),
            computed=frozenset(name for name, item in found.items() if item.leaves_open),
            imported=frozenset(name for name, item in found.items() if item.is_imported),
        )

    def _entry(self, service: str, at: Callable[[str], Problem]) -> Symbol | None:
        """The service that `module:Class` names; `bentoml._loader` says what else may stand there."""
        if self.imported is not None:
            return self._symbol(self.imported.services[self.imported.entry])
        try:
            module_name, attribute = split_target(service, self.project.root)
        except ImportServiceError as error:
            raise InputError([at(f"service {error}")]) from None
        module = self.project.module(module_name)
        if module is None:
            beside = self.project.modules_beside(module_name)
            hint = nearest(module_name, beside, "modules")
            raise InputError([at(f"service {service!r}: no module {module_name!r} in this project{hint}")])
        services = self._services(module)
        if not attribute:
            return self._only_entry(module, services, at)
        expression = ast.parse(attribute, mode="eval").body
        nested = self._service(module, expression)
        if nested is not None:
            return nested
        first, *attributes = attribute.split(".")
        if first in services:
            return self._behind(services[first], attributes, lambda what: at(f"service {service!r}: {what}"))
        if self._is_open(module, expression):
            self.open.append(at(f"service {service!r} is computed, so {module.path.name} was imported"))
            return None
        symbol = self.project.resolve(module, expression)
        plain = definition_of(self.project, symbol) if symbol else None
        if plain is not None:
            where = shown(plain.module.path, plain.node.lineno)
            what = f"class {plain.name} at {where} is not marked with `@bentoml.service`"
        else:
            what = f"{module.path.name} has no service {attribute!r}"
            what += nearest(attribute, services, "services")
        raise InputError([at(f"service {service!r}: {what}")])

    def _services(self, module: Module) -> dict[str, Symbol]:
        """What each name of a module that stands for a service stands for."""
        return {name: s for name in module.bindings if (s := self._service(module, ast.Name(name)))}

    def _behind(
        self, symbol: Symbol, attributes: Sequence[str], at: Callable[[str], Problem]
    ) -> Symbol | None:
        """The service that attributes of dependencies lead to."""
        # One of its own: what is wrong with services outside the graph is nobody's problem.
        reader = _Discoverer(self.project)
        for attribute in attributes:
            found = reader._read(symbol)
            if attribute not in found.behind:
                if reader.open:
                    self.open.append(at("leads through a computed dependency, so it was imported"))
                    return None
                known = nearest(attribute, found.behind, "dependencies")
                raise InputError(
                    [at(f"{found.node.name} has no dependency {attribute!r} on a service{known}")]
                )
            other = found.behind[attribute]
            symbol = Symbol(other.module.name, other.qualname)
        return symbol

    def _only_entry(
        self, module: Module, services: Mapping[str, Symbol], at: Callable[[str], Problem]
    ) -> Symbol | None:
        """The one service of a module that no other one there depends on."""
        own = {name: symbol for name, symbol in services.items() if symbol.module == module.name} or services
        # An alias is no second service.
        aliases = {symbol: [name for name in own if own[name] == symbol] for symbol in own.values()}
        own = {names[0]: symbol for symbol, names in aliases.items()}
        called = {peer for symbol in own.values() for peer in self._reached(symbol)}
        names = [name for name, symbol in own.items() if symbol not in called] or list(own)
        if len(names) == 1:
            return own[names[0]]
        file = shown(module.path)
        if not names and self._makes_services(module):
            self.open.append(at(f"{file} makes its services while it runs, so it was imported"))
            return None
        if not names:
            raise InputError([at(f"{file} has no service: mark a class with `@bentoml.service`")])
        target = f"{module.name}:{names[0]}"
        message = (
            f"{file} has {len(names)} services that no other one there depends on: {', '.join(names)}; "
            f'name one, `bento serve {target}`, or `service: "{target}"` in bentofile.yaml'
        )
        raise InputError([at(message)])

    def _makes_services(self, module: Module) -> bool:
        """Whether a module without services may have some once it has run."""
        values = [s.value for found in module.bindings.values() for s in found if isinstance(s, ast.Assign)]
        calls = (value for value in values if isinstance(value, ast.Call))
        return _hides_names(self.project, module) or any(self._is_own(module, call) for call in calls)

    def _reached(self, symbol: Symbol) -> set[Symbol]:
        """All services that one calls, itself only where they go round in a circle."""
        reader = _Discoverer(self.project)
        found: set[Symbol] = set()
        waiting = [symbol]
        while waiting:
            peers = [peer for peer in reader._read(waiting.pop()).peers if peer not in found]
            found.update(peers)
            waiting += peers
        return found

    def _service(self, module: Module, node: ast.expr, within: str = "") -> Symbol | None:
        """The service that an expression names, in a module or in the body of one of its classes."""
        symbol = self.project.resolve(module, node, within)
        definition = definition_of(self.project, symbol) if symbol else None
        return symbol if definition and is_service(self.project, definition) else None

    def _is_open(self, module: Module, node: ast.expr, within: str = "") -> bool:
        """Whether only running the project tells what an expression stands for."""
        if not isinstance(node, ast.Name | ast.Attribute):
            return not isinstance(node, ast.Constant | ast.List | ast.Tuple | ast.Dict)
        symbol = self.project.resolve(module, node, within)
        if symbol is None:
            return _hides_names(self.project, module)
        home = self.project.module(symbol.module)
        if home is None or not symbol.name:
            return False
        match (home.binding(symbol.name) or home.binding(symbol.name.partition(".")[0]))[-1:]:
            case [ast.ClassDef(decorator_list=decorators)]:
                return any(self._is_own(home, decorator) for decorator in decorators)
            case [ast.Assign(value=value) | ast.AnnAssign(value=ast.expr() as value)]:
                return not isinstance(value, ast.Constant | ast.List | ast.Tuple | ast.Dict | ast.Lambda)
            case [ast.Import() | ast.ImportFrom() | ast.FunctionDef() | ast.AsyncFunctionDef()]:
                return False
            case []:
                return _hides_names(self.project, home)
        return True

    def _is_own(self, module: Module, node: ast.expr) -> bool:
        """Whether a decorator or a call is one of the project, and so may make a service."""
        symbol = self.project.resolve(module, node.func if isinstance(node, ast.Call) else node)
        return symbol is None or self.project.module(symbol.module) is not None

    def _symbol(self, service: ImportedService) -> Symbol:
        """What stands for a service that was imported, where the source shows it by its definition."""
        symbol = Symbol(service.module, service.qualname)
        definition = definition_of(self.project, symbol)
        if definition is not None and is_service(self.project, definition):
            return symbol
        module, _, name = service.node.target.partition(":")
        return Symbol(module, name)

    def _read(self, symbol: Symbol) -> _Found:
        definition = definition_of(self.project, symbol)
        if definition is None or not is_service(self.project, definition):
            return self._taken(symbol)
        declared = declaration_of(self.project, definition)
        self.problems += declared.problems
        self.unknown += declared.unknown
        arguments, name = declared.arguments, declared.name
        edges: list[Edge] = []
        endpoints: list[str] = []
        peers: list[Symbol] = []
        behind: dict[str, Definition] = {}
        members = members_of(self.project, definition)
        for attribute, (owner, member) in members.items():
            if is_endpoint(self.project, owner, member):
                endpoints.append(attribute)
                self._check_annotations(owner.module, attribute, member)
            elif call := depends_call(self.project, owner, member):
                edge, target = self._edge(definition, attribute, *call)
                edges.append(edge)
                if target and (other := self._located(target)):
                    behind[attribute] = other
                    peers += [] if edge.is_external else [target]
        self._check_strays(definition)
        node = ServiceNode(
            name=name,
            target=f"{symbol.module}:{symbol.name}",
            endpoints=tuple(endpoints),
            tasks=tuple(name for name in endpoints if is_task(self.project, *members[name])),
            dependencies=tuple(edges),
            config=declared.config,
            envs=tuple(env.model_dump() for env in declared.envs),
            labels=declared.labels,
            description=declared.description or _docstring(definition),
            runs_command="__command__" in members or {"cmd"} <= {*arguments.values, *arguments.computed},
        )
        return _Found(
            node=node,
            definition=definition,
            config=declared.checked,
            image=declared.image,
            leaves_open=declared.leaves_open,
            mark=(arguments.module, arguments.mark),
            command=tuple(_command_words(arguments, members)),
            peers=tuple(peers),
            behind=behind,
        )

    def _taken(self, symbol: Symbol) -> _Found:
        """A service that the source does not show, as it was when it had been imported."""
        assert self.imported is not None  # noqa: S101  # only then there are symbols of such
        services = self.imported.services
        service = next(s for s in services.values() if s.node.target == symbol.target)
        definition = self._located(symbol)
        edges = {edge.attribute: services.get(edge.service or "") for edge in service.node.dependencies}
        external = {edge.attribute for edge in service.node.dependencies if edge.is_external}
        peers = {attribute: self._symbol(other) for attribute, other in edges.items() if other is not None}
        module, mark = mark_of(self.project, definition) or (definition.module, _whole(definition.node))
        config, problems = checked_config(service.node.config)
        for problem in problems:
            where = f"`{'.'.join(map(str, problem.location))}` of " if problem.location else ""
            self._problem(module, mark, f"{where}{service.node.name}: {problem.reason}")
        return _Found(
            node=service.node,
            definition=definition,
            config=config,
            mark=(module, mark),
            command=service.command,
            peers=tuple(peer for attribute, peer in peers.items() if attribute not in external),
            behind={attribute: self._located(peer) for attribute, peer in peers.items()},
            is_imported=True,
        )

    def _located(self, symbol: Symbol) -> Definition:
        """Where a service stands; of one that is made while the project runs, what comes nearest to it."""
        definition = definition_of(self.project, symbol)
        if definition is not None:
            return definition
        assert self.imported is not None  # noqa: S101  # only then there are symbols of such
        service = next(s for s in self.imported.services.values() if s.node.target == symbol.target)
        home = self.project.module(service.module)
        node = home.definition(service.qualname) if home else None
        if home is not None and node is not None:
            return Definition(home, node)
        loaded = self.project.module(symbol.module)
        assert loaded is not None  # noqa: S101  # its target begins at a module of the project
        return Definition(loaded, ast.ClassDef(service.node.name, [], [], [], [], lineno=1, col_offset=0))

    def _edge(
        self, service: Definition, attribute: str, module: Module, within: str, call: ast.Call
    ) -> tuple[Edge, Symbol | None]:
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
        symbol = self._service(module, on, within)
        definition = definition_of(self.project, symbol) if symbol else None
        if definition is not None:
            name = arguments_of(self.project, definition).values.get("name") or definition.name
            return replace(edge, service=str(name)), symbol
        if edge.is_external:  # the class of an external one may come from an installed package
            return edge, None
        what = ast.unparse(on)
        if self._is_open(module, on, within):
            message = f"`{what}` is computed, so the project was imported to find the service behind it"
            self.open.append(module.problem(on, message))
            if self.imported is None:
                return edge, None
            peer = self.imported.peer(service.module.name, service.qualname, attribute)
            if peer is not None:
                return replace(edge, service=peer.node.name), self._symbol(peer)
            message = f"`{what}` is computed, and the project when it was imported had no service there"
            self._problem(module, on, message)
            self.is_whole = False
            return edge, None
        others = [name for name in self._services(module) if name != service.name]
        hint = nearest(what, others, "services") if others else ""
        self.is_whole = False
        self._problem(
            module, on, f"`{what}` is no class marked with `@bentoml.service` in this project{hint}"
        )
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
            found = (depends_call(self.project, owner, s) for s in statements(owner.body))
            declared = {item[2] for item in found if item}
            calls = (node for node in own_code(self.project, owner) if isinstance(node, ast.Call))
            for call in calls:
                if call not in declared and is_depends(self.project, owner.module, call):
                    message = "`depends()` works as `name = bentoml.depends(...)` in a class's body only"
                    self._problem(owner.module, call, message)

    def _check_annotations(self, module: Module, endpoint: str, member: ast.stmt) -> None:
        """Annotations of an endpoint that nobody could resolve to serve it."""
        for name in _annotation_names(member):
            if name.id in module.never_bound and not module.star_imports:
                line = module.never_bound[name.id].lineno
                message = (
                    f"an annotation of the endpoint {endpoint!r} is needed to serve it, and `{name.id}` is "
                    f"imported for type checkers only: move line {line} out of the `if`"
                )
                self._problem(module, name, message)

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

    def _check_containers(self) -> None:
        """Services whose names cannot name a folder, or would name one container."""
        containers: dict[str, str] = {}
        for name, item in {item.node.name: item for item in self.found.values()}.items():
            container = kebab_case(name)
            first = containers.setdefault(container, name)
            if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", name) is None or not container:
                message = f"{name!r} is no name of a service: use letters, digits, `_` and `-`"
            elif len(container) > MAX_LENGTH:
                message = f"{container!r}, the name of its container, has more than {MAX_LENGTH} characters"
            elif peer_variable(first) != peer_variable(name):
                message = f"{name!r} and {first!r} would share the image `{container}`; rename one"
            else:
                continue
            self._problem(item.definition.module, item.definition.node, message)

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
                for node in own_code(self.project, owner):
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
        if self._has_unknown_base(definition):
            return None
        return [
            name
            for name, (owner, member) in members_of(self.project, definition).items()
            if is_endpoint(self.project, owner, member)
        ]

    def _has_unknown_base(self, definition: Definition) -> bool:
        """Whether a class inherits from one outside the project that may bring anything."""
        return any(
            class_of(self.project, owner.module, base) is None and not _is_plain(base)
            for owner in lineage(self.project, definition)
            for base in owner.bases
        )


def _hides_names(project: Project, module: Module, seen: frozenset[str] = frozenset()) -> bool:
    """Whether a module may have names that nobody can read from it, or from what it takes all names of."""
    if module.hides_names:
        return True
    sources = {module.absolute(star) for star in module.star_imports} - seen
    others = [project.module(name) for name in sources]
    return any(other is None or _hides_names(project, other, seen | sources) for other in others)


def _annotation_names(member: ast.stmt) -> Iterator[ast.Name]:
    """The names in a method's annotations, in those that are texts as well."""
    if not isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef):
        return
    arguments = (node.annotation for node in ast.walk(member.args) if isinstance(node, ast.arg))
    for annotation in (*arguments, member.returns):
        match annotation:
            case None:
                continue
            case ast.Constant(value=str(text)):
                with suppress(SyntaxError, ValueError):
                    inner = ast.walk(ast.parse(text, mode="eval"))
                    names = (node for node in inner if isinstance(node, ast.Name))
                    yield from (ast.copy_location(name, annotation) for name in names)
            case _:
                yield from (node for node in ast.walk(annotation) if isinstance(node, ast.Name))


def _whole(statement: ast.stmt) -> ast.expr:
    """An expression that stands where a statement begins, for messages."""
    return ast.copy_location(ast.Constant(None), statement)


def _is_plain(base: ast.expr) -> bool:
    node = base.value if isinstance(base, ast.Subscript) else base
    return ast.unparse(node).rpartition(".")[2] in _PLAIN_BASES


def _docstring(definition: Definition) -> str | None:
    return ast.get_docstring(definition.node) if isinstance(definition.node, ast.ClassDef) else None


def _command_words(arguments: Arguments, members: Mapping[str, tuple[Definition, ast.stmt]]) -> Iterator[str]:
    """The words of the command that answers for a service, as far as the source says them."""
    declared = arguments.values.get("cmd")
    if isinstance(declared, list | tuple):
        yield from (word for word in declared if isinstance(word, str))
    method = members["__command__"][1] if "__command__" in members else None
    for part in (arguments.computed.get("cmd"), method):
        for node in ast.walk(part) if part is not None else ():
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value

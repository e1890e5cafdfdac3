"""Project → ServiceGraph, read from the source; nothing of the project is imported or run."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from bento_cli.bentofile import Env, LabelKey, OneLine
from bento_cli.errors import InputError, Problem, nearest, shown
from bento_cli.literals import literal
from bento_cli.source import Module, Project, Symbol, bound_names, statements
from bento_cli.yaml_file import in_words
from bentoml._environment import peer_variable
from bentoml._graph import Edge, ServiceGraph, ServiceNode, find_cycle
from bentoml._loader import split_target
from bentoml.exceptions import ImportServiceError

_DECORATORS = {"bentoml.service"}
_SERVICE_OBJECTS = {"bentoml.Service"}
_TASKS = {"bentoml.task"}
_ENDPOINTS = {"bentoml.api", *_TASKS}
_DEPENDS = {"bentoml.depends"}
# Attributes of a dependency that are not endpoints of the service behind it.
_PROXY_ATTRIBUTES = {"to_async", "to_sync"}
_OWN_ARGUMENTS = {"name", "image", "description", "path_prefix", "envs", "labels", "cmd", "service_class"}
# Arguments that only the running service acts on: nobody needs to know them before.
_AT_RUN_TIME = {"description", "path_prefix", "cmd", "service_class"}
# Bases that bring no endpoint; of others outside the project nobody here knows.
_PLAIN_BASES = {"object", "ABC", "Generic", "Protocol"}


@dataclass(frozen=True)
class Definition:
    """Where a service, or a base class of one, stands.

    Args:
        node: the class; where a service has none, the statement that binds a name to it.
    """

    module: Module
    node: ast.ClassDef | ast.Assign | ast.AnnAssign

    @property
    def name(self) -> str:
        """What it is called in its module."""
        return self.node.name if isinstance(self.node, ast.ClassDef) else next(bound_names(self.node))

    @property
    def bases(self) -> list[ast.expr]:
        return self.node.bases if isinstance(self.node, ast.ClassDef) else []

    @property
    def decorators(self) -> list[ast.expr]:
        return self.node.decorator_list if isinstance(self.node, ast.ClassDef) else []

    @property
    def body(self) -> list[ast.stmt]:
        return self.node.body if isinstance(self.node, ast.ClassDef) else []


@dataclass(frozen=True, kw_only=True)
class Discovery:
    """The graph, where each of its services is defined, and what could not be read.

    Args:
        marks: what makes each of them a service: the decorator, or the call of `bentoml.Service`.
        commands: for services that an external server answers for, the words of its command.
        unknown: what the source leaves open, and that stops nothing.
        computed: services of whose configuration the source leaves something open.
    """

    graph: ServiceGraph
    definitions: Mapping[str, Definition]
    marks: Mapping[str, tuple[Module, ast.expr]]
    commands: Mapping[str, tuple[str, ...]]
    unknown: tuple[Problem, ...] = ()
    computed: frozenset[str] = frozenset()

    def problem(self, service: str, message: str) -> Problem:
        """A problem with what a service declares."""
        module, mark = self.marks[service]
        return module.problem(mark, message)


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
            bases = (_class_of(project, current.module, base) for base in current.bases)
            waiting.extend(base for base in bases if base is not None)
    return found[::-1]


def is_service(project: Project, definition: Definition) -> bool:
    """Whether a class is marked with `@bentoml.service`, or a statement makes a `bentoml.Service`."""
    return _mark(project, definition) is not None


def _path(text: str) -> str:
    if text and not text.startswith("/"):
        raise ValueError(f"{text!r}: expected a path that starts with `/`")
    return text


def _command(words: tuple[str, ...]) -> tuple[str, ...]:
    if not words:
        raise ValueError("expected a program and its arguments")
    return words


class _Declared(BaseModel):
    """What a decorator says beside the configuration."""

    model_config = ConfigDict(extra="ignore")

    name: str | None = None
    description: str | None = None
    path_prefix: Annotated[str, AfterValidator(_path)] | None = None
    envs: tuple[Env, ...] = ()
    labels: dict[LabelKey, OneLine] = {}
    cmd: Annotated[tuple[str, ...], AfterValidator(_command)] | None = None


@dataclass(frozen=True, kw_only=True)
class _Arguments:
    """What a service is made with: the values of literals, where each stands, and what is computed."""

    module: Module
    mark: ast.expr
    values: dict[str, object] = field(default_factory=dict)
    places: dict[str, ast.expr] = field(default_factory=dict)
    computed: dict[str, ast.expr] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _Found:
    node: ServiceNode
    definition: Definition
    mark: tuple[Module, ast.expr]
    command: tuple[str, ...]
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
            marks={item.node.name: item.mark for item in self.found.values()},
            commands={item.node.name: item.command for item in self.found.values() if item.command},
            unknown=tuple(dict.fromkeys(self.unknown)),
            computed=frozenset(self.computed),
        )

    def _entry(self, service: str, at: Callable[[str], Problem]) -> Symbol:
        """The service that `module:Class` names; `bentoml._loader` says what else may stand there."""
        try:
            module_name, attribute = split_target(service, self.project.root)
        except ImportServiceError as error:
            raise InputError([at(f"service {error}")]) from None
        module = self.project.module(module_name)
        if module is None:
            beside = self.project.modules_beside(module_name)
            hint = nearest(module_name, beside, "modules")
            raise InputError([at(f"service {service!r}: no module {module_name!r} in this project{hint}")])
        services = {name: s for name in module.bindings if (s := self._service(module, ast.Name(name)))}
        if not attribute:
            return self._only_entry(module, services, at)
        first, *attributes = attribute.split(".")
        if first in services:
            return self._behind(services[first], attributes, lambda what: at(f"service {service!r}: {what}"))
        symbol = self.project.resolve(module, ast.Name(attribute))
        plain = _definition(self.project, symbol) if symbol else None
        if plain is not None:
            where = shown(plain.module.path, plain.node.lineno)
            what = f"class {plain.name} at {where} is not marked with `@bentoml.service`"
        else:
            what = f"{module.path.name} has no service {attribute!r}"
            what += nearest(attribute, services, "services")
        raise InputError([at(f"service {service!r}: {what}")])

    def _behind(self, symbol: Symbol, attributes: Sequence[str], at: Callable[[str], Problem]) -> Symbol:
        """The service that attributes of dependencies lead to."""
        # One of its own: what is wrong with services outside the graph is nobody's problem.
        reader = _Discoverer(self.project)
        for attribute in attributes:
            found = reader._read(symbol)
            if attribute not in found.behind:
                known = nearest(attribute, found.behind, "dependencies")
                raise InputError(
                    [at(f"{found.node.name} has no dependency {attribute!r} on a service{known}")]
                )
            other = found.behind[attribute]
            symbol = Symbol(other.module.name, other.name)
        return symbol

    def _only_entry(
        self, module: Module, services: Mapping[str, Symbol], at: Callable[[str], Problem]
    ) -> Symbol:
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
        if not names:
            raise InputError([at(f"{file} has no service: mark a class with `@bentoml.service`")])
        target = f"{module.name}:{names[0]}"
        message = (
            f"{file} has {len(names)} services that no other one there depends on: {', '.join(names)}; "
            f'name one, `bento serve {target}`, or `service: "{target}"` in bentofile.yaml'
        )
        raise InputError([at(message)])

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

    def _service(self, module: Module, node: ast.expr) -> Symbol | None:
        """The service that an expression names."""
        symbol = self.project.resolve(module, node)
        definition = _definition(self.project, symbol) if symbol else None
        return symbol if definition and is_service(self.project, definition) else None

    def _read(self, symbol: Symbol) -> _Found:
        definition = _definition(self.project, symbol)
        assert definition is not None  # noqa: S101  # only symbols of services come here
        arguments = _arguments(self.project, definition)
        declared = self._declared(arguments, definition.name)
        name = declared.name or definition.name
        self._note_computed(arguments, name)
        edges: list[Edge] = []
        endpoints: list[str] = []
        peers: list[Symbol] = []
        behind: dict[str, Definition] = {}
        members = self._members(definition)
        for attribute, (module, member) in members.items():
            if _is_marked(self.project, module, member, _ENDPOINTS):
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
            tasks=tuple(a for a in endpoints if _is_marked(self.project, *members[a], _TASKS)),
            dependencies=tuple(edges),
            config={key: value for key, value in arguments.values.items() if key not in _OWN_ARGUMENTS},
            envs=tuple(env.model_dump() for env in declared.envs),
            labels=declared.labels,
            description=declared.description or _docstring(definition),
            runs_command="__command__" in members or {"cmd"} <= {*arguments.values, *arguments.computed},
        )
        return _Found(
            node=node,
            definition=definition,
            mark=(arguments.module, arguments.mark),
            command=tuple(_command_words(arguments, members)),
            peers=tuple(peers),
            behind=behind,
        )

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
            if key in _AT_RUN_TIME:
                continue
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
            for statement in statements(owner.body):
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
            name = _arguments(self.project, definition).values.get("name") or definition.name
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
            found = (_depends_call(self.project, owner.module, s) for s in statements(owner.body))
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
        if self._has_unknown_base(definition):
            return None
        members = self._members(definition)
        return [name for name, member in members.items() if _is_marked(self.project, *member, _ENDPOINTS)]

    def _has_unknown_base(self, definition: Definition) -> bool:
        """Whether a class inherits from one outside the project that may bring anything."""
        return any(
            _class_of(self.project, owner.module, base) is None and not _is_plain(base)
            for owner in lineage(self.project, definition)
            for base in owner.bases
        )


def _definition(project: Project, symbol: Symbol) -> Definition | None:
    """The class that a symbol stands for, or the statement that makes a service without one."""
    module = project.module(symbol.module)
    if module is not None:
        for statement in reversed(module.bindings.get(symbol.name, [])):
            if isinstance(statement, ast.ClassDef):
                return Definition(module, statement)
            if isinstance(statement, ast.Assign | ast.AnnAssign):
                definition = Definition(module, statement)
                if is_service(project, definition):
                    return definition
    return None


def _class_of(project: Project, module: Module, base: ast.expr) -> Definition | None:
    """The project's class that a base class's expression names, `Base[T]` too."""
    symbol = project.resolve(module, base.value if isinstance(base, ast.Subscript) else base)
    return _definition(project, symbol) if symbol else None


def _is_plain(base: ast.expr) -> bool:
    node = base.value if isinstance(base, ast.Subscript) else base
    return ast.unparse(node).rpartition(".")[2] in _PLAIN_BASES


def _docstring(definition: Definition) -> str | None:
    return ast.get_docstring(definition.node) if isinstance(definition.node, ast.ClassDef) else None


def _mark(project: Project, definition: Definition) -> tuple[Module, ast.expr] | None:
    """The decorator or the call that makes a service, and the module it is written in."""
    module, node = definition.module, definition.node
    if isinstance(node, ast.ClassDef):
        found = (_written(project, module, decorator, _DECORATORS) for decorator in definition.decorators)
        return next((mark for mark in found if mark is not None), None)
    value = node.value
    if isinstance(value, ast.Call) and _names(project, module, value, _SERVICE_OBJECTS):
        return module, value
    return None


def _is_marked(project: Project, module: Module, member: ast.stmt, wanted: set[str]) -> bool:
    """Whether a member of a class is a function with one of the decorators wanted, or a call of one."""
    match member:
        case ast.FunctionDef(decorator_list=decorators) | ast.AsyncFunctionDef(decorator_list=decorators):
            return any(_written(project, module, decorator, wanted) for decorator in decorators)
        case ast.Assign(value=ast.Call() as call):
            return _names(project, module, call, wanted)
    return False


def _command_words(arguments: _Arguments, members: Mapping[str, tuple[Module, ast.stmt]]) -> Iterator[str]:
    """The words of the command that answers for a service, as far as the source says them."""
    declared = arguments.values.get("cmd")
    if isinstance(declared, list | tuple):
        yield from (word for word in declared if isinstance(word, str))
    method = members["__command__"][1] if "__command__" in members else None
    for part in (arguments.computed.get("cmd"), method):
        for node in ast.walk(part) if part is not None else ():
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


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
    """What a service is made with; what is no literal nor a name bound to one is `computed`."""
    module, mark = _mark(project, definition) or (definition.module, ast.Constant(None))
    arguments = _Arguments(module=module, mark=mark)
    if not isinstance(mark, ast.Call):
        return arguments
    is_object = not isinstance(definition.node, ast.ClassDef)
    given = [("name", value) for value in mark.args[:1]] if is_object else []
    for key, value in (*given, *((keyword.arg, keyword.value) for keyword in mark.keywords)):
        # `Service(config={...})` holds what a decorator takes as `**{...}`.
        is_unpacked = key is None or (is_object and key == "config")
        try:
            values = literal(project, module, ast.Dict([None if is_unpacked else ast.Constant(key)], [value]))
        except ValueError:
            arguments.computed[key or f"**{ast.unparse(value)}"] = value
            continue
        assert isinstance(values, dict)  # noqa: S101  # what a dictionary's display is
        arguments.values.update(values)
        arguments.places.update(dict.fromkeys(values, value))
    return arguments

"""`bentoml.build`, `bentoml.serve` and others: doors to the toolchain, which an image does not hold."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bentoml._model_store import ModelStore, StoredModel
from bentoml._service import Service
from bentoml.exceptions import BentoMLException, MissingDependencyException, NotFound

if TYPE_CHECKING:
    from bento_cli.serve import LocalGraph
    from bento_cli.store.bento import Bento
    from bentoml._client.http import SyncHTTPClient

log = logging.getLogger("bentoml")


class Server:
    """A graph that runs on this machine until it is stopped, or its `with` block or this process ends.

    Attributes:
        url: where the entry answers.
    """

    def __init__(self, url: str, running: LocalGraph) -> None:
        self.url = url
        self._running = running

    def get_client(self, **options: Any) -> SyncHTTPClient:
        """A client of the entry; `options` are those of `SyncHTTPClient`."""
        from bentoml._client.http import SyncHTTPClient

        return SyncHTTPClient(self.url, **options)

    def wait(self) -> None:
        """Return never; a service that ends by itself is an error.

        Raises:
            BentoMLException: has its last words.
        """
        with toolchain("serve"):
            self._running.wait()

    def stop(self) -> None:
        """Stop all services, the entry first."""
        self._running.stop()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def serve(
    bento: str | os.PathLike[str] | Service[Any] | type[Any] | Bento,
    *,
    host: str | None = None,
    port: int | None = None,
    working_dir: str | os.PathLike[str] | None = None,
    args: Mapping[str, Any] | None = None,
    timeout: float = 600,
) -> Server:
    """Run a graph as `bento serve` does: one process tree for each service, ready when this returns.

    What the services log comes through the logger `bentoml`.

    Args:
        bento: a project's folder, `module:Class`, a service, a Bento or its tag.
        host: of the entry; what its configuration names when not given, else this machine alone.
        port: of the entry, 0 for any free one; what its configuration names when not given, else 3000.
        working_dir: the folder of the module in `module:Class`, the current one when not given.
        args: what `bentoml.use_arguments` returns, over the project's or the Bento's own.
        timeout: seconds until all services must be ready.

    Raises:
        BentoMLException: there is no such thing, or a service does not become ready; has its last words.
        MissingDependencyException: the toolchain is not installed.
    """
    with toolchain("serve"):
        from bento_cli import serve as local
        from bento_cli.arguments import as_arguments
        from bento_cli.project.bentofile import bentofile_for
        from bento_cli.store.bento import Bento

        arguments = as_arguments(args or {})
        if isinstance(bento, Service | type):
            root, target = service_place(bento)
            file = bentofile_for(root, target)
            servable = local.servable_project(root, file=file, arguments=arguments)
        elif isinstance(bento, Bento):
            servable = local.servable_bento(bento, arguments=arguments)
        else:
            folder = Path(working_dir or ".")
            servable = local.find_servable(os.fspath(bento), folder=folder, arguments=arguments)
        _log_notes(servable.notes)
        services = local.plan_serve(servable, host=host, port=port)
        running = local.LocalGraph(services, lambda service, line: log.info("%s: %s", service, line))
        try:
            running.start()
            running.wait_ready(timeout)
        except BaseException:
            running.stop()
            raise
        return Server(services[-1].address, running)


def build(
    service: str | Service[Any] | type[Any],
    *,
    name: str | None = None,
    version: str | None = None,
    labels: Mapping[str, str] | None = None,
    description: str | None = None,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    envs: Sequence[Mapping[str, str]] | None = None,
    docker: Mapping[str, Any] | None = None,
    python: Mapping[str, Any] | None = None,
    services: Mapping[str, Any] | None = None,
    models: Sequence[str | Mapping[str, Any]] | None = None,
    args: Mapping[str, Any] | None = None,
    build_ctx: str | os.PathLike[str] | None = None,
) -> Bento:
    """Build a Bento as `bento build` does; the arguments are what a bentofile says, and none is read.

    Services get locks, for which a package index may be asked; none with `python={"lock_packages": False}`.

    Args:
        service: the entry, or `module:Class` of it.
        version: of the Bento; derived from its content when not given.
        build_ctx: the project's folder; where the service's modules are when not given.

    Raises:
        BentoMLException: everything that is wrong with the project or the arguments.
        MissingDependencyException: the toolchain is not installed.
    """
    with toolchain("build"):
        from bento_cli.build import plan_build
        from bento_cli.build.locking import kept_locks, lock_build
        from bento_cli.build.pinning import pin_models
        from bento_cli.build.writing import write_bento
        from bento_cli.store import Store
        from bento_cli.yaml_file import YamlFile

        root, target = (Path(), service) if isinstance(service, str) else service_place(service)
        said = {
            "service": target,
            "name": name,
            "labels": labels,
            "description": description,
            "include": include,
            "exclude": exclude,
            "envs": envs,
            "docker": docker,
            "python": python,
            "services": services,
            "models": models,
            "args": args,
        }
        data = {key: value for key, value in said.items() if value is not None}
        file = YamlFile(Path("bentoml.build()"), data, lines={})
        plan = lock_build(plan_build(Path(build_ctx or root), file=file), kept_locks(log.info))
        plan = pin_models(plan)
        _log_notes(plan.notes)
        bento, _ = write_bento(plan, Store(), version=version)
        return bento


def export_model(model: StoredModel, path: str | os.PathLike[str], output_format: str | None) -> str:
    """What `bentoml.models.export_model` does."""
    with toolchain("models.export_model"):
        from bento_cli.store import model_transfer

        return str(model_transfer.export_model(model, os.fspath(path), output_format))


def import_model(path: str | os.PathLike[str]) -> StoredModel:
    """What `bentoml.models.import_model` does."""
    with toolchain("models.import_model"):
        from bento_cli.store import model_transfer

        return model_transfer.import_model(os.fspath(path), ModelStore())


def get_bento(tag: str) -> Bento:
    """The Bento of `name`, `name:latest`, `name:version` or the beginning of a version.

    Raises:
        BentoMLException: there is none.
        MissingDependencyException: the toolchain is not installed.
    """
    with toolchain("bentos.get"):
        from bento_cli.store import Store

        return Store().get(tag)


def list_bentos(name: str | None = None) -> list[Bento]:
    """All Bentos of the store, or those of one name, the newest first.

    Raises:
        MissingDependencyException: the toolchain is not installed.
    """
    with toolchain("bentos.list"):
        from bento_cli.store import Store

        return Store().bentos(name)


def delete_bentos(tag: str) -> None:
    """Delete what a tag, a name or a pattern means, as `bento delete` does, and ask nobody.

    Raises:
        BentoMLException: there is no such Bento.
        MissingDependencyException: the toolchain is not installed.
    """
    with toolchain("bentos.delete"):
        from bento_cli.store import Store

        store = Store()
        for bento in store.matching(tag):
            store.delete(bento)


def export_bento(
    tag: str | Bento, path: str | os.PathLike[str] = ".", output_format: str | None = None
) -> str:
    """Write a Bento into one file as `bento export` does; the file's path.

    Args:
        path: the file, or a folder for `<name>-<version>.bento`.
        output_format: `gz`, `xz`, `bz2`, `tar` or `zip`; the file's ending says so when not given.

    Raises:
        BentoMLException: there is no such Bento, or the file cannot be written.
        MissingDependencyException: the toolchain is not installed.
    """
    with toolchain("export_bento"):
        from bento_cli.store import Store
        from bento_cli.store.archive import as_form
        from bento_cli.store.bento_transfer import export_bento as export

        bento = Store().get(tag) if isinstance(tag, str) else tag
        return str(export(bento, os.fspath(path), form=as_form(output_format)))


def import_bento(path: str | os.PathLike[str], input_format: str | None = None) -> Bento:
    """Put the Bento of a file into the store as `bento import` does; nothing of it is run.

    Args:
        input_format: has no effect: the file itself says how it is packed.

    Raises:
        BentoMLException: it is no Bento, or holds what none holds.
        MissingDependencyException: the toolchain is not installed.
    """
    with toolchain("import_bento"):
        from bento_cli.store import Store
        from bento_cli.store.bento_transfer import import_bento as import_

        return import_(os.fspath(path), Store())[0]


@contextmanager
def toolchain(door: str) -> Iterator[None]:
    """What the toolchain raises becomes an error of this package; so does that it is not installed."""
    if importlib.util.find_spec("bento_cli") is None:
        raise MissingDependencyException(
            f"`bentoml.{door}()` needs the toolchain, and an image holds the runtime alone; "
            "call it where `bento-toolchain` is installed"
        )
    from bento_cli.errors import BentoError, NotFoundError

    try:
        yield
    except BentoError as error:
        # What is an option of the command line is an argument here.
        hint = error.hint and "hint: " + re.sub(r"--([a-z]+)(?![a-z-])", r"\1=", error.hint)
        words = [error.message, error.details, hint]
        kind = NotFound if isinstance(error, NotFoundError) else BentoMLException
        raise kind("\n".join(filter(None, words))) from error


def service_place(service: Service[Any] | type[Any]) -> tuple[Path, str]:
    """The folder in which a service's project is, and `module:name` of the service there.

    Raises:
        TypeError: it is a class that is no service, though to type checkers one looks like the other.
        BentoMLException: no process but this one can find it.
    """
    if not isinstance(service, Service):
        raise TypeError(f"{service!r} is not marked with `@bentoml.service`")
    module = sys.modules.get(service.inner.__module__)
    names = [name for name, value in vars(module).items() if value is service] if module else []
    file = getattr(module, "__file__", None)
    if module is None or file is None or not names:
        raise BentoMLException(
            f"{service.name} is no name of a module in a file: a process of its own could not find it"
        )
    path = Path(file).resolve()
    dotted = path.stem if module.__name__ == "__main__" else module.__name__
    folder = path.parents[dotted.count(".") + (path.name == "__init__.py")]
    if folder.name == "src" and (folder.parent / "bentofile.yaml").exists():
        folder = folder.parent
    return folder, f"{dotted}:{names[0]}"


def _log_notes(notes: Sequence[str]) -> None:
    for note in notes:
        log.warning("%s", note)

"""Bentos that leave a store as one file, and enter another."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from bento_cli.errors import BentoError, NotFoundError, shown
from bento_cli.project.models import LocalModel
from bento_cli.store import Store
from bento_cli.store.archive import AS_USUAL, SUFFIXES, Form, Limits, form_of, unpack, write_archive
from bento_cli.store.bento import MANIFEST, MODELS, Bento, content_digest, files_of, load_bento
from bentoml._model_store import files_digest


def export_bento(bento: Bento, path: str | Path = ".", *, form: Form | None = None) -> Path:
    """Write a Bento into one file; the same Bento gives the same bytes.

    Args:
        path: the file, or a folder for `<name>-<version>.bento`.
        form: how it is written; the file's ending says so when not given.

    Raises:
        BentoError: the path is none of this machine, its ending says nothing, or the Bento is not what was
            built.
    """
    target = local_path(path)
    if target.is_dir():
        suffix = next(ending for ending, own in SUFFIXES.items() if form in (None, own))
        target /= f"{bento.tag.name}-{bento.tag.version}{suffix}"
    form = form or form_of(target)
    if content_digest(bento.path) != bento.manifest.digest or _changed_model(bento):
        raise BentoError(
            f"{shown(bento.path)} is not what was built: files were changed, added or removed",
            hint=f"`bento delete {bento.tag}`, and build it again",
        )
    write_archive(bento.path, files_of(bento.path), target, form)
    return target


def import_bento(path: str | Path, store: Store, *, limits: Limits = AS_USUAL) -> tuple[Bento, bool]:
    """Put the Bento of a file into the store; the second value is False when it was there already.

    Nothing of it is run, and nothing stays of one that is refused.

    Raises:
        NotFoundError: there is no such file.
        BentoError: it is no archive of a Bento, holds what none holds, or is not what was exported.
    """
    archive = local_path(path)
    with store.workspace() as folder:
        unpack(archive, folder, limits)
        try:
            bento = load_bento(folder)
        except NotFoundError:
            raise BentoError(f"{shown(archive)} is no Bento: it has no {MANIFEST} at its top") from None
        _check(bento, archive)
        return store.add(folder)


def local_path(path: str | Path) -> Path:
    """A path of this machine.

    Raises:
        BentoError: it is a URL.
    """
    if "://" in str(path):
        raise BentoError(
            f"{path}: Bentos are exported to files of this machine, and imported from them",
            hint="copy the file with what belongs to that place: `aws s3 cp`, `gcloud storage cp`, `curl`",
        )
    return Path(path)


def _changed_model(bento: Bento) -> str | None:
    """A folder of models that is none of the manifest's, or that its digest there does not fit."""
    named = {
        model.path: model.digest
        for service in bento.manifest.services
        for model in service.models
        if isinstance(model, LocalModel) and model.version and model.stage == "build"
    }
    files = (path.relative_to(bento.path) for path in files_of(bento.path / MODELS))
    there = {str(PurePosixPath(*path.parts[:3])) for path in files}
    for path in sorted({*named, *there}):
        if path not in named or path not in there or files_digest(bento.path / path) != named[path]:
            return path
    return None


def _check(bento: Bento, archive: Path) -> None:
    """Refuse a Bento whose manifest and files are of two minds."""
    _ = bento.tag  # which must be valid: it becomes a path
    named = sorted(service.name for service in bento.manifest.services)
    services = bento.path / "services"
    there = sorted(path.name for path in services.iterdir()) if services.is_dir() else []
    lacking = [
        f"services/{name}/{file}"
        for name in there
        for file in ("Dockerfile", "requirements.txt")
        if not (services / name / file).is_file()
    ]
    if named != there:
        problem = (
            f"names the services {', '.join(named)}, and there are files of {', '.join(there) or 'none'}"
        )
    elif bento.manifest.entry_service not in named:
        problem = f"names the entry {bento.manifest.entry_service!r}, which is none of its services"
    elif lacking:
        problem = f"does not fit: {', '.join(lacking)} is missing"
    elif model := _changed_model(bento):
        problem = f"names models, and {model} is none of them, or not as it was"
    elif content_digest(bento.path) != bento.manifest.digest:
        problem = "has another digest than the files: some were changed after it was built"
    else:
        return
    raise BentoError(f"{shown(archive)} is refused: its {MANIFEST} {problem}")

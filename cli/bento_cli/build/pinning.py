"""A build plan with pinned models: which version or commit each of them is while the Bento is built."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import quote

from bento_cli.build import BuildPlan
from bento_cli.errors import BentoError, NotFoundError
from bento_cli.project.models import HubModel, LocalModel, ServiceModel, is_commit
from bentoml._model_store import ModelStore, files_digest
from bentoml.exceptions import BentoMLException, NotFound

if TYPE_CHECKING:
    import httpx

_HUB: Final = "https://huggingface.co"
_TIMEOUT_S: Final = 10


class Hub(Protocol):
    """Knows what the branches and tags of models stand for."""

    def commit(self, model: HubModel) -> str:
        """The commit that the model's revision is now.

        Raises:
            BentoError: there is no such model or revision, or not for this user.
            UnreachableError: nobody answers.
        """
        ...


class UnreachableError(BentoError):
    """A hub that cannot be asked; the message says why."""


class HuggingFaceHub:
    """The hub that `HF_ENDPOINT` names, asked with `HF_TOKEN`; not asked where `HF_HUB_OFFLINE` is set."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._endpoint = environ.get("HF_ENDPOINT") or _HUB
        self._token = environ.get("HF_TOKEN")
        self._is_offline = environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")

    def commit(self, model: HubModel) -> str:
        """The commit that the model's revision is now."""
        if self._is_offline:
            raise UnreachableError("HF_HUB_OFFLINE is set")
        import httpx  # a quarter of what a build takes, and few have anything to ask

        endpoint = (model.endpoint or self._endpoint).rstrip("/")
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        url = f"{endpoint}/api/models/{model.model_id}/revision/{quote(model.revision, safe='')}"
        try:
            # A model that was renamed is somewhere else by now.
            answer = httpx.get(url, headers=headers, timeout=_TIMEOUT_S, follow_redirects=True)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise UnreachableError(f"{endpoint} does not answer: {error or type(error).__name__}") from None
        if answer.status_code >= 500:
            raise UnreachableError(f"{endpoint} answers {answer.status_code}")
        if answer.status_code >= 400:
            raise NotFoundError(
                f"{endpoint} has no model {model}: it answers {answer.status_code}",
                hint="is its name right? One that is private, or has terms to accept, is there for those "
                "who may have it: export HF_TOKEN=…",
            )
        return _commit(answer, endpoint)


def _commit(answer: httpx.Response, endpoint: str) -> str:
    try:
        said = answer.json()
    except ValueError:
        said = None
    commit = said.get("sha") if isinstance(said, dict) else None
    if not isinstance(commit, str) or not is_commit(commit):
        raise UnreachableError(f"{endpoint} answers without a commit")
    return commit


def pin_models(plan: BuildPlan, hub: Hub | None = None, store: ModelStore | None = None) -> BuildPlan:
    """The plan in which every model has the commit or version that it is now.

    A revision of the hub that nobody can be asked about stays as it is, with a note.

    Args:
        hub: who is asked; the one that this user's variables name when not given.
        store: where models of the store are; this user's when not given.

    Raises:
        BentoError: an image is to hold a model that is not there.
    """
    hub, store = hub or HuggingFaceHub(), store or ModelStore()
    commits: dict[tuple[str, str | None], str | None] = {}
    notes: list[str] = []

    def commit(model: HubModel) -> str | None:
        asked = (model.name, model.endpoint)
        if asked not in commits:
            try:
                commits[asked] = model.revision if is_commit(model.revision) else hub.commit(model)
            except UnreachableError as error:
                when = "images are built" if model.stage == "build" else "services start"
                notes.append(f"{error.message}: {model.name} is whatever it is when {when}")
                commits[asked] = None
        return commits[asked]

    def pinned(model: ServiceModel) -> ServiceModel:
        if isinstance(model, LocalModel):
            return _with_version(model, store)
        return model.model_copy(update={"commit": commit(model)})

    images = {
        name: image.with_models(tuple(map(pinned, image.models))) for name, image in plan.images.items()
    }
    return replace(plan, images=images, notes=(*plan.notes, *notes))


def _with_version(model: LocalModel, store: ModelStore) -> LocalModel:
    try:
        found = store.get(model.found)
    except NotFound as error:
        if model.stage == "start":
            return model
        raise NotFoundError(
            error.message,
            hint="`bento models import` brings one from elsewhere; with `stage: start` below `models` it is "
            "looked for when services start",
        ) from None
    try:
        digest = found.info.digest or files_digest(Path(found))
    except BentoMLException as error:
        raise BentoError(f"model {found.tag}: {error.message}") from None
    return model.model_copy(update={"version": found.tag.version, "digest": digest})

"""Models of services: which ones the source names, what the bentofile says, and what becomes of them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.cli.build.test_hostile_values import hostile, instructions
from tests.cli.conftest import Files, WriteProject
from tests.hub import TOKEN, FakeHub, running_hub
from tests.hub import HubModel as Held
from typer.testing import CliRunner

import bentoml
from bento_cli.build import BuildPlan, plan_build
from bento_cli.build.pinning import HuggingFaceHub, UnreachableError, pin_models
from bento_cli.build.writing import render_bento, write_bento
from bento_cli.commands.build import app as build_app
from bento_cli.commands.models import app
from bento_cli.containerize import plan_images
from bento_cli.errors import BentoError, InputError, NotFoundError
from bento_cli.project.models import HubModel, ServiceModel
from bento_cli.serve import servable_bento, servable_project
from bento_cli.store import Store
from bento_cli.store.bento import Bento, Tag
from bento_cli.store.bento_transfer import export_bento, import_bento
from bentoml._environment import MODELS, ModelPlace, model_places
from bentoml._model_store import ModelStore

TAG = Tag("entry", "1")

SERVICE = """
    import bentoml

    @bentoml.service
    class Reader:
        words = bentoml.models.HuggingFaceModel("org/words")
        voice = bentoml.models.BentoModel("voice")

    @bentoml.service
    class Entry:
        reader = bentoml.depends(Reader)
    """


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "home"))
    for name in ("HF_ENDPOINT", "HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub, which is this user's."""
    models = {"org/words": Held({"words.txt": b"words"}), "org/gated": Held({"a": b"a"}, is_gated=True)}
    with running_hub(models) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


@pytest.fixture
def voice(home: Path) -> str:
    """The model `voice:v1` of the store."""
    with bentoml.models.create("voice:v1", labels={"speaker": "Ada"}) as model:
        Path(model.path_of("voice.txt")).write_text("a voice")
    return "voice:v1"


def models(files: Files | str, project: WriteProject, bentofile: str = "") -> dict[str, list[str]]:
    """The names of the models of each service that has any."""
    plan = planned(files, project, bentofile)
    return {
        name: [model.name for model in image.models] for name, image in plan.images.items() if image.models
    }


def planned(files: Files | str, project: WriteProject, bentofile: str = "") -> BuildPlan:
    files = {"service.py": files} if isinstance(files, str) else files
    return plan_build(project({**files, "bentofile.yaml": f"service: service:Entry\n{bentofile}"}))


def only(plan: BuildPlan, service: str = "Entry") -> ServiceModel:
    [model] = plan.images[service].models
    return model


def test_only_services_that_name_a_model_have_it(project: WriteProject) -> None:
    assert models(SERVICE, project) == {"Reader": ["org/words@main", "voice"]}


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ('model = HuggingFaceModel("org/words", "v1")', "org/words@v1"),
        ('model: str = m.HuggingFaceModel(model_id="org/words")', "org/words@main"),
        ("model = HuggingFaceModel(SIZES['small'])", "org/small@main"),
        ("model = HuggingFaceModel(args.model)", "org/given@main"),
        ("model = SHARED", "org/shared@main"),
        ('def __init__(self): self.model = bentoml.models.get("voice:v1")', "voice:v1"),
        ("def __init__(self): self.model = load()", "org/loaded@main"),
    ],
)
def test_a_model_is_found_however_code_names_it(project: WriteProject, body: str, name: str) -> None:
    files = {
        "shared.py": """
            from bentoml.models import HuggingFaceModel

            SHARED = HuggingFaceModel("org/shared")
            UNUSED = HuggingFaceModel("org/unused")

            def load():
                return HuggingFaceModel("org/loaded").resolve()
            """,
        "service.py": f"""
            import bentoml
            import bentoml.models as m
            from bentoml.models import HuggingFaceModel
            from shared import SHARED, load

            SIZES = {{"small": "org/small"}}
            args = bentoml.use_arguments()

            @bentoml.service
            class Entry:
                {body}
            """,
    }

    assert models(files, project, "args: {model: org/given}") == {"Entry": [name]}


def test_an_inherited_model_is_one_of_the_service(project: WriteProject) -> None:
    service = """
        import bentoml

        class Base:
            model = bentoml.models.BentoModel("voice")

        @bentoml.service
        class Entry(Base): ...
        """

    assert models(service, project) == {"Entry": ["voice"]}


COMPUTED = """
    import os, bentoml

    @bentoml.service
    class Other: ...

    @bentoml.service
    class Entry:
        other = bentoml.depends(Other)
        model = bentoml.models.HuggingFaceModel(os.environ["MODEL"])
    """


def test_a_service_that_computes_which_model_it_has_is_told_of_and_can_ask_the_hub(
    project: WriteProject,
) -> None:
    plan = planned(COMPUTED, project)

    image = plan.images["Entry"]
    assert (image.models, image.uses_model_hub) == ((), True)
    assert any(line.startswith("huggingface-hub") for line in image.requirements)
    assert plan.notes == (
        "service.py:9: `bentoml.models.HuggingFaceModel(os.environ['MODEL'])` is computed: no image holds "
        "that model, unless `models` of bentofile.yaml names it",
    )


def test_the_bentofile_may_name_the_model_that_a_service_computes(project: WriteProject) -> None:
    plan = planned(COMPUTED, project, "models: [org/words]")

    assert [model.name for model in plan.images["Entry"].models] == ["org/words@main"]
    assert plan.images["Other"].models == ()
    assert not plan.images["Entry"].uses_model_hub


def test_of_two_places_that_name_one_model_it_has_the_files_of_both(project: WriteProject) -> None:
    service = """
        from bentoml import service
        from bentoml.models import HuggingFaceModel

        @service
        class Entry:
            one = HuggingFaceModel("org/words", include=["*.json"], exclude=["a", "b"])
            other = HuggingFaceModel("org/words", include=["*.bin"], exclude=["b", "c"])
        """

    model = only(planned(service, project))

    assert isinstance(model, HubModel)
    assert (sorted(model.include or ()), model.exclude) == (["*.bin", "*.json"], ("b",))


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (
            'HuggingFaceModel("../words")',
            "'../words': expected the id of a model of the hub, such as `org/name`",
        ),
        ('HuggingFaceModel("org/words", "a b")', "'a b': expected a branch, a tag or a commit"),
        ('HuggingFaceModel("org/words", include="*.bin")', "expected a list, found the text '*.bin'"),
        ('BentoModel("Voice")', "'Voice': expected the tag of a model, `name` or `name:version`"),
    ],
)
def test_names_that_no_model_can_have_are_told_where_they_stand(
    project: WriteProject, call: str, problem: str
) -> None:
    service = f"import bentoml\n\n@bentoml.service\nclass Entry:\n    model = bentoml.models.{call}\n"

    with pytest.raises(InputError) as caught:
        planned(service, project)

    assert [str(found) for found in caught.value.problems] == [f"service.py:5: {problem}"]


@pytest.mark.parametrize(
    ("bentofile", "stages"),
    [
        ("", {"org/words@main": "build", "voice": "build"}),
        ("models: [{model_id: org/words, stage: start}]", {"org/words@main": "start", "voice": "build"}),
        ('models: [{model_id: "org/*", stage: start}]', {"org/words@main": "start", "voice": "build"}),
        ("models: [{tag: voice, stage: start}]", {"org/words@main": "build", "voice": "start"}),
        (
            'models: [{model_id: "org/*", stage: start}, org/words]',
            {"org/words@main": "build", "voice": "build"},
        ),
    ],
)
def test_the_bentofile_says_when_each_model_comes(
    project: WriteProject, bentofile: str, stages: Mapping[str, str]
) -> None:
    plan = planned(SERVICE, project, bentofile)

    assert {model.name: model.stage for model in plan.images["Reader"].models} == stages


def test_a_model_of_the_bentofile_alone_is_of_the_services_that_its_entry_names(
    project: WriteProject,
) -> None:
    bentofile = "models: [{tag: scores, services: [Entry]}]"

    assert models(SERVICE, project, bentofile)["Entry"] == ["scores"]


def test_one_that_nobody_names_is_of_all_services_with_a_note(project: WriteProject) -> None:
    plan = planned(SERVICE, project, "models: [scores]")

    assert all("scores" in [m.name for m in image.models] for image in plan.images.values())
    assert plan.notes == (
        "no service's code names the model scores: all have it; `services` beside it says who does",
    )


@pytest.mark.parametrize(
    ("models", "problem"),
    [
        ("[{tag: a, model_id: b/c}]", "expected `tag`, or `model_id` for one of the hub"),
        ("[{tag: a, revision: main}]", "`revision` goes with `model_id`; the version of a tag stands behind"),
        ("[Voice]", "'Voice': expected the tag of a model"),
        ("[org/words@]", "'': expected a branch, a tag or a commit"),
        ("[{tag: a, stage: later}]", "input should be 'build' or 'start'"),
        ("[{tag: voice, services: [Raeder]}]", "no service 'Raeder', did you mean `Reader`?"),
        (
            '[{model_id: "other/*", stage: start}]',
            "no service has a model other/*; there are: org/words@main",
        ),
    ],
)
def test_an_entry_that_says_nothing_sensible_is_refused(
    project: WriteProject, models: str, problem: str
) -> None:
    with pytest.raises(InputError) as caught:
        planned(SERVICE, project, f"models: {models}")

    assert [found.line for found in caught.value.problems] == [2]
    assert problem in str(caught.value)


def test_a_branch_is_pinned_to_the_commit_that_it_is_when_the_bento_is_built(
    project: WriteProject, hub: FakeHub, voice: str
) -> None:
    plan = pin_models(planned(SERVICE, project))

    pinned = {model.name: model.pinned for model in plan.images["Reader"].models}
    assert pinned == {"org/words@main": hub.models["org/words"].commit, "voice": "voice:v1"}


def test_the_bentofile_may_say_which_version_code_gets(
    project: WriteProject, hub: FakeHub, voice: str
) -> None:
    with bentoml.models.create("voice:v2"):
        pass
    commit = hub.models["org/words"].commit

    plan = pin_models(planned(SERVICE, project, f"models: [voice:v1, org/words@{commit}]"))

    places = model_places(plan.images["Reader"].environment)
    assert places["voice"].path == "/opt/bento/models/store/voice/v1"
    assert places["org/words@main"].path == f"/opt/bento/models/hub/org--words/{commit}"


def test_an_alias_is_one_more_name(project: WriteProject, voice: str) -> None:
    service = "import bentoml\n\n@bentoml.service\nclass Entry: ...\n"

    plan = pin_models(planned(service, project, "models: [{tag: voice, alias: speaker}]"))

    assert set(model_places(plan.images["Entry"].environment)) == {"voice", "voice:v1", "speaker"}


def test_one_model_by_two_names_is_held_once(project: WriteProject, voice: str, tmp_path: Path) -> None:
    service = """
        import bentoml

        @bentoml.service
        class Entry:
            voice = bentoml.models.BentoModel("voice")
            same = bentoml.models.BentoModel("voice:v1")
        """

    plan = pin_models(planned(service, project))
    write_bento(plan, Store(tmp_path))

    assert len(plan.images["Entry"].models) == 2
    assert len(plan.images["Entry"].held_models) == 1


def test_a_served_project_gets_what_its_bentofile_says(project: WriteProject, voice: str) -> None:
    bentofile = "models: [{tag: voice:v1, alias: speaker}, org/words@v2]"
    servable = servable_project(planned(SERVICE, project, bentofile).root)

    places = model_places(servable.variables["Reader"])
    assert places["voice"] == places["speaker"] == ModelPlace(revision="voice:v1")
    assert places["org/words@main"] == ModelPlace(revision="v2")


def test_a_commit_asks_nobody(project: WriteProject) -> None:
    service = f"""
        import bentoml

        @bentoml.service
        class Entry:
            model = bentoml.models.HuggingFaceModel("org/words", "{"a" * 40}")
        """

    assert only(pin_models(planned(service, project), NobodyAnswers())).pinned == "a" * 40


class NobodyAnswers:
    """A hub on the other side of a network that is not there."""

    def commit(self, model: HubModel) -> str:
        raise UnreachableError("https://hub does not answer")


def test_without_the_hub_a_bento_is_built_and_a_note_says_what_is_not_known(
    project: WriteProject, voice: str
) -> None:
    plan = pin_models(planned(SERVICE, project), NobodyAnswers())

    assert plan.notes == (
        "https://hub does not answer: org/words@main is whatever it is when images are built",
    )


@pytest.mark.parametrize("offline", ["1", "true"])
def test_a_user_who_is_offline_asks_nobody(offline: str) -> None:
    with pytest.raises(UnreachableError, match="HF_HUB_OFFLINE is set"):
        HuggingFaceHub({"HF_HUB_OFFLINE": offline}).commit(HubModel(model_id="org/words"))


def test_a_model_that_the_hub_does_not_show_is_an_error_that_says_who_may(hub: FakeHub) -> None:
    gated = HubModel(model_id="org/gated")

    with pytest.raises(NotFoundError, match="no model org/gated at main: it answers 401") as caught:
        HuggingFaceHub().commit(gated)

    assert "export HF_TOKEN=" in str(caught.value.hint)
    assert len(HuggingFaceHub({**os.environ, "HF_TOKEN": TOKEN}).commit(gated)) == 40


def test_a_model_that_the_store_does_not_hold_stops_a_build_unless_it_comes_later(
    project: WriteProject, hub: FakeHub
) -> None:
    with pytest.raises(NotFoundError, match="no model 'voice'") as caught:
        pin_models(planned(SERVICE, project))

    assert "`stage: start`" in str(caught.value.hint)
    later = pin_models(planned(SERVICE, project, "models: [{tag: voice, stage: start}]"))
    assert later.images["Reader"].uses_model_store


@pytest.fixture
def built(project: WriteProject, hub: FakeHub, voice: str, tmp_path: Path) -> Bento:
    """The Bento of a project with a model of the hub and one of the store."""
    bento, _ = write_bento(pin_models(planned(SERVICE, project)), Store(tmp_path / "bentos"))
    return bento


def test_a_bento_names_its_models_and_holds_those_of_the_store(built: Bento, home: Path) -> None:
    said = {model.name: model for model in built.service("Reader").models}

    assert said["voice"].pinned == "voice:v1"
    file = built.path / "models/voice/v1/voice.txt"
    assert file.samefile(home / "models/voice/v1/voice.txt")
    assert not (built.path / "services/Entry/hub.txt").exists()


def test_other_files_of_a_model_give_another_bento(
    built: Bento, hub: FakeHub, tmp_path: Path, home: Path
) -> None:
    bentoml.models.delete("voice:v1")
    with bentoml.models.create("voice:v1") as model:
        Path(model.path_of("voice.txt")).write_text("another voice")

    other, is_new = write_bento(pin_models(plan_build(Path.cwd())), Store(tmp_path / "bentos"))

    assert is_new
    assert other.tag != built.tag


def test_a_served_bento_has_its_own_models_and_the_commit_of_those_of_the_hub(
    built: Bento, hub: FakeHub
) -> None:
    places = model_places(servable_bento(built).variables["Reader"])

    assert places["voice"] == ModelPlace(path=str((built.path / "models/voice/v1").resolve()))
    assert places["org/words@main"] == ModelPlace(revision=hub.models["org/words"].commit)
    assert MODELS not in servable_bento(built).variables["Entry"]


def test_a_bento_takes_its_models_along_to_another_store(built: Bento, tmp_path: Path, home: Path) -> None:
    file = export_bento(built, tmp_path / "built.tar.gz")
    bentoml.models.delete("voice")

    imported, _ = import_bento(file, Store(tmp_path / "elsewhere"))

    assert (imported.path / "models/voice/v1/voice.txt").read_text() == "a voice"


def test_the_table_of_a_build_says_which_models_each_service_has(
    project: WriteProject, hub: FakeHub, voice: str
) -> None:
    planned(SERVICE, project, "models: [{tag: voice, stage: start}]")

    result = CliRunner().invoke(build_app, [".", "--no-lock"], catch_exceptions=False)

    commit = hub.models["org/words"].commit
    assert f"org/words {commit[:12]}, voice:v1 at start" in result.output


def test_a_builder_is_handed_the_token_of_whoever_has_one(
    built: Bento, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)

    secrets = {build.name: build.secrets for build in plan_images(built)}

    assert secrets == {"Reader": ("HF_TOKEN", "HF_ENDPOINT"), "Entry": ()}
    assert TOKEN not in (built.path / "services/Reader/Dockerfile").read_text()
    compose = (built.path / "services/Reader/compose.yaml").read_text()
    assert '{source: "reader-HF_TOKEN", target: "HF_TOKEN"}' in compose
    assert 'reader-HF_TOKEN: {environment: "HF_TOKEN"}' in compose


def test_a_service_that_gets_its_models_at_the_start_has_the_client_and_volumes_for_them(
    project: WriteProject, hub: FakeHub, voice: str, tmp_path: Path
) -> None:
    bentofile = 'models: [{model_id: "*", stage: start}, {tag: voice, stage: start}]'

    bento, _ = write_bento(pin_models(planned(SERVICE, project, bentofile)), Store(tmp_path))

    reader = bento.path / "services/Reader"
    assert "huggingface-hub>=" in (reader / "requirements.txt").read_text()
    compose = (reader / "compose.yaml").read_text()
    assert '"${BENTOML_HOME:-${HOME}/bentoml}/models:/home/bento/bentoml/models:ro"' in compose
    assert "${BENTOML_HF_CACHE_DIR:-huggingface}:" in compose
    assert "AS model-" not in (reader / "Dockerfile").read_text()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(patterns=st.lists(hostile, min_size=1, max_size=3), endpoint=hostile)
def test_what_the_hub_is_asked_is_what_the_source_says_and_nothing_more(
    patterns: list[str], endpoint: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("project")
    call = f'bentoml.models.HuggingFaceModel("org/words", endpoint={endpoint!r}, include={patterns!r})'
    text = f"import bentoml\n\n@bentoml.service\nclass Entry:\n    model = {call}\n"
    (root / "service.py").write_text(text.encode("ascii", "backslashreplace").decode(), encoding="ascii")
    try:
        plan = plan_build(root)
    except InputError:
        return
    dockerfile = render_bento(plan, TAG, created="", digest="")["services/Entry/Dockerfile"]

    asked = [rest for name, rest in instructions(dockerfile) if name == "RUN" and "fetch_model" in rest]
    [_, _, request, folder] = json.loads(asked[0][asked[0].index("[") :])
    assert "<" not in asked[0]
    assert json.loads(request)["allow_patterns"] == patterns
    assert json.loads(request)["endpoint"] == endpoint
    assert folder == "/tree/opt/bento/models/hub/org--words/main"


def bento_models(*arguments: str | Path) -> str:
    """What a command of `bento models` prints."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_models_are_listed_with_their_sizes(voice: str) -> None:
    [row] = json.loads(bento_models("list", "-o", "json"))

    assert (row["tag"], row["size"]) == ("voice:v1", sum(p.stat().st_size for p in stored(voice).iterdir()))


def stored(tag: str) -> Path:
    return Path(bentoml.models.get(tag))


def test_a_model_is_shown_or_its_folder(voice: str) -> None:
    assert json.loads(bento_models("get", "voice"))["labels"] == {"speaker": "Ada"}
    assert Path(bento_models("get", "voice", "-o", "path").strip()) == stored(voice)


def test_a_deleted_model_is_no_longer_listed(voice: str) -> None:
    bento_models("delete", voice, "--yes")

    assert json.loads(bento_models("list", "-o", "json")) == []


def test_a_model_is_exported_and_imported(
    voice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = bento_models("export", voice, tmp_path / "voice.tar.gz").strip()
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "elsewhere"))

    assert bento_models("import", file).strip() == voice
    assert (stored(voice) / "voice.txt").read_text() == "a voice"


def test_a_model_that_another_tool_wrote_is_imported_with_what_it_says(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    said = "name: iris\nversion: abc\nlabels:\n  owner: Ada\ncreation_time: '2024-01-01T00:00:00+00:00'\n"
    (folder / "model.yaml").write_text(said)

    bento_models("import", folder)

    assert bentoml.models.get("iris:abc").info.labels == {"owner": "Ada"}


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        (None, "holds no `model.yaml`, so it is no model"),
        ("name: ../evil\nversion: v1\n", "its `model.yaml` names no model"),
        ("name: [", "not YAML"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path: Path, said: str | None, problem: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    if said is not None:
        (folder / "model.yaml").write_text(said)

    with pytest.raises(BentoError, match=re.escape(problem)):
        bento_models("import", folder)

    assert ModelStore().models() == []


@pytest.mark.parametrize("arguments", [("get", "voice"), ("delete", "voice"), ("export", "voice")])
def test_a_model_that_is_not_there_is_told_in_our_words(arguments: tuple[str, ...]) -> None:
    with pytest.raises(
        NotFoundError, match=r"no model 'voice' in .*; `bento models list` shows what is there"
    ):
        bento_models(*arguments)

"""`bento deployment`: what is said of a deployment, and what is known of one without asking an engine."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from bento_cli.commands import _deploying, cluster, config, deploy
from bento_cli.commands._deploying import Switch, as_config, said_config
from bento_cli.commands.deployment import app
from bento_cli.deploy.deployment import Deployment
from bento_cli.deploy.revisions import History, Revision
from bento_cli.deploy.spec import Bounds, DeploymentSpec, EntrySpec, ServiceSpec
from bento_cli.deploying import Entry, as_deployment_config, merged_config, require_new
from bento_cli.engine.docker import DockerEngine
from bento_cli.errors import BentoError, InputError, NotFoundError

Keep = Callable[..., Revision]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def keep() -> Keep:
    """`keep("staging", status="active", TOKEN="x")`: a revision with a variable, as a deploy leaves it."""

    def add(name: str, *, status: str = "active", **environment: str) -> Revision:
        history = History(name)
        number = 1 + len(history.all())
        leaf = ServiceSpec(
            name="Leaf",
            host="leaf",
            image="shop/leaf:1",
            image_id="sha256:a",
            peers=(),
            environment=environment,
            scaling=Bounds(least=1, most=3),
        )
        revision = Revision.model_validate(
            {
                "number": number,
                "created": datetime.datetime(2026, 1, number, 12, tzinfo=datetime.timezone.utc),
                "cause": f"deploy shop:{number}",
                "status": status,
                "spec": DeploymentSpec(
                    name=name, bento=f"shop:{number}", services=(leaf,), entry=EntrySpec(service="Leaf")
                ),
                "replicas": {"Leaf": 1},
            }
        )
        lines = [f"      {key}: {value}\n" for key, value in environment.items()]
        history.add(revision, {"compose.yaml": "environment:\n" + "".join(lines)})
        return revision

    return add


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


def commands_of(app: typer.Typer) -> Mapping[str, Any]:
    command: Any = typer.main.get_command(app)
    commands: Mapping[str, Any] = getattr(command, "commands", {command.name: command})
    return commands


@pytest.mark.parametrize(
    "command",
    [
        *(command for group in (app, cluster.app, config.app) for command in commands_of(group).values()),
        *commands_of(deploy.app).values(),
    ],
    ids=lambda command: command.name,
)
def test_every_command_shows_how_it_is_used(command: Any) -> None:
    assert "Examples:\n  bento " in command.help


@pytest.mark.parametrize("name", ["create", "update", "apply", "scale", "rollback", "start", "delete"])
def test_what_changes_something_may_be_tried(name: str) -> None:
    options = [name for parameter in commands_of(app)[name].params for name in parameter.opts]

    assert "--dry-run" in options


def test_create_and_apply_take_what_deploy_takes() -> None:
    [deploy_] = commands_of(deploy.app).values()
    wanted = [parameter.name for parameter in deploy_.params]

    assert all([p.name for p in commands_of(app)[name].params] == wanted for name in ("create", "apply"))


def test_what_is_said_stands_over_what_was_said() -> None:
    before = {"name": "a", "services": {"A": {"scaling": {"min_replicas": 1, "max_replicas": 2}}}}

    merged = merged_config(before, {"services": {"A": {"scaling": {"max_replicas": 3}}}})

    assert merged == {"name": "a", "services": {"A": {"scaling": {"min_replicas": 1, "max_replicas": 3}}}}


def test_variables_and_labels_are_said_each_by_its_name() -> None:
    before = {
        "envs": [{"name": "A", "value": "1"}, {"name": "B", "value": "1"}],
        "labels": [{"key": "team", "value": "a"}],
        "services": {"S": {"envs": [{"name": "C", "value": "1"}]}},
    }
    said = {
        "envs": [{"name": "B", "value": "2"}],
        "labels": [{"key": "site", "value": "b"}],
        "services": {"S": {"envs": [{"name": "D", "value": "2"}]}},
    }

    merged = as_deployment_config(merged_config(before, said))

    assert {env.name: env.value for env in merged.envs} == {"A": "1", "B": "2"}
    assert {label.key: label.value for label in merged.labels} == {"team": "a", "site": "b"}
    assert [env.name for env in merged.service("S").envs] == ["C", "D"]


@pytest.mark.parametrize("said", [{"envs": "A=1"}, {"envs": [3]}, {"services": [1]}, {"services": {"S": 1}}])
def test_what_has_another_form_is_left_to_be_refused(said: dict[str, object]) -> None:
    before = {"envs": [{"name": "A", "value": "1"}], "services": {"S": {"envs": []}}}

    with pytest.raises(BentoError):
        as_deployment_config(merged_config(before, said))


def test_options_are_said_as_a_file_says_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "x=y")

    said = as_config(Switch.true, ["A=1=2", "MY_TOKEN"], ["team=vision"], None)

    assert said == {
        "access_authorization": True,
        "envs": [{"name": "A", "value": "1=2"}, {"name": "MY_TOKEN", "value": "x=y"}],
        "labels": [{"key": "team", "value": "vision"}],
    }


def test_a_variable_without_a_value_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH", raising=False)

    with pytest.raises(BentoError, match="`--env NO_SUCH`: it has no value here"):
        as_config(None, ["NO_SUCH"], None, None)


def test_options_of_the_entry_are_of_its_service() -> None:
    entry = Entry(scaling_max=3, strategy="Recreate")

    assert entry.as_config("Front") == {
        "services": {"Front": {"scaling": {"max_replicas": 3}, "deployment_strategy": "Recreate"}}
    }
    assert Entry().as_config("Front") == {}


def test_json_stands_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("name: a\ndescription: file\n")

    said, file = said_config(tmp_path / "config.yaml", '{"name": "b"}')

    assert said == {"name": "b", "description": "file"}
    assert file is not None


@pytest.mark.parametrize(
    "text", ['{"nme": "b"}', "{", '{"services": {"A": {"scaling": {"min_replicas": -1}}}}']
)
def test_json_is_checked_as_a_file_is(text: str) -> None:
    with pytest.raises(InputError, match=r"^--config-dict"):
        said_config(None, text)


def test_everything_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(BentoError) as caught:
        as_deployment_config({"name": "Upper", "services": {"A": {"deployment_strategy": "Fast"}}})

    assert [line.partition(":")[0] for line in caught.value.message.splitlines()] == [
        "`name`",
        "`services.A.deployment_strategy`",
    ]


def test_a_name_that_is_taken_is_refused(keep: Keep) -> None:
    keep("staging")
    engine = DockerEngine()

    require_new(Deployment("stagin", engine))
    with pytest.raises(BentoError, match="there is a deployment 'staging' already"):
        require_new(Deployment("staging", engine))


@pytest.mark.parametrize("command", ["get", "history", "diff", "logs", "wait", "token", "start", "rollback"])
def test_a_deployment_that_is_not_there_is_told_with_the_nearest(keep: Keep, command: str) -> None:
    keep("staging")

    with pytest.raises(NotFoundError, match="no deployment 'stagin', did you mean `staging`"):
        run(command, "stagin")


@pytest.mark.parametrize("name", ["../staging", "/tmp", "Upper", ""])
def test_a_name_that_leads_elsewhere_is_refused(keep: Keep, name: str) -> None:
    keep("staging")

    with pytest.raises(BentoError, match="is no name of a deployment"):
        run("delete", name, "--yes")


def test_delete_finds_all_before_it_asks(keep: Keep) -> None:
    keep("staging")

    with pytest.raises(NotFoundError, match="no deployment 'preview'"):
        run("delete", "staging", "preview", "--yes")
    assert History("staging").exists


def test_delete_asks(keep: Keep) -> None:
    keep("staging")

    result = CliRunner().invoke(app, ["delete", "staging"], input="n\n")

    assert (result.exit_code, History("staging").exists) == (1, True)


def test_the_history_names_each_revision_with_its_cause(keep: Keep) -> None:
    keep("staging", status="replaced")
    keep("staging")

    revisions = json.loads(run("history", "staging", "-o", "json").stdout)

    assert [(r["revision"], r["cause"], r["status"], r["bento"]) for r in revisions] == [
        (1, "deploy shop:1", "replaced", "shop:1"),
        (2, "deploy shop:2", "active", "shop:2"),
    ]


def test_a_difference_is_that_of_the_files(keep: Keep) -> None:
    keep("staging", status="replaced", LEVEL="info", SAME="1")
    keep("staging", LEVEL="debug", SAME="1")

    assert run("diff", "staging").stdout.splitlines() == [
        "--- revision 1: compose.yaml",
        "+++ revision 2: compose.yaml",
        "@@ -1,3 +1,3 @@",
        " environment:",
        "-      LEVEL: info",
        "+      LEVEL: debug",
        "       SAME: 1",
    ]


def test_a_difference_shows_no_secret_unless_it_is_asked_to(keep: Keep) -> None:
    for value in ("hunter1", "hunter2"):
        keep("staging", HF_TOKEN=value, DB_PASSWORD="same", MY_API_KEY=value)

    hidden, shown = (run("diff", "staging", "1", "2", *more).stdout for more in ([], ["--show-secrets"]))

    assert "hunter" not in hidden
    assert "-      HF_TOKEN: ******** (1)\n" in hidden
    assert "+      HF_TOKEN: ******** (3)\n" in hidden
    assert "       DB_PASSWORD: ******** (2)\n" in hidden
    assert "+      HF_TOKEN: hunter2\n" in shown


def test_the_first_revision_has_none_before_it(keep: Keep) -> None:
    keep("staging")

    with pytest.raises(NotFoundError, match="staging has no revision before 1"):
        run("diff", "staging")


def test_the_token_is_printed_alone(keep: Keep) -> None:
    keep("staging")
    History("staging").set_variable("BENTO_ACCESS_TOKEN", "secret")

    assert run("token", "staging").stdout == "secret\n"


def test_a_deployment_that_asks_for_no_token_has_none(keep: Keep) -> None:
    keep("staging")

    with pytest.raises(NotFoundError) as caught:
        run("token", "staging")

    assert caught.value.hint == "bento deployment update staging --access-authorization true"


@pytest.mark.parametrize("text", ["Leaf", "Leaf=", "Leaf=-1", "Leaf=two", "=2"])
def test_a_number_of_replicas_is_one(keep: Keep, text: str) -> None:
    keep("staging")

    with pytest.raises(BentoError, match=r"expected (`key=value`|a service and a number)"):
        run("scale", "staging", text)


def test_a_service_that_is_not_there_is_told_with_the_nearest(keep: Keep) -> None:
    keep("staging")

    with pytest.raises(NotFoundError, match="staging has no service 'Leef', did you mean `Leaf`"):
        run("logs", "staging", "Leef")


def test_names_are_completed(keep: Keep) -> None:
    keep("staging")
    keep("preview")
    context: Any = type("Context", (), {"params": {"cluster": None, "name": "staging"}})

    assert list(_deploying.names_of_deployments(context, "st")) == ["staging"]
    assert list(_deploying.names_of_services(context, "L")) == ["Leaf"]

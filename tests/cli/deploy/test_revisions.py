"""What is kept of a deployment on the machine that deployed it."""

from __future__ import annotations

import datetime
import subprocess
import sys
from pathlib import Path

import pytest

from bento_cli.deploy.revisions import History, Revision, deployed_names
from bento_cli.deploy.spec import DeploymentSpec, EntrySpec, ServiceSpec
from bento_cli.errors import BentoError, NotFoundError

LEAF = ServiceSpec(
    name="Leaf", host="leaf", image="graph/leaf:1", image_id="sha256:1", peers=(), environment={"A": "1"}
)
SPEC = DeploymentSpec(name="graph", bento="graph:1", services=(LEAF,), entry=EntrySpec(service="Leaf"))


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History("graph", tmp_path)


def revision(number: int, status: str = "active") -> Revision:
    return Revision.model_validate(
        {
            "number": number,
            "created": datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc),
            "cause": "a test",
            "status": status,
            "spec": SPEC,
            "replicas": {"Leaf": 2},
        }
    )


def test_a_revision_is_read_as_it_was_written(history: History) -> None:
    history.add(revision(1), {"compose.yaml": "services: {}\n"})

    assert history.get(1) == revision(1)
    assert (history.folder_of(1) / "compose.yaml").read_text() == "services: {}\n"


def test_the_active_revision_is_the_newest_that_runs(history: History) -> None:
    for number, status in enumerate(["replaced", "active", "failed"], 1):
        history.add(revision(number, status), {})

    active, last = history.active(), history.last()

    assert (active and active.number, last and last.number) == (2, 3)


def test_a_revision_that_was_being_scaled_when_that_was_cut_off_runs_all_the_same(history: History) -> None:
    history.add(revision(1, "applying").model_copy(update={"ran": True}), {})
    history.add(revision(2, "failed"), {})

    active = history.active()

    assert active is not None
    assert active.number == 1


def test_a_variable_with_a_digit_in_its_name_is_kept(history: History) -> None:
    history.set_variable("BENTOML_TOKEN_OF_IRIS_X6", "token")
    history.set_variable("OTHER", "x")

    assert history.variables() == {"BENTOML_TOKEN_OF_IRIS_X6": "token", "OTHER": "x"}


def test_what_became_of_a_revision_is_kept(history: History) -> None:
    history.add(revision(1, "applying"), {})

    history.note(history.get(1), status="failed", reason="it refused")

    assert (history.get(1).status, history.get(1).reason) == ("failed", "it refused")


def test_a_revision_that_there_is_not_is_told_with_those_that_there_are(history: History) -> None:
    history.add(revision(1), {})

    with pytest.raises(NotFoundError, match="graph has no revision 7; revisions: 1"):
        history.get(7)


def test_files_are_for_this_user_alone(history: History) -> None:
    history.add(revision(1), {"compose.yaml": ""})

    modes = {path.stat().st_mode & 0o077 for path in history.folder_of(1).iterdir()}

    assert modes == {0}
    assert history.folder_of(1).stat().st_mode & 0o077 == 0


def test_the_secret_of_a_deployment_stays_over_its_revisions(history: History) -> None:
    for number in (1, 2):
        history.add(revision(number), {})

    first, second = ((history.folder_of(number) / ".env").read_text() for number in (1, 2))

    assert first == second
    assert first.startswith('BENTOML_DEPLOYMENT_SECRET="')


@pytest.mark.parametrize(
    "value", ["plain", 'a "quoted" $word', "-----BEGIN\nlines\n-----END\n", "back\\slash"]
)
def test_a_value_is_kept_as_it_is_and_in_no_rendered_file(history: History, value: str) -> None:
    history.set_variable("CERTIFICATE", value)
    history.set_variable("OTHER", "x")

    assert history.variables() == {"CERTIFICATE": value, "OTHER": "x"}
    history.set_variable("CERTIFICATE", None)
    assert history.variables() == {"OTHER": "x"}


def test_while_somebody_changes_a_deployment_another_is_refused_by_name(history: History) -> None:
    code = (
        "import sys; from pathlib import Path; from bento_cli.deploy.revisions import History\n"
        f"with History('graph', Path({str(history.folder.parents[1])!r})).locked(): pass"
    )
    with history.locked():
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert "graph is being changed by process" in other.stderr
    with history.locked():
        pass  # free again


def test_a_lock_is_no_deployment(history: History, tmp_path: Path) -> None:
    with history.locked():
        assert deployed_names(tmp_path) == []
    history.add(revision(1), {})
    assert deployed_names(tmp_path) == ["graph"]


def test_a_file_that_is_no_revision_is_named(history: History) -> None:
    history.add(revision(1), {})
    (history.folder_of(1) / "revision.json").write_text("{}")

    with pytest.raises(BentoError, match=r"revision\.json: it is no revision"):
        history.get(1)

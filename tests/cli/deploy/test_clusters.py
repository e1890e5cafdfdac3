"""Clusters: what is kept of them, which one is meant, and how images reach them."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from bento_cli.commands.cluster import app
from bento_cli.commands.deployment import app as deployment
from bento_cli.containerize import ContainerizeOptions, ServiceImage
from bento_cli.deploy.clusters import Cluster, Clusters, load_instance_types
from bento_cli.deploy.instance_types import InstanceType
from bento_cli.deploying import image_id, place_at, travelling
from bento_cli.engine import Image
from bento_cli.errors import BentoError, EngineError, InputError, NotFoundError
from bento_cli.store.bento import Bento, Manifest

REGISTRY = Cluster(registry="registry.example:5000/team")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path))
    return tmp_path


def run(*arguments: str) -> str:
    """What a command of `bento cluster` prints."""
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_the_engine_that_docker_reaches_by_itself_is_a_cluster_and_is_meant() -> None:
    clusters = Clusters()

    assert (clusters.all(), clusters.current) == ({"default": Cluster()}, "default")


def test_a_cluster_is_kept_as_it_was_said() -> None:
    tiny = InstanceType.model_validate({"cpus": "200m", "memory": "256Mi", "node_labels": {"zone": "b"}})
    cluster = Cluster(docker_context="gpu", registry="registry.example/team", instance_types={"tiny": tiny})

    Clusters().add("gpu-box", cluster)

    assert Clusters().get("gpu-box") == cluster


def test_the_file_says_no_more_than_was_said(home: Path) -> None:
    Clusters().add("gpu-box", Cluster(docker_context="gpu"))
    Clusters().use("gpu-box")

    assert (home / "clusters.yaml").read_text() == (
        "current: gpu-box\nclusters:\n  gpu-box:\n    docker_context: gpu\n"
    )


def test_the_one_in_use_is_meant_until_it_is_removed() -> None:
    clusters = Clusters()
    clusters.add("gpu-box", Cluster(docker_context="gpu"))
    clusters.use("gpu-box")
    used = place_at(None).name

    clusters.remove("gpu-box")

    assert (used, place_at(None).name) == ("gpu-box", "default")


def test_deployments_of_a_cluster_are_kept_apart(home: Path) -> None:
    Clusters().add("gpu-box", Cluster(docker_context="gpu"))

    homes = [place_at(name).home for name in ("default", "gpu-box")]

    assert homes == [home, home / "clusters" / "gpu-box"]


@pytest.mark.parametrize("name", ["../elsewhere", "a/b", "", ".hidden", "a" * 64])
def test_a_name_that_no_folder_can_have_is_refused(name: str) -> None:
    with pytest.raises(BentoError, match="is no name of a cluster"):
        Clusters().add(name, Cluster(docker_context="gpu"))


def test_the_cluster_that_is_always_there_cannot_be_another() -> None:
    with pytest.raises(BentoError, match="is always the engine that `docker` reaches by itself"):
        Clusters().add("default", Cluster(docker_context="gpu"))
    with pytest.raises(BentoError, match="is always there"):
        Clusters().remove("default")


def test_one_that_is_not_there_is_told_with_the_nearest() -> None:
    Clusters().add("gpu-box", Cluster(docker_context="gpu"))

    with pytest.raises(NotFoundError, match="no cluster 'gpu-bax', did you mean `gpu-box`") as caught:
        place_at("gpu-bax")

    assert caught.value.hint == "bento cluster add gpu-bax --docker-context CONTEXT"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("clusters: {gpu: {dockr_context: x}}", "unknown field `clusters.gpu.dockr_context`, did you mean"),
        (
            "clusters: {gpu: {registry: 'https://host'}}",
            "`clusters.gpu.registry`: 'https://host' is no registry, such as",
        ),
        ("clusters: {../x: {}}", "`clusters.../x`: '../x' is no name of a cluster"),
    ],
)
def test_what_is_wrong_with_the_file_is_said_with_its_line(home: Path, text: str, expected: str) -> None:
    (home / "clusters.yaml").write_text(text)

    with pytest.raises(InputError) as caught:
        Clusters().all()

    assert f"clusters.yaml:1: {expected}" in str(caught.value)


def test_instance_types_of_a_file_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "types.yaml"
    path.write_text("instance_types:\n  tiny: {cpus: none, memory: 1Gi}\n")

    with pytest.raises(
        InputError, match=r"types\.yaml:2: `instance_types\.tiny\.cpus`: expected a number of"
    ):
        load_instance_types(path)


def test_instance_types_of_a_cluster_are_listed_with_the_documented_ones() -> None:
    tiny = InstanceType.model_validate({"cpus": "200m", "memory": "1Gi"})
    Clusters().add("gpu-box", Cluster(docker_context="gpu", instance_types={"tiny": tiny}))

    result = CliRunner().invoke(deployment, ["list-instance-types", "--cluster", "gpu-box"])

    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["tiny", "0.2", "1", "GiB", "–", "–"] in lines
    assert ["gpu.t4.1", "2", "8", "GiB", "1", "nvidia-tesla-t4", "–"] in lines


def test_a_context_that_docker_does_not_have_is_refused_by_name() -> None:
    with pytest.raises(EngineError, match="`docker` has no context 'no-such-context'"):
        run("add", "gpu-box", "--docker-context", "no-such-context")


def test_they_are_listed_with_a_mark_at_the_one_in_use() -> None:
    Clusters().add("gpu-box", Cluster(docker_context="gpu", registry="registry.example/team"))
    run("use", "gpu-box")

    assert [line.split("  ")[0] for line in run("list").splitlines()] == ["name", "default", "gpu-box *"]


def test_removing_one_is_asked_for_and_may_be_tried() -> None:
    Clusters().add("gpu-box", Cluster(docker_context="gpu"))
    run("remove", "gpu-box", "--dry-run")
    tried = list(Clusters().all())

    run("remove", "gpu-box", "--yes")

    assert (tried, list(Clusters().all())) == (["default", "gpu-box"], ["default"])


def test_images_that_need_not_travel_are_made_as_usual() -> None:
    options = ContainerizeOptions(base_images={"python": "mirror/python"})

    assert travelling(options, a_bento(), Cluster(docker_context="gpu")) == options


def test_images_travel_by_the_clusters_registry() -> None:
    options = travelling(ContainerizeOptions(), a_bento(), REGISTRY)

    assert (options.names, options.build.push) == (("registry.example:5000/team/shop:1",), True)


def test_an_image_that_has_travelled_is_known_by_its_digest_there() -> None:
    name = "registry.example:5000/team/shop/cart"
    image = Image(
        reference=f"{name}:1", identifier="sha256:here", size=1, labels={}, pushed_digest="sha256:there"
    )
    built = ServiceImage(service="Cart", image=image)

    assert [image_id(built, cluster) for cluster in (Cluster(), REGISTRY)] == [
        "sha256:here",
        f"{name}@sha256:there",
    ]


def a_bento() -> Bento:
    manifest = Manifest(
        service="service:Cart",
        name="shop",
        version="1",
        bentoml_version="1",
        creation_time="",
        entry_service="Cart",
        services=(),
    )
    return Bento(Path("unused"), manifest)

"""`bentoml.metrics`: what a project counts for itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bentoml import metrics
from bentoml._serving.metrics import RequestMetrics, exposition


def test_importing_the_package_does_not_load_prometheus(in_new_python: Callable[[str], str]) -> None:
    assert in_new_python("import bentoml, sys; print('prometheus_client' in sys.modules)") == "False"


def test_a_metric_of_the_project_is_on_the_page_of_its_service() -> None:
    metrics.Histogram(
        name="inference_duration", documentation="Of inference", labelnames=["model"], buckets=(1, 2)
    ).labels(model="iris").observe(1.5)

    page, _ = RequestMetrics(service="Iris").exposition()

    assert b'inference_duration_bucket{le="2.0",model="iris"} 1.0' in page


def test_a_metric_of_the_project_is_summed_over_its_workers(
    in_new_python: Callable[[str], str], tmp_path: Path
) -> None:
    program = (
        "import os\n"
        f"os.environ['PROMETHEUS_MULTIPROC_DIR'] = {str(tmp_path)!r}\n"
        "from bentoml import metrics\n"
        "metrics.Counter('words_total', 'Words read').inc(3)\n"
    )
    for _ in range(2):
        in_new_python(program)

    assert b"\nwords_total 6.0\n" in exposition(tmp_path)[0]


@pytest.mark.parametrize("kind", [metrics.Counter, metrics.Gauge, metrics.Histogram, metrics.Summary])
def test_the_same_declaration_again_gives_the_metric_that_exists(kind: Callable[..., object]) -> None:
    name = f"declared_twice_{kind.__name__}_{id(kind)}"

    first = kind(name, "Twice", labelnames=["a"])

    assert kind(name, "Twice", labelnames=("a",)) is first


def test_another_declaration_under_the_same_name_is_refused_and_both_are_shown() -> None:
    metrics.Counter("requests_seen", "Seen", labelnames=["a"])

    with pytest.raises(ValueError, match=r"found Gauge\(.*'requests_seen'\) after Counter\(.*'a',"):
        metrics.Gauge("requests_seen", "Seen")


def test_kinds_that_no_sum_exists_of_are_refused_with_what_to_use_instead() -> None:
    with pytest.raises(AttributeError, match="use a Gauge whose labels hold the text"):
        metrics.Info  # noqa: B018  # type: ignore[attr-defined]

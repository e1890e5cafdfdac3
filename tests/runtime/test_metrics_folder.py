from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bentoml._metrics_folder import metrics_folder, remove_left_metrics

LEFT = """
import os, signal, sys
from pathlib import Path
from bentoml._metrics_folder import metrics_folder

with metrics_folder(Path(sys.argv[1])) as folder:
    (folder / "counter_1.db").touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def left_by_a_killed_process(parent: Path) -> Path:
    """A folder of metrics whose process could not remove it."""
    subprocess.run([sys.executable, "-c", LEFT, parent], check=False)
    (folder,) = parent.iterdir()
    return folder


def test_a_folder_of_metrics_goes_with_the_block_and_all_that_is_in_it(tmp_path: Path) -> None:
    with metrics_folder(tmp_path) as folder:
        (folder / "counter_1.db").touch()

    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_has_left_is_removed_at_the_next_start(tmp_path: Path) -> None:
    left = left_by_a_killed_process(tmp_path)

    with metrics_folder(tmp_path) as folder:
        assert list(tmp_path.iterdir()) == [folder]
        assert folder != left


def test_the_folder_of_a_process_that_runs_is_left_alone(tmp_path: Path) -> None:
    with metrics_folder(tmp_path) as folder, metrics_folder(tmp_path) as other:
        remove_left_metrics(tmp_path)

        assert sorted(tmp_path.iterdir()) == sorted([folder, other])


def test_only_folders_of_metrics_are_removed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "bentoml-metrics-link").symlink_to(outside)
    (tmp_path / "bentoml-metrics-file").touch()

    remove_left_metrics(tmp_path)

    assert len(list(tmp_path.iterdir())) == 3

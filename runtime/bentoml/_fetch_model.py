"""Brings a model of the hub into an image: run by a builder, as a file of its own, with `huggingface_hub`.

    python _fetch_model.py '{"repo_id": "org/name", "revision": "..."}' /tree/opt/bento/models/hub/...

Whoever builds says who they are, and where the hub is, in secrets: no layer and no history has them. Times
and rights of what it leaves are always the same, so that the same files give the same layer.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

_SECRETS = Path("/run/secrets")
# What `huggingface_hub` reads when it is imported.
_VARIABLES = ("HF_TOKEN", "HF_ENDPOINT")


def main(request: str, target: Path) -> None:
    """Download what `snapshot_download` is asked with into a folder that is not there yet."""
    for path in (_SECRETS / name for name in _VARIABLES):
        # One that is not set may come as an empty file.
        value = path.read_text(encoding="utf-8").strip() if path.is_file() else ""
        if value:
            os.environ[path.name] = value
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import snapshot_download

    try:
        snapshot = snapshot_download(**json.loads(request))
    except OSError as error:
        hint = "" if "HF_TOKEN" in os.environ else "\nHF_TOKEN is not set where this image is built"
        sys.exit(f"the model cannot be had from the hub: {error}{hint}")
    made = [path for path in (target, *target.parents) if not path.exists()]
    # The cache of the builder has links to files that other revisions share.
    shutil.copytree(snapshot, target)
    for path in (*target.rglob("*"), *made):
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (0, 0))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

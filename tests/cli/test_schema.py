from __future__ import annotations

import json
from pathlib import Path

from bento_cli.schema import main, schema_text

SCHEMA = Path(__file__).resolve().parents[2] / "bentofile.schema.json"


def test_the_schema_is_what_the_model_says() -> None:
    assert SCHEMA.read_text(encoding="utf-8") == schema_text()


def test_a_stale_schema_is_found(tmp_path: Path) -> None:
    stale = tmp_path / "schema.json"
    stale.write_text("{}")

    assert main(["--check", str(stale)]) == 1
    assert main([str(stale)]) == 0
    assert main(["--check", str(stale)]) == 0


def test_every_field_of_the_readmes_example_is_in_the_schema() -> None:
    assert {"service", "python", "docker", "services"} <= json.loads(schema_text())["properties"].keys()

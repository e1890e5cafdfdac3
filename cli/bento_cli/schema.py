"""`bentofile.schema.json`: the JSON schema of a bentofile, for editors; written from the model.

`python -m bento_cli.schema FILE` writes it, `--check` only says whether the file is current.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from bento_cli.project.bentofile import Bentofile


def schema_text() -> str:
    """The schema as it stands in the file."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Bentofile.model_json_schema()}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    """Write or check the file; 1 when it is checked and not current."""
    is_check = "--check" in arguments
    path = Path(next(argument for argument in arguments if argument != "--check"))
    text = schema_text()
    if not is_check:
        path.write_text(text, encoding="utf-8")
    elif not path.exists() or path.read_text(encoding="utf-8") != text:
        sys.stderr.write(f"{path} is not what the model says; write it with `make schema`\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""`python -m bentoml._process.describe module:Class PROJECT`: prints what a service declares, as JSON."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from bentoml import _environment as environment
from bentoml._loader import load_service
from bentoml._logging import configure_logging
from bentoml._process.failure import reason

log = logging.getLogger("bentoml")


def main(target: str, project: str) -> int:
    """Import the project and print the service's name and configuration on stdout."""
    configure_logging(target.rpartition(":")[2])
    # What the project prints while it is imported must not stand in the description.
    description = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with description:
        try:
            service = load_service(
                target, project=Path(project), absent=environment.names(environment.ABSENT_MODULES)
            )
            description.write(
                environment.declared_text(
                    service.name, service.config, runs_command=service.has_custom_command()
                )
            )
        except (Exception, SystemExit) as error:  # noqa: BLE001  # whatever a project does while it is imported
            log.error("the service cannot be imported: %s", reason(error, Path(project)))
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))

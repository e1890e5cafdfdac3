"""`bento` and `bentoml`: runs the app, and turns what goes wrong into words and an exit code."""

from __future__ import annotations

import sys

from bento_cli.app import app
from bento_cli.errors import BentoError


def main() -> None:
    """Run the command line; the only place that turns errors into exit codes."""
    try:
        app()
    except BentoError as error:
        from bento_cli.console import Console  # rich is loaded when there is something to say

        Console().error(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()

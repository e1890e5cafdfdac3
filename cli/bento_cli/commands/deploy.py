"""`bento deploy`."""

from __future__ import annotations

from bento_cli.commands._deploying import deploying
from bento_cli.commands._options import single

deploy = deploying(
    "deploy",
    """Build, containerize and run a project on a container engine.

    What runs already under the name is compared with what should, and only what differs is done: new replicas
    are ready before old ones drain. A revision that does not become ready is taken back.

    \b
    Examples:
      bento deploy . -f config-file.yaml
      bento deploy examples/controlnet -f examples/controlnet/config-file.yaml --cpu
      bento deploy control_net:latest --name staging --port 8080
      bento deploy . --cluster gpu-box --no-wait
      bento deploy . --dry-run
    """,
)

app = single(deploy)

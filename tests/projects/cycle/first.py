"""Two services that need each other: neither can start before the other."""

import bentoml
import second


@bentoml.service
class First:
    second = bentoml.depends(second.Second)

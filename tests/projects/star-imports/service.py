"""Names come from `import *`: of the project, where they can be followed, and of a package, where not."""

import bentoml
from geometry import *
from names import *


@bentoml.service
class Tables:
    @bentoml.api
    def rows(self, numbers: list[float]) -> int:
        return len(table(numbers))


@bentoml.service
class Entry:
    tables = bentoml.depends(Tables)

    @bentoml.api
    def average(self, numbers: list[float]) -> float:
        return float(mean(numbers))

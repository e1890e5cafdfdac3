"""Whatever `bentoml` and its decorators are called, with arguments and without."""

import bentoml as b
import leaf
import numpy as np
import polars as pl
from bentoml import depends as needs
from leaf import Small

endpoint = b.api
Lesser = Small


@b.service()
class Frames:
    @endpoint
    def count(self, numbers: list[int]) -> int:
        return pl.DataFrame(numbers).height


@b.service(workers=4)
class Entry:
    plain = needs(leaf.Plain)
    small = needs(on=Lesser)
    frames = b.depends(Frames)

    @endpoint
    def mean(self) -> float:
        return float(np.mean([self.plain.one(), self.small.two(), self.frames.count([1])]))

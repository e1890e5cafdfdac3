"""One service a file, in packages with and without `__init__.py`; each file imports what it needs."""

import bentoml
from models import Embedder, ranking


@bentoml.service(workers=4)
class Entry:
    embedder = bentoml.depends(Embedder)
    ranker = bentoml.depends(ranking.Ranker)

    @bentoml.api
    def search(self, query: str) -> list[str]:
        return self.ranker.rank(vector=self.embedder.embed(text=query))

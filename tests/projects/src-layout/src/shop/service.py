"""The modules lie in a package below `src/`, and import each other relatively."""

import bentoml

from .stock import Stock


@bentoml.service
class Shop:
    stock = bentoml.depends(Stock)

    @bentoml.api
    def is_sold_out(self, item: str) -> bool:
        return self.stock.count(item=item) == 0

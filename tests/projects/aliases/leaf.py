from bentoml import api
from bentoml import service as serve

small = serve(workers=2)


@serve
class Plain:
    @api
    def one(self) -> int:
        return 1


@small
class Small:
    @api(route="/two")
    def two(self) -> int:
        return 2

import bentoml


@bentoml.service
class Stock:
    @bentoml.api
    def count(self, item: str) -> int:
        return len(item)

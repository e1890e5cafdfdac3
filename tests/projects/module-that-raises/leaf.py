import bentoml


@bentoml.service
class Leaf:
    @bentoml.api
    def one(self) -> int:
        return 1


raise RuntimeError("leaf.py was run")

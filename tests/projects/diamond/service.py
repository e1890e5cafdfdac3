"""Two services that call a third: its leaf is one container, however many call it."""

import bentoml


@bentoml.service
class Leaf:
    @bentoml.api
    def add_one(self, number: int) -> int:
        return number + 1


@bentoml.service
class Left:
    leaf = bentoml.depends(Leaf)

    @bentoml.api
    def twice(self, number: int) -> int:
        return 2 * self.leaf.add_one(number=number)


@bentoml.service
class Right:
    leaf = bentoml.depends(Leaf)

    @bentoml.api
    def thrice(self, number: int) -> int:
        return 3 * self.leaf.add_one(number=number)


@bentoml.service
class Entry:
    left = bentoml.depends(Left)
    right = bentoml.depends(Right)

    @bentoml.api
    def total(self, number: int) -> int:
        return self.left.twice(number=number) + self.right.thrice(number=number)

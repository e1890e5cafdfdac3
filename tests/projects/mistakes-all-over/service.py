"""Something is wrong in every file, and more than one thing in most: all of it is said at once."""

import bentoml
from models import Images, Texts


@bentoml.service(
    trafic={"timeout": 30},
    resources={"gpu": "two"},
    workers=-1,
)
class Shop:
    images = bentoml.depends(Images)
    texts = bentoml.depends(Texts)
    reviews = bentoml.depends(Texts, url="http://reviews", deployment="reviews")

    @bentoml.api
    def show(self, name: str) -> str:
        return self.images.clasify(name)

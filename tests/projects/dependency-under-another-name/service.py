"""Two classes of one name, in two files; they go by other names where they are depended on."""

import bentoml
import models as m
import numpy as np
from models import ImageClassifier as Images


@bentoml.service
class Entry:
    images = bentoml.depends(Images)
    texts = bentoml.depends(m.Newest)

    @bentoml.api
    def classify(self, text: str, pixels: list[float]) -> list[int]:
        return [self.texts.classify(text), self.images.classify(np.array(pixels).tolist())]

"""One class for each of several models, made by a function."""

import bentoml
import numpy as np
import transformers


def classifier(name: str, model: str):
    @bentoml.service(name=name, resources={"gpu": 1})
    class Classifier:
        def __init__(self) -> None:
            self.pipeline = transformers.pipeline("text-classification", model=model)

        @bentoml.api
        def classify(self, text: str) -> float:
            return self.pipeline(text)[0]["score"]

    return Classifier


Moods = classifier("moods", "a/mood-model")
TOPICS = [classifier(f"topic-{topic}", f"a/{topic}-model") for topic in ("sports", "arts")]


@bentoml.service
class Entry:
    moods = bentoml.depends(Moods)
    sports = bentoml.depends(TOPICS[0])
    arts = bentoml.depends(TOPICS[1])

    @bentoml.api
    def mean(self, text: str) -> float:
        return float(np.mean([self.moods.classify(text), self.sports.classify(text), self.arts.classify(text)]))

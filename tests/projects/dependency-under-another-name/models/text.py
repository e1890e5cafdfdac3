import bentoml
from sklearn.feature_extraction.text import HashingVectorizer


@bentoml.service(name="text-classifier")
class Classifier:
    @bentoml.api
    def classify(self, text: str) -> int:
        return int(HashingVectorizer().transform([text]).sum())

import bentoml


@bentoml.service(
    traffic={"timeout": "soon"},
    envs=[{"nam": "TOKEN"}],
)
class Images:
    @bentoml.api
    def classify(self, name: str) -> str:
        return name


@bentoml.service(name="images", labels={"team": 1})
class Texts:
    @bentoml.api
    def count(self, text: str) -> int:
        return len(text)

import bentoml
import first


@bentoml.service
class Second:
    first = bentoml.depends(first.First)

import pandas
from fastapi import FastAPI

app = FastAPI()


@app.get("/frame")
def frame():
    return pandas.DataFrame().to_dict()

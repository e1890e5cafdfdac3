import matplotlib
from fastapi import FastAPI

app = FastAPI()


@app.get("/plot")
def plot():
    return matplotlib.__version__

import jinja2
from fastapi import FastAPI
from tables import router

admin = FastAPI()
admin.include_router(router)


@admin.get("/page")
def page():
    return jinja2.Template("").render()

import sqlalchemy
from fastapi import APIRouter

router = APIRouter()


@router.get("/tables")
def tables():
    return sqlalchemy.__version__

MODEL = "recommender"
TOP_K = 20

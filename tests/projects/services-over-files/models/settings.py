RESOURCES = {"gpu": 1}

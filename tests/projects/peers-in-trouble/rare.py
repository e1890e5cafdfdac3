class Rare(Exception):
    pass

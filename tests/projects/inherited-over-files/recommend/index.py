import lancedb


class Index:
    def __init__(self, path: str, table: str) -> None:
        self.table = lancedb.connect(path).open_table(table)

    def search(self, vector, top_k: int):
        return self.table.search(vector).limit(top_k).to_list()

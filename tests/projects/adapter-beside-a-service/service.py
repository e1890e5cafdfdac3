"""The file of a service also holds the adapter that its caller needs, and none of the service's weight.

After https://github.com/bentoml/rag-tutorials/blob/3a20c5be0af9f6c2455aafd5f3a709ac0b8896ca/03-custom-llm/service.py
"""

from __future__ import annotations

from pathlib import Path

import bentoml
from embedding import Embedder, RemoteEmbedding
from llama_index.core import Document, VectorStoreIndex
from llm import MODEL, Llm


@bentoml.service(traffic={"timeout": 600})
class Questions:
    embedder = bentoml.depends(Embedder)
    llm = bentoml.depends(Llm)

    def __init__(self):
        from llama_index.core import Settings
        from transformers import AutoTokenizer

        Settings.embed_model = RemoteEmbedding(self.embedder)
        Settings.tokenizer = AutoTokenizer.from_pretrained(MODEL)
        self.index = VectorStoreIndex.from_documents([])

    @bentoml.api
    def add(self, pdf: Path) -> str:
        import pypdf

        self.index.insert(Document(text=pypdf.PdfReader(pdf).pages[0].extract_text()))
        return "added"

    @bentoml.api
    def ask(self, question: str) -> str:
        return str(self.index.as_query_engine().query(question))

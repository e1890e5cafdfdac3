from .embedding import Embedder as Embedder

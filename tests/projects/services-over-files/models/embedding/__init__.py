from .service import Embedder

__all__ = ["Embedder"]

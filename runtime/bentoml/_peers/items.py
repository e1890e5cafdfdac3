"""The items of a stream between services, whatever the pieces in which the network brings them."""

from __future__ import annotations

from collections.abc import Iterator

from bentoml._wire import ITEM_HEAD_SIZE, ItemKind, read_item_head


class ItemReader:
    """Cuts the bytes of a stream into items."""

    def __init__(self) -> None:
        self._kept = bytearray()

    def feed(self, piece: bytes) -> Iterator[tuple[ItemKind, bytearray]]:
        """The items that are complete with this piece, each with its frame.

        Raises:
            BadInput: the bytes are no items.
        """
        self._kept += piece
        at = 0
        try:
            while len(self._kept) - at >= ITEM_HEAD_SIZE:
                kind, length = read_item_head(self._kept[at : at + ITEM_HEAD_SIZE])
                end = at + ITEM_HEAD_SIZE + length
                if len(self._kept) < end:
                    return
                yield kind, self._kept[at + ITEM_HEAD_SIZE : end]
                at = end
        finally:
            del self._kept[:at]

"""The items of a stream, whatever the pieces in which the network brings them."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from typing import Protocol

from bentoml._client.response import convert
from bentoml._client.schema import Schema, Unreadable, as_schema, plain

_BLANK = re.compile(r"\s*")
_BETWEEN_DOCUMENTS = re.compile(r'["{}\[\]]|\s+')
_IN_DOCUMENT = re.compile(r'["{}\[\]]')
_IN_STRING = re.compile(r'["\\]')


class ItemDecoder(Protocol):
    """Takes a stream's bytes as they come, and gives its items as soon as each is there."""

    def feed(self, chunk: bytes, /) -> Iterable[object]:
        """The items that are complete with this piece.

        Raises:
            Unreadable: the bytes are no items.
        """
        ...

    def end(self) -> Iterable[object]:
        """The items that only the end completes.

        Raises:
            Unreadable: the stream ends inside an item.
        """
        ...


def decoder_for(output: Schema) -> ItemDecoder:
    """The decoder of the streams of an endpoint."""
    output = plain(output)
    if output.get("type") == "file" or output.get("format") == "binary":
        return BytesItems()
    options = output.get("anyOf")
    kinds = {as_schema(each).get("type") for each in (options if isinstance(options, list) else [output])}
    if "string" in kinds:
        return TextItems()  # texts stand among the other items as they are
    return UntypedItems(output) if kinds == {None} else JSONItems(output)


class BytesItems:
    """Bytes as they come."""

    def feed(self, chunk: bytes, /) -> Iterable[bytes]:
        return [chunk]

    def end(self) -> Iterable[bytes]:
        return []


class TextItems:
    """Text as it comes; a character that is cut in two waits for its other half."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def feed(self, chunk: bytes, /) -> Iterable[str]:
        text = self._decode(chunk)
        return [text] if text else []

    def end(self) -> Iterable[str]:
        self._decode(b"", final=True)
        return []

    def _decode(self, chunk: bytes, *, final: bool = False) -> str:
        try:
            return self._decoder.decode(chunk, final)
        except UnicodeDecodeError as error:
            raise Unreadable(f"expected a stream of text in UTF-8: {error}") from None


class UntypedItems:
    """Items of which the schema says nothing: JSON if an object or a list comes first, else text."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._decoder: ItemDecoder | None = None

    def feed(self, chunk: bytes, /) -> Iterable[object]:
        if self._decoder is None:
            is_json = chunk.lstrip().startswith((b"{", b"["))
            self._decoder = JSONItems(self._schema) if is_json else TextItems()
        return self._decoder.feed(chunk)

    def end(self) -> Iterable[object]:
        return self._decoder.end() if self._decoder else []


class JSONItems:
    """JSON documents one after the other, with or without anything between them.

    Numbers that follow each other with nothing between them are one number: nobody could tell.
    """

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._text = TextItems()
        self._parser = json.JSONDecoder()
        # A document that comes in many pieces is looked at once: only its ends are sought meanwhile.
        self._pending: list[str] = []
        self._depth = 0
        self._in_string = False
        self._is_escaped = False

    def feed(self, chunk: bytes, /) -> Iterator[object]:
        for text in self._text.feed(chunk):
            start = 0
            for end in self._ends(text):
                self._pending.append(text[start:end])
                start = end
                yield from self._documents()
            self._pending.append(text[start:])

    def end(self) -> Iterator[object]:
        yield from self._text.end()
        if self._depth or self._in_string:
            raise Unreadable("the stream ended inside an item")
        yield from self._documents()

    def _ends(self, text: str) -> Iterator[int]:
        """Where documents end, and what follows cannot belong to them."""
        position = 0
        while position < len(text):
            if self._is_escaped:
                self._is_escaped = False
                position += 1
                continue
            outside = _IN_DOCUMENT if self._depth else _BETWEEN_DOCUMENTS
            found = (_IN_STRING if self._in_string else outside).search(text, position)
            if found is None:
                return
            position = found.end()
            match found[0]:
                case "\\":
                    self._is_escaped = True
                case '"':
                    self._in_string = not self._in_string
                case "{" | "[":
                    self._depth += 1
                case "}" | "]":
                    self._depth = max(0, self._depth - 1)
            if not self._depth and not self._in_string:
                yield position

    def _documents(self) -> Iterator[object]:
        text = "".join(self._pending)
        self._pending.clear()
        position = self._after_blanks(text, 0)
        while position < len(text):
            try:
                value, position = self._parser.raw_decode(text, position)
            except (ValueError, RecursionError) as error:
                raise Unreadable(f"expected a stream of JSON: {error}") from None
            position = self._after_blanks(text, position)
            yield convert(value, self._schema)

    @staticmethod
    def _after_blanks(text: str, position: int) -> int:
        found = _BLANK.match(text, position)
        return found.end() if found else position

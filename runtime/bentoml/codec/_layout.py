"""The layout of a frame: a header, trees, and buffers."""

from __future__ import annotations

import struct
from typing import Final

from bentoml.codec._extensions import SMALLEST_BUFFER, Buffer
from bentoml.exceptions import BadInput

# How many containers other than lists and mappings of text may stand in one another; each level is a tree.
MAX_DEPTH: Final = 200

_MAGIC: Final = b"BENF\x01"
_ALIGNMENT: Final = 16
_HEAD: Final = struct.Struct("<5sBHQ")
# Most frames are one tree, so that all but its length is known.
_ONE_TREE: Final = struct.Struct("<16sQ")
_ONE_TREE_HEAD: Final = _HEAD.pack(_MAGIC, 1, 0, 0)


def framed(trees: list[bytes], buffers: list[memoryview]) -> list[Buffer]:
    """The parts of a frame, one after the other."""
    if len(trees) == 1 and not buffers:
        tree = trees[0]
        return [_ONE_TREE.pack(_ONE_TREE_HEAD, len(tree)) + tree]
    lengths = [*map(len, trees), *(buffer.nbytes for buffer in buffers)]
    head = _HEAD.pack(_MAGIC, len(trees), 0, len(buffers)) + struct.pack(f"<{len(lengths)}Q", *lengths)
    parts: list[Buffer] = [b"".join((head, *trees))]
    size = len(parts[0])
    for buffer in buffers:
        padding = -size % _ALIGNMENT
        if padding:
            parts.append(bytes(padding))
        parts.append(buffer)
        size += padding + buffer.nbytes
    return parts


def only_tree(frame: memoryview) -> memoryview | None:
    """The tree of a frame that is one tree and nothing else; None for any other, well-formed or not."""
    if len(frame) < _ONE_TREE.size:
        return None
    head, length = _ONE_TREE.unpack_from(frame)
    return (
        frame[_ONE_TREE.size :] if head == _ONE_TREE_HEAD and length == len(frame) - _ONE_TREE.size else None
    )


def parts(frame: memoryview) -> tuple[list[memoryview], list[memoryview]]:
    """The trees and the buffers of a frame.

    Raises:
        BadInput: the header does not fit what is there.
    """
    if len(frame) < _HEAD.size:
        raise BadInput(f"frame: {len(frame)} bytes are less than a header")
    magic, tree_count, zero, buffer_count = _HEAD.unpack_from(frame)
    if magic != _MAGIC or zero:
        raise BadInput("frame: unknown magic or version")
    if not 1 <= tree_count <= MAX_DEPTH + 1:
        raise BadInput(
            f"frame: {tree_count} trees; one more than there are levels, of which {MAX_DEPTH} may be"
        )
    # No honest sender puts less behind the trees, and what is counted here costs memory below.
    if buffer_count * SMALLEST_BUFFER > len(frame):
        raise BadInput(f"frame: {len(frame)} bytes do not hold {buffer_count} buffers")
    at = _HEAD.size + 8 * (tree_count + buffer_count)
    if len(frame) < at:
        raise BadInput("frame: ends within its header")
    lengths = struct.unpack_from(f"<{tree_count + buffer_count}Q", frame, _HEAD.size)
    # Compared before anything is sliced, so that lengths that lie cost nothing.
    size = at + sum(lengths[:tree_count])
    for length in lengths[tree_count:]:
        size += -size % _ALIGNMENT + length
    if size != len(frame):
        raise BadInput(f"frame: its header speaks of {size} bytes, it has {len(frame)}")
    slices = []
    for number, length in enumerate(lengths):
        if number >= tree_count:
            at += -at % _ALIGNMENT
        slices.append(frame[at : at + length])
        at += length
    return slices[:tree_count], slices[tree_count:]

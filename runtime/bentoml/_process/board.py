"""Numbers in memory that all workers of a replica share with their supervisor."""

from __future__ import annotations

import fcntl
import math
import mmap
import os
import sys
import tempfile
from pathlib import Path

_NUMBER = 8  # bytes
_NOT_LIVE = 1
_NOT_READY = 2


class Board:
    """Three numbers for each worker, in memory that its processes share.

    They are the calls that run, the beats of its loop, and what its service says of itself.

    Each worker writes its own numbers and nobody else's, so that reading and writing need no lock. The
    supervisor clears those of a worker that has ended: nothing is left over from one that was killed.

    Args:
        descriptor: a file of memory that was made by `new`, in this process or in the one it came from.
    """

    def __init__(self, descriptor: int, workers: int) -> None:
        self.descriptor = descriptor
        self._memory = mmap.mmap(descriptor, 3 * workers * _NUMBER)
        numbers = memoryview(self._memory).cast("q")
        self.calls = numbers[:workers]
        self._beats = numbers[workers : 2 * workers]
        self._complaints = numbers[2 * workers :]

    @classmethod
    def new(cls, workers: int) -> Board:
        """A board of zeros; its memory goes when the last process that has it open ends."""
        if sys.platform == "linux":
            descriptor = os.memfd_create("bentoml-board")
        else:
            descriptor, path = tempfile.mkstemp(prefix="bentoml-board-")
            Path(path).unlink()
        os.truncate(descriptor, 3 * workers * _NUMBER)
        return cls(descriptor, workers)

    def least_elsewhere(self, index: int) -> float:
        """Calls that run in whichever other worker runs fewest; without another, no number is less."""
        others = [calls for other, calls in enumerate(self.calls) if other != index and self._beats[other]]
        return min(others, default=math.inf)

    def beat(self, index: int) -> None:
        """Show that the worker's loop runs."""
        self._beats[index] += 1

    def beats(self, index: int) -> int:
        """How often the worker's loop has shown that it runs; zero before it starts."""
        return self._beats[index]

    def complain(self, index: int, *, is_live: bool, is_ready: bool) -> None:
        """Say for the worker's service whether it is live and ready; until then it is both."""
        self._complaints[index] = (0 if is_live else _NOT_LIVE) | (0 if is_ready else _NOT_READY)

    def says_live(self, index: int) -> bool:
        """Whether the worker's service does not say that it is not live."""
        return not self._complaints[index] & _NOT_LIVE

    def says_ready(self, index: int) -> bool:
        """Whether the worker's service does not say that it is not ready."""
        return not self._complaints[index] & _NOT_READY

    def clear(self, index: int) -> None:
        """Forget a worker that has ended, and the calls that ended with it."""
        self.calls[index] = 0
        self._beats[index] = 0
        self._complaints[index] = 0

    def close(self) -> None:
        """Give the memory back."""
        self.calls.release()
        self._beats.release()
        self._complaints.release()
        os.close(self.descriptor)


class SharedAdmission:
    """Keeps the workers of a replica together to `traffic.max_concurrency`, exactly.

    A worker counts a call before it looks at the others' numbers, so that two that enter at once see each
    other. Far from the limit that is all. Near it, where a number that another worker is just writing
    could matter, they decide one at a time, under a lock that the kernel takes from a process that dies.

    Call it from the worker's loop alone.

    Args:
        index: whose calls these are.
        limit: how many calls may run at once in all workers together; None for any number.
    """

    def __init__(self, board: Board, index: int, limit: int | None) -> None:
        self._board = board
        self._calls = board.calls
        self._index = index
        self._limit = sys.maxsize if limit is None else limit
        # Each other worker has at most one call that this one does not see yet.
        self._certain = self._limit - (len(board.calls) - 1)

    def enter(self) -> bool:
        """Count one more call, unless as many run as may."""
        self._calls[self._index] += 1
        return sum(self._calls) <= self._certain or self._enter_alone()

    def leave(self) -> None:
        """Count one call less."""
        self._calls[self._index] -= 1

    @property
    def is_full(self) -> bool:
        """Whether as many calls run as may, without the certainty of `enter`."""
        return sum(self._calls) >= self._limit

    @property
    def running(self) -> int:
        """How many calls run now, in all workers."""
        return sum(self._calls)

    def _enter_alone(self) -> bool:
        fcntl.lockf(self._board.descriptor, fcntl.LOCK_EX)
        try:
            if sum(self._calls) <= self._limit:
                return True
            self._calls[self._index] -= 1
            return False
        finally:
            fcntl.lockf(self._board.descriptor, fcntl.LOCK_UN)

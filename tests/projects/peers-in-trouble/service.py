from __future__ import annotations

import asyncio
import os
from pathlib import Path

import bentoml


class Known(Exception):
    pass


@bentoml.service(workers=2)
class Leaf:
    @bentoml.api
    async def pid(self) -> int:
        return os.getpid()

    @bentoml.api
    async def work(self) -> int:
        await asyncio.sleep(0.02)
        return os.getpid()

    @bentoml.api
    async def wait(self, name: str) -> None:
        Path(name).write_text(str(os.getpid()))
        try:
            await asyncio.Event().wait()
        finally:
            Path(f"{name}-cancelled").touch()

    @bentoml.api
    async def fail(self, with_known: bool) -> None:
        if with_known:
            raise Known("as ever", 1)
        import rare  # which no caller has loaded

        raise rare.Rare("never before")


@bentoml.service(traffic={"timeout": 20})
class Middle:
    leaf = bentoml.depends(Leaf)

    @bentoml.api
    async def pid(self) -> int:
        return await self.leaf.pid()

    @bentoml.api
    async def work(self) -> int:
        return await self.leaf.work()

    @bentoml.api
    async def wait(self, name: str) -> None:
        await self.leaf.wait(name)

    @bentoml.api
    async def fail(self, with_known: bool) -> None:
        await self.leaf.fail(with_known)


@bentoml.service(traffic={"timeout": 20})
class Top:
    middle = bentoml.depends(Middle)

    @bentoml.api
    async def pid(self) -> int:
        return await self.middle.pid()

    @bentoml.api
    async def work(self) -> int:
        return await self.middle.work()

    @bentoml.api
    async def wait(self, name: str) -> None:
        await self.middle.wait(name)

    @bentoml.api
    async def fail(self, with_known: bool) -> list[str]:
        try:
            await self.middle.fail(with_known)
        except Exception as error:
            notes = [note.splitlines()[0] for note in getattr(error, "__notes__", ())]
            return [type(error).__name__, str(error), *notes]
        return []

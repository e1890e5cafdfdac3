from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bentoml._process.lifespan import lifespan

Step = Callable[[Scope, Message], Awaitable[Message | None]]


def application(step: Step) -> ASGIApp:
    """Answers each event with what `step` makes of it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while True:
            event = await receive()
            answer = await step(scope, event)
            await send(answer or {"type": f"{event['type']}.complete"})
            if event["type"] == "lifespan.shutdown":
                return

    return app


def live(app: ASGIApp) -> list[object]:
    """What happens when the application is started and stopped."""
    happened: list[object] = []

    async def main() -> None:
        async with lifespan(app) as state:
            happened.append(dict(state))

    asyncio.run(main())
    return happened


def test_an_application_is_started_before_the_block_and_stopped_after_it() -> None:
    events = []

    async def step(scope: Scope, event: Message) -> None:
        events.append(event["type"])
        scope["state"]["events"] = list(events)

    assert live(application(step)) == [{"events": ["lifespan.startup"]}]
    assert events == ["lifespan.startup", "lifespan.shutdown"]


@pytest.mark.parametrize("error", [ValueError("no weights"), SystemExit(3)])
@pytest.mark.parametrize("event", ["lifespan.startup", "lifespan.shutdown"])
def test_what_an_application_raises_is_raised_as_it_is(error: BaseException, event: str) -> None:
    async def step(scope: Scope, received: Message) -> None:
        if received["type"] == event:
            raise error

    with pytest.raises(type(error)) as caught:
        live(application(step))
    assert caught.value is error


def test_an_application_that_says_it_failed_is_taken_at_its_word() -> None:
    async def step(scope: Scope, event: Message) -> Message:
        return {"type": "lifespan.startup.failed", "message": "no weights"}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(await step(scope, await receive()))

    with pytest.raises(RuntimeError, match="no weights"):
        live(app)


def test_an_application_that_ends_without_a_word_has_not_started() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()

    with pytest.raises(RuntimeError, match="the application ended at its startup"):
        live(app)

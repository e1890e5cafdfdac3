"""Functions that a package's decorator turns into tools stand between two services, one with hooks.

After https://github.com/bentoml/BentoLangGraph/blob/2d5683ebc78189692d23c5d9db1c53373a920f45/langgraph-mistral/service.py
"""

from __future__ import annotations

import typing

import bentoml
import fastapi
from langchain_community.tools import DuckDuckGoSearchRun
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from openai import OpenAIError

ENGINE = {"model": "a/model", "max_model_len": 4096}
app = fastapi.FastAPI()


@bentoml.asgi_app(app, path="/v1")
@bentoml.service(
    name="ministral-8b",
    traffic={"timeout": 300},
    resources={"gpu": 1, "gpu_type": "nvidia-l4"},
    envs=[{"name": "HF_TOKEN"}],
)
class Llm:
    model = bentoml.models.HuggingFaceModel(ENGINE["model"], exclude=["*.pt"])

    def __init__(self):
        from openai import AsyncOpenAI

        self.client = AsyncOpenAI(base_url="http://127.0.0.1:3000/v1", api_key="none")

    @bentoml.on_startup
    async def start(self) -> None:
        import vllm.entrypoints.openai.api_server as server

        self.engine = await server.build_async_engine_client(ENGINE).__aenter__()

    @bentoml.on_shutdown
    async def stop(self):
        await self.engine.__aexit__(None, None, None)


@tool
def search(query: str):
    """What the web says."""
    return [DuckDuckGoSearchRun().invoke({"query": query})]


def goes_on(state: MessagesState) -> typing.Literal["tools", END]:
    return "tools" if state["messages"][-1].tool_calls else END


@bentoml.service(
    name="search-agent", workers=2, resources={"cpu": "2000m"}, traffic={"concurrency": 16, "external_queue": True}
)
class Agent:
    llm = bentoml.depends(Llm)

    def __init__(self):
        self.model = ChatOpenAI(model=ENGINE["model"], http_client=self.llm.to_sync.client).bind_tools([search])
        graph = StateGraph(MessagesState)
        graph.add_node("tools", ToolNode([search]))
        graph.add_edge(START, "tools")
        graph.add_conditional_edges("agent", goes_on)
        self.app = graph.compile()

    @bentoml.api
    async def stream(self, question: str) -> typing.AsyncGenerator[str, None]:
        async for event in self.app.astream_events({"messages": [question]}):
            yield str(event)

    @bentoml.task
    async def invoke(self, question: str) -> str:
        try:
            return (await self.app.ainvoke({"messages": [question]}))["messages"][-1].content
        except OpenAIError as error:
            return str(error)

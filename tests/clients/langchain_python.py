"""LangChain's ChatOpenAI, AzureChatOpenAI and embeddings."""
from langchain_openai import AzureChatOpenAI, ChatOpenAI, OpenAIEmbeddings
from openai import APIError, BadRequestError
from pydantic import BaseModel
from lab import *

chat = ChatOpenAI(model=ROUTE, base_url=BASE, api_key=KEY, max_retries=0, timeout=20)


class Weather(BaseModel):
    """The weather of a city."""

    city: str


@case
def a_plain_answer():
    assert words(chat.invoke("hello").content)[0] == "openai"


@case
def a_stream_with_usage():
    parts = list(ChatOpenAI(model=ROUTE, base_url=BASE, api_key=KEY, stream_usage=True).stream("hello"))
    assert words("".join(part.content for part in parts))[0] == "openai"
    assert [part.usage_metadata for part in parts if part.usage_metadata], "usage was asked for"


@case
def tools_and_structured_answers():
    assert chat.bind_tools([Weather]).invoke("hello").tool_calls[0]["name"] == "Weather"
    for method in ("json_schema", "function_calling"):
        assert isinstance(chat.with_structured_output(Weather, method=method).invoke("hello"), Weather), method


@case
def responses_api():
    assert words(ChatOpenAI(model=ROUTE, base_url=BASE, api_key=KEY, use_responses_api=True).invoke("hello").text)[0] == "openai"


@case
async def async_stream():
    assert words("".join([part.content async for part in chat.astream("hello")]))[0] == "openai"


@case
def azure():
    client = AzureChatOpenAI(azure_endpoint=URL, azure_deployment=ROUTE, api_version="2024-10-21", api_key=KEY, max_retries=0)
    assert words(client.invoke("hello").content)[0] == "openai"
    assert words("".join(part.content for part in client.stream("hello")))[0] == "openai"


@case
def embeddings():
    client = OpenAIEmbeddings(model="embed-router", base_url=BASE, api_key=KEY, check_embedding_ctx_length=False)
    one, other = client.embed_documents(["a", "b"])
    assert one != other


@case
def failover():
    for rule in BEFORE_CONTENT.values():
        reset()
        fault("openai", rule)
        assert words(chat.invoke("hello").content)[0] == "azure", rule
        reset()
        fault("openai", rule)
        assert words("".join(part.content for part in chat.stream("hello")))[0] == "azure", rule


@case
def a_broken_stream_raises():
    fault("openai", {"reset": {"after_events": 6}})
    raises(APIError, lambda: list(chat.stream("hello")))


@case
def a_prompt_that_is_too_long():
    fault("openai", {"status": {"code": 400, "body": "context_length"}})
    assert raises(BadRequestError, chat.invoke, "hello").code == "context_length_exceeded"


@case
def a_client_with_less_patience_than_the_provider():
    for backend in ("openai", "azure"):
        fault(backend, {"hang": "before_headers"})
    loses_patience(ChatOpenAI(model=ROUTE, base_url=BASE, api_key=KEY, max_retries=0, timeout=0.3).invoke, "hello")


if __name__ == "__main__":
    main()

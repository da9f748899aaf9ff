"""LiteLLM's own SDK, with the gateway as an OpenAI-compatible server and as an Azure endpoint."""
import litellm
from lab import *

litellm.suppress_debug_info = True
ASK = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 12, "num_retries": 0, "max_retries": 0, "timeout": 20}
OPENAI = {"model": f"openai/{ROUTE}", "api_base": BASE, "api_key": KEY}
AZURE = {"model": f"azure/{ROUTE}", "api_base": URL, "api_version": "2024-10-21", "api_key": KEY}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}]


def text_of(stream):
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


@case
def plain_and_streamed_by_both_ways():
    for way in (OPENAI, AZURE):
        assert words(litellm.completion(**way, **ASK).choices[0].message.content) == ("openai", 12)
        assert words(text_of(litellm.completion(**way, **ASK, stream=True))) == ("openai", 12)


@case
def usage_and_tools():
    chunks = list(litellm.completion(**OPENAI, **ASK, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].usage.completion_tokens == 12, chunks[-1]
    assert litellm.completion(**OPENAI, **ASK, tools=TOOLS).choices[0].message.tool_calls[0].function.name == "weather"


@case
def embeddings_and_responses():
    assert litellm.embedding(model="openai/embed-router", input=["a"], api_base=BASE, api_key=KEY).data
    assert litellm.responses(model=f"openai/{ROUTE}", input="hello", api_base=BASE, api_key=KEY).output


@case
def errors_keep_their_kinds():
    fault("openai", {"status": {"code": 400}})
    raises(litellm.BadRequestError, litellm.completion, **OPENAI, **ASK)
    raises(litellm.NotFoundError, litellm.completion, **{**OPENAI, "model": "openai/nobody"}, **ASK)
    fault("openai", {"status": {"code": 400, "body": "context_length"}})
    raises(litellm.ContextWindowExceededError, litellm.completion, **OPENAI, **ASK)
    raises(litellm.AuthenticationError, litellm.completion, **{**OPENAI, "api_key": "wrong"}, **ASK)


@case
def failover():
    for rule in BEFORE_CONTENT.values():
        reset()
        fault("openai", rule)
        assert words(litellm.completion(**OPENAI, **ASK).choices[0].message.content)[0] == "azure", rule


@case
def a_broken_stream_raises():
    fault("openai", {"reset": {"after_events": 6}})
    raises(Exception, lambda: text_of(litellm.completion(**OPENAI, **ASK, stream=True)))


@case
async def the_async_way():
    answer = await litellm.acompletion(**OPENAI, **ASK, stream=True)
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in answer if chunk.choices])
    assert words(text) == ("openai", 12)


@case
def a_client_with_less_patience_than_the_provider():
    for backend in ("openai", "azure"):
        fault(backend, {"hang": "before_headers"})
    raises(litellm.Timeout, litellm.completion, **OPENAI, **{**ASK, "timeout": 0.3})


if __name__ == "__main__":
    main()

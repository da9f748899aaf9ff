"""openai-python, sync and async, and its AzureOpenAI."""
import asyncio, time
from openai import (APIConnectionError, APIError, APIStatusError, AsyncOpenAI, AuthenticationError, AzureOpenAI,
                    BadRequestError, InternalServerError, NotFoundError, OpenAI, RateLimitError)
from lab import *

client = OpenAI(base_url=BASE, api_key=KEY, max_retries=0, timeout=20)
azure = AzureOpenAI(azure_endpoint=URL, api_version="2024-10-21", api_key=KEY, max_retries=0, timeout=20)
ASK = [{"role": "user", "content": "hello"}]
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]


def ask(client=client, **more):
    return client.chat.completions.create(model=ROUTE, messages=ASK, max_tokens=12, **more)


def collect(stream):
    """The text, and why it ended."""
    text, finish = "", None
    for chunk in stream:
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
    return text, finish


@case
def a_plain_answer():
    raw = client.chat.completions.with_raw_response.create(model=ROUTE, messages=ASK, max_tokens=12)
    assert words(raw.parse().choices[0].message.content) == ("openai", 12)
    assert raw.headers["x-breakwater-backend"] == FIRST, raw.headers
    assert raw.parse()._request_id == raw.headers["x-request-id"]


@case
def a_stream():
    text, finish = collect(ask(stream=True))
    assert (words(text), finish) == (("openai", 12), "stop"), (text, finish)


@case
def usage_of_a_stream_only_where_asked():
    chunks = list(ask(stream=True))
    assert all(chunk.usage is None and chunk.choices for chunk in chunks), "a chunk that nobody asked for"
    chunks = list(ask(stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].usage.completion_tokens == 12 and not chunks[-1].choices


@case
def tools_plain_and_streamed():
    [tool] = ask(tools=TOOLS).choices[0].message.tool_calls
    assert tool.function.name == "weather"
    arguments, name = "", None
    for chunk in ask(tools=TOOLS, stream=True):
        for call in (chunk.choices[0].delta.tool_calls or []) if chunk.choices else []:
            name = call.function.name or name
            arguments += call.function.arguments or ""
    assert (name, arguments) == ("weather", tool.function.arguments), (name, arguments)


@case
def the_streaming_helper_assembles_tools_and_text():
    with client.chat.completions.stream(model=ROUTE, messages=ASK, max_tokens=12) as stream:
        final = stream.get_final_completion() if not any(False for _ in stream) else None
    assert words(final.choices[0].message.content) == ("openai", 12)


@case
def parsed_answers():
    from pydantic import BaseModel

    class City(BaseModel):
        city: str
    parsed = client.chat.completions.parse(model=ROUTE, messages=ASK, response_format=City).choices[0].message.parsed
    assert isinstance(parsed, City), parsed


@case
def embeddings():
    data = client.embeddings.create(model="embed-router", input=["a", "b"]).data
    assert len(data) == 2 and data[0].embedding != data[1].embedding
    # The SDK asks for base64 where numpy is there, and for numbers where it is told.
    assert client.embeddings.create(model="embed-router", input="a", encoding_format="float").data[0].embedding


@case
def responses_plain_and_streamed():
    made = client.responses.create(model=ROUTE, input="hello", max_output_tokens=16)
    assert words(made.output_text)[0] == "openai"
    events = list(client.responses.create(model=ROUTE, input="hello", max_output_tokens=16, stream=True))
    assert events[0].type == "response.created", events[0]
    assert words("".join(it.delta for it in events if it.type == "response.output_text.delta"))[0] == "openai"
    assert events[-1].type in ("response.completed", "response.incomplete"), events[-1]
    with client.responses.stream(model=ROUTE, input="hello", max_output_tokens=16) as stream:
        [None for _ in stream]
        assert words(stream.get_final_response().output_text)[0] == "openai"


@case
def a_stored_response_is_gone_on_with_where_it_lies():
    fault("openai", {"status": {"code": 503}})
    first = client.responses.create(model=ROUTE, input="hello", max_output_tokens=16)
    assert words(first.output_text)[0] == "azure"
    reset_rules("openai")
    second = client.responses.create(model=ROUTE, input="and", previous_response_id=first.id, max_output_tokens=16)
    assert words(second.output_text)[0] == "azure"
    assert client.responses.retrieve(first.id).id == first.id
    client.responses.delete(first.id)


def reset_rules(backend):
    call("DELETE", f"{CONTROL}/backends/{backend}/rules")


@case
def files_and_batches():
    made = client.files.create(file=("in.jsonl", b'{"custom_id":"1"}\n'), purpose="batch")
    assert client.files.retrieve(made.id).id == made.id
    assert b"custom_id" in client.files.content(made.id).read()
    batch = client.batches.create(input_file_id=made.id, endpoint="/v1/chat/completions", completion_window="24h")
    assert client.batches.retrieve(batch.id).id == batch.id
    assert client.files.delete(made.id).deleted


@case
def a_transcription_with_its_file_first_and_last():
    for more in ({}, {"language": "en", "temperature": 0.5}):
        assert client.audio.transcriptions.create(model="whisper-router", file=("a.wav", b"RIFF" + b"x" * 5000), **more).text


@case
def speech_is_binary():
    with client.audio.speech.with_streaming_response.create(model="tts-router", voice="alloy", input="hello") as answer:
        assert answer.headers["content-type"].startswith("audio/"), answer.headers
        assert b"".join(answer.iter_bytes())


@case
def images_and_moderations():
    assert client.images.generate(model="image-router", prompt="a cat").data
    assert client.moderations.create(model="moderation-router", input="hello").results


@case
def completions_of_the_old_kind():
    text = "".join(chunk.choices[0].text for chunk in client.completions.create(model=ROUTE, prompt="x", max_tokens=9, stream=True) if chunk.choices)
    assert words(text) == ("openai", 9), text


@case
def models_and_keys():
    names = {model.id for model in client.models.list()}
    assert {ROUTE, "embed-router"} <= names, names
    assert client.models.retrieve(ROUTE).id == ROUTE
    unknown = raises(NotFoundError, client.chat.completions.create, model="nobody", messages=ASK)
    assert unknown.code == "model_not_found" and "nobody" in str(unknown), unknown
    wrong = OpenAI(base_url=BASE, api_key="sk-wrong", max_retries=0)
    assert raises(AuthenticationError, wrong.models.list).code == "invalid_api_key"


@case
def the_prompt_is_too_long_and_the_providers_words_pass():
    fault("openai", {"status": {"code": 400, "body": "context_length"}})
    error = raises(BadRequestError, ask)
    assert error.code == "context_length_exceeded" and error.param == "messages" and "maximum context length" in str(error), error
    assert not received("azure")


@case
def nobody_can_serve_and_the_client_asks_once():
    for backend in ("openai", "azure"):
        fault(backend, {"status": {"code": 500}})
    eager = client.with_options(max_retries=2)
    error = raises(InternalServerError, ask, eager)
    tried = [len(received(backend)) for backend in ("openai", "azure")]
    assert tried == [1, 1], f"the SDK's retries multiplied the gateway's: {tried}, {error}"


@case
def a_short_wait_is_waited_for_by_the_client():
    for backend in ("openai", "azure"):
        fault(backend, {"status": {"code": 429, "retry_after": {"seconds": 1}}}, count=1)
    began = time.monotonic()
    assert words(ask(client.with_options(max_retries=2)).choices[0].message.content)
    assert 0.9 <= time.monotonic() - began < 8


@case
def a_client_that_leaves_takes_its_call_along():
    settings("openai", tokens_per_second=5.0)
    stream = ask(stream=True)
    next(iter(stream))
    stream.close()
    ended = wait("the call's end", lambda: [it for it in received("openai") if it.get("ended")])
    assert ended[0]["ended"] == "client_closed", ended


@case
def a_client_with_less_patience_than_the_provider_has_a_timeout():
    fault("openai", {"hang": "before_headers"})
    fault("azure", {"hang": "before_headers"})
    loses_patience(ask, client.with_options(timeout=0.3))
    for backend in ("openai",):
        wait("the call's end", lambda: all(it.get("ended") for it in received(backend)))


@case
def azure_clients():
    assert words(ask(azure).choices[0].message.content) == ("openai", 12)
    assert words(collect(ask(azure, stream=True))[0]) == ("openai", 12)
    named = AzureOpenAI(azure_endpoint=URL, azure_deployment=ROUTE, api_version="2024-10-21", api_key=KEY, max_retries=0)
    assert words(named.chat.completions.create(model="ignored", messages=ASK, max_tokens=12).choices[0].message.content)[1] == 12
    assert azure.embeddings.create(model="embed-router", input="a").data
    assert azure.audio.transcriptions.create(model="whisper-router", file=("a.wav", b"RIFF" + b"x" * 500)).text
    assert azure.responses.create(model=ROUTE, input="hello").output_text
    raises(AuthenticationError, ask, AzureOpenAI(azure_endpoint=URL, api_version="2024-10-21", api_key="wrong", max_retries=0))
    token = AzureOpenAI(azure_endpoint=URL, api_version="2024-10-21", azure_ad_token=KEY, max_retries=0)
    assert words(ask(token).choices[0].message.content) == ("openai", 12)


@case
async def the_async_client():
    async with AsyncOpenAI(base_url=BASE, api_key=KEY, max_retries=0) as patient:
        async def one(number):
            more = {"stream": True} if number % 2 else {}
            answer = await patient.chat.completions.create(model=ROUTE, messages=ASK, max_tokens=12, **more)
            if not number % 2:
                return answer.choices[0].message.content
            return "".join([chunk.choices[0].delta.content or "" async for chunk in answer if chunk.choices])
        for text in await asyncio.gather(*(one(number) for number in range(40))):
            assert words(text) == ("openai", 12)


def fails_over(rule, stream):
    def run():
        fault("openai", rule)
        if stream:
            text, finish = collect(ask(stream=True))
            assert (words(text), finish) == (("azure", 12), "stop"), (text, finish)
        else:
            assert words(ask().choices[0].message.content) == ("azure", 12)
    return run


for name, rule in BEFORE_CONTENT.items():
    for stream in (False, True):
        also(f"failover: {name}{', stream' * stream}", fails_over(rule, stream))
for name, rule in {"truncated": {"truncate": "content_length"}, "json cut": {"malformed": "json_cut"}, "empty": {"malformed": "empty"}}.items():
    also(f"failover: {name}", fails_over(rule, False))
for name, rule in BEFORE_CONTENT_OF_STREAMS.items():
    also(f"failover: {name}, stream", fails_over(rule, True))


def breaks(rule):
    """After the first content nothing can be taken back: the client must be told, and what it has must be one sentence."""
    def run():
        fault("openai", rule)
        text = ""
        try:
            for chunk in ask(stream=True):
                text += chunk.choices[0].delta.content or "" if chunk.choices else ""
        except APIError as error:
            assert text and words(text)[0] == "openai", text
            # A provider's own words pass; ours have this code.
            assert error.code in ("stream_interrupted", "stream_idle_timeout") or rule.get("in_band_error"), (error.code, error)
        else:
            raise AssertionError(f"a clean end after {text!r}")
        assert not received("azure"), "no second voice after the first word"
    return run


for name, rule in AFTER_CONTENT.items():
    also(f"broken stream: {name}", breaks(rule))


def is_whole(rule):
    def run():
        fault("openai", rule)
        text, finish = collect(ask(stream=True))
        assert finish == "stop" and words(text.replace("x" * 100, ""))[0] == "openai", (text[:300], finish)
    return run


for name, rule in ODD_BUT_WHOLE.items():
    also(f"odd stream: {name}", is_whole(rule))

for name, rule in {**BEFORE_CONTENT, **BEFORE_CONTENT_OF_STREAMS}.items():
    def all_fail(rule=rule):
        for backend in ("openai", "azure"):
            fault(backend, rule)
        raises((APIStatusError, APIConnectionError, APIError), lambda: collect(ask(stream=True)))
    also(f"nobody can: {name}, stream", all_fail)

if __name__ == "__main__":
    main()

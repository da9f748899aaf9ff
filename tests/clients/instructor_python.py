"""instructor: typed answers, plain, streamed in part, and through a failover."""
import instructor
from openai import OpenAI
from pydantic import BaseModel
from lab import *

ASK = {"model": ROUTE, "messages": [{"role": "user", "content": "hello"}]}


class City(BaseModel):
    city: str


def client(mode):
    return instructor.from_openai(OpenAI(base_url=BASE, api_key=KEY, max_retries=0, timeout=20), mode=mode)


@case
def typed_answers_by_tools_and_by_schema():
    for mode in (instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA):
        assert isinstance(client(mode).chat.completions.create(response_model=City, max_retries=0, **ASK), City), mode


@case
def a_typed_stream():
    parts = list(client(instructor.Mode.TOOLS).chat.completions.create_partial(response_model=City, max_retries=0, **ASK))
    assert parts and isinstance(parts[-1].city, str), parts


@case
def failover():
    fault("openai", {"status": {"code": 503}})
    assert isinstance(client(instructor.Mode.TOOLS).chat.completions.create(response_model=City, max_retries=0, **ASK), City)
    assert len(received("azure")) == 1


@case
def errors_and_impatience():
    mode, hang = instructor.Mode.TOOLS, {"hang": "before_headers"}
    fault("openai", {"status": {"code": 400, "body": "context_length"}})
    error = raises(Exception, client(mode).chat.completions.create, response_model=City, max_retries=0, **ASK)
    assert "context_length_exceeded" in str(error) and not received("azure"), error
    reset()
    fault("openai", hang)
    assert isinstance(client(mode).chat.completions.create(response_model=City, max_retries=0, **ASK), City), "a provider's silence"
    fault("azure", hang)
    impatient = instructor.from_openai(OpenAI(base_url=BASE, api_key=KEY, max_retries=0, timeout=0.3), mode=mode)
    loses_patience(impatient.chat.completions.create, response_model=City, max_retries=0, **ASK)


if __name__ == "__main__":
    main()

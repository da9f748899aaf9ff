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


if __name__ == "__main__":
    main()

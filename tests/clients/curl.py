"""curl: what people type, and what no SDK does."""
import subprocess, tempfile
from lab import *

BODY = json.dumps({"model": ROUTE, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 12})
STREAM = json.dumps({**json.loads(BODY), "stream": True})


def curl(path, *arguments, key=KEY, into=None):
    """Status, HTTP version and body."""
    marks = "\n%{http_code} %{http_version}"
    run = subprocess.run(["curl", "-sS", "-N", "--max-time", "20", "-H", f"authorization: Bearer {key}", "-w", marks, *arguments, URL + path],
                         capture_output=True, text=True, input=into, check=True)
    body, _, marks = run.stdout.rpartition("\n")
    status, version = marks.split()
    return int(status), version, body


def said(events):
    parts = [json.loads(line[6:]) for line in events.splitlines() if line.startswith("data: {")]
    return "".join(choice["delta"].get("content") or "" for part in parts for choice in part["choices"])


JSON = ("-H", "content-type: application/json")


@case
def plain_and_streamed():
    status, _, body = curl("/v1/chat/completions", *JSON, "-d", BODY)
    assert status == 200 and words(json.loads(body)["choices"][0]["message"]["content"]) == ("openai", 12)
    status, _, body = curl("/v1/chat/completions", *JSON, "-d", STREAM)
    assert status == 200 and words(said(body)) == ("openai", 12) and body.rstrip().endswith("data: [DONE]"), body


@case
def without_v1_and_without_a_content_type():
    assert curl("/chat/completions", *JSON, "-d", BODY)[0] == 200
    # curl calls it a form then.
    assert curl("/v1/chat/completions", "-d", BODY)[0] == 200
    assert curl("/v1/chat/completions", "-H", "content-type:", "-d", BODY)[0] == 200


@case
def chunked_bodies_and_expect():
    assert curl("/v1/chat/completions", *JSON, "-H", "transfer-encoding: chunked", "-d", BODY)[0] == 200
    assert curl("/v1/chat/completions", *JSON, "-H", "expect: 100-continue", "-d", BODY)[0] == 200


@case
def http2_by_prior_knowledge():
    status, version, body = curl("/v1/chat/completions", "--http2-prior-knowledge", *JSON, "-d", STREAM)
    assert (status, version) == (200, "2") and words(said(body)) == ("openai", 12)
    # An offer to upgrade is not taken up, and hurts nobody.
    assert curl("/v1/chat/completions", "--http2", *JSON, "-d", BODY)[:2] == (200, "1.1")


@case
def a_form_with_its_file_first_and_last():
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        file.write(b"RIFF" + bytes(range(256)) * 400)
        file.flush()
        for parts in (["-F", f"file=@{file.name}", "-F", "model=whisper-router"], ["-F", "model=whisper-router", "-F", f"file=@{file.name}"]):
            status, _, body = curl("/v1/audio/transcriptions", *parts)
            assert status == 200 and json.loads(body)["text"], body


@case
def a_large_body():
    body = json.dumps({"model": ROUTE, "messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 8_000_000}}]}]})
    assert curl("/v1/chat/completions", *JSON, "-d", "@-", into=body)[0] == 200


@case
def errors_have_the_shape_of_openai():
    for path, arguments, key, status, code in [
        ("/v1/chat/completions", [*JSON, "-d", "{"], KEY, 400, "invalid_json"),
        ("/v1/chat/completions", [*JSON, "-d", "{}"], KEY, 400, None),
        ("/v1/nothing", [], KEY, 404, "unknown_url"),
        ("/v1/chat/completions", [*JSON, "-d", BODY], "wrong", 401, "invalid_api_key"),
        ("/v1/chat/completions", ["-X", "PATCH", *JSON, "-d", BODY], KEY, 405, None),
    ]:
        got, _, body = curl(path, *arguments, key=key)
        error = json.loads(body)["error"]
        assert got == status and error["message"] and (code is None or error["code"] == code), (path, got, body)


if __name__ == "__main__":
    main()

"""What every Python client here shares: the simulated providers' faults, a clean slate between cases, and the tally.

Standard library only: each client runs in an environment of its own.
"""
import asyncio, inspect, json, os, sys, time, traceback, urllib.request

URL, KEY, CONTROL, ADMIN = (os.environ[name] for name in ("LAB_URL", "LAB_KEY", "LAB_CONTROL", "LAB_ADMIN"))
BASE = URL + "/v1"
# The route of two backends, first `openai`, then `azure`.
ROUTE = os.environ.get("LAB_ROUTE", "gpt-4-router")
# The backend that serves it while all is well.
FIRST = os.environ.get("LAB_FIRST", "openai")

# Everything that a provider can do to a stream or a whole answer, as rules of the simulator.
STATUSES = {"429": 429, "500": 500, "503": 503, "401": 401, "404": 404, "408": 408}
BEFORE_CONTENT = {
    **{name: {"status": {"code": code}} for name, code in STATUSES.items()},
    "refuse": "refuse",
    "reset on accept": "accept_reset",
    "hang before headers": {"hang": "before_headers"},
    "reset after request": {"reset": "after_request"},
    "close after headers": {"close": "after_headers"},
    "html": {"malformed": "html"},
    "redirect": {"malformed": "redirect"},
}
BEFORE_CONTENT_OF_STREAMS = {
    "hang after headers": {"hang": "after_headers"},
    "role only": {"hang": "before_first_content"},
    "comments only": {"hang": {"comments_before_first_content": 100}},
    "error in a 200": {"in_band_error": {"at": 0, "form": "openai"}},
    "error event in a 200": {"in_band_error": {"at": 0, "form": "event_error"}},
    "json to a stream": {"malformed": "json_to_stream"},
    "bad chunk": {"malformed": "bad_chunk"},
}
AFTER_CONTENT = {
    "reset": {"reset": {"after_events": 6}},
    "close": {"close": {"after_events": 6}},
    "close inside an event": {"close": {"after_bytes": 900}},
    "hang": {"hang": {"after_events": 6}},
    "no DONE": {"truncate": "no_done"},
    "chunked without an end": {"truncate": "chunked"},
    "error in the stream": {"in_band_error": {"at": 6, "form": "openai"}},
}
ODD_BUT_WHOLE = {
    "one byte at a time": {"wire": {"split_bytes": 1}},
    "CRLF and BOM": {"wire": {"line_end": "crlf", "bom": True}},
    "ids and retry": {"wire": {"ids": True, "retry": True}},
    "comments": {"wire": {"comments_ms": 20}},
    "an event of 1 MB": {"wire": {"large_event_bytes": 1_000_000}},
    "no DONE but finished": {"truncate": "finish_no_done"},
    "connection: close": {"wire": {"connection_close": True}},
}


def call(method, url, body=None, headers=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json", **(headers or {})}, method=method)
    with urllib.request.urlopen(request, timeout=20) as answer:
        text = answer.read()
    return json.loads(text) if text.strip() else None


def fault(backend, *faults, **rule):
    """Gives a backend these faults, in force at once."""
    call("PUT", f"{CONTROL}/backends/{backend}/rules", [{"fault": it, **rule} for it in faults])


def settings(backend, **changes):
    call("PATCH", f"{CONTROL}/backends/{backend}/settings", changes)


def received(backend):
    """What a backend was sent since the last reset, oldest first."""
    return call("GET", f"{CONTROL}/backends/{backend}/requests")["requests"]


def reset():
    """Healthy providers with empty journals, closed circuits, no blocks."""
    call("POST", f"{CONTROL}/reset")
    for backend in call("GET", f"{ADMIN}/admin/status")["backends"]:
        call("POST", f"{ADMIN}/admin/backends/{backend['name']}/circuit", {"action": "reset", "blocks": True})


def words(text):
    """The backend that spoke and how many words, if it is a whole sentence of the simulator's: numbered from 0, one speaker."""
    parts = text.split()
    speakers = {part.split(":")[0] for part in parts}
    assert len(speakers) == 1, f"{len(speakers)} speakers in {text!r}"
    assert [int(part.split(":")[1]) for part in parts] == list(range(len(parts))), f"lost or doubled: {text!r}"
    return speakers.pop(), len(parts)


CASES = []


def case(function):
    """A case: a function that raises if it fails. Several, if it is given `(name, function)` pairs by `also`."""
    CASES.append((function.__name__.replace("_", " "), function))
    return function


def also(name, function):
    CASES.append((name, function))


def raises(kinds, function, *arguments, **more):
    """The error that the client raises."""
    try:
        got = function(*arguments, **more)
    except kinds as error:
        return error
    raise AssertionError(f"no error, but {got!r}")


def loses_patience(function, *arguments, **more):
    """The client's own time is over. Its SDK has told the gateway when that is, so the gateway's 504 may come first by a hair."""
    error = raises(Exception, function, *arguments, **more)
    assert "timed out" in str(error) or "total_timeout" in str(error), repr(error)


def wait(what, look, limit=5):
    until = time.monotonic() + limit
    while time.monotonic() < until:
        found = look()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what} did not come within {limit} s")


def main():
    """Runs every case, or those whose name holds an argument; `=NAME` is that one alone."""
    failed = 0
    wanted = sys.argv[1:]
    fits = lambda part, name: name == part[1:] if part.startswith("=") else part in name
    chosen = [(name, run) for name, run in CASES if not wanted or any(fits(part, name) for part in wanted)]
    for name, run in chosen:
        reset()
        began = time.monotonic()
        try:
            done = run()
            if inspect.iscoroutine(done):
                asyncio.run(done)
        except Exception:
            failed += 1
            print(f"  FAILED {name}")
            traceback.print_exc()
        else:
            if os.environ.get("LAB_VERBOSE"):
                print(f"  ok {name} ({time.monotonic() - began:.2f} s)")
    print(f"  {len(chosen) - failed} of {len(chosen)} cases")
    sys.exit(1 if failed or not chosen else 0)

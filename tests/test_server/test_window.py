"""What is told to a server that answers badly: a stand-in that fails as it is told to, so that every odd end can be tried."""

import http.server
import json
import threading
from collections import Counter

import pytest

from flows.on_prefect import window
from flows.on_prefect.window import Window

TOKEN = b'{"token": "t", "client": "c", "expiration": "2099-01-01T00:00:00Z"}'


class StandIn:
    """A server: `fails[path]` is how many answers of which status come before it takes what it is told."""

    def __init__(self):
        self.fails, self.took, self.tries = {}, [], Counter()
        stand_in = self

        class Answer(http.server.BaseHTTPRequestHandler):
            def answer(self):
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                path = self.path.removeprefix("/api").partition("?")[0]
                status, times = stand_in.fails.get(path, (200, 0))
                stand_in.tries[path] += 1
                failing = stand_in.tries[path] <= times
                if body and not failing:
                    stand_in.took.append((self.command, path, json.loads(body)))
                self.send_response(status if failing else 200)
                self.end_headers()
                self.wfile.write(TOKEN if path == "/csrf-token" else b"{}")

            do_GET = do_POST = do_PATCH = answer

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server.server_port}/api"

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    from prefect.settings import PREFECT_API_URL, temporary_settings

    monkeypatch.setenv("HEADSTART_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(window, "_LONGEST_PAUSE_S", 0.01)
    server = StandIn()
    monkeypatch.setenv("PREFECT_API_URL", server.address)
    # The thread of the window has no settings of its own test.
    monkeypatch.setattr(window, "_client", lambda: pointed(server.address))

    import contextlib

    @contextlib.contextmanager
    def pointed(address):
        from prefect import get_client

        with temporary_settings({PREFECT_API_URL: address}), get_client(sync_client=True) as client:
            yield client

    yield server
    if server.thread.is_alive():
        server.close()


def told(stand_in, path):
    return [body for _, where, body in stand_in.took if where == path]


def test_events_and_logs_are_gathered_and_keep_their_order(stand_in):
    with Window() as shown:
        for number in range(500):
            shown.tell("POST", "/events", {"id": number})
    assert [event["id"] for batch in told(stand_in, "/events") for event in batch] == list(range(500))
    assert len(told(stand_in, "/events")) < 20


def test_what_replaces_an_earlier_letter_is_told_once(stand_in):
    with Window() as shown:
        for percent in range(101):
            shown.tell_latest("PATCH", "/artifacts/x", {"data": percent})
    bars = [body["data"] for body in told(stand_in, "/artifacts/x")]
    assert bars[-1] == 100
    assert bars == sorted(bars)


def test_a_locked_database_is_waited_for(stand_in):
    stand_in.fails["/artifacts/"] = (503, 2)
    with Window() as shown:
        shown.tell("POST", "/artifacts/", {"key": "a"})
        shown.tell("POST", "/events", {"id": 1})
        wait_until(lambda: told(stand_in, "/events"))
    assert told(stand_in, "/artifacts/") == [{"key": "a"}]


@pytest.mark.parametrize("status", [404, 422, 500])
def test_one_letter_that_is_never_taken_does_not_stop_the_others(stand_in, status, caplog):
    stand_in.fails["/flow_runs/x/set_state"] = (status, 10_000)
    with Window() as shown:
        shown.tell("POST", "/flow_runs/x/set_state", {"state": {}})
        shown.tell("POST", "/events", {"id": 1})
        wait_until(lambda: told(stand_in, "/events"))
    assert "does not take /flow_runs/x/set_state" in caplog.text


def test_a_database_that_is_away_costs_no_letter(stand_in):
    stand_in.fails |= {"/flow_runs/x/set_state": (500, 40), "/ready": (500, 40)}
    with Window() as shown:
        shown.tell("POST", "/flow_runs/x/set_state", {"state": {"name": "Done"}})
        wait_until(lambda: told(stand_in, "/flow_runs/x/set_state"))
    assert stand_in.tries["/flow_runs/x/set_state"] == 41


def test_what_nobody_heard_is_kept_and_told_by_the_next(stand_in, tmp_path, caplog):
    stand_in.fails |= {"/events": (500, 10_000), "/ready": (500, 10_000)}
    with Window() as shown:
        for number in range(3):
            shown.tell("POST", "/events", {"id": number})
        shown.tell_latest("PATCH", "/artifacts/x", {"data": 100})
    assert (
        "4 things about this run are missing in its UI; the next run that finds the server hands them in" in caplog.text
    )
    (kept,) = (tmp_path / "home" / "untold").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
    stand_in.fails.clear()
    with Window() as shown:
        shown.tell("POST", "/events", {"id": 3})
    assert [event["id"] for batch in told(stand_in, "/events") for event in batch] == [0, 1, 2, 3]
    assert told(stand_in, "/artifacts/x") == [{"data": 100}]
    assert list((tmp_path / "home" / "untold").iterdir()) == []


def test_what_was_kept_for_another_server_waits_for_it(stand_in, tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    window._keep([window.Letter("POST", "/events", {"id": 1})])
    monkeypatch.setenv("PREFECT_API_URL", stand_in.address)
    with Window():
        pass
    assert stand_in.took == []
    assert len(list((tmp_path / "home" / "untold").iterdir())) == 1


def test_after_an_outage_what_was_just_told_is_told_again(stand_in):
    """A killed server loses what it had taken and not yet written down."""
    with Window() as shown:
        shown.tell("POST", "/events", {"id": 1})
        wait_until(lambda: told(stand_in, "/events"))
        stand_in.fails["/events"] = (500, stand_in.tries["/events"] + 2)
        shown.tell("POST", "/events", {"id": 2})
        wait_until(lambda: len(told(stand_in, "/events")) > 1)
    assert [event["id"] for batch in told(stand_in, "/events") for event in batch] == [1, 1, 2]


def test_more_than_memory_is_for_is_given_up_and_said(stand_in, monkeypatch, caplog):
    monkeypatch.setattr(window, "_MOST", 10)
    stand_in.fails |= {"/events": (500, 10_000), "/ready": (500, 10_000)}
    with Window() as shown:
        for number in range(100):
            shown.tell("POST", "/events", {"id": number})
    assert "100 things about this run are missing" in caplog.text


def wait_until(found, seconds=20):
    waiting = threading.Event()
    for _ in range(int(seconds / 0.01)):
        if found():
            return
        waiting.wait(0.01)
    pytest.fail("it did not come")

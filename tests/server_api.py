"""Asks a Prefect server over HTTP as a program that is let in does: with the password, and with a token for what changes."""

import base64
import json
import os
import time
from urllib.error import HTTPError
from urllib.request import Request, urlopen

CLIENT = "tests"


class Api:
    """What the server knows."""

    def __init__(self, server):
        self.ui_url, self.api_url = server.ui_url, server.api_url
        self._password = base64.b64encode(os.environ["PREFECT_API_AUTH_STRING"].encode()).decode()
        self._token = None

    def ask(self, path, body=None, method=None):
        """GET, or POST with a body; the answer, or None where there is none."""
        headers = {"content-type": "application/json", "authorization": f"Basic {self._password}"}
        if body is not None:
            headers |= {"Prefect-Csrf-Client": CLIENT, "Prefect-Csrf-Token": self._csrf_token()}
        data = None if body is None else json.dumps(body).encode()
        for tries_left in reversed(range(20)):
            try:
                with urlopen(Request(f"{self.api_url}{path}", data, headers, method=method), timeout=30) as reply:
                    return json.loads(reply.read() or "null")
            except HTTPError as error:
                # SQLite is locked for a moment while much is written.
                if error.code != 503 or not tries_left:
                    raise
                time.sleep(0.5)
        raise AssertionError

    def _csrf_token(self):
        if self._token is None:
            self._token = self.ask(f"/csrf-token?client={CLIENT}")["token"]
        return self._token

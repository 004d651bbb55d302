"""ModelScope on this machine, speaking the real one's protocol as far as its own client needs it."""

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit


@contextmanager
def stand_in_modelscope(repositories, monkeypatch, home):
    """`repositories`: bytes by path, by id. Yields the paths of files that were asked for."""
    fetched = []

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer()

        def do_GET(self):
            self.answer()

        def answer(self):
            asked = urlsplit(self.path)
            told = {name: values[0] for name, values in parse_qs(asked.query).items()}
            for name, files in repositories.items():
                if told.get("Revision", "master") != "master":
                    continue
                if unquote(asked.path) == f"/api/v1/models/{name}/repo/files":
                    listed = [
                        {"Path": path, "Type": "blob", "Size": len(data), "Sha256": hashlib.sha256(data).hexdigest()}
                        for path, data in files.items()
                    ]
                    return self.say(json.dumps({"Code": 200, "Success": True, "Data": {"Files": listed}}).encode())
                if unquote(asked.path) == f"/api/v1/models/{name}/repo" and told.get("FilePath") in files:
                    if self.command == "GET":
                        fetched.append(told["FilePath"])
                    return self.say(files[told["FilePath"]])
            return self.say(json.dumps({"Code": 10010205001, "Success": False, "Message": "not found"}).encode(), 404)

        def say(self, data, status=200):
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        def log_message(self, *told):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    # The client reads its environment once.
    monkeypatch.setattr("modelscope_hub.config._default_config", None)
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("MODELSCOPE_CACHE", str(home / "cache"))
    monkeypatch.setenv("MODELSCOPE_HOME", str(home / "home"))
    try:
        yield fetched
    finally:
        server.shutdown()
        server.server_close()

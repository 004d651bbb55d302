"""A model hub on this machine that speaks the real one's protocol as far as its own client needs it."""

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "c" * 40


@contextmanager
def stand_in_hub(repositories, monkeypatch, cache):
    """`repositories`: bytes by path, by id. Yields the paths of files that were asked for."""
    import huggingface_hub.constants as known

    fetched = []

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer(body=False)

        def do_GET(self):
            self.answer(body=True)

        def answer(self, *, body):
            path = unquote(urlsplit(self.path).path).strip("/")
            for name, files in repositories.items():
                if path.startswith(f"api/models/{name}/tree/"):
                    listed = [
                        {"type": "file", "path": file, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                        for file, data in files.items()
                    ]
                    return self.say(json.dumps(listed).encode(), body=body)
                if path == f"api/models/{name}" or path.startswith(f"api/models/{name}/revision/"):
                    siblings = [{"rfilename": file} for file in files]
                    told = {
                        "id": name,
                        "modelId": name,
                        "sha": COMMIT,
                        "siblings": siblings,
                        "private": False,
                        "tags": [],
                    }
                    return self.say(json.dumps(told).encode(), body=body)
                _, there, rest = path.partition(f"{name}/resolve/")
                file = rest.partition("/")[2]
                if there and file in files:
                    if body:
                        fetched.append(file)
                    return self.say(files[file], body=body)
            return self.say(b"{}", body=body, status=404)

        def say(self, data, *, body, status=200):
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if body:
                self.wfile.write(data)

        def log_message(self, *told):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    here = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(known, "ENDPOINT", here)
    monkeypatch.setattr(known, "HUGGINGFACE_CO_URL_TEMPLATE", here + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(known, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(known, "HF_HUB_OFFLINE", False)
    try:
        yield fetched
    finally:
        server.shutdown()
        server.server_close()

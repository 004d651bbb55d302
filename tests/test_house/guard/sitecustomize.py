"""Python imports this by itself in every process that has this folder on its PYTHONPATH: what leaves the machine is refused.

An audit hook sees every connection and every look-up of a name that Python code makes, whichever library asks for it. Each
one that is not to this machine is written to HEADSTART_GUARD and fails.
"""

import json
import os
import sys

_SENDS = {"socket.connect", "socket.sendto", "socket.sendmsg"}
_LOOKS_UP = {"socket.getaddrinfo", "socket.gethostbyname"}


def _host(event, arguments):
    if event in _LOOKS_UP:
        return arguments[0]
    address = arguments[1]
    return address[0] if isinstance(address, tuple) else None  # a Unix socket has a path


def _is_here(host):
    host = host.decode() if isinstance(host, bytes) else host
    return not host or host in {"localhost", "::1", "0.0.0.0", "::"} or host.startswith("127.")


def _guard(event, arguments):
    if event in _SENDS or event in _LOOKS_UP:
        host = _host(event, arguments)
        if not _is_here(host):
            line = json.dumps({"event": event, "host": str(host), "program": sys.argv[:3]})
            descriptor = os.open(os.environ["HEADSTART_GUARD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(descriptor, line.encode() + b"\n")
            os.close(descriptor)
            raise OSError(f"refused by the guard: {event} to {host}")


sys.addaudithook(_guard)

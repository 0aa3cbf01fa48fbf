"""nanoidp (https://github.com/cdelmonte-zg/nanoidp) as a server for tests: python server.py SETTINGS.json

The settings are those of `crates/testbed/src/nanoidp.rs`. The package's own command has no TLS, but its application
runs in any WSGI server. Each start has another port and other keys.

It writes its issuer to the output once it listens, and ends when its input does.
"""

import json
import os
import pathlib
import socket
import ssl
import sys
import threading

from nanoidp.app import create_app
from werkzeug.serving import make_server

folder = pathlib.Path(sys.argv[1]).parent
settings = json.loads(pathlib.Path(sys.argv[1]).read_text())

listener = socket.create_server(("127.0.0.1", 0))
issuer = f"https://127.0.0.1:{listener.getsockname()[1]}"


def write(name, text):
    (folder / name).write_text(text)
    return folder / name


def configure(name, content):
    # JSON is YAML, too.
    write(name, json.dumps({"config_version": 1, **content}))


oauth = {
    "issuer": issuer,
    "audience": settings["audience"],
    "scopes_supported": ["openid", *settings["scopes"]],
    "clients": settings["clients"],
}
configure("settings.yaml", {"oauth": oauth, "jwt": {"keys_dir": str(folder / "keys")}})
user = {
    "password": settings["password"],
    "roles": ["DEVICE"],
    "attributes": {"topics": settings["topics"]},
}
configure("users.yaml", {"users": {settings["username"]: user}})

application = create_app(str(folder), strict_config=True)
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain(write("certificate.pem", settings["certificate"]), write("key.pem", settings["key"]))
server = make_server("127.0.0.1", 0, application, threaded=True, ssl_context=tls, fd=listener.fileno())
threading.Thread(target=server.serve_forever, daemon=True).start()
print(issuer, flush=True)
sys.stdin.read()
os._exit(0)

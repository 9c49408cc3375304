"""Receives notices of twinseal, and believes those that its secret has signed: python webhook_receiver.py FILE."""

import base64
import hashlib
import hmac
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

SECRET = base64.b64decode(Path(sys.argv[1]).read_text().strip().removeprefix("whsec_"))
seen = set()  # a notice may come twice; keep the ids on a disk if that matters


class Receiver(BaseHTTPRequestHandler):
    """Answers 204 to what is signed and of the last five minutes, 401 to everything else."""

    def do_POST(self) -> None:
        """One notice."""
        name, moment = self.headers["webhook-id"] or "", self.headers["webhook-timestamp"] or "0"
        body = self.rfile.read(min(int(self.headers["Content-Length"] or 0), 1 << 16))
        signed = hmac.new(SECRET, f"{name}.{moment}.".encode() + body, hashlib.sha256).digest()
        given = (self.headers["webhook-signature"] or "").removeprefix("v1,").encode()
        fresh = moment.isdigit() and abs(time.time() - int(moment)) < 300
        good = hmac.compare_digest(base64.b64encode(signed), given) and fresh
        if good and name not in seen:
            seen.add(name)
            print(json.loads(body), flush=True)  # noqa: T201 - what it is for
        self.send_response(204 if good else 401)
        self.end_headers()


server = HTTPServer(("127.0.0.1", int(sys.argv[2]) if len(sys.argv) > 2 else 8000), Receiver)
print(f"http://127.0.0.1:{server.server_port}", flush=True)  # noqa: T201
server.serve_forever()

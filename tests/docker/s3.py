"""A stand-in for an S3 store on loopback: buckets, objects, listings; it checks only whose key signed a request."""

from __future__ import annotations

import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from xml.sax.saxutils import escape


@dataclass
class FakeS3:
    access_key: str
    uri: str = ""
    buckets: set[str] = field(default_factory=set)
    objects: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)


@contextmanager
def running_s3(access_key: str) -> Iterator[FakeS3]:
    state = FakeS3(access_key)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, code: int, body: bytes = b"") -> None:
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", '"0"')
            self.send_header("Last-Modified", "Tue, 24 Nov 2026 00:00:00 GMT")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = urllib.parse.urlsplit(self.path)
            bucket, _, key = urllib.parse.unquote(parts.path).lstrip("/").partition("/")
            state.requests.append(f"{self.command} {self.path}")
            if f"Credential={state.access_key}/" not in self.headers.get("Authorization", ""):
                self.answer(403)
            elif self.command == "PUT" and not key:
                state.buckets.add(bucket)
                self.answer(200)
            elif bucket not in state.buckets:
                self.answer(404)
            elif self.command == "PUT":
                state.objects[key] = body
                self.answer(200)
            elif not key:
                self.answer(200, self.listing(dict(urllib.parse.parse_qsl(parts.query))))
            elif key in state.objects:
                self.answer(200, state.objects[key])
            else:
                self.answer(404)

        def listing(self, asked: dict[str, str]) -> bytes:
            prefix = asked.get("prefix", "")
            rows = "".join(f"<Contents><Key>{escape(key)}</Key><Size>{len(body)}</Size></Contents>"
                           for key, body in state.objects.items() if key.startswith(prefix))
            return f"<ListBucketResult><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>".encode()

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = serve

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.uri = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

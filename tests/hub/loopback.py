"""A server on this machine that hands out files as badly as a test asks for."""

import hashlib
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = 'a' * 40


class Server(ThreadingHTTPServer):
    """Files by path. ``faults`` are used up one a request: a status, 'cut' after half of what is asked for, 'short'."""

    def __init__(self):
        super().__init__(('127.0.0.1', 0), Handler)
        self.files, self.faults, self.requests = {}, [], []
        self.tagged = True

    @property
    def address(self):
        return f'http://127.0.0.1:{self.server_port}'


class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def do_HEAD(self):  # noqa: N802
        self.answer(body=False)

    def do_GET(self):  # noqa: N802
        self.answer(body=True)

    def answer(self, body):
        self.close_connection = True
        range_ = self.headers.get('Range')
        self.server.requests.append((self.command, self.path, range_))
        fault = self.server.faults.pop(0) if body and self.server.faults else None
        # as the hub of Hugging Face lays files out
        path = self.path.split('?')[0].replace('/resolve/main/', '/').replace(f'/resolve/{COMMIT}/', '/')
        data = self.server.files.get(path)
        if data is None or isinstance(fault, int):
            self.send_response(404 if data is None else fault)
            self.send_header('X-Error-Code', 'EntryNotFound')
            self.send_header('Connection', 'close')
            self.send_header('Content-Length', '0')
            self.end_headers()
            return
        tag = f'"{hashlib.sha256(data).hexdigest()}"'
        start = 0
        if range_ and self.headers.get('If-Range') in (tag, None):
            start = int(range_.removeprefix('bytes=').split('-')[0])
        self.send_response(206 if start else 200)
        if start:
            self.send_header('Content-Range', f'bytes {start}-{len(data) - 1}/{len(data)}')
        if self.server.tagged:
            self.send_header('ETag', tag)
        self.send_header('X-Repo-Commit', COMMIT)
        self.send_header('Connection', 'close')
        rest = data[start:]
        self.send_header('Content-Length', str(len(rest) // 2 if fault == 'short' else len(rest)))
        self.end_headers()
        if body:
            self.wfile.write(rest[: len(rest) // 2] if fault in ('cut', 'short') else rest)

    def log_message(self, *args):
        pass


@contextmanager
def serving():
    """A server, for the time of a block."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()

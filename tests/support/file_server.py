"""A server of one file on this machine that does to its clients what servers, proxies and cables do."""
import contextlib
import hashlib
import threading
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

CONTENT = bytes(hashlib.shake_256(b'weights').digest(1_200_000))
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class FileServer:
    """Serves ``content`` at any path, in pieces where asked to.

    Attributes:
        plan: what to do with the next requests, each a dict of ``cut`` (bytes after which the connection ends),
            ``stall`` (bytes after which nothing comes), ``status``, ``headers``, ``body``, ``ranges=False`` (a server
            that has no rests); without a plan it is a good server.
        requests: (path, headers) of all requests so far.
    """

    def __init__(self, content=CONTENT):
        self.content, self.plan, self.requests, self.tag = content, [], [], '"v1"'
        self.over = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = 'HTTP/1.1'

            def do_GET(self):
                outer.requests.append((self.path, dict(self.headers)))
                outer.answer(self, **(outer.plan.pop(0) if outer.plan else {}))

            def log_message(self, *args):
                pass
        self.http = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.http.daemon_threads = True
        self.host = f'127.0.0.1:{self.http.server_address[1]}'
        self.url = f'http://{self.host}/weights.bin'

    def answer(self, handler, cut=None, stall=None, status=None, headers=(), ranges=True, body=None):
        if status is not None and body is None:
            body = b'sorry'
        asked = None if status is not None else handler.headers.get('Range')
        told = handler.headers.get('If-Range')
        content = self.content if body is None else body
        begin = int(asked.removeprefix('bytes=').rstrip('-')) if asked and ranges and told in (None, self.tag) else 0
        if begin >= len(content):
            handler.send_response(416)
            handler.send_header('Content-Range', f'bytes */{len(content)}')
            content, begin = b'', 0
        else:
            handler.send_response(status or (206 if begin else 200))
            if begin:
                handler.send_header('Content-Range', f'bytes {begin}-{len(content) - 1}/{len(content)}')
        handler.send_header('Content-Length', str(len(content) - begin))
        handler.send_header('ETag', self.tag)
        for name, value in dict(headers).items():
            handler.send_header(name, value)
        handler.end_headers()
        rest = content[begin:]
        end = len(rest) if cut is stall is None else cut if stall is None else stall
        with contextlib.suppress(OSError):
            handler.wfile.write(rest[:end])
            handler.wfile.flush()
        if stall is not None:
            self.over.wait(30)
        handler.close_connection = True

    @property
    def begun_at(self):
        """Where each request began, None for the beginning."""
        return [headers.get('Range') for _, headers in self.requests]


class Proxy(FileServer):
    """Passes every request for any host on to another server."""

    def __init__(self, target):
        super().__init__()
        self.target = target

    def answer(self, handler, **plan):
        if 'status' in plan:
            return super().answer(handler, **plan)
        connection = HTTPConnection(self.target.host)
        connection.request('GET', urlsplit(handler.path).path, headers={
            key: value for key, value in handler.headers.items() if key not in ('Host', 'Proxy-Connection')})
        response = connection.getresponse()
        handler.send_response(response.status)
        for key, value in response.getheaders():
            if key.lower() not in ('date', 'server', 'connection'):
                handler.send_header(key, value)
        handler.end_headers()
        handler.wfile.write(response.read())
        handler.close_connection = True


@contextlib.contextmanager
def serving(server):
    """Run a server in a thread of its own."""
    thread = threading.Thread(target=server.http.serve_forever, kwargs=dict(poll_interval=0.01), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.http.shutdown()
        server.http.server_close()
        thread.join()

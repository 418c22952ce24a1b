"""A web server on loopback that behaves in the ways that servers do."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class ZooServer:
    """Serves files by name; the first folder of a path says how.

    ``/ok/NAME`` is whole, with ranges. ``/noranges/`` ignores them,
    ``/broken/`` says that there are none. ``/truncated/`` and ``/stalled/``
    stop half-way, the first time; ``/short/`` always, and says nothing of the
    length. ``/busy/`` answers 500 twice, ``/missing/`` 404; ``/wrong/`` has
    other bytes; ``/moved/`` redirects to ``/ok/``.
    """

    def __init__(self, files):
        self.files = files
        self.requests = []
        self.half_sent = threading.Event()
        self.go_on = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = 'HTTP/1.1'

            def log_message(self, *args):
                pass

            def do_GET(self):
                server.answer(self)

        self._httpd = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self._httpd.daemon_threads = True
        threading.Thread(target=self._httpd.serve_forever).start()
        self.url = f'http://127.0.0.1:{self._httpd.server_port}'

    def close(self):
        self.go_on.set()
        self._httpd.shutdown()
        self._httpd.server_close()

    def asked(self, way):
        """The ranges asked for, None for all of it."""
        return [span for path, span in self.requests if f'/{way}/' in path]

    def answer(self, request):
        _, way, name = request.path.split('/')
        span = request.headers.get('Range')
        self.requests.append((request.path, span))
        times = len(self.asked(way))
        body = self.files.get(name)
        if way == 'missing' or body is None:
            request.send_error(404)
            return
        if way == 'busy' and times <= 2:
            request.send_error(500)
            return
        if way == 'moved':
            request.send_response(302)
            request.send_header('Location', f'/ok/{name}')
            request.send_header('Content-Length', '0')
            request.end_headers()
            return
        if way == 'wrong':
            body = bytes(len(body))
        start = 0
        if span and way == 'broken':
            request.send_error(416)
            return
        if span and way != 'noranges':
            start = int(span.removeprefix('bytes=').rstrip('-'))
        request.send_response(206 if start else 200)
        if start:
            total = len(body)
            request.send_header(
                'Content-Range', f'bytes {start}-{total - 1}/{total}'
            )
        half = (len(body) - start) // 2
        if way == 'short':
            request.send_header('Connection', 'close')
        else:
            request.send_header('Content-Length', str(len(body) - start))
        request.end_headers()
        stops = way == 'short' or (
            way in ('truncated', 'stalled') and times == 1
        )
        request.wfile.write(
            body[start : start + half] if stops else body[start:]
        )
        request.wfile.flush()
        if stops:
            self.half_sent.set()
            if way == 'stalled':
                self.go_on.wait()
            request.close_connection = True

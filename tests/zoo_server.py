"""A web server on loopback that behaves in the ways that servers do."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import torch
from safetensors.torch import save

from mmkdna.zoo.store import obtain

BODY = save({'weight': torch.arange(200_000.0)}, {'format': 'pt'})
SIZE = len(BODY)
SHA = hashlib.sha256(BODY).hexdigest()
FILE = f'thing-{SHA[:8]}.safetensors'
CUT = 150_000
"""Where a body is cut: more than one of these is needed for BODY."""


class ZooServer:
    """Serves files by name; the first folder of a path says how.

    ``/ok/NAME`` is whole, with ranges. ``/noranges/`` ignores them,
    ``/norange416/`` says that there are none, ``/otherrange/`` sends another
    one. ``/cut/`` ends every body after CUT bytes, ``/cutonce/`` the first
    one, ``/cutnoranges/`` and ``/cut416/`` every one and has no ranges;
    ``/stuck/`` sends nothing after the first CUT bytes. ``/stalled/`` sends
    half, the first time, and waits. ``/short/`` sends CUT bytes and says
    nothing of the length; ``/long/`` sends more than the file. ``/busy/``
    answers 500 twice, ``/missing/`` 404; ``/wrong/`` has other bytes;
    ``/moved/`` redirects to ``/ok/``, ``/away/`` to ``away``. ``/odd/`` says
    nonsense of the length.
    """

    def __init__(self, files):
        self.files = files
        self.away = ''
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
        serve = self._httpd.serve_forever
        threading.Thread(target=serve, args=(0.05,)).start()
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
        if span and way.endswith('416'):
            request.send_error(416)
            return
        if way in ('moved', 'away'):
            to = f'/ok/{name}' if way == 'moved' else self.away
            request.send_response(302)
            request.send_header('Location', to)
            request.send_header('Content-Length', '0')
            request.end_headers()
            return
        if way == 'wrong':
            body = bytes(len(body))
        if way == 'long':
            body += body
        start = 0
        if span and not way.endswith('noranges'):
            start = int(span.removeprefix('bytes=').rstrip('-'))
        rest, total = body[start:], len(body)
        request.send_response(206 if start else 200)
        if start:
            first = start - 1 if way == 'otherrange' else start
            request.send_header(
                'Content-Range', f'bytes {first}-{total - 1}/{total}'
            )
        if way in ('short', 'odd'):
            request.send_header('Connection', 'close')
        if way == 'odd':
            request.close_connection = True
            request.send_header('Content-Length', 'many')
        elif way != 'short':
            request.send_header('Content-Length', str(len(rest)))
        request.end_headers()
        sent = rest
        cut = way in ('cut', 'cutnoranges', 'cut416', 'short')
        if cut or (way == 'cutonce' and times == 1):
            sent = rest[:CUT]
        elif way == 'stalled' and times == 1:
            sent = rest[: total // 2]
        elif way == 'stuck':
            sent = rest[: CUT if not start else 0]
        request.wfile.write(sent)
        request.wfile.flush()
        if sent != rest:
            self.half_sent.set()
            if way == 'stalled':
                self.go_on.wait()
            request.close_connection = True


def entry(name='thing', weights=f'weights/{FILE}', **metadata):
    metadata = {'SHA-256': SHA, 'Size (bytes)': SIZE, **metadata}
    return {
        'Name': name,
        'Config': 'configs/thing.py',
        'Metadata': metadata,
        'Weights': weights,
    }


def get(server, *ways, size=SIZE):
    """Where the zoo puts the file that a server sends in these ways."""
    locations = tuple(f'{server.url}/{way}/{FILE}' for way in ways)
    return Path(obtain(FILE, SHA, size, locations))

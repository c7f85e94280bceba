"""A client of GET /v1/events over a bare socket: the head, then events one by one."""
import json
import socket
import time

from belfry import SLOW


class Ended(Exception):
    """The stream is over: the connection was closed."""


class Event:
    def __init__(self, block):
        fields = {}
        for line in block.split("\n"):
            name, _, value = line.partition(": ")
            fields[name] = value
        self.id, self.name = fields.get("id"), fields.get("event")
        self.data = json.loads(fields["data"]) if "data" in fields else None
        self.retry, self.beat = fields.get("retry"), block.startswith(":")


class Stream:
    """Reads when it is asked to, and not before: a slow client is one that does not ask."""

    def __init__(self, port, token, query="", last_id=None, version="1.1", method="GET", headers=(), receive_buffer=None):
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(30 * SLOW)
        self.socket.connect(("127.0.0.1", port))
        lines = ["%s /v1/events%s HTTP/%s" % (method, query, version), "Host: belfry", "Accept: text/event-stream"]
        lines += ["Authorization: Bearer " + token] if token else []
        lines += ["Last-Event-ID: " + last_id] if last_id is not None else []
        self.socket.sendall("\r\n".join([*lines, *headers, "", ""]).encode())
        self.raw, self.text, self.others = b"", b"", []
        while b"\r\n\r\n" not in self.raw:
            self._receive()
        head, _, self.raw = self.raw.partition(b"\r\n\r\n")
        self.head = head.decode()
        self.status = int(self.head.split()[1])
        self.headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in self.head.split("\r\n")[1:])}
        self.chunked = self.headers.get("transfer-encoding") == "chunked"
        self.ended = False

    def _receive(self):
        got = self.socket.recv(65536)
        if not got:
            raise Ended
        self.raw += got

    def _unwrap(self):
        """Moves what is whole from the bytes that came to the text of the stream."""
        while self.chunked:
            size, line, rest = self.raw.partition(b"\r\n")
            if not line or len(rest) < int(size, 16) + 2:
                return
            if int(size, 16) == 0:
                self.ended = True
                return
            self.text += rest[:int(size, 16)]
            assert rest[int(size, 16):int(size, 16) + 2] == b"\r\n"
            self.raw = rest[int(size, 16) + 2:]
        self.text += self.raw
        self.raw = b""

    def block(self, timeout=10):
        """The next block, whatever it is."""
        until = time.monotonic() + timeout * SLOW
        while True:
            self._unwrap()
            if b"\n\n" in self.text:
                block, _, self.text = self.text.partition(b"\n\n")
                return Event(block.decode())
            left = until - time.monotonic()
            if self.ended:
                raise Ended
            if left <= 0:
                raise TimeoutError("no event within %g s" % (timeout * SLOW))
            self.socket.settimeout(left)
            self._receive()

    def next(self, timeout=10):
        """The next event; beats and the like are kept in self.others."""
        while True:
            event = self.block(timeout)
            if event.name is not None:
                return event
            self.others.append(event)

    def all(self, timeout=10):
        """Everything up to the end of the stream."""
        events = []
        try:
            while True:
                events.append(self.next(timeout))
        except Ended:
            return events

    def close(self):
        self.socket.close()

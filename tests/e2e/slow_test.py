"""Clients that take their time: cut off by the limits of node/limits.h, so this suite takes as long."""
import socket
import threading
import time

from belfry import NodeTest, SLOW, main


class SlowClients(NodeTest):
    def test_slow_heads_and_bodies_are_cut_off(self):
        head = b"POST /v1/auth/login HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n"
        waits = [(b"", b"", 15), (b"GET / HT", b"HTTP/1.1 408 ", 15), (head + b"x", b"HTTP/1.1 408 ", 35)]
        failures = []

        def client(first, answer, most):
            with socket.create_connection(("127.0.0.1", self.node.port)) as s:
                s.settimeout(0.5)
                s.sendall(first)
                start, out = time.monotonic(), None
                while time.monotonic() - start < most * SLOW and out is None:
                    try:
                        out = s.recv(4096)
                    except socket.timeout:
                        if first:
                            s.sendall(b"y" if first != head + b"x" else b"")  # a byte now and then does not help
                if out is None or not out.startswith(answer) or (not answer and out):
                    failures.append((first, out))
        threads = [threading.Thread(target=client, args=w) for w in waits]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(failures, [])


if __name__ == "__main__":
    main()

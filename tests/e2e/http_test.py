"""The HTTP surface as hostile and old clients see it: raw bytes in, raw bytes out."""
import os
import socket
import subprocess
import threading
import time

from belfry import BINARY, NodeTest, SLOW, main, raw

OK = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"


class Http(NodeTest):
    def status(self, data, closed=None, parts=None):
        out, was_closed = raw(self.node.port, data, parts)
        self.assertTrue(out.startswith(b"HTTP/1.1 "), (data, out))
        if closed is not None:
            self.assertEqual(was_closed, closed, (data, out))
        return int(out.split()[1])

    def test_refused_and_closed(self):
        chunked = b"POST /v1/auth/login HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        cases = [
            (400, b"GET / HTTP/1.1\r\n\r\n"),                                            # no Host
            (400, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),                      # two Hosts
            (400, b"GET / HTTP/1.1\nHost: a\n\n"),                                       # bare LF
            (400, b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n"),
            (400, b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n"),                           # bare CR
            (400, b"GET / HTTP/1.1\r\nHost : a\r\n\r\n"),                                # space before the colon
            (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n"),                   # obsolete folding
            (400, b"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n"),
            (400, b"GET / HTTP/1.1\r\nHost: a\r\nX\x00: b\r\n\r\n"),
            (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: b\x00\r\n\r\n"),
            (400, b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n"),
            (400, b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"),
            (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
            (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc"),
            (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\nabc"),
            (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\nabc"),
            (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\nabc"),
            (400, b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            (501, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
            (400, chunked + b"5\nhello\r\n0\r\n\r\n"),
            (400, chunked + b"5\r\nhello\n0\r\n\r\n"),
            (400, chunked + b"5 \r\nhello\r\n0\r\n\r\n"),
            (400, chunked + b"0x5\r\nhello\r\n0\r\n\r\n"),
            (400, chunked + b"g\r\n"),
            (400, chunked + b"ffffffffffffffffff\r\n"),
            (400, chunked + b"5\r\nhelloX\r\n0\r\n\r\n"),
            (501, b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n"),
            (505, b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
            (505, b"GET / HTTP/1.2\r\nHost: a\r\n\r\n"),
            (417, b"POST / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\nContent-Length: 1\r\n\r\nx"),
            (413, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1048577\r\n\r\n"),
            (413, b"POST /v1/reminders HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1048577\r\n\r\n"),
            (413, b"POST /v1/reminders HTTP/1.1\r\nHost: a\r\nContent-Length: 3145729\r\n\r\n"),  # more than any operation takes
            (413, b"POST /v1/reminders HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"100000\r\n" + b"x" * 1048576 + b"\r\n1\r\nx\r\n"),
            (414, b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n"),
            (431, b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 17000 + b"\r\n\r\n"),
            (431, b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 101 + b"\r\n"),
            (431, b"X" * 17000),
            (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),                # TLS knocks
        ]
        for status, data in cases:
            got = self.status(data, closed=True)
            self.assertTrue(got == status or (got in (414, 431) and status in (414, 431)), (status, got, data[:80]))
            if len(data) < 500:  # and the same a byte at a time
                out, closed = raw(self.node.port, None, [data[i:i + 7] for i in range(0, len(data), 7)])
                self.assertTrue(closed and out.startswith(b"HTTP/1.1 %d " % status), (data, out))

    def test_answers_keep_the_connection(self):
        self.assertEqual(self.status(OK, closed=False), 200)
        self.assertEqual(self.status(b"\r\n" + OK, closed=False), 200)
        self.assertEqual(self.status(b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", closed=True), 200)
        self.assertEqual(self.status(b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n", closed=False), 404)
        self.assertEqual(self.status(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", closed=False), 204)

    def test_http10(self):
        out, closed = raw(self.node.port, b"GET /livez HTTP/1.0\r\n\r\n")
        self.assertTrue(closed and b"\r\nConnection: close\r\n" in out and out.endswith(b"\r\n\r\nok\n"), out)
        out, closed = raw(self.node.port, b"GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        self.assertTrue(not closed and b"\r\nConnection: keep-alive\r\n" in out, out)

    def test_pipelining_answers_in_order(self):
        out, _ = raw(self.node.port, b"".join(b"GET /v1/reminders/%d HTTP/1.1\r\nHost: a\r\nX-Request-Id: n%d\r\n\r\n" % (i, i) for i in range(200)))
        ids = [line.split(b": ")[1] for line in out.split(b"\r\n") if line.startswith(b"X-Request-Id")]
        self.assertEqual(ids, [b"n%d" % i for i in range(200)])

    def test_pipelining_with_waiting_requests(self):
        user = self.node.signup("pipe")
        one = b'POST /v1/reminders HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{"title":"t"}' % user.token.encode()
        out, _ = raw(self.node.port, one * 300)
        self.assertEqual(out.count(b"HTTP/1.1 201 Created"), 300)

    def test_many_large_answers_on_one_connection(self):
        out, _ = raw(self.node.port, b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n" * 100)
        self.assertEqual(out.count(b"HTTP/1.1 200 OK"), 100)

    def test_a_client_that_sends_and_never_reads_costs_bounded_memory(self):
        def resident():
            with open("/proc/%d/status" % self.node.process.pid) as f:
                return [int(line.split()[1]) for line in f if line.startswith("RssAnon")][0]
        before = resident()
        with socket.create_connection(("127.0.0.1", self.node.port)) as s:
            s.setblocking(False)
            until, sent = time.monotonic() + 2 * SLOW, 0
            while time.monotonic() < until:
                try:
                    sent += s.send(b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n" * 1000)
                except BlockingIOError:
                    time.sleep(0.01)
            self.assertLess(resident() - before, 30000 * SLOW, "kB")
        self.assertEqual(self.status(OK, closed=False), 200)

    def test_the_last_answer_is_whole_however_slowly_it_is_taken(self):
        request = b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n"
        with socket.create_connection(("127.0.0.1", self.node.port)) as s:
            s.settimeout(20 * SLOW)
            s.sendall(request * 300 + request.replace(b"Host: a", b"Host: a\r\nConnection: close"))
            out = b""
            while True:
                got = s.recv(65536)
                if not got:
                    break
                out += got
                time.sleep(0.001)
        self.assertEqual(out.count(b"HTTP/1.1 200 OK"), 301)
        self.assertTrue(out.endswith(b"}}}}}}}"), out[-50:])

    def test_targets(self):
        self.assertEqual(self.status(b"GET http://a/livez HTTP/1.1\r\nHost: a\r\n\r\n"), 200)
        self.assertEqual(self.status(b"GET http://a HTTP/1.1\r\nHost: a\r\n\r\n"), 404)
        for name in ["a+b", "a&b", "x y", "100%"]:
            user = self.node.signup(name)
            quoted = name.replace("%", "%25").replace(" ", "%20")
            self.assertEqual(user.get("/v1/users/" + quoted).json["username"], name)

    def test_head_and_bodies(self):
        out, _ = raw(self.node.port, b"HEAD /livez HTTP/1.1\r\nHost: a\r\n\r\n" + OK)
        self.assertEqual(out.count(b"ok\n"), 1)
        body = b'{"login":"nobody","password":"x"}'
        head = b"POST /v1/auth/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        chunks = b"".join(b"%x;ext=1\r\n%s\r\n" % (len(body[i:i + 5]), body[i:i + 5]) for i in range(0, len(body), 5)) + b"0\r\nTrailer: x\r\n\r\n"
        self.assertEqual(self.status(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks, closed=False), 401)
        data = head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + OK
        self.assertEqual(self.status(None, parts=[data[i:i + 3] for i in range(0, len(data), 3)]), 401)
        data = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
        self.assertEqual(self.status(None, parts=[data[i:i + 1] for i in range(0, len(data))]), 401)
        big = b"x" * 1048577
        out, closed = raw(self.node.port, head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(big), big))
        self.assertTrue(closed)

    def test_expect_continue(self):
        body = b'{"login":"nobody","password":"x"}'
        with socket.create_connection(("127.0.0.1", self.node.port)) as s:
            s.settimeout(10 * SLOW)
            s.sendall(b"POST /v1/auth/login HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body))
            self.assertEqual(s.recv(1000), b"HTTP/1.1 100 Continue\r\n\r\n")
            s.sendall(body)
            self.assertTrue(s.recv(1000).startswith(b"HTTP/1.1 401 "))

    def test_bodies_up_to_the_limit(self):
        token = self.node.signup("limit").token.encode()
        head = b"POST /v1/reminders HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n" % token
        body = b'{"title":"t"}'.ljust(1024 * 1024)
        self.assertEqual(self.status(head + b"Content-Length: %d\r\n\r\n" % len(body) + body, closed=False), 201)
        self.assertEqual(self.status(head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body), closed=False), 201)

    def test_half_closed_client_gets_its_answer(self):
        with socket.create_connection(("127.0.0.1", self.node.port)) as s:
            s.settimeout(10 * SLOW)
            body = b'{"login":"nobody","password":"xxxxxxxx"}'
            s.sendall(b"POST /v1/auth/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            s.shutdown(socket.SHUT_WR)
            out = b""
            while True:
                got = s.recv(65536)
                if not got:
                    break
                out += got
            self.assertTrue(out.startswith(b"HTTP/1.1 401 "), out)

    def test_clients_that_vanish_leave_nothing(self):
        user = self.node.signup("vanish")

        def vanish(n):
            for i in range(20):
                with socket.create_connection(("127.0.0.1", self.node.port)) as s:
                    if (i + n) % 3 == 0:
                        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    body = b'{"login":"vanish","password":"correct horse"}' if i % 2 else b'{"title":"t"}'
                    path = b"/v1/auth/login" if i % 2 else b"/v1/reminders"
                    s.sendall(b"POST %s HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                              % (path, user.token.encode(), len(body), body[:len(body) - (n % 2)]))
        threads = [threading.Thread(target=vanish, args=(n,)) for n in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        client = self.node.client()
        until = time.monotonic() + 10 * SLOW
        while time.monotonic() < until:
            metrics = client.get("/metrics").text
            if "belfry_http_connections_open 1\n" in metrics and "belfry_compute_jobs 0\n" in metrics:
                return
            client.close()
            time.sleep(0.05)
        self.fail([line for line in metrics.splitlines() if "open" in line or "jobs" in line])


class Limits(NodeTest):
    flags = ("--max-connections", "20", "--workers", "1")

    def test_connection_cap(self):
        held = [socket.create_connection(("127.0.0.1", self.node.port)) for _ in range(20)]
        time.sleep(0.1 * SLOW)
        out, closed = raw(self.node.port, OK)
        self.assertTrue(closed and out == b"", out)
        for s in held:
            s.close()
        until = time.monotonic() + 10 * SLOW
        while raw(self.node.port, OK, wait=False)[0] == b"":
            self.assertLess(time.monotonic(), until)


class Files(NodeTest):
    def test_connections_leave_files_to_the_log_and_the_operator(self):
        self.node.stop()
        self.node.prefix = ["prlimit", "--nofile=1000:1000"]
        self.node.start()
        user = self.node.signup("files")
        self.expect(user.get("/v1/reminders"), 200)  # its connection is there before the others
        held = [socket.create_connection(("127.0.0.1", self.node.port)) for _ in range(900)]
        time.sleep(0.2 * SLOW)
        files = len(os.listdir("/proc/%d/fd" % self.node.process.pid))
        self.assertTrue(700 < files < 800, files)
        status = subprocess.run([BINARY, "status", "--data", self.node.data], capture_output=True)
        self.assertEqual(status.returncode, 0, status.stdout)
        for _ in range(20):
            self.expect(user.post("/v1/reminders", {"title": "t"}), 201)
        for s in held:
            s.close()


class Localhost(NodeTest):
    def test_both_address_families(self):
        self.node.stop()
        self.node.listen = "localhost:0"
        self.node.start()
        for family, address in [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]:
            with socket.socket(family) as s:
                s.connect((address, self.node.port))
                s.sendall(OK)
                self.assertTrue(s.recv(1000).startswith(b"HTTP/1.1 200 "))


if __name__ == "__main__":
    main()

"""What the facades' tests share: nodes whose further listeners carry a facade, and clients as those products have them."""
import base64
import http.client
import json
import time
import urllib.parse

from belfry import Answer, Node, NodeTest, SLOW
from cluster import Cluster, free_ports


class FacadeTest(NodeTest):
    """A node with a listener of the facade named in the class."""
    facade = None

    @classmethod
    def setUpClass(cls):
        cls.facade_port, = free_ports(1)
        cls.node = Node("--listen", "127.0.0.1:%d,facade=%s" % (cls.facade_port, cls.facade), *cls.flags).start()

    def product(self, **kw):
        return Product(self.facade_port, **kw)


def facade_cluster(facade, count=3):
    """A cluster, and the port of the facade at each node."""
    ports = free_ports(count)
    cluster = Cluster(count, start=False)
    for node, port in zip(cluster.nodes, ports):
        node.flags += ["--listen", "127.0.0.1:%d,facade=%s" % (port, facade)]
    cluster.start()
    return cluster, ports


def until_no_majority(ask):
    """The first answer that says 503. Before it the last leader, whose lease has not run out, may answer: as ever."""
    before, until = None, time.monotonic() + 10 * SLOW
    while True:
        answer = ask()
        if answer.status == 503:
            return answer
        before = before or answer
        assert (answer.status, answer.text) == (200, before.text), answer.text
        assert time.monotonic() < until, "still answered without a majority: " + answer.text


class Product:
    """A client that keeps cookies, or sends a bearer token; a new connection for each request."""

    def __init__(self, port, token=None, form=False, cookies=None):
        self.port, self.token, self.form = port, token, form
        self.cookies = dict(cookies or {})

    def request(self, method, path, body=None, headers=None, raw=None, scheme="Bearer"):
        headers = dict(headers or {})
        if self.token:
            headers.setdefault("Authorization", scheme + " " + self.token)
        if self.cookies:
            headers.setdefault("Cookie", "; ".join("%s=%s" % c for c in self.cookies.items()))
        if raw is not None:
            body = raw
        elif body is not None and self.form:
            body = urllib.parse.urlencode(body)
            headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
        elif body is not None:
            body = json.dumps(body)
            headers.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30 * SLOW)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            answer = Answer(response.status, response.headers, response.read())
        finally:
            connection.close()
        for line in answer.headers.get_all("Set-Cookie") or []:
            name, _, value = line.partition(";")[0].partition("=")
            if "Max-Age=0" in line:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value
        return answer

    def get(self, path, **kw):
        return self.request("GET", path, **kw)

    def post(self, path, body=None, **kw):
        return self.request("POST", path, body, **kw)

    def put(self, path, body=None, **kw):
        return self.request("PUT", path, body, **kw)

    def delete(self, path, **kw):
        return self.request("DELETE", path, **kw)


def claims(token):
    """Header and payload of a JWT, not verified."""
    return [json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in token.split(".")[:2]]


def ended(condition, seconds=1):
    """Whether it becomes true in time."""
    until = time.monotonic() + seconds * SLOW
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True

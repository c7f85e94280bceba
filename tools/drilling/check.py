"""The check at the end of a drill: every node lists every account's reminders; what was acknowledged is there, once, and
not older than acknowledged."""
import collections
import http.client
import json
import time

TRY_S = 30  # a node that does not answer for so long is not asked again


class Checked:
    def __init__(self):
        self.acknowledged = self.unknown = self.unknown_there = self.listed = 0
        self.lost, self.duplicated, self.unasked, self.unchecked = [], [], [], []


class Caller:
    def __init__(self, node):
        self.node, self.connection, self.given_up = node, None, False

    def call(self, method, path, token=None, body=None):
        """(status, document); tries again for a while when it is told to, or there is no answer."""
        until = time.monotonic() + TRY_S
        while True:
            status, document = self.once(method, path, token, body)
            if status not in (0, 429, 503, 504):
                return status, document
            self.given_up = self.given_up or time.monotonic() > until
            if self.given_up:
                return status, document
            time.sleep(0.2)

    def once(self, method, path, token, body):
        headers = {"Authorization": "Bearer " + token} if token else {}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            if self.connection is None:
                self.connection = http.client.HTTPConnection(self.node.host, self.node.port, timeout=10)
            self.connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            answer = self.connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null")
        except (OSError, ValueError, http.client.HTTPException):
            self.connection.close()
            self.connection = None
            return 0, None


def list_all(caller, client):
    """[(title, content)] of an account, or None."""
    if time.monotonic() > client.token_until:
        status, session = caller.call("POST", "/v1/auth/login", body={
            "login": client.name, "password": "password of " + client.name})
        if status != 200:
            return None
        client.token, client.token_until = session["access_token"], time.monotonic() + 500
    found, cursor = [], ""
    while cursor is not None:
        path = "/v1/reminders?limit=200" + ("&cursor=" + cursor if cursor else "")
        status, page = caller.call("GET", path, client.token)
        if status != 200:
            return None
        found += [(r["title"], r["content"]) for r in page["items"]]
        cursor = page["next_cursor"]
    return found


def check_client(checked, client, node, found):
    counts = collections.Counter(title for title, _ in found)
    contents = dict(found)
    checked.listed += len(found)
    for serial, version in client.acked.items():
        title = "w%d" % serial
        if title not in counts:
            checked.lost.append("%s of %s is not at %s" % (title, client.name, node.name))
        elif int(contents[title][1:]) < version:
            checked.lost.append("%s of %s is %s at %s, v%d was acknowledged" % (
                title, client.name, contents[title], node.name, version))
    for title, count in counts.items():
        if count > 1:
            checked.duplicated.append("%s of %s is %d times at %s" % (title, client.name, count, node.name))
        if not title[1:].isdigit() or int(title[1:]) >= client.serial:
            checked.unasked.append("%s of %s at %s was never written" % (title, client.name, node.name))
    return counts


def check(clients, nodes):
    checked = Checked()
    callers = [Caller(n) for n in nodes]
    for client in clients:
        checked.acknowledged += len(client.acked) + sum(client.acked.values())
        unknown = {"w%d" % s for s in range(client.serial) if s not in client.acked}
        checked.unknown += len(unknown)
        there = set()
        for caller in callers:
            found = list_all(caller, client)
            if found is None:
                checked.unchecked.append("%s cannot be listed at %s" % (client.name, caller.node.name))
                continue
            there |= unknown & check_client(checked, client, caller.node, found).keys()
        checked.unknown_there += len(there)
    return checked

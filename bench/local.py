"""What the measuring scripts of this folder share: servers on this machine's loopback."""
import json
import os
import socket
import urllib.request


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def post(port, path, body, headers=()):
    """The JSON that comes back."""
    request = urllib.request.Request("http://127.0.0.1:%d%s" % (port, path), json.dumps(body).encode(),
                                     {"Content-Type": "application/json", **dict(headers)})
    return json.load(urllib.request.urlopen(request, timeout=20))


def cpu_seconds(pid):
    """User and system time of that process."""
    with open("/proc/%d/stat" % pid) as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

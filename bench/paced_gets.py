"""GETs at 200 a second over 4 kept-alive connections; prints the p99 in milliseconds."""
import http.client
import sys
import threading
import time
import urllib.parse

url, token, seconds = urllib.parse.urlparse(sys.argv[1]), sys.argv[2], float(sys.argv[3])
times, lock = [], threading.Lock()


def run(offset):
    connection = http.client.HTTPConnection(url.hostname, url.port)
    start = time.perf_counter() + offset
    for i in range(int(seconds * 50)):
        wait = start + i / 50 - time.perf_counter()
        if wait > 0:
            time.sleep(wait)
        before = time.perf_counter()
        connection.request("GET", url.path, headers={"Authorization": "Bearer " + token})
        response = connection.getresponse()
        response.read()
        took = time.perf_counter() - before
        assert response.status == 200
        with lock:
            times.append(took)


threads = [threading.Thread(target=run, args=(n / 200,)) for n in range(4)]
for t in threads:
    t.start()
for t in threads:
    t.join()
times.sort()
print("%.3f" % (times[int(len(times) * 0.99)] * 1000))

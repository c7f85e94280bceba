"""Existing client libraries of beanstalkd, unchanged: four npm packages, Pheanstalk (PHP) and Beaneater (Ruby).

Shows that they put, reserve, touch, release, bury, kick, peek, pause, look and wait as with beanstalkd itself.
Run: python3 beanstalkd_clients.py                against the real beanstalkd, which it starts itself
     python3 beanstalkd_clients.py HOST:PORT      against a server that runs; it may hold other jobs (tubes have names of their own)
     options: --only PART (of a library's name), --slack N (longer time-outs for slow builds)
Needs: node 20 and npm; of Debian: php-cli php-pda-pheanstalk ruby ruby-beaneater, and beanstalkd for a run without HOST:PORT.
The npm packages are installed (with exact versions) into the directory BEANSTALKD_CLIENTS, where they stay for the next run, or into a
temporary one. The flows are in beanstalkd_clients.js, .php and .rb beside this file.
"""
import argparse
import concurrent.futures
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time

from beanstalkd_dialogues import Beanstalkd

HERE = os.path.dirname(os.path.abspath(__file__))
NPM = {"fivebeans": "1.5.0", "jackd": "2.2.2", "node-beanstalk": "1.6.7", "beanstalkd": "2.2.5"}
LIBRARIES = {name: ["node", "--no-deprecation", "beanstalkd_clients.js", name] for name in NPM}
LIBRARIES["pheanstalk"] = ["php", "-d", "error_reporting=8191", "beanstalkd_clients.php"]  # E_ALL but deprecated
LIBRARIES["beaneater"] = ["ruby", "beanstalkd_clients.rb"]
SKIPPED = "the library cannot do this"
FLOWS = {"fivebeans": 13, "jackd": 13, "node-beanstalk": 13, "beanstalkd": 13, "pheanstalk": 11, "beaneater": 12}


def installed(directory):
    """The npm packages that are there in their right version."""
    for name, version in NPM.items():
        try:
            with open(os.path.join(directory, "node_modules", name, "package.json")) as f:
                if json.load(f)["version"] == version:
                    yield name
        except FileNotFoundError:
            pass


def install(directory, names):
    """Those that are wanted and not there yet."""
    if set(names) & set(NPM) <= set(installed(directory)):
        return
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, "package.json"), "w") as f:
        json.dump({"private": True, "dependencies": NPM}, f)
    done = subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=directory, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=600)
    if done.returncode != 0:
        raise AssertionError("npm install:\n" + done.stdout[-3000:])


def play(library, address, directory, slack=1.0):
    """The flows of one library: a list of (flow, what failed or None or SKIPPED)."""
    tube = "c%x.%x.%s" % (os.getpid(), int(time.time() * 1000), library)
    command = LIBRARIES[library] + [address[0], str(address[1]), tube]
    try:
        done = subprocess.run(command, cwd=HERE, env=dict(os.environ, BEANSTALKD_CLIENTS=directory), stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120 * slack)
        output, errors = done.stdout, done.stderr
    except subprocess.TimeoutExpired as e:
        output, errors = e.stdout or b"", (e.stderr or b"") + b"it did not end in time"
    except FileNotFoundError:
        output, errors = b"", command[0].encode() + b" is not installed"
    return told(library, output.decode("utf-8", "replace"), errors.decode("utf-8", "replace"))


def told(library, output, errors):
    flows = []
    for line in output.splitlines():
        known = re.match(r"(ok|skip|FAIL) ([^:]*)(?:: (.*))?", line)
        if not known:
            errors += "\n" + line
        elif known[1] == "skip":
            flows.append((known[2], SKIPPED))
        else:
            flows.append((known[2], known[3] or "?" if known[1] == "FAIL" else None))
    if len(flows) != FLOWS[library]:
        flows.append(("all flows", "%d of %d flows\n%s" % (len(flows), FLOWS[library], errors[-2000:])))
    return flows


def results(address, only=None, slack=1.0, workers=3):
    """Yields (library, flow, what failed or None or SKIPPED)."""
    names = [n for n in LIBRARIES if only is None or only in n]
    with contextlib.ExitStack() as stack:
        directory = os.environ.get("BEANSTALKD_CLIENTS") or stack.enter_context(tempfile.TemporaryDirectory(prefix="beanstalkd-clients-"))
        install(directory, names)
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            for name, flows in zip(names, pool.map(lambda n: play(n, address, directory, slack), names)):
                for flow, error in flows:
                    yield name, flow, error


def run(address, only=None, slack=1.0):
    """Plays all flows of all libraries (or of those with `only` in their name); AssertionError at the first that fails."""
    count = 0
    for name, flow, error in results(address, only, slack):
        if error not in (None, SKIPPED):
            raise AssertionError("%s, %s: %s" % (name, flow, error))
        count += error is None
    return count


def tell(name, flow, error):
    """Whether it failed; None: neither."""
    if error == SKIPPED:
        return print("skip %s: %s: %s" % (name, flow, error), flush=True)
    print("%s %s: %s%s" % ("FAIL" if error else "ok  ", name, flow, "\n" + error if error else ""), flush=True)
    return bool(error)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("server", nargs="?", help="HOST:PORT; without it a beanstalkd is started")
    parser.add_argument("--only")
    parser.add_argument("--slack", type=float, default=1.0)
    args = parser.parse_args()
    if args.server:
        host, _, port = args.server.rpartition(":")
        failed = [tell(*r) for r in results((host, int(port)), args.only, args.slack)]
    else:
        with Beanstalkd() as server:
            failed = [tell(*r) for r in results(server.address, args.only, args.slack)]
    print("%d passed, %d failed" % (failed.count(False), failed.count(True)))
    return 1 if any(failed) or not failed else 0


if __name__ == "__main__":
    sys.exit(main())

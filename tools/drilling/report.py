"""What a drill found, as numbers (JSON) and as lines."""
import collections
import os
import statistics

FAULTS = {"kill": "kill -9", "stop": "SIGSTOP", "isolate": "cut off from the other nodes", "term": "SIGTERM and start",
          "none": "no fault"}


def cpu_times():
    """(total, busy, steal) of the machine in ticks."""
    with open("/proc/stat") as f:
        user, nice, system, idle, iowait, irq, softirq, steal = map(int, f.readline().split()[1:9])
    busy = user + nice + system + irq + softirq
    return busy + idle + iowait + steal, busy, steal


def machine(before, own_s, elapsed):
    total, busy, steal = (a - b for a, b in zip(cpu_times(), before))
    cores = os.cpu_count()
    return {"cores": cores, "busy": busy / max(total, 1), "steal": steal / max(total, 1),
            "generator": own_s / max(elapsed, 0.001) / cores, "load_average": os.getloadavg()[0]}


def name_of(kind, status, code):
    return "%s %s" % (kind, "%d %s" % (status, code) if status and code else status or code)


def table(counts):
    out = collections.Counter()
    for key, count in counts.items():
        out[" ".join(key[:-3] + (name_of(*key[-3:]),))] += count
    return dict(sorted(out.items()))


def latency(values):
    if not values:
        return None
    ordered = sorted(values)
    return {"p50": ordered[len(ordered) // 2], "p99": ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)],
            "max": ordered[-1]}


def latencies(kinds):
    out = {"all": latency([v for values in kinds.values() for v in values])}
    out.update((kind, latency(values)) for kind, values in kinds.items())
    return {kind: values for kind, values in out.items() if values}


def good(status):
    return status in (200, 201)


def numbers(options, load, director, checked, machine_used):
    pauses = [r.pause for r in director.rounds]
    failed = sum(c for (_, status, _), c in load.counts.items() if not good(status))
    return {
        "fault": options.fault, "victim": options.victim, "target": options.target, "nodes": [n.url for n in load.nodes],
        "connections": options.connections, "seconds": director.elapsed, "trouble": director.trouble,
        "requests": sum(load.counts.values()) + sum(load.struck_counts.values()), "failed": failed,
        "answers": table(load.counts), "failures": load.failures, "failed_at_struck_node": table(load.struck_counts),
        "at_struck_node": table(load.probe_counts),
        "latency_s": latencies(load.latencies),
        "pause_s": {"p50": statistics.median(pauses), "max": max(pauses)} if pauses else None,
        "calm_pause_s": director.calm.pause if director.calm else None,
        "rounds": [vars(r) for r in director.rounds],
        "acknowledged": checked.acknowledged, "unknown": checked.unknown, "unknown_there": checked.unknown_there,
        "listed": checked.listed, "lost": checked.lost, "duplicated": checked.duplicated, "unasked": checked.unasked,
        "unchecked": checked.unchecked, "reads_checked": load.reads_checked, "stale": load.stale, "machine": machine_used,
    }


def verdict(n, options):
    """What was wrong, in words; nothing: all is well."""
    wrong = [n["trouble"]] if n["trouble"] else []
    for what in ("lost", "duplicated", "unasked", "stale", "unchecked"):
        wrong += ["%d %s" % (len(n[what]), what)] if n[what] else []
    wrong += ["%d failed" % n["failed"]] if n["failed"] else []
    wrong += ["not all rounds were made"] if len(n["rounds"]) < options.rounds else []
    for key, limit in (("p50", options.limit_p50), ("max", options.limit_max)):
        if limit is not None and n["pause_s"] and n["pause_s"][key] > limit:
            wrong.append("pause %s is %.3f s, above %.3f" % (key, n["pause_s"][key], limit))
    return wrong


def seconds(value):
    return "-" if value is None else "%.3f" % value


ROW = "%5s  %-6s %4s  %7s %8s %8s  %7s %6s  %6s %7s %7s"
COLUMNS = ROW % ("round", "node", "led", "pause", "longest", "silence", "answers", "failed", "away", "ready", "healed")


def row(r):
    return ROW % (r.number, r.victim, r.led, seconds(r.pause), seconds(r.longest), seconds(r.silence), r.answers, r.failed,
                  "-" if r.away_s is None else "%.1f" % r.away_s, seconds(r.ready_s), seconds(r.healed_s))


def heading(options, nodes):
    what = FAULTS[options.fault]
    if options.fault not in ("none", "term"):
        what += " for %.1f s" % options.away
    if options.fault != "none":
        what += " of " + {"leader": "the node that leads most", "each": "each node in turn"}.get(options.victim, options.victim)
    to = "the other nodes" if options.target == "survivors" and options.fault != "none" else "all nodes"
    return "%d rounds of %s, %d connections to %s of %d" % (options.rounds, what, options.connections, to, len(nodes))


def lines(n, wrong):
    def listed(counts):
        return ", ".join("%s: %d" % pair for pair in counts.items()) or "none"
    m, lat, pause = n["machine"], n["latency_s"], n["pause_s"]
    out = ["requests    %d in %.0f s, %d failed" % (n["requests"], n["seconds"], n["failed"]),
           "answers     " + listed(n["answers"])]
    if n["failed_at_struck_node"]:
        out.append("struck      failed at the node while it was acted on: " + listed(n["failed_at_struck_node"]))
    if n["at_struck_node"]:
        out.append("probes      at the node acted on: " + listed(n["at_struck_node"]))
    for kind, values in lat.items():
        out.append("%-11s p50 %.1f ms, p99 %.1f ms, longest %.1f ms" % (
            (kind,) + tuple(1000 * values[k] for k in ("p50", "p99", "max"))))
    if pause:
        out.append("pause       a round's longest: p50 %.3f s, max %.3f s over %d rounds; before the first fault %s s" % (
            pause["p50"], pause["max"], len(n["rounds"]), seconds(n["calm_pause_s"])))
    out.append("writes      %d acknowledged, %d lost, %d duplicated; %d creations of unknown outcome, %d of them there; %d "
               "reminders listed over all nodes" % (n["acknowledged"], len(n["lost"]), len(n["duplicated"]), n["unknown"],
                                                    n["unknown_there"], n["listed"]))
    out.append("reads       %d checked, %d stale" % (n["reads_checked"], len(n["stale"])))
    out.append("machine     %d cores, busy %.0f %%, steal %.1f %%, this generator %.0f %% of all cores, load average %.1f" % (
        m["cores"], 100 * m["busy"], 100 * m["steal"], 100 * m["generator"], m["load_average"]))
    for what in ("failures", "lost", "duplicated", "unasked", "stale", "unchecked"):
        out += ["%-11s %s" % (what, text) for text in n[what][:10]]
    out.append("FAILED: " + "; ".join(wrong) if wrong else "all is well")
    return out

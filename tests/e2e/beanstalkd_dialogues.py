"""Wire dialogues in the protocol of beanstalkd 1.12, played over several connections and compared byte by byte.

Shows that a server says what beanstalkd says: every command with its replies and errors, blocked reserves, times, YAML.
Run: python3 beanstalkd_dialogues.py                    against the real beanstalkd, which it starts itself
     python3 beanstalkd_dialogues.py HOST:PORT          against a server that runs; it may hold other jobs
     options: --only PART (of a dialogue's name), --slack N (for slow builds), --replicated (leaves out what may differ there), --trace, --workers N
From another test: beanstalkd_dialogues.run(("127.0.0.1", port), slack=SLOW, replicated=True)

A dialogue is a list of steps. A word in braces is a tube of this run ({t}, {u}, {v}; {long}: 200 bytes), a number or body that depends on the
server's largest job ({max}, {max+1}, {body:max}), or a job's id: where a reply has one that is not known yet, it is learned.
`|` stands for CR LF. Every connection begins with using and watching {t} and nothing else, except those of a `bare` dialogue.
  a> bytes            connection a sends; "a> bytes => reply" also expects; a>> sends each byte for itself
  a< reply            exactly these bytes come, in any time; "a< reply @ 1..4": so many seconds after the last step `clock`
  a silent 0.3        nothing comes; a closed: the server closes; a close, a shut, a reset: the client does (wholly, its writing half, with RST)
  among a b as x < r  one of these connections, called x from here on, gets the reply
  a job {j} k=v ...   stats-job has all its keys, and these values (v: text, number, or LOW..HIGH); a tube {t} k=v ... the same for stats-tube,
  a stats k=v ...     and stats; a until job ... asks until it is so (10 s at most); a mark, a more k=n: stats has risen by n at least since
  a tubes +{t} -{u}   list-tubes has the one and not the other; a watched {t} {u}: exactly these, in any order
  rising {j} {k} ...  the ids rise
  nudge a 1.2         only for the real beanstalkd, which sometimes misses the end of a ttr until the owner's connection says something
                      (its issue 262): so many seconds later a says something. Others must not need it.
At its end every connection must have said nothing more, and still answer (unless it closed, or the last word was its own).
"""
import argparse
import concurrent.futures
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

JOB_KEYS = "id tube state pri age delay ttr time-left file reserves timeouts releases buries kicks".split()
TUBE_KEYS = ("name current-jobs-urgent current-jobs-ready current-jobs-reserved current-jobs-delayed current-jobs-buried total-jobs current-using"
             " current-watching current-waiting cmd-delete cmd-pause-tube pause pause-time-left").split()
COMMANDS = ("put peek peek-ready peek-delayed peek-buried reserve reserve-with-timeout delete release use watch ignore bury kick touch stats"
            " stats-job stats-tube list-tubes list-tube-used list-tubes-watched pause-tube").split()
STATS_KEYS = [k for k in TUBE_KEYS if k.startswith("current-jobs")] + ["cmd-" + c for c in COMMANDS] + (
    "job-timeouts total-jobs max-job-size current-tubes current-connections current-producers current-workers current-waiting total-connections pid"
    " version rusage-utime rusage-stime uptime binlog-oldest-index binlog-current-index binlog-records-migrated binlog-records-written"
    " binlog-max-size draining id hostname os platform").split()
NOT_NUMBERS = {"tube": r"\S+", "name": r"\S+", "state": "ready|delayed|reserved|buried", "version": r".+", "rusage-utime": r"\d+\.\d+",
               "rusage-stime": r"\d+\.\d+", "draining": "true|false", "hostname": ".*", "os": ".*", "platform": ".*"}
EARLY = 0.1  # seconds by which a reply may come before its time: clocks differ, ticks are rough


class Dialogue:
    """differs: why an implementation may answer otherwise and still be right. fresh: wants a server of its own, and may spoil it."""

    def __init__(self, name, *steps, differs=None, bare=False, fresh=False):
        self.name, self.differs, self.bare, self.fresh = name, differs, bare, fresh
        self.steps = [s for step in steps for s in ([step] if isinstance(step, str) else step)]


def refused(lines, reply="BAD_FORMAT", conn="a"):
    """Steps: each of the lines gets the reply."""
    return ["%s> %s| => %s|" % (conn, line, reply) for line in lines]


def on_own(lines, reply):
    """Steps: each line on a connection of its own, which gets the reply and is closed."""
    return [s for i, line in enumerate(lines) for s in ("n%d> %s| => %s|" % (i, line, reply), "n%d close" % i)]


def put_in(job, put="0 0 60 1", body="x", conn="a"):
    return "%s> put %s|%s| => INSERTED {%s}|" % (conn, put, body, job)


def reserved(job, body="x", conn="a"):
    return "%s> reserve-with-timeout 5| => RESERVED {%s} %d|%s|" % (conn, job, len(body), body)


LINE = "x" * 222
BAD_NUMBERS = ["x", "-1", "+1", "1x", "0x1", "1.", "\t1"]
BAD_IDS = BAD_NUMBERS + ["1 ", "1 1", "18446744073709551616", ""]
NO_JOBS = ["0", "9223372036854775807", "18446744073709551615"]
BAD_NAMES = ["-", "-x", "a!", "a:b", "a,b", "a\tb", "a*", "a\\b", "\xe9", "a\xffb", "a@b", "a=b",
             "a{b", "a[b", "a~b", "a\0b", "\"a\"", "a'b", "n" * 201, ""]
NAMING = ["use", "watch", "ignore", "stats-tube"]
BARE_COMMANDS = "reserve peek-ready peek-delayed peek-buried stats list-tubes list-tube-used list-tubes-watched".split()
WITH_SPACE = "put use delete release bury touch watch ignore peek kick kick-job".split()
WITHIN = ["reserve-with-timeout", "reserve-job", "stats-job", "stats-tube", "pause-tube"]  # found by a shorter command's name without their space

PUTTING = [
    Dialogue("put, reserve, delete", "a> put 5 0 60 3|abc| => INSERTED {j}|", "a> reserve| => RESERVED {j} 3|abc|", "a> delete {j}| => DELETED|",
             "a> delete {j}| => NOT_FOUND|", "a> reserve-with-timeout 0| => TIMED_OUT|"),
    Dialogue("put from one, reserve by another", "a> put 0 0 60 3|one| => INSERTED {j}|", "b> reserve-with-timeout 5| => RESERVED {j} 3|one|",
             "b> delete {j}| => DELETED|"),
    Dialogue("ids rise within a tube", [put_in("j%d" % i) for i in range(9)], "rising " + " ".join("{j%d}" % i for i in range(9)),
             [reserved("j%d" % i) for i in range(9)]),
    Dialogue("an empty body", "a> put 0 0 60 0|| => INSERTED {j}|", "a> peek {j}| => FOUND {j} 0||", "a> reserve| => RESERVED {j} 0||",
             "a> delete {j}| => DELETED|"),
    Dialogue("a body with CR LF, NUL and what looks like commands", "a> put 0 0 60 7|a|\0|b| => INSERTED {j}|",
             "a> peek {j}| => FOUND {j} 7|a|\0|b|", "a> put 0 0 60 6|quit|| => INSERTED {k}|", "a> reserve| => RESERVED {j} 7|a|\0|b|",
             "a> reserve| => RESERVED {k} 6|quit||"),
    Dialogue("a body of all bytes", "a> put 0 0 60 600|{body:600}| => INSERTED {j}|", "b> reserve| => RESERVED {j} 600|{body:600}|"),
    Dialogue("a body of the largest size", "a> put 0 0 60 {max}|{body:max}| => INSERTED {j}|", "a> peek {j}| => FOUND {j} {max}|{body:max}|",
             "b> reserve| => RESERVED {j} {max}|{body:max}|", "b> delete {j}| => DELETED|"),
    Dialogue("the largest body in pieces", "a> put 0 0 60 {max}", "a> |{body:max-1}", "a silent 0.1", "a> {tail:max}|", "a< INSERTED {j}|",
             "a> peek-ready| => FOUND {j} {max}|{body:max}|"),
    Dialogue("a body too big", "a> put 0 0 60 {max+1}|{body:max+1}| => JOB_TOO_BIG|", "a> list-tube-used| => USING {t}|",
             "a> put 0 0 60 {max+70000}|{body:max+70000}|list-tube-used| => JOB_TOO_BIG|USING {t}|", "a> peek-ready| => NOT_FOUND|", put_in("j"),
             "a tube {t} total-jobs=1"),
    Dialogue("a body too big with a wrong end", "a> put 0 0 60 {max+1}|{body:max+1}XYlist-tube-used| => JOB_TOO_BIG|USING {t}|",
             differs="the document does not say what becomes of the bytes of a job that is too big"),
    Dialogue("a body without its CR LF", "a> put 0 0 60 3|abcde => EXPECTED_CRLF|", "a> list-tube-used| => USING {t}|",
             "a> put 0 0 60 5|x||ab => EXPECTED_CRLF|", "a> put 0 0 60 1|x\n\n => EXPECTED_CRLF|", "a> put 0 0 60 1|x\r\r => EXPECTED_CRLF|",
             "a> put 0 0 60 0|ab => EXPECTED_CRLF|", "a> peek-ready| => NOT_FOUND|"),
    Dialogue("after a body without its CR LF reading goes on two bytes behind it", "a> put 0 0 60 1|xyz| => EXPECTED_CRLF|UNKNOWN_COMMAND|",
             "a> put 0 0 60 1|xyzwv|list-tube-used| => EXPECTED_CRLF|UNKNOWN_COMMAND|USING {t}|",
             "a> put 0 0 60 {max}|{body:max}XYlist-tube-used| => EXPECTED_CRLF|USING {t}|"),
    Dialogue("put: bad formats", refused(["put " + x for x in ["", "0", "0 0", "0 0 60", "0 0 60 1 1", "0 0 60 1 ", "0 0 60 1 x"]]),
             refused(["put %s 0 60 1" % x for x in BAD_NUMBERS]), refused(["put 0 %s 60 1" % x for x in BAD_NUMBERS]),
             refused(["put 0 0 %s 1" % x for x in BAD_NUMBERS]), refused(["put 0 0 60 " + x for x in BAD_NUMBERS]), "a> peek-ready| => NOT_FOUND|"),
    Dialogue("the body after a bad put is read as commands", "a> put -1 0 60 0|| => BAD_FORMAT|UNKNOWN_COMMAND|",
             "a> put 0 0 60 x|list-tube-used| => BAD_FORMAT|USING {t}|", "a> put 0 0 60|x| => BAD_FORMAT|UNKNOWN_COMMAND|",
             "a> put 0 0 4294967296 14|list-tube-used| => BAD_FORMAT|USING {t}|"),
    Dialogue("put: bounds of numbers",
             refused(["put 4294967296 0 60 1", "put 0 4294967296 60 1", "put 0 0 4294967296 1", "put 0 0 60 4294967296",
                      "put 18446744073709551616 0 60 1", "put 0 0 60 18446744073709551616"]),
             put_in("j", "4294967295 0 4294967295 1"), "a job {j} pri=4294967295 ttr=4294967295 state=ready delay=0",
             put_in("k", "0 4294967295 1 1"), "a job {k} pri=0 ttr=1 state=delayed delay=4294967295 time-left=4294967280..4294967295",
             "a> put  007  00  060  01|x| => INSERTED {l}|", "a job {l} pri=7 ttr=60"),
    Dialogue("a ttr of 0 is taken as 1", put_in("j", "0 0 0 1"), "a job {j} ttr=1", "clock", reserved("j"), "b> reserve-with-timeout 20|",
             "nudge a 1.2", "b< RESERVED {j} 1|x| @ 1..6", "b> delete {j}| => DELETED|"),
]

RESERVING = [
    Dialogue("reserve-with-timeout: 0 and n", "clock", "a> reserve-with-timeout 0| => TIMED_OUT| @ 0..1", "clock",
             "a> reserve-with-timeout 1| => TIMED_OUT| @ 1..4", "clock", "a> reserve-with-timeout 2| => TIMED_OUT| @ 2..5", put_in("j"),
             "a> reserve-with-timeout 0| => RESERVED {j} 1|x|"),
    Dialogue("reserve-with-timeout: odd numbers", "a> reserve-with-timeout | => TIMED_OUT|", "a> reserve-with-timeout x| => TIMED_OUT|", "clock",
             "a> reserve-with-timeout 1x| => TIMED_OUT| @ 1..4", "a> reserve-with-timeout 0 9| => TIMED_OUT|",
             "a> reserve-with-timeout 4294967296| => TIMED_OUT|", "a> reserve-with-timeout 18446744073709551615| => BAD_FORMAT|",
             "a> reserve-with-timeout -1|", "a silent 0.5", put_in("j", conn="b"), "a< RESERVED {j} 1|x|",
             differs="the real one takes these; its document promises BAD_FORMAT for what is no number and for trailing bytes"),
    Dialogue("priority, then age",
             [put_in(j, p + " 0 60 1") for j, p in [("a5", "5"), ("a3", "3"), ("b5", "5"), ("b3", "3"), ("last", "4294967295"), ("first", "0")]],
             "a> peek-ready| => FOUND {first} 1|x|", [reserved(j) for j in ("first", "a3", "b3", "a5", "b5", "last")]),
    Dialogue("a job released with another priority", put_in("j", "5 0 60 1"), put_in("k", "6 0 60 1"), reserved("j"),
             "a> release {j} 7 0| => RELEASED|", "a job {j} pri=7 state=ready releases=1 reserves=1", reserved("k"), reserved("j"),
             "a> release {j} 4294967295 0| => RELEASED|", "a> release {k} 0 0| => RELEASED|", reserved("k"),
             "a job {k} pri=0 reserves=2 releases=1"),
    Dialogue("released jobs of one priority come by age", [put_in("j%d" % i) for i in range(4)], [reserved("j%d" % i) for i in range(4)],
             ["a> release {j%d} 7 0| => RELEASED|" % i for i in (2, 0, 3, 1)], [reserved("j%d" % i) for i in range(4)]),
    Dialogue("priority over two tubes", put_in("j", "5 0 60 1"), "a> use {u}| => USING {u}|", put_in("k", "3 0 60 1"), put_in("l", "9 0 60 1"),
             "b> watch {u}| => WATCHING 2|", [reserved(j, conn="b") for j in "kjl"]),
    Dialogue("age over two tubes", put_in("j"), "a> use {u}| => USING {u}|", put_in("k"), "a> use {t}| => USING {t}|", put_in("l"),
             "b> watch {u}| => WATCHING 2|", [reserved(j, conn="b") for j in "jkl"],
             differs="two tubes may live on different nodes: equal priorities need no order across them"),
    Dialogue("a blocked reserve is woken by a put", "a> reserve|", "a silent 0.2", put_in("j", conn="b"), "a< RESERVED {j} 1|x|",
             "a> delete {j}| => DELETED|"),
    Dialogue("... with a timeout", "a> reserve-with-timeout 30|", "a silent 0.2", put_in("j", conn="b"), "a< RESERVED {j} 1|x|",
             "a> delete {j}| => DELETED|"),
    Dialogue("... by a release", put_in("j"), reserved("j"), "b> reserve|", "b silent 0.2", "a> release {j} 0 0| => RELEASED|",
             "b< RESERVED {j} 1|x|", "a> delete {j}| => NOT_FOUND|"),
    Dialogue("... by a release's delay", put_in("j"), reserved("j"), "b> reserve|", "b silent 0.2", "clock", "a> release {j} 0 1| => RELEASED|",
             "b< RESERVED {j} 1|x| @ 1..5"),
    Dialogue("... by kick", put_in("j"), reserved("j"), "a> bury {j} 0| => BURIED|", "b> reserve|", "b silent 0.2", "a> kick 1| => KICKED 1|",
             "b< RESERVED {j} 1|x|"),
    Dialogue("... by kick of a delayed job", put_in("j", "0 1000 60 1"), "b> reserve|", "b silent 0.2", "a> kick 1| => KICKED 1|",
             "b< RESERVED {j} 1|x|"),
    Dialogue("... by kick-job", put_in("j", "0 1000 60 1"), "b> reserve|", "b silent 0.2", "a> kick-job {j}| => KICKED|", "b< RESERVED {j} 1|x|"),
    Dialogue("... by a delay's end", "b> reserve|", "b silent 0.2", "clock", put_in("j", "0 1 60 1"), "b< RESERVED {j} 1|x| @ 1..5"),
    Dialogue("... by the end of a pause", put_in("j"), "clock", "a> pause-tube {t} 1| => PAUSED|", "b> reserve|", "b< RESERVED {j} 1|x| @ 1..5"),
    Dialogue("... by a pause that is ended", put_in("j"), "a> pause-tube {t} 1000| => PAUSED|", "b> reserve|", "b silent 0.3",
             "a> pause-tube {t} 0| => PAUSED|", "b< RESERVED {j} 1|x|"),
    Dialogue("... by the end of another's ttr", put_in("j", "0 0 1 1"), "clock", reserved("j"), "b> reserve|", "nudge a 1.2",
             "b< RESERVED {j} 1|x| @ 1..5", "a> release {j} 0 0| => NOT_FOUND|", "b> delete {j}| => DELETED|"),
    Dialogue("... by a close", put_in("j"), reserved("j"), "b> reserve|", "b silent 0.2", "a close", "b< RESERVED {j} 1|x|",
             "b job {j} reserves=2 timeouts=0 releases=0"),
    Dialogue("... and not by another tube", "a> reserve-with-timeout 1|", "b> use {u}| => USING {u}|", put_in("j", conn="b"), "a< TIMED_OUT|"),
    Dialogue("... on each tube it watches", "a> watch {u}| => WATCHING 2|", "a> reserve|", "a silent 0.2", "b> use {u}| => USING {u}|",
             put_in("j", conn="b"), "a< RESERVED {j} 1|x|"),
    Dialogue("several blocked reserves, several puts", "a> reserve|", "b> reserve|", "c> reserve|", "d until tube {t} current-waiting=3",
             [s for i in "123" for s in (put_in("j" + i, body=i, conn="d"), "among a b c as w%s < RESERVED {j%s} 1|%s|" % (i, i, i))],
             ["w%s> delete {j%s}| => DELETED|" % (i, i) for i in "123"],
             "d tube {t} current-waiting=0 current-jobs-ready=0 current-jobs-reserved=0 cmd-delete=3"),
    Dialogue("several puts in one segment, several blocked reserves", "a> reserve|", "b> reserve|", "c> reserve|",
             "d until tube {t} current-waiting=3", "d> put 0 0 60 1|1|put 0 0 60 1|2|put 0 0 60 1|3| => INSERTED {j1}|INSERTED {j2}|INSERTED {j3}|",
             ["among a b c as w%s < RESERVED {j%s} 1|%s|" % (i, i, i) for i in "123"],
             differs="connections are served side by side: the second job's answer may be out before the first one's"),
    Dialogue("a closed connection waits no more", "a> reserve|", "b until tube {t} current-waiting=1 current-watching=2", "a close",
             "b until tube {t} current-waiting=0 current-watching=1", put_in("j", conn="b"), reserved("j", conn="b")),
    Dialogue("commands behind a blocked reserve wait", "a> reserve-with-timeout 60|list-tube-used|peek-ready|", "a silent 0.3",
             put_in("j", conn="b"), "a< RESERVED {j} 1|x|USING {t}|NOT_FOUND|"),
    Dialogue("commands behind a reserve that ends empty", "a> reserve-with-timeout 1|list-tube-used| => TIMED_OUT|USING {t}|"),
    Dialogue("reserve-job: ready, delayed, buried", put_in("j"), put_in("k", "0 1000 60 1"), "a> reserve-job {j}| => RESERVED {j} 1|x|",
             "a> reserve-job {j}| => NOT_FOUND|", "b> reserve-job {j}| => NOT_FOUND|", "b> reserve-job {k}| => RESERVED {k} 1|x|",
             "b job {k} state=reserved reserves=1 delay=1000 time-left=50..60", "b> bury {k} 3| => BURIED|",
             "a> reserve-job {k}| => RESERVED {k} 1|x|", "a job {k} state=reserved pri=3 reserves=2 buries=1 kicks=0", "a> delete {k}| => DELETED|",
             "a> reserve-job {k}| => NOT_FOUND|", refused(["reserve-job " + x for x in NO_JOBS], "NOT_FOUND"),
             refused(["reserve-job " + x for x in BAD_IDS])),
    Dialogue("reserve-job: neither watched nor unpaused tubes", put_in("j"), "a> pause-tube {t} 1000| => PAUSED|", "b> watch {u}| => WATCHING 2|",
             "b> ignore {t}| => WATCHING 1|", "b> reserve-job {j}| => RESERVED {j} 1|x|", "a> reserve-job {j}| => NOT_FOUND|",
             "b> release {j} 0 0| => RELEASED|"),
    Dialogue("reserve-job passes over another", put_in("j"), put_in("k"), "a> reserve-job {k}| => RESERVED {k} 1|x|",
             "b> reserve| => RESERVED {j} 1|x|"),
    Dialogue("DEADLINE_SOON at once", put_in("j", "0 0 1 1"), "a> reserve|reserve-with-timeout 0| => RESERVED {j} 1|x|DEADLINE_SOON|",
             "a> delete {j}| => DELETED|", "a> reserve-with-timeout 0| => TIMED_OUT|"),
    Dialogue("DEADLINE_SOON while blocked", put_in("j", "0 0 3 1"), "clock", "a> reserve|reserve| => RESERVED {j} 1|x|", "a silent 0.5",
             "a< DEADLINE_SOON| @ 2..5", "a> delete {j}| => DELETED|"),
    Dialogue("DEADLINE_SOON while blocked with a timeout", put_in("j", "0 0 3 1"), "clock",
             "a> reserve|reserve-with-timeout 60| => RESERVED {j} 1|x|DEADLINE_SOON| @ 2..5"),
    Dialogue("a timeout before the margin", put_in("j", "0 0 30 1"), reserved("j"), "clock", "a> reserve-with-timeout 1| => TIMED_OUT| @ 1..5"),
    Dialogue("no DEADLINE_SOON while there is a job", put_in("j", "0 0 1 1"), put_in("k"),
             "a> reserve|reserve|reserve-with-timeout 0| => RESERVED {j} 1|x|RESERVED {k} 1|x|DEADLINE_SOON|"),
    Dialogue("no DEADLINE_SOON for reserve-job", put_in("j", "0 0 1 1"), put_in("k"),
             "a> reserve|reserve-job {k}|reserve-job 0| => RESERVED {j} 1|x|RESERVED {k} 1|x|NOT_FOUND|"),
    Dialogue("no DEADLINE_SOON for others' jobs", put_in("j", "0 0 1 1"), "a> reserve| => RESERVED {j} 1|x|", "b> reserve-with-timeout 60|",
             "nudge a 1.2", "b< RESERVED {j} 1|x|"),
    Dialogue("after DEADLINE_SOON the job comes back", put_in("j", "0 0 2 1"), "clock",
             "a> reserve|reserve| => RESERVED {j} 1|x|DEADLINE_SOON| @ 1..5", "b> reserve|", "nudge a 1.2", "b< RESERVED {j} 1|x| @ 2..7",
             "b job {j} timeouts=1 reserves=2", "a> delete {j}| => NOT_FOUND|"),
    Dialogue("touch ends the margin", put_in("j", "0 0 4 1"), "clock", "a> reserve|reserve| => RESERVED {j} 1|x|DEADLINE_SOON| @ 3..7",
             "a> touch {j}|reserve-with-timeout 0| => TOUCHED|TIMED_OUT|", "a job {j} time-left=2..4 timeouts=0"),
]

SETTLING = [
    Dialogue("delete: mine, another's, ready, delayed, buried", put_in("j"), reserved("j"), "b> delete {j}| => NOT_FOUND|",
             "a> delete {j}| => DELETED|", "a> delete {j}| => NOT_FOUND|", put_in("k"), "b> delete {k}| => DELETED|", put_in("l", "0 1000 60 1"),
             "b> delete {l}| => DELETED|", put_in("m"), reserved("m"), "a> bury {m} 0| => BURIED|", "b> delete {m}| => DELETED|",
             refused(["delete " + x for x in NO_JOBS], "NOT_FOUND"), refused(["delete " + x for x in BAD_IDS]),
             ["b> %s {j}| => NOT_FOUND|" % c for c in ("peek", "stats-job", "kick-job", "touch", "reserve-job")],
             "a tube {t} total-jobs=4 cmd-delete=4"),
    Dialogue("release: only mine", put_in("j"), "a> release {j} 0 0| => NOT_FOUND|", reserved("j"), "b> release {j} 0 0| => NOT_FOUND|",
             "a> release {j} 3 0| => RELEASED|", "a> release {j} 0 0| => NOT_FOUND|", "b> reserve| => RESERVED {j} 1|x|",
             "a> release {j} 0 0| => NOT_FOUND|", "b> bury {j} 0| => BURIED|", "b> release {j} 0 0| => NOT_FOUND|"),
    Dialogue("release with a delay", put_in("j"), reserved("j"), "clock", "a> release {j} 4 1| => RELEASED|",
             "a job {j} state=delayed pri=4 delay=1 time-left=0..1 releases=1", "a> peek-delayed| => FOUND {j} 1|x|",
             "a> peek-ready| => NOT_FOUND|", "b> reserve| => RESERVED {j} 1|x| @ 1..5", "b job {j} reserves=2 delay=1 pri=4",
             "b> release {j} 4294967295 4294967295| => RELEASED|",
             "b job {j} state=delayed pri=4294967295 delay=4294967295 time-left=4294967280..4294967295"),
    Dialogue("release, bury, touch: bad formats", put_in("j"), reserved("j"),
             refused(["release ", "release {j}", "release {j} ", "release {j} 0", "release {j} 0 0 ", "release {j} 0 0 0"]),
             refused(["release {j} %s 0" % x for x in BAD_NUMBERS + ["4294967296"]]),
             refused(["release {j} 0 %s" % x for x in BAD_NUMBERS + ["4294967296"]]),
             refused(["release %s 0 0" % x for x in BAD_NUMBERS + ["18446744073709551616"]]),
             refused(["bury ", "bury {j}", "bury {j} ", "bury {j} 0 ", "bury {j} 0 0"]),
             refused(["bury {j} %s" % x for x in BAD_NUMBERS + ["4294967296"]]),
             refused(["bury %s 0" % x for x in BAD_NUMBERS + ["18446744073709551616"]]), refused(["touch " + x for x in BAD_IDS]),
             "a job {j} state=reserved pri=0 releases=0 buries=0",
             refused(["release %s 0 0" % x for x in NO_JOBS] + ["bury %s 0" % x for x in NO_JOBS] + ["touch " + x for x in NO_JOBS], "NOT_FOUND")),
    Dialogue("bury: only mine", put_in("j"), "a> bury {j} 0| => NOT_FOUND|", reserved("j"), "b> bury {j} 0| => NOT_FOUND|",
             "a> bury {j} 4294967295| => BURIED|", "a job {j} state=buried pri=4294967295 buries=1 time-left=0", "a> bury {j} 0| => NOT_FOUND|",
             "a> reserve-with-timeout 0| => TIMED_OUT|", "a> peek-buried| => FOUND {j} 1|x|", "a> kick 1| => KICKED 1|",
             "a> peek-buried| => NOT_FOUND|", reserved("j"), "a job {j} kicks=1 buries=1 reserves=2"),
    Dialogue("touch: only mine", put_in("j"), "a> touch {j}| => NOT_FOUND|", reserved("j"), "b> touch {j}| => NOT_FOUND|",
             "a> touch {j}| => TOUCHED|", "a> touch {j}| => TOUCHED|", "a job {j} state=reserved reserves=1 releases=0 timeouts=0",
             "a> bury {j} 0| => BURIED|", "a> touch {j}| => NOT_FOUND|", "a> kick-job {j}| => KICKED|", "a> touch {j}| => NOT_FOUND|"),
    Dialogue("touch gives the ttr once more", put_in("j", "0 0 2 1"), reserved("j"), "sleep 0.9", "clock", "a> touch {j}| => TOUCHED|",
             "b> reserve|", "nudge a 2.2", "b< RESERVED {j} 1|x| @ 2..7", "b job {j} timeouts=1"),
    Dialogue("the ttr ends and nobody takes it", put_in("j", "0 0 1 1"), reserved("j"), "nudge a 1.2", "b until job {j} state=ready",
             "b job {j} timeouts=1 releases=0 reserves=1 time-left=0", "a> touch {j}| => NOT_FOUND|", "a> release {j} 0 0| => NOT_FOUND|",
             "a> bury {j} 0| => NOT_FOUND|", "b tube {t} current-jobs-ready=1 current-jobs-reserved=0", "a> delete {j}| => DELETED|"),
    Dialogue("the ttr ends again and again", put_in("j", "0 0 1 1"), "a> reserve-job {j}| => RESERVED {j} 1|x|", "b> reserve|", "nudge a 1.2",
             "b< RESERVED {j} 1|x|", "c> reserve|", "nudge b 1.2", "c< RESERVED {j} 1|x|", "c> release {j} 5 0| => RELEASED|",
             "c job {j} state=ready timeouts=2 reserves=3 releases=1 pri=5 ttr=1"),
    Dialogue("a close releases", put_in("j"), put_in("k"), put_in("l"), reserved("j", conn="b"), reserved("k", conn="b"),
             "b> bury {k} 0| => BURIED|", "b close", "a until job {j} state=ready", "a job {j} state=ready timeouts=0 releases=0 reserves=1",
             "a job {k} state=buried", "a> reserve| => RESERVED {j} 1|x|", "a> reserve| => RESERVED {l} 1|x|"),
    Dialogue("a reset releases", put_in("j"), reserved("j", conn="b"), "b reset", "a until job {j} state=ready", reserved("j"),
             "a job {j} reserves=2 releases=0 timeouts=0"),
    Dialogue("quit releases", put_in("j"), reserved("j", conn="b"), "b> quit|", "b closed", "a until job {j} state=ready", reserved("j")),
    Dialogue("a close within a body puts nothing", "b> put 0 0 60 5|ab", "b close", "a> reserve-with-timeout 1| => TIMED_OUT|",
             "a tube {t} total-jobs=0"),
]

LOOKING = [
    Dialogue("peek", put_in("j", "0 0 60 3", "one"), put_in("k", "0 1000 60 3", "two"), "b> use {u}| => USING {u}|",
             "b> peek {j}| => FOUND {j} 3|one|", "b> peek {k}| => FOUND {k} 3|two|", "a> reserve| => RESERVED {j} 3|one|",
             "b> peek {j}| => FOUND {j} 3|one|", "a> bury {j} 0| => BURIED|", "b> peek {j}| => FOUND {j} 3|one|", "b> delete {j}| => DELETED|",
             "b> peek {j}| => NOT_FOUND|", refused(["peek " + x for x in NO_JOBS], "NOT_FOUND"), refused(["peek " + x for x in BAD_IDS])),
    Dialogue("peek-ready, -delayed, -buried", ["a> peek-%s| => NOT_FOUND|" % s for s in ("ready", "delayed", "buried")], put_in("j", "9 0 60 1"),
             put_in("k", "8 0 60 1"), put_in("l", "0 1000 60 1"), put_in("m", "5 900 60 1"), "a> peek-ready| => FOUND {k} 1|x|",
             "a> peek-delayed| => FOUND {m} 1|x|", "a> peek-buried| => NOT_FOUND|", reserved("k"), "a> peek-ready| => FOUND {j} 1|x|",
             reserved("j"), "a> peek-ready| => NOT_FOUND|", "a> bury {k} 3| => BURIED|", "a> bury {j} 1| => BURIED|",
             "a> peek-buried| => FOUND {k} 1|x|", "b> use {u}| => USING {u}|",
             ["b> peek-%s| => NOT_FOUND|" % s for s in ("ready", "delayed", "buried")]),
    Dialogue("kick: buried first, then delayed", [put_in("j%d" % i) for i in range(3)], put_in("d", "0 1000 60 1"),
             [reserved("j%d" % i) for i in range(3)], ["a> bury {j%d} 1| => BURIED|" % i for i in (1, 0, 2)], "a> kick 0| => KICKED 0|",
             "a> kick 1| => KICKED 1|", "a job {j1} state=ready kicks=1 pri=1", "a job {j0} state=buried kicks=0", "a> kick 1000| => KICKED 2|",
             "a job {d} state=delayed kicks=0", "a> kick 1000| => KICKED 1|", "a job {d} state=ready kicks=1 delay=1000 time-left=0",
             "a> kick 1000| => KICKED 0|", "a> kick 4294967295| => KICKED 0|", [reserved(j) for j in ("d", "j0", "j1", "j2")]),
    Dialogue("kick: delayed by what is left", put_in("j", "0 1000 60 1"), put_in("k", "0 900 60 1"), put_in("l", "0 1100 60 1"),
             "a> kick 1| => KICKED 1|", "a> peek-ready| => FOUND {k} 1|x|", "a> peek-delayed| => FOUND {j} 1|x|", "a> kick 1| => KICKED 1|",
             "a> peek-delayed| => FOUND {l} 1|x|", "a tube {t} current-jobs-ready=2 current-jobs-delayed=1"),
    Dialogue("kick: only in the used tube", put_in("j", "0 1000 60 1"), "b> use {u}| => USING {u}|", "b> kick 9| => KICKED 0|",
             "b> kick-job {j}| => KICKED|", "a job {j} state=ready kicks=1"),
    Dialogue("kick: bad formats", refused(["kick ", "kick x", "kick -x", "kick a b", "kick 18446744073709551616"])),
    Dialogue("kick: odd numbers", [put_in("j%d" % i, "0 1000 60 1") for i in range(4)], "a> kick 1x| => KICKED 1|", "a> kick 1 9| => KICKED 1|",
             "a> kick +1| => KICKED 1|", "a> kick -1| => KICKED 1|", "a> kick 1 | => KICKED 0|",
             differs="the real one takes these; its document promises BAD_FORMAT for what is no number and for trailing bytes"),
    Dialogue("kick-job", put_in("j"), "a> kick-job {j}| => NOT_FOUND|", reserved("j"), "a> kick-job {j}| => NOT_FOUND|",
             "b> kick-job {j}| => NOT_FOUND|", "a> bury {j} 9| => BURIED|", "b> kick-job {j}| => KICKED|", "a job {j} state=ready kicks=1 pri=9",
             reserved("j"), "a> release {j} 2 1000| => RELEASED|", "b> kick-job {j}| => KICKED|",
             "a job {j} state=ready kicks=2 pri=2 delay=1000 time-left=0", refused(["kick-job " + x for x in NO_JOBS], "NOT_FOUND"),
             refused(["kick-job " + x for x in BAD_IDS])),
    Dialogue("stats-job: a job's life", put_in("j", "7 0 60 1"),
             "a job {j} id={j} tube={t} state=ready pri=7 age=0..5 delay=0 ttr=60 time-left=0 reserves=0 timeouts=0 releases=0 buries=0 kicks=0",
             reserved("j", conn="b"), "a job {j} state=reserved pri=7 delay=0 time-left=50..60 reserves=1 releases=0",
             "b> release {j} 8 100| => RELEASED|", "a job {j} state=delayed pri=8 delay=100 ttr=60 time-left=90..100 reserves=1 releases=1",
             "a> kick-job {j}| => KICKED|", "a job {j} state=ready delay=100 time-left=0 kicks=1", reserved("j", conn="b"),
             "b> bury {j} 9| => BURIED|", "a job {j} state=buried pri=9 reserves=2 buries=1 time-left=0", "a> kick 1| => KICKED 1|",
             "a job {j} state=ready pri=9 reserves=2 timeouts=0 releases=1 buries=1 kicks=2", "a> delete {j}| => DELETED|",
             "a> stats-job {j}| => NOT_FOUND|", refused(["stats-job " + x for x in NO_JOBS], "NOT_FOUND"),
             refused(["stats-job " + x for x in BAD_IDS])),
    Dialogue("stats-job: age and time-left pass", put_in("j", "0 0 100 1"), put_in("k", "0 100 60 1"), reserved("j"), "a until job {j} age=2..20",
             "a job {j} time-left=80..98", "a job {k} age=2..20 time-left=80..98"),
    Dialogue("stats-tube: how the numbers move",
             "a tube {t} name={t} current-jobs-urgent=0 current-jobs-ready=0 current-jobs-reserved=0 current-jobs-delayed=0 current-jobs-buried=0 "
             "total-jobs=0 current-using=1 current-watching=1 current-waiting=0 cmd-delete=0 cmd-pause-tube=0 pause=0 pause-time-left=0",
             put_in("j", "1023 0 60 1"), put_in("k", "1024 0 60 1"), put_in("l", "0 1000 60 1"),
             "a tube {t} current-jobs-urgent=1 current-jobs-ready=2 current-jobs-delayed=1 total-jobs=3", reserved("j"),
             "a tube {t} current-jobs-urgent=0 current-jobs-ready=1 current-jobs-reserved=1", "a> bury {j} 0| => BURIED|",
             "a tube {t} current-jobs-urgent=0 current-jobs-ready=1 current-jobs-reserved=0 current-jobs-buried=1", "a> kick 9| => KICKED 1|",
             "a> kick 9| => KICKED 1|",
             "a tube {t} current-jobs-urgent=2 current-jobs-ready=3 current-jobs-delayed=0 current-jobs-buried=0 total-jobs=3", reserved("j"),
             "a> release {j} 2000 0| => RELEASED|", "a tube {t} current-jobs-urgent=1 current-jobs-ready=3 total-jobs=3",
             "a> delete {j}| => DELETED|", "a> delete {j}| => NOT_FOUND|",
             "a tube {t} current-jobs-urgent=1 current-jobs-ready=2 cmd-delete=1 total-jobs=3"),
    Dialogue("stats-tube: who uses, watches, waits", "b> watch {u}| => WATCHING 2|", "c> use {u}| => USING {u}|",
             "a tube {u} current-using=1 current-watching=1 current-waiting=0", "a tube {t} current-using=2 current-watching=3",
             "b> reserve-with-timeout 3|", "a until tube {u} current-waiting=1", "a tube {t} current-waiting=1", "b< TIMED_OUT|",
             "a tube {t} current-waiting=0", "b> ignore {u}| => WATCHING 1|", "a tube {u} current-watching=0", "c close",
             "b> watch {v}| => WATCHING 2|", "a until tube {t} current-using=2 current-watching=2",
             "a tube {v} current-watching=1 current-using=0"),
    Dialogue("stats-tube and pause-tube make no tube", "a> stats-tube {u}| => NOT_FOUND|", "a> pause-tube {u} 1| => NOT_FOUND|",
             "a> ignore {u}| => WATCHING 1|", "a tubes +{t} -{u} +default", "b> stats-tube {long}| => NOT_FOUND|"),
    Dialogue("a tube is there while it is used, watched, or has a job", "a> use {u}| => USING {u}|", "a tubes +{u}", put_in("j"),
             "a> use {t}| => USING {t}|", "a tube {u} current-using=0 current-jobs-ready=1", "a> watch {u}| => WATCHING 2|", reserved("j"),
             "a> ignore {u}| => WATCHING 1|", "a tube {u} current-jobs-reserved=1 current-watching=0", "a> bury {j} 0| => BURIED|",
             "a tube {u} current-jobs-buried=1 total-jobs=1", "a tubes +{u}"),
    Dialogue("a tube ends with its last use", "a> use {u}| => USING {u}|", put_in("j"), "a> delete {j}| => DELETED|",
             "a> pause-tube {u} 1000| => PAUSED|", "a> use {t}| => USING {t}|", "a> stats-tube {u}| => NOT_FOUND|",
             "a> pause-tube {u} 0| => NOT_FOUND|", "a tubes -{u}", "a> use {u}| => USING {u}|",
             "a tube {u} total-jobs=0 cmd-delete=0 cmd-pause-tube=0 pause=0",
             differs="a replicated tube may live on, with its counters and its pause"),
    Dialogue("use and watch", "a> use {u}| => USING {u}|", "a> list-tube-used| => USING {u}|", "a> watch {u}| => WATCHING 2|",
             "a> watch {u}| => WATCHING 2|", "a> watch {v}| => WATCHING 3|", "a watched {t} {u} {v}", "a> ignore {t}| => WATCHING 2|",
             "a> ignore {t}| => WATCHING 2|", "a watched {u} {v}", "a> ignore {u}| => WATCHING 1|", "a> ignore {v}| => NOT_IGNORED|",
             "a> ignore {u}| => WATCHING 1|", "a> ignore {v}| => NOT_IGNORED|", "a> list-tubes-watched| => OK {size:v}|---\n- {v}\n|"),
    Dialogue("a new connection uses and watches default", "a> list-tube-used| => USING default|",
             "a> list-tubes-watched| => OK 14|---\n- default\n|", "a> ignore default| => NOT_IGNORED|", "a tubes +default",
             "a> watch default| => WATCHING 1|", "a> use default| => USING default|", "a> watch {t}| => WATCHING 2|",
             "a> ignore default| => WATCHING 1|", "a tube default name=default", bare=True),
    Dialogue("only what is watched is reserved", put_in("j"), "b> watch {u}| => WATCHING 2|", "b> ignore {t}| => WATCHING 1|",
             "b> reserve-with-timeout 0| => TIMED_OUT|", "b> watch {t}| => WATCHING 2|", reserved("j", conn="b")),
    Dialogue("many tubes watched", ["a> watch {t}.%d| => WATCHING %d|" % (i, i + 2) for i in range(30)], "b> use {t}.17| => USING {t}.17|",
             put_in("j", conn="b"), reserved("j"), ["a> ignore {t}.%d| => WATCHING %d|" % (i, 30 - i) for i in range(30)], "a watched {t}"),
    Dialogue("pause-tube", put_in("j"), put_in("k"), reserved("j"), "b> pause-tube {t} 1000| => PAUSED|",
             "b tube {t} pause=1000 pause-time-left=980..1000 cmd-pause-tube=1", "a> release {j} 0 0| => RELEASED|",
             "a> reserve-with-timeout 0| => TIMED_OUT|", "a> peek-ready| => FOUND {j} 1|x|", put_in("l"),
             "a> reserve-with-timeout 1| => TIMED_OUT|", "a tube {t} current-jobs-ready=3 pause=1000", "a> pause-tube {t} 0| => PAUSED|",
             "b tube {t} pause=0 pause-time-left=0 cmd-pause-tube=2", reserved("j"), reserved("k"), reserved("l")),
    Dialogue("pause-tube: bounds, and the later one counts", put_in("j"), "a> pause-tube {t} 4294967295| => PAUSED|",
             "a tube {t} pause=4294967295 pause-time-left=4294967280..4294967295", "a> reserve-with-timeout 0| => TIMED_OUT|", "clock",
             "a> pause-tube {t} 1| => PAUSED|", "a> reserve| => RESERVED {j} 1|x| @ 1..5", "a tube {t} pause=0 pause-time-left=0 cmd-pause-tube=2",
             refused(["pause-tube {t}", "pause-tube {t} ", "pause-tube {t} 4294967296", "pause-tube {t} 0 0", "pause-tube {t} 0 ",
                      "pause-tube ", "pause-tube"]),
             refused(["pause-tube {t} " + x for x in BAD_NUMBERS]), refused(["pause-tube %s 0" % x for x in BAD_NAMES]),
             "a> pause-tube {u} 0| => NOT_FOUND|"),
    Dialogue("a pause holds only its tube", put_in("j"), "a> use {u}| => USING {u}|", put_in("k"), "b> watch {u}| => WATCHING 2|",
             "a> pause-tube {t} 1000| => PAUSED|", reserved("k", conn="b"), "b> reserve-with-timeout 0| => TIMED_OUT|",
             "b> release {k} 0 0| => RELEASED|", "b> delete {j}| => DELETED|", reserved("k", conn="b")),
    Dialogue("a delay ends within a pause", put_in("j", "0 1 60 1"), "a> pause-tube {t} 1000| => PAUSED|", "a until job {j} state=ready",
             "a> reserve-with-timeout 0| => TIMED_OUT|", "a> peek-ready| => FOUND {j} 1|x|", "a> pause-tube {t} 0| => PAUSED|", reserved("j")),
    Dialogue("a kick within a pause", put_in("j", "0 1000 60 1"), "a> pause-tube {t} 1000| => PAUSED|", "a> kick 1| => KICKED 1|",
             "a> reserve-with-timeout 0| => TIMED_OUT|", "a> peek-ready| => FOUND {j} 1|x|"),
    Dialogue("a delayed job becomes ready in its place", "clock", put_in("j", "5 1 60 1"), put_in("k", "5 0 60 1"), put_in("l", "3 1 60 1"),
             "a until tube {t} current-jobs-ready=3", "a tube {t} current-jobs-delayed=0", [reserved(j) for j in "ljk"],
             differs="a delayed job may take its place when its time has come, behind what was ready before"),
    Dialogue("stats: counters rise", "b mark", put_in("j"), put_in("k", "0 1000 60 1"),
             "a> peek {j}|peek-ready|peek-delayed|peek-buried| => FOUND {j} 1|x|FOUND {j} 1|x|FOUND {k} 1|x|NOT_FOUND|",
             "a> reserve| => RESERVED {j} 1|x|", "a> touch {j}|release {j} 0 0| => TOUCHED|RELEASED|",
             "a> reserve-with-timeout 0| => RESERVED {j} 1|x|", "a> reserve-with-timeout 0| => TIMED_OUT|",
             "a> bury {j} 0|kick 1| => BURIED|KICKED 1|", "a> use {u}|watch {u}|ignore {u}| => USING {u}|WATCHING 2|WATCHING 1|",
             "a job {j} state=ready", "a tube {t} total-jobs=2", "a tubes +{t}", "a watched {t}",
             "a> list-tube-used|pause-tube {t} 0|delete {j}|delete {j}| => USING {u}|PAUSED|DELETED|NOT_FOUND|",
             "b more " + " ".join("cmd-%s=1" % c for c in COMMANDS if c not in ("put", "delete", "reserve-with-timeout")) +
             " cmd-put=2 cmd-delete=2 cmd-reserve-with-timeout=2 total-jobs=2"),
    Dialogue("stats: what there is now", put_in("j"), put_in("k", "0 1000 60 1"), put_in("l"), put_in("m", "2000 0 60 1"), reserved("j"),
             reserved("l"), "a> bury {l} 0| => BURIED|", "b> watch {u}|ignore {t}| => WATCHING 2|WATCHING 1|", "b> reserve-with-timeout 3|",
             "a until stats current-waiting=1.. current-jobs-ready=1.. current-jobs-reserved=1.. current-jobs-delayed=1.. current-jobs-buried=1.. "
             "current-connections=2.. current-producers=1.. current-workers=1.. current-tubes=2.. total-connections=2.. total-jobs=4.. "
             "draining=false max-job-size={max} uptime=0.. binlog-max-size=0..", "b< TIMED_OUT|"),
    Dialogue("stats: timeouts", "b mark", put_in("j", "0 0 1 1"), reserved("j"), "nudge a 1.2", "b until job {j} timeouts=1",
             "b more job-timeouts=1"),
]

READING = [
    Dialogue("unknown commands",
             refused(["", " ", "foo", "PUT 0 0 60 1", " list-tube-used", "Reserve", "\nlist-tube-used", "put\t0 0 60 1", LINE], "UNKNOWN_COMMAND"),
             refused([c + end for c in WITH_SPACE for end in ("", "x")], "UNKNOWN_COMMAND"),
             refused(["kick-", "peek-x", "pause", "pause-x", "list", "list-", "list-tube", "ignorex {t}"], "UNKNOWN_COMMAND")),
    Dialogue("trailing bytes behind a whole command", refused([c + end for c in BARE_COMMANDS for end in (" ", "x", " 1", "\t", "\0")])),
    Dialogue("arguments left out",
             refused([c + " " for c in WITH_SPACE] + [c + end for c in WITHIN for end in ("", "x")] +
                     [c + " " for c in WITHIN if c != "reserve-with-timeout"])),
    Dialogue("names: what is refused", refused(["%s %s" % (c, n) for c in NAMING for n in BAD_NAMES]),
             refused(["%s %s" % (c, n) for c in NAMING for n in (" {t}", "{t} ", "{t} {u}", "{t} 1")]), "a> list-tube-used| => USING {t}|",
             "a watched {t}"),
    Dialogue("names: what is taken", ["a> use {t}%s| => USING {t}%s|" % (n, n) for n in ("-+/;.$_()", "AZaz09", "-", ".x")],
             "a> use {long}| => USING {long}|", "a> watch {long}| => WATCHING 2|", put_in("j"), "a tube {long} name={long} total-jobs=1",
             "a> pause-tube {long} 0| => PAUSED|", "a tubes +{long}", "a watched {t} {long}", reserved("j"), "a job {j} tube={long}",
             "a> ignore {long}| => WATCHING 1|", ["a> use %s{t}| => USING %s{t}|" % (n, n) for n in "+/;.$_()09Zz"]),
    Dialogue("lines of 224 bytes and more", "a> " + LINE + "| => UNKNOWN_COMMAND|", "a> " + LINE[:-1] + "| => UNKNOWN_COMMAND|",
             ["a> %s| => BAD_FORMAT|" % ("x" * n) for n in (224, 225, 300, 448, 449, 1000, 5000)],
             "a> " + "x" * 224 + "|list-tube-used| => BAD_FORMAT|USING {t}|",
             "a> put 0 0 60" + " " * 300 + "1|list-tube-used| => BAD_FORMAT|USING {t}|", "a> use " + "n" * 218 + "| => BAD_FORMAT|",
             "a> use " + "n" * 300 + "| => BAD_FORMAT|", "a> put 0 0 60" + " " * 209 + "1|x| => INSERTED {j}|"),
    Dialogue("an over-long line in pieces", "a> " + "x" * 500, "a silent 0.2", "a> " + "y" * 100, "a silent 0.1", "a> |", "a< BAD_FORMAT|",
             "a> list-tube-used| => USING {t}|", "a> " + "x" * 500 + "\n\n", "a silent 0.2", "a> |list-tube-used|", "a< BAD_FORMAT|USING {t}|"),
    Dialogue("a line of 225 bytes takes the next with it", "a> " + "x" * 223 + "|", "a silent 0.3", "a> list-tube-used| => BAD_FORMAT|",
             "a> list-tube-used| => USING {t}|",
             differs="a mistake of the real one: the CR that ends its buffer is lost; one BAD_FORMAT at the line's end would be right"),
    Dialogue("a CR alone hides the line's end", "a> list-tube-used\r|", "a silent 0.3",
             "a> " + "x" * 224 + "|list-tube-used| => BAD_FORMAT|USING {t}|",
             differs="a mistake of the real one: it looks at the first CR only; BAD_FORMAT would be right"),
    Dialogue("a LF alone ends no line", "a> list-tube-used\n", "a silent 0.3", "a> | => BAD_FORMAT|", "a> list-tube-used| => USING {t}|"),
    Dialogue("CR and LF in two segments", "a> list-tube-used\r", "a silent 0.2", "a> \n => USING {t}|", "a> put 0 0 60 1|x\r", "a silent 0.2",
             "a> \n => INSERTED {j}|"),
    Dialogue("a NUL in a line", refused(["list-tube-used\0", "use {t}\0", "delete 1\0", "put 0 0 60 1\0", "stats\0x", "foo\0"])),
    Dialogue("commands in single bytes", "a>> put 3 0 60 5|a|bc|reserve|", "a< INSERTED {j}|RESERVED {j} 5|a|bc|",
             "a>> stats-job 0|list-tube-used|delete {j}|peek {j}|", "a< NOT_FOUND|USING {t}|DELETED|NOT_FOUND|", "a>> foo|use -|watch {u}|",
             "a< UNKNOWN_COMMAND|BAD_FORMAT|WATCHING 2|"),
    Dialogue("commands in one segment",
             "a> put 5 0 60 1|x|put 3 0 60 2|yz|reserve|peek-ready|reserve-with-timeout 0|reserve-with-timeout 0|foo|use -|use "
             "{t}|list-tube-used| => INSERTED {j}|INSERTED {k}|RESERVED {k} 2|yz|FOUND {j} 1|x|RESERVED {j} "
             "1|x|TIMED_OUT|UNKNOWN_COMMAND|BAD_FORMAT|USING {t}|USING {t}|",
             "a> touch {j}|release {j} 1 0|delete {k}|bury {j} 0|delete {j}|delete {j}| => TOUCHED|RELEASED|DELETED|NOT_FOUND|DELETED|NOT_FOUND|"),
    Dialogue("many commands in one segment", "a> " + "put 0 0 60 1|x|" * 50 + "list-tube-used|" * 200,
             "a< " + "".join("INSERTED {j%d}|" % i for i in range(50)) + "USING {t}|" * 200,
             "b> " + "reserve|" * 50 + " => " + "".join("RESERVED {j%d} 1|x|" % i for i in range(50)),
             "b> " + "".join("delete {j%d}|" % i for i in range(50)) + " => " + "DELETED|" * 50, "a tube {t} total-jobs=50 cmd-delete=50"),
    Dialogue("several large bodies in one segment",
             "a> " + "put 0 0 60 {max}|{body:max}|" * 4 + " => INSERTED {j}|INSERTED {k}|INSERTED {l}|INSERTED {m}|",
             "a> reserve|reserve|reserve|reserve| => " + "".join("RESERVED {%s} {max}|{body:max}|" % j for j in "jklm")),
    Dialogue("quit", "a> quit|", "a closed", "b> list-tube-used|quit|list-tube-used| => USING {t}|", "b closed",
             on_own(["list-tube-used"], "USING {t}"), "c> quitx|", "c closed", "d> quit 9 9|", "d closed"),
    Dialogue("what stands behind quit is not carried out", "a> put 0 0 60 1|x|reserve|quit|put 0 0 60 1|y| => INSERTED {j}|RESERVED {j} 1|x|",
             "a closed", "b until job {j} state=ready", "b tube {t} total-jobs=1 current-jobs-ready=1"),
    Dialogue("a half-closed connection: what was sent is answered", "a> put 0 0 60 1|x|reserve|list-tube-used|", "a shut",
             "a< INSERTED {j}|RESERVED {j} 1|x|USING {t}|", "a closed", "b until job {j} state=ready"),
    Dialogue("a half-closed connection waits for no job", "a> reserve|", "a silent 0.2", "clock", "a shut", "a< TIMED_OUT| @ 0..5", "a closed",
             "b> reserve-with-timeout 60|", "b silent 0.2", "clock", "b shut", "b< TIMED_OUT| @ 0..5", "b closed", put_in("j", conn="c"),
             reserved("j", conn="c")),
]

SPOILING = [
    Dialogue("stats of a fresh server",
             "a stats current-jobs-ready=0 cmd-put=0 cmd-stats=1 total-jobs=0 current-connections=1 current-producers=0 current-workers=0 "
             "current-waiting=0 current-tubes=1 version=\"1.12\" binlog-oldest-index=0 binlog-current-index=0 binlog-records-migrated=0 "
             "binlog-records-written=0 uptime=0..60", put_in("j"), "a> put 0 0 9 1 1| => BAD_FORMAT|",
             "a> put 0 0 60 {max+1}|{body:max+1}| => JOB_TOO_BIG|", "a> put 0 0 60 1|xyz => EXPECTED_CRLF|", "a> put 1 2 3| => BAD_FORMAT|",
             "a> delete 999|delete x| => NOT_FOUND|BAD_FORMAT|",
             "a> pause-tube nope 1|pause-tube - 1|pause-tube x| => NOT_FOUND|BAD_FORMAT|BAD_FORMAT|", "a> kick-job 999| => NOT_FOUND|",
             "a> reserve| => RESERVED {j} 1|x|",
             "a stats cmd-put=4 total-jobs=1 cmd-delete=1 cmd-pause-tube=2 cmd-kick=0 cmd-reserve=1 current-producers=1 current-workers=1 "
             "current-jobs-reserved=1 current-jobs-urgent=0", bare=True, fresh=True,
             differs="one process's own numbers: connections, counters and pid of a cluster are another thing"),
    Dialogue("draining", "signal", "a until stats draining=true", "a> put 0 0 60 1|x| => DRAINING|",
             "a> put 0 0 60 {max+1}|{body:max+1}| => JOB_TOO_BIG|", "a> put 0 0 60 1|xyz => EXPECTED_CRLF|", "a> put 0 0 60 x| => BAD_FORMAT|",
             "a> list-tube-used| => USING {t}|", fresh=True, differs="drain mode is entered by SIGUSR1 to the process and never left"),
]

DIALOGUES = PUTTING + RESERVING + SETTLING + LOOKING + READING


class Played:
    """One dialogue that is being played."""

    def __init__(self, dialogue, address, max_size, slack=1.0, pid=None, real=False):
        self.dialogue, self.address, self.max, self.slack, self.pid, self.real = dialogue, address, max_size, slack, pid, real
        self.names, self.conns, self.trace, self.ids = tubes_of_its_own(), {}, [], []
        self.clock = self.began = time.monotonic()
        self.before = {}

    def play(self):
        for i, step in enumerate(self.dialogue.steps):
            self.at = "step %d: %s" % (i + 1, shown(step.encode("latin-1")))
            self.step(step)
        self.at = "the end"
        for name, conn in self.conns.items():
            if conn.open and not conn.unanswered:
                self.exchange(name, b"list-tube-used\r\n", self.pattern("USING {?}|"))

    def step(self, step):
        sent = re.match(r"(\w+)(>>|>|<) ?(.*)", step, re.S)
        if sent:
            return self.send_or_expect(*sent.groups())
        words = step.split()
        if words[0] in ("clock", "sleep", "signal", "among", "rising", "nudge"):
            return getattr(self, "do_" + words[0])(step, *words[1:])
        return getattr(self, "on_" + words[1].replace("-", "_"))(words[0], *[self.text(w) for w in words[2:]])

    def send_or_expect(self, name, how, text):
        if how == "<":
            return self.expect(name, text)
        text, _, reply = text.partition(" => ")
        conn, data = self.conn(name), self.fill(text)
        self.note(name, ">", data)
        conn.unanswered = True
        conn.send(data, single=how == ">>")
        if reply:
            self.expect(name, reply)

    def expect(self, name, text):
        text, low, high = re.fullmatch(r"(.*?)(?: @ ([\d.]+)\.\.([\d.]+))?", text, re.S).groups()
        conn, pattern = self.conn(name), self.pattern(text)
        used = self.receive(name, conn, pattern, time.monotonic() + (10 + float(high or 0)) * self.slack)
        self.take(name, conn, pattern, used)
        passed = time.monotonic() - self.clock
        if low and not float(low) - EARLY <= passed <= float(high) * self.slack:
            self.fail("it came %.2f s after the clock was set" % passed)

    def receive(self, name, conn, pattern, until):
        """Until the pattern is there; how many bytes it took."""
        while True:
            used = pattern.match(conn.got)
            if used is not None and used > 0:
                return used
            if used is not None or not conn.receive(until - time.monotonic()):
                self.note(name, "<", conn.got)
                more = "" if used is not None else " and no more in time" if conn.open else " and the end"
                self.fail("expected %s\nfound    %s%s" % (pattern, shown(conn.got), more))

    def take(self, name, conn, pattern, used):
        self.note(name, "<", conn.got[:used])
        learned = pattern.learn(conn.got)
        for key, value in learned.items():
            self.learn(key, value, conn.got[:used])
        conn.got = conn.got[used:]
        conn.unanswered = bool(conn.got)

    def learn(self, key, value, reply):
        if not 0 < int(value) < 1 << 63:
            self.fail("the id %s is not between 1 and 2^63 - 1" % value)
        if value in self.ids:
            self.fail("the id %s was given twice" % value)
        self.names[key] = value
        self.ids.append(value)

    # steps without a connection

    def do_clock(self, step):
        self.clock = time.monotonic()

    def do_sleep(self, step, seconds):
        time.sleep(float(seconds))

    def do_nudge(self, step, name, seconds):
        if self.real:
            time.sleep(float(seconds))
            self.exchange(name, b"list-tube-used\r\n", self.pattern("USING {?}|"))

    def do_signal(self, step):
        os.kill(self.pid, signal.SIGUSR1)

    def do_rising(self, step, *ids):
        numbers = [int(self.text(i)) for i in ids]
        if sorted(numbers) != numbers:
            self.fail("the ids do not rise: %s" % numbers)

    def do_among(self, step, *words):
        names, alias = words[:words.index("as")], words[words.index("as") + 1]
        conns = {self.conns[n].socket: n for n in names if n in self.conns}
        ready = select.select(list(conns), [], [], 10 * self.slack)[0]
        if not ready:
            self.fail("none of the connections got anything")
        name = conns[ready[0]]
        self.conns[alias] = self.conns.pop(name)
        self.expect(alias, step.partition(" < ")[2])

    # steps of a connection

    def on_silent(self, name, seconds):
        conn = self.conn(name)
        if conn.got or conn.receive(float(seconds)) or not conn.open:
            self.fail("expected nothing, found %s%s" % (shown(conn.got), "" if conn.open else " and the end"))

    def on_closed(self, name):
        conn = self.conn(name)
        while conn.receive(10 * self.slack):
            pass
        if conn.open or conn.got:
            self.fail("expected the end, found %s%s" % (shown(conn.got), " and no end in time" if conn.open else ""))

    def on_close(self, name):
        self.conns.pop(name).close()
        self.note(name, "closes", b"")

    def on_reset(self, name):
        self.conns[name].socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.on_close(name)

    def on_shut(self, name):
        self.conns[name].socket.shutdown(socket.SHUT_WR)
        self.note(name, "shuts its writing half", b"")

    def on_job(self, name, job, *wanted):
        self.check(self.yaml(name, "stats-job " + job, JOB_KEYS), ("id=" + job,) + wanted)

    def on_tube(self, name, tube, *wanted):
        self.check(self.yaml(name, "stats-tube " + tube, TUBE_KEYS), ("name=" + tube,) + wanted)

    def on_stats(self, name, *wanted):
        self.check(self.yaml(name, "stats", STATS_KEYS), wanted)

    def on_mark(self, name):
        self.before = self.yaml(name, "stats", STATS_KEYS)

    def on_more(self, name, *wanted):
        now = self.yaml(name, "stats", STATS_KEYS)
        for key, rise in (w.split("=") for w in wanted):
            if int(now[key]) - int(self.before[key]) < int(rise):
                self.fail("%s was %s and is %s: expected %s more" % (key, self.before[key], now[key], rise))

    def on_until(self, name, kind, *words):
        until, begun = time.monotonic() + 10 * self.slack, len(self.trace)
        while True:
            del self.trace[begun:]
            try:
                return getattr(self, "on_" + kind)(name, *words)
            except NotYet:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)

    def on_tubes(self, name, *wanted):
        tubes = self.listed(name, "list-tubes")
        for word in wanted:
            if (word[1:] in tubes) != (word[0] == "+"):
                self.fail("%s is%s in list-tubes" % (word[1:], "" if word[1:] in tubes else " not"))

    def on_watched(self, name, *wanted):
        tubes = self.listed(name, "list-tubes-watched")
        if sorted(tubes) != sorted(wanted):
            self.fail("expected %s\nfound    %s" % (sorted(wanted), sorted(tubes)))

    # what these need

    def conn(self, name):
        if name not in self.conns:
            self.conns[name] = Connection(self.address, 30 * self.slack)
            if not self.dialogue.bare:
                self.send_or_expect(name, ">", "use {t}|watch {t}|ignore default| => USING {t}|WATCHING 2|WATCHING 1|")
        return self.conns[name]

    def exchange(self, name, data, pattern):
        conn = self.conn(name)
        self.note(name, ">", data)
        conn.send(data)
        used = self.receive(name, conn, pattern, time.monotonic() + 10 * self.slack)
        got, conn.got = conn.got[:used], conn.got[used:]
        self.note(name, "<", got)
        if conn.got:
            self.fail("expected %s\nfound    %s" % (pattern, shown(got + conn.got)))
        return got

    def chunk(self, name, command):
        """What comes with OK."""
        got = self.exchange(name, command.encode("latin-1") + b"\r\n", Chunk())
        return got.partition(b"\r\n")[2][:-2].decode("latin-1")

    def yaml(self, name, command, keys):
        text = self.chunk(name, command)
        if not re.fullmatch(r"---\n([a-z-]+: [^\n]*\n)+", text):
            self.fail("not a dictionary: %r" % text)
        pairs = [line.split(": ", 1) for line in text.splitlines()[1:]]
        if sorted(k for k, v in pairs) != sorted(keys):
            self.fail("too few, many: %s" % sorted(set(keys) ^ {k for k, v in pairs}))
        for key, value in pairs:
            if key != "id" and not re.fullmatch(NOT_NUMBERS.get(key, r"\d+"), value):
                self.fail("%s: %s" % (key, value))
        return dict(pairs)

    def listed(self, name, command):
        text = self.chunk(name, command)
        if not re.fullmatch(r"---\n(- \S+\n)*", text):
            self.fail("not a list: %r" % text)
        names = [line[2:] for line in text.splitlines()[1:]]
        if len(set(names)) != len(names):
            self.fail("twice the same: %s" % names)
        return names

    def check(self, found, wanted):
        for key, value in (w.split("=", 1) for w in wanted):
            limits = re.fullmatch(r"(\d+)\.\.(\d*)", value)
            low, high = (int(limits[1]), int(limits[2] or 1 << 63)) if limits else (0, 0)
            if key in ("age", "uptime"):
                high *= self.slack
            if key.endswith("time-left"):
                low -= (high - low) * (self.slack - 1)
            if not (low <= int(found[key]) <= high if limits else found[key] == value):
                self.fail("%s is %s, expected %s" % (key, found[key], value), NotYet)

    def value(self, word):
        kind, _, number = word.rpartition(":")
        if kind == "size":
            return str(len("---\n- \n") + len(self.names[number]))
        size = re.fullmatch(r"(max|\d+)([+-]\d+)?", number)
        if not size:
            return self.names.get(word)
        size = (self.max if size[1] == "max" else int(size[1])) + int(size[2] or 0)
        return {"": str(size), "body": body(size), "tail": body(size)[-1:]}[kind]

    def parts(self, text):
        """The text as bytes and, where a word in braces has no value yet, that word in a list."""
        for literal, word in re.findall(r"((?:[^{]|\{(?![\w?]+[:\w+-]*\}))+)|\{([\w?][\w:+-]*)\}", text, re.S):
            value = literal.replace("|", "\r\n") if literal else self.value(word)
            yield [word] if value is None else value.encode("latin-1")

    def fill(self, text):
        return b"".join(self.parts(text))

    def text(self, word):
        return self.fill(word).decode("latin-1")

    def pattern(self, text):
        return Pattern(self.parts(text))

    def note(self, name, what, data):
        self.trace.append("%7.3f %s %s %s" % (time.monotonic() - self.began, name, what, shown(data)))

    def fail(self, why, kind=AssertionError):
        trace = "\n".join(["the dialogue so far (seconds, connection, bytes):"] + self.trace)
        raise kind("dialogue \"%s\", %s\n%s\n%s" % (self.dialogue.name, self.at, why, trace))

    def close(self):
        for conn in self.conns.values():
            conn.close()
        if self.ids and not self.dialogue.fresh:
            self.delete_all()

    def delete_all(self):
        try:
            conn = Connection(self.address, 10 * self.slack)
            time.sleep(0.02)  # the closed ones' jobs are released
            conn.send("".join("delete %s\r\n" % i for i in self.ids).encode())
            while conn.got.count(b"\n") < len(self.ids) and conn.receive(5):
                pass
            conn.close()
        except OSError:
            pass


class NotYet(AssertionError):
    pass


class Connection:
    def __init__(self, address, timeout):
        self.socket = socket.create_connection(address, timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.timeout, self.got, self.open, self.unanswered = timeout, b"", True, False

    def send(self, data, single=False):
        self.socket.settimeout(self.timeout)
        try:
            for i in range(0, len(data), 1) if single else ():
                self.socket.sendall(data[i:i + 1])
                time.sleep(0.0005)
            if not single:
                self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the reply tells

    def receive(self, seconds):
        """Whether something came."""
        if seconds <= 0 or not self.open or not select.select([self.socket], [], [], seconds)[0]:
            return False
        try:
            data = self.socket.recv(1 << 20)
        except ConnectionResetError:
            data = b""
        self.got += data
        self.open = bool(data)
        return self.open

    def close(self):
        self.socket.close()


class Pattern:
    """Bytes, and between them numbers that are not known yet."""

    def __init__(self, parts):
        self.parts = list(parts)

    def match(self, data):
        """How many bytes match; 0: they differ; None: more must come."""
        at = 0
        for part in self.parts:
            if isinstance(part, list):
                number = re.compile(rb"\S+" if part == ["?"] else rb"[1-9]\d*").match(data, at)
                if not number:
                    return None if at == len(data) else 0
                at = number.end()
                continue
            there = data[at:at + len(part)]
            if there != part:
                return None if part.startswith(there) else 0
            at += len(part)
        return at

    def learn(self, data):
        at, learned = 0, {}
        for part in self.parts:
            if isinstance(part, list):
                number = re.compile(rb"\d+").match(data, at)
                learned[part[0]] = number[0].decode()
            at = number.end() if isinstance(part, list) else at + len(part)
        return learned

    def __str__(self):
        return shown(b"".join(b"{%s}" % p[0].encode() if isinstance(p, list) else p for p in self.parts))


class Chunk:
    """A reply OK with its bytes."""

    def match(self, data):
        line, end, rest = data.partition(b"\r\n")
        if not end:
            return None if b"OK ".startswith(line[:3]) and len(line) < 30 else 0
        size = re.fullmatch(rb"OK (\d+)", line)
        if not size or len(rest) >= int(size[1]) + 2 and rest[int(size[1]):int(size[1]) + 2] != b"\r\n":
            return 0
        return len(line) + 2 + int(size[1]) + 2 if len(rest) >= int(size[1]) + 2 else None

    def __str__(self):
        return "OK <bytes>|<as many bytes>|"


def shown(data):
    """Bytes to read: | for CR LF, long ones cut."""
    text = data[:300].decode("latin-1").replace("\r\n", "|")
    text = "".join(c if " " <= c <= "~" else "\\n" if c == "\n" else "\\r" if c == "\r" else "\\x%02x" % ord(c) for c in text)
    return text if len(data) <= 300 else "%s... (%d bytes)" % (text, len(data))


def body(size):
    """As text, a character a byte; all values occur, and CR LF does."""
    unit = "\r\n\0" + "".join(map(chr, range(256)))
    return (unit * (size // len(unit) + 1))[:size]


COUNTED = {"tubes": 0, "lock": threading.Lock()}


def tubes_of_its_own():
    with COUNTED["lock"]:
        COUNTED["tubes"] += 1
        t = "d%x.%x.%d" % (os.getpid(), int(time.time() * 1000), COUNTED["tubes"])
    return {"t": t, "u": t + ".u", "v": t + ".v", "long": (t + "L" * 200)[:200]}


def max_job_size(address, slack=1.0):
    played = Played(Dialogue("the largest job's size", bare=True), address, 0, slack)
    played.at = "max-job-size of stats"
    try:
        return int(played.yaml("a", "stats", STATS_KEYS)["max-job-size"])
    finally:
        played.close()


def play(dialogue, address, max_size, slack=1.0, pid=None, trace=False, real=False):
    """Plays it, gives the seconds it took; raises AssertionError at the first difference."""
    played = Played(dialogue, address, max_size, slack, pid, real)
    try:
        played.play()
    except OSError as e:
        played.fail("%s: %s" % (type(e).__name__, e))
    finally:
        played.close()
    if trace:
        print("\n".join(played.trace))
    return time.monotonic() - played.began


def chosen(only=None, replicated=False, dialogues=None):
    """only: a part of the name, or a list of such."""
    parts = [only] if isinstance(only, str) else only
    named = [d for d in (DIALOGUES if dialogues is None else dialogues) if not parts or any(p in d.name for p in parts)]
    return [d for d in named if not (replicated and d.differs)]


def results(address, dialogues, slack=1.0, workers=4, trace=False, real=False):
    """Yields (dialogue, seconds, None or what failed), in their order, played several at a time."""
    size = max_job_size(address, slack)
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(play, d, address, size, slack, trace=trace, real=real) for d in dialogues]
        try:
            for dialogue, future in zip(dialogues, futures):
                error = future.exception()
                if error and not isinstance(error, AssertionError):
                    raise error
                yield dialogue, None if error else future.result(), error
        finally:
            for future in futures:
                future.cancel()


def run(address, only=None, slack=1.0, replicated=False, workers=4, real=False):
    """Plays all (or those with `only` in their name) against the server; AssertionError at the first difference. How many were played."""
    count = 0
    for _, _, error in results(address, chosen(only, replicated), slack, workers, real=real):
        if error:
            raise error
        count += 1
    return count


class Beanstalkd:
    """The real one, on a free port."""

    def __init__(self, *flags):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.address = s.getsockname()
        self.process = subprocess.Popen(["beanstalkd", "-l", self.address[0], "-p", str(self.address[1]), *flags], stderr=subprocess.DEVNULL)

    def __enter__(self):
        until = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(self.address).close()
                return self
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.02)

    def __exit__(self, *exc):
        self.process.terminate()
        self.process.wait()


def play_spoiling(dialogue, slack):
    with Beanstalkd() as server:
        try:
            return play(dialogue, server.address, 65535, slack, server.process.pid), None
        except AssertionError as e:
            return None, e


def tell(dialogue, seconds, error):
    took = "" if seconds is None else " (%.1f s)" % seconds
    print(("FAIL " if error else "ok   ") + dialogue.name + took + (" [may differ]" if dialogue.differs else ""), flush=True)
    if error:
        print(str(error), flush=True)
    return bool(error)


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("server", nargs="?", help="HOST:PORT; without it a beanstalkd is started")
    parser.add_argument("--only")
    parser.add_argument("--slack", type=float, default=1.0)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--replicated", action="store_true")
    parser.add_argument("--real", action="store_true", help="HOST:PORT is a real beanstalkd")
    parser.add_argument("--trace", action="store_true")
    return parser.parse_args()


def main():
    args = arguments()
    dialogues = chosen(args.only, args.replicated)
    if args.server:
        host, _, port = args.server.rpartition(":")
        failed = [tell(*r) for r in results((host, int(port)), dialogues, args.slack, args.workers, args.trace, args.real)]
    else:
        with Beanstalkd() as server:
            failed = [tell(*r) for r in results(server.address, dialogues, args.slack, args.workers, args.trace, True)]
        failed += [tell(d, *play_spoiling(d, args.slack)) for d in chosen(args.only, args.replicated, SPOILING)]
    print("%d passed, %d failed" % (failed.count(False), failed.count(True)))
    return 1 if any(failed) or not failed else 0


if __name__ == "__main__":
    sys.exit(main())

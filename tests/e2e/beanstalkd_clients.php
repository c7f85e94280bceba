<?php
// The flows of beanstalkd_clients.py for Pheanstalk 4 (Debian: php-pda-pheanstalk): php beanstalkd_clients.php HOST PORT TUBE
// Prints "ok FLOW" or "FAIL FLOW: what" a line.
require '/usr/share/php/Pheanstalk/autoload.php';

use Pheanstalk\Exception\ServerException;
use Pheanstalk\JobId;
use Pheanstalk\Pheanstalk;

[, $host, $port, $tube] = $argv;

function same($found, $wanted, $what = 'value')
{
    if ($found !== $wanted) {
        throw new Exception("$what: " . var_export($found, true) . ' instead of ' . var_export($wanted, true));
    }
}

function has($found, array $wanted)
{
    foreach ($wanted as $key => $value) {
        same((string) $found[$key], (string) $value, $key);
    }
}

function is_job($job, $id, $body)
{
    same($job === null ? null : $job->getId(), $id, 'id');
    same($job->getData(), $body, 'body');
}

function refused($class, callable $do)
{
    try {
        $do();
    } catch (Exception $e) {
        same($e instanceof $class, true, get_class($e) . ' ' . $e->getMessage());
        return;
    }
    throw new Exception('it was not refused');
}

function worker($tube)
{
    global $host, $port;
    return Pheanstalk::create($host, (int) $port)->useTube($tube)->watchOnly($tube);
}

$flows = [
    'put with priority, delay and ttr' => function ($c, $t) {
        $job = $c->put('one', 7, 0, 60);
        has($c->statsJob($job), ['id' => $job->getId(), 'tube' => $t, 'state' => 'ready', 'pri' => 7, 'delay' => 0, 'ttr' => 60, 'reserves' => 0]);
        $later = $c->put('two', 5, 1000, 61);
        has($c->statsJob($later), ['state' => 'delayed', 'pri' => 5, 'delay' => 1000, 'ttr' => 61]);
        has($c->statsTube($t), ['name' => $t, 'current-jobs-ready' => 1, 'current-jobs-delayed' => 1, 'total-jobs' => 2]);
        is_job($c->peek($job), $job->getId(), 'one');
        is_job($c->peekReady(), $job->getId(), 'one');
        is_job($c->peekDelayed(), $later->getId(), 'two');
        same($c->peekBuried(), null);
        $c->delete($job);
        $c->delete($later);
        refused(ServerException::class, function () use ($c, $later) { $c->delete($later); });
        refused(ServerException::class, function () use ($c, $job) { $c->peek($job); });
        same($c->peekReady(), null);
    },
    'reserve, touch, release, delete' => function ($c, $t) {
        $id = $c->put('body', 7, 0, 60)->getId();
        $job = $c->reserveWithTimeout(5);
        is_job($job, $id, 'body');
        $c->touch($job);
        has($c->statsJob($job), ['state' => 'reserved', 'reserves' => 1]);
        $c->release($job, 3, 1000);
        has($c->statsJob($job), ['state' => 'delayed', 'pri' => 3, 'delay' => 1000, 'releases' => 1]);
        refused(ServerException::class, function () use ($c, $job) { $c->touch($job); });
        refused(ServerException::class, function () use ($c, $job) { $c->release($job); });
        $c->kickJob($job);
        is_job($c->reserve(), $id, 'body');
        $c->release($job, 4, 0);
        has($c->statsJob($job), ['state' => 'ready', 'pri' => 4, 'reserves' => 2, 'releases' => 2, 'kicks' => 1]);
        is_job($c->reserveWithTimeout(0), $id, 'body');
        $c->delete($job);
        has($c->statsTube($t), ['current-jobs-ready' => 0, 'current-jobs-reserved' => 0, 'cmd-delete' => 1]);
    },
    'reserve with a timeout' => function ($c) {
        $began = microtime(true);
        same($c->reserveWithTimeout(0), null);
        same($c->reserveWithTimeout(1), null);
        same(microtime(true) - $began > 0.9, true, 'late enough');
    },
    'bury, peek, kick' => function ($c, $t) {
        $id = $c->put('bad', 1, 0, 60)->getId();
        $job = $c->reserveWithTimeout(5);
        $c->bury($job, 9);
        has($c->statsJob($job), ['state' => 'buried', 'pri' => 9, 'buries' => 1]);
        is_job($c->peekBuried(), $id, 'bad');
        has($c->statsTube($t), ['current-jobs-buried' => 1]);
        refused(ServerException::class, function () use ($c, $job) { $c->bury($job); });
        same($c->kick(10), 1);
        refused(ServerException::class, function () use ($c, $job) { $c->kickJob($job); });
        is_job($c->reserveWithTimeout(5), $id, 'bad');
        has($c->statsJob($job), ['pri' => 9, 'kicks' => 1, 'reserves' => 2]);
        same($c->kick(10), 0);
    },
    'watch, ignore and lists' => function ($c, $t) {
        $c->watch("$t.w");
        $watched = $c->listTubesWatched(true);
        sort($watched);
        same($watched, [$t, "$t.w"]);
        $c->useTube("$t.u");
        same($c->listTubeUsed(true), "$t.u");
        same(array_diff([$t, "$t.u", "$t.w", 'default'], $c->listTubes()), []);
        $c->ignore($t);
        same($c->listTubesWatched(true), ["$t.w"]);
        refused(ServerException::class, function () use ($c, $t) { $c->statsTube("$t.none"); });
    },
    'priorities, then age' => function ($c) {
        $ids = array_map(function ($p) use ($c) { return $c->put("p$p", $p, 0, 60)->getId(); }, [5, 1, 5, 1, 9]);
        foreach ([1, 3, 0, 2, 4] as $i) {
            same($c->reserveWithTimeout(5)->getId(), $ids[$i]);
        }
    },
    'a worker that goes away' => function ($c, $t) {
        $other = worker($t);
        $id = $c->put('again', 0, 0, 60)->getId();
        is_job($other->reserveWithTimeout(5), $id, 'again');
        unset($other);
        gc_collect_cycles();
        $job = $c->reserveWithTimeout(20);
        is_job($job, $id, 'again');
        has($c->statsJob($job), ['reserves' => 2, 'timeouts' => 0]);
    },
    'a delayed job, waited for' => function ($c) {
        $id = $c->put('late', 0, 1, 60)->getId();
        same($c->reserveWithTimeout(0), null);
        is_job($c->reserveWithTimeout(20), $id, 'late');
    },
    'pause' => function ($c, $t) {
        $id = $c->put('held', 0, 0, 60)->getId();
        $c->pauseTube($t, 1000);
        same($c->reserveWithTimeout(0), null);
        has($c->statsTube($t), ['pause' => 1000, 'cmd-pause-tube' => 1]);
        $c->resumeTube($t);
        is_job($c->reserveWithTimeout(20), $id, 'held');
    },
    'binary, empty and large bodies' => function ($c) {
        foreach (["\0\r\n\xff\r\n\x80\0", '', str_repeat("x\r\n", 20000)] as $body) {
            $id = $c->put($body, 0, 0, 60)->getId();
            is_job($c->peek(new JobId($id)), $id, $body);
            is_job($c->reserveWithTimeout(5), $id, $body);
        }
    },
    'stats' => function ($c) {
        $stats = $c->stats();
        foreach (['current-jobs-ready', 'cmd-put', 'total-jobs', 'max-job-size', 'current-tubes', 'version', 'uptime'] as $key) {
            same(isset($stats[$key]), true, $key);
        }
        same($stats['cmd-put'] > 0 && $stats['total-jobs'] > 0, true, 'counted');
    },
];

$number = 0;
foreach ($flows as $name => $flow) {
    $t = "$tube." . ++$number;
    try {
        $flow(worker($t), $t);
        echo "ok $name\n";
    } catch (Throwable $e) {
        echo "FAIL $name: ", str_replace("\n", ' / ', get_class($e) . ' ' . $e->getMessage() . ' line ' . $e->getLine()), "\n";
    }
}

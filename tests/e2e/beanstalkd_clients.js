// The flows of beanstalkd_clients.py for the npm packages: node beanstalkd_clients.js PACKAGE HOST PORT TUBE
// Prints "ok FLOW", "skip FLOW: why" or "FAIL FLOW: what" a line.
// Each library gets an adapter with the same few asynchronous functions; null is "there is none", false "not found".
'use strict';
const assert = require('assert');
const path = require('path');
const [library, host, port, tube] = [process.argv[2], process.argv[3], Number(process.argv[4]), process.argv[5]];
const load = (name) => require(path.join(process.env.BEANSTALKD_CLIENTS, 'node_modules', name));

// The reply as the error says it -> null or false; other errors go on.
const or = (value, ...words) => (error) => {
  if (words.some((word) => String((error && error.message) || error).includes(word))) return value;
  throw error instanceof Error ? error : new Error(String(error));
};
const none = or(null, 'NOT_FOUND', 'TIMED_OUT', 'NOT_IGNORED');
const yes = [() => true, or(false, 'NOT_FOUND')];
const simpleYaml = (text) => {
  const lines = text.split('\n').slice(1).filter((line) => line);
  if (lines.every((line) => line.startsWith('- '))) return lines.map((line) => line.slice(2));
  return Object.fromEntries(lines.map((line) => line.split(/: (.*)/s).slice(0, 2)));
};

async function jackd() {
  const Client = load('jackd');
  const c = new Client();
  await c.connect({ host, port });
  const job = (j) => ({ id: j.id, body: j.payload });
  return {
    use: (t) => c.use(t),
    put: (body, priority, delay, ttr) => c.put(String(body), { priority, delay, ttr }),
    reserve: (seconds) => (seconds === undefined ? c.reserve() : c.reserveWithTimeout(seconds)).then(job, none),
    reserveJob: (id) => c.reserveJob(id).then(job, none),
    release: (id, priority, delay) => c.release(id, { priority, delay }).then(...yes),
    bury: (id, priority) => c.bury(id, priority).then(...yes),
    touch: (id) => c.touch(id).then(...yes),
    delete: (id) => c.delete(id).then(...yes),
    kick: (n) => c.kick(n),
    kickJob: (id) => c.kickJob(id).then(...yes),
    peek: (id) => c.peek(id).then(job, none),
    peekState: (state) => c['peek' + state]().then(job, none),
    statsJob: (id) => c.statsJob(id).then(simpleYaml, none),
    statsTube: (t) => c.statsTube(t).then(simpleYaml, none),
    stats: () => c.stats().then(simpleYaml),
    tubes: () => c.listTubes().then(simpleYaml),
    watched: () => c.listTubesWatched().then(simpleYaml),
    used: () => c.listTubeUsed(),
    watch: (t) => c.watch(t),
    ignore: (t) => c.ignore(t).catch(none),
    close: () => c.quit(),
    text: true, // of a Buffer it makes JSON
  }; // its pauseTube sends no line end
}

async function nodeBeanstalk() {
  const { Client } = load('node-beanstalk');
  const c = new Client({ host, port, serializer: undefined, maxPayloadSize: 1 << 24, dataReadTimeoutMs: 20000 });
  await c.connect();
  const job = (j) => j && { id: j.id, body: j.payload };
  return {
    use: (t) => c.use(t),
    put: (body, priority, delay, ttr) => c.put(String(body), ttr, priority, delay).then((r) => r.id),
    reserve: (seconds) => (seconds === undefined ? c.reserve() : c.reserveWithTimeout(seconds)).then(job),
    reserveJob: (id) => c.reserveJob(id).then(job),
    release: (id, priority, delay) => c.release(id, priority, delay).then((state) => state !== null),
    bury: (id, priority) => c.bury(id, priority),
    touch: (id) => c.touch(id),
    delete: (id) => c.delete(id),
    kick: (n) => c.kick(n),
    kickJob: (id) => c.kickJob(id),
    peek: (id) => c.peek(id).then(job),
    peekState: (state) => c['peek' + state]().then(job),
    statsJob: (id) => c.statsJob(id).then(dashed),
    statsTube: (t) => c.statsTube(t).then(dashed),
    stats: () => c.stats().then(dashed),
    tubes: () => c.listTubes(),
    watched: () => c.listTubesWatched(),
    used: () => c.listTubeUsed(),
    watch: (t) => c.watch(t),
    ignore: (t) => c.ignore(t).then((done) => (done === false ? null : done)),
    pause: (t, seconds) => c.pauseTube(t, seconds),
    close: () => c.disconnect(),
    text: true, // without a serializer it takes bodies as text only
  };
}

async function fivebeans() {
  const Client = load('fivebeans').client;
  const c = new Client(host, port);
  await new Promise((resolve, reject) => { c.on('connect', resolve).on('error', reject); c.connect(); });
  const call = (name, ...args) => new Promise((resolve, reject) => {
    c[name](...args, (error, ...values) => (error ? reject(new Error(error)) : resolve(values)));
  });
  const first = (values) => values[0];
  const job = ([id, body]) => ({ id, body });
  return {
    use: (t) => call('use', t).then(first),
    put: (body, priority, delay, ttr) => call('put', priority, delay, ttr, body).then(first),
    reserve: (seconds) => (seconds === undefined ? call('reserve') : call('reserve_with_timeout', seconds)).then(job, none),
    release: (id, priority, delay) => call('release', id, priority, delay).then(...yes),
    bury: (id, priority) => call('bury', id, priority).then(...yes),
    touch: (id) => call('touch', id).then(...yes),
    delete: (id) => call('destroy', id).then(...yes),
    kick: (n) => call('kick', n).then(first),
    kickJob: (id) => call('kick_job', id).then(...yes),
    peek: (id) => call('peek', id).then(job, none),
    peekState: (state) => call('peek_' + state.toLowerCase()).then(job, none),
    statsJob: (id) => call('stats_job', id).then(first, none),
    statsTube: (t) => call('stats_tube', t).then(first, none),
    stats: () => call('stats').then(first),
    tubes: () => call('list_tubes').then(first),
    watched: () => call('list_tubes_watched').then(first),
    used: () => call('list_tube_used').then(first),
    watch: (t) => call('watch', t).then(first),
    ignore: (t) => call('ignore', t).then(first, none),
    pause: (t, seconds) => call('pause_tube', t, seconds).then(...yes),
    close: () => c.end(),
  };
}

async function beanstalkd() {
  const Client = load('beanstalkd').default;
  const c = await new Client(host, port).connect();
  const job = ([id, body]) => ({ id, body });
  return {
    use: (t) => c.use(t),
    put: (body, priority, delay, ttr) => c.put(priority, delay, ttr, body),
    reserve: (seconds) => (seconds === undefined ? c.reserve() : c.reserveWithTimeout(seconds)).then(job, none),
    release: (id, priority, delay) => c.release(id, priority, delay).then(...yes),
    bury: (id, priority) => c.bury(id, priority).then(...yes),
    touch: (id) => c.touch(id).then(...yes),
    delete: (id) => c.delete(id).then(...yes),
    kickJob: (id) => c.kickJob(id).then(...yes),
    peek: (id) => c.peek(id).then(job, none),
    peekState: (state) => c['peek' + state]().then(job, none),
    statsJob: (id) => c.statsJob(id).catch(none),
    statsTube: (t) => c.statsTube(t).catch(none),
    stats: () => c.stats(),
    tubes: () => c.listTubes(),
    watched: () => c.listTubesWatched(),
    used: () => c.listTubeUsed(),
    watch: (t) => c.watch(t),
    ignore: (t) => c.ignore(t).catch(none),
    pause: (t, seconds) => c.pauseTube(t, seconds).then(...yes),
    close: () => c.quit(),
  }; // it has no kick and no reserve-job
}

const dashed = (object) => object && (Array.isArray(object) ? object : Object.fromEntries(
  Object.entries(object).map(([k, v]) => [k.replace(/[A-Z]/g, (c) => '-' + c.toLowerCase()), v])));
const connect = { jackd, 'node-beanstalk': nodeBeanstalk, fivebeans, beanstalkd }[library];
const pausing = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function has(found, wanted) {
  assert(found, 'nothing instead of ' + JSON.stringify(wanted));
  for (const [key, value] of Object.entries(wanted)) assert.strictEqual(String(found[key]), String(value), key + ' of ' + JSON.stringify(found));
}

function isJob(found, id, body) {
  assert(found, 'no job instead of ' + id);
  assert.strictEqual(String(found.id), String(id));
  assert(Buffer.from(found.body).equals(Buffer.from(body)), 'another body: ' + String(found.body).slice(0, 100));
}

async function worker(t) {
  const c = await connect();
  await c.use(t);
  await c.watch(t);
  await c.ignore('default');
  return c;
}

const flows = {
  async 'put with priority, delay and ttr'(c, t) {
    const id = await c.put('one', 7, 0, 60);
    assert(/^[1-9]\d*$/.test(String(id)), 'an id: ' + id);
    has(await c.statsJob(id), { id, tube: t, state: 'ready', pri: 7, delay: 0, ttr: 60, reserves: 0, kicks: 0 });
    const later = await c.put('two', 5, 1000, 61);
    has(await c.statsJob(later), { state: 'delayed', pri: 5, delay: 1000, ttr: 61 });
    has(await c.statsTube(t), { name: t, 'current-jobs-ready': 1, 'current-jobs-delayed': 1, 'total-jobs': 2 });
    isJob(await c.peek(id), id, 'one');
    isJob(await c.peekState('Ready'), id, 'one');
    isJob(await c.peekState('Delayed'), later, 'two');
    assert.strictEqual(await c.peekState('Buried'), null);
    assert.strictEqual(await c.delete(id), true);
    assert.strictEqual(await c.delete(later), true);
    assert.strictEqual(await c.delete(later), false);
    assert.strictEqual(await c.peek(id), null);
    assert.strictEqual(await c.peekState('Ready'), null);
  },

  async 'reserve, touch, release, delete'(c, t) {
    const id = await c.put('body', 7, 0, 60);
    isJob(await c.reserve(5), id, 'body');
    has(await c.statsJob(id), { state: 'reserved', reserves: 1 });
    assert.strictEqual(await c.touch(id), true);
    assert.strictEqual(await c.release(id, 3, 1000), true);
    has(await c.statsJob(id), { state: 'delayed', pri: 3, delay: 1000, releases: 1 });
    assert.strictEqual(await c.touch(id), false);
    assert.strictEqual(await c.release(id, 3, 0), false);
    assert.strictEqual(await c.kickJob(id), true);
    isJob(await c.reserve(), id, 'body');
    assert.strictEqual(await c.release(id, 4, 0), true);
    has(await c.statsJob(id), { state: 'ready', pri: 4, reserves: 2, releases: 2, kicks: 1 });
    isJob(await c.reserve(0), id, 'body');
    assert.strictEqual(await c.delete(id), true);
    has(await c.statsTube(t), { 'current-jobs-ready': 0, 'current-jobs-reserved': 0, 'cmd-delete': 1 });
  },

  async 'reserve with a timeout'(c) {
    const began = Date.now();
    assert.strictEqual(await c.reserve(0), null);
    assert.strictEqual(await c.reserve(1), null);
    assert(Date.now() - began > 900, 'too early');
  },

  async 'bury, peek, kick'(c, t) {
    const id = await c.put('bad', 1, 0, 60);
    isJob(await c.reserve(5), id, 'bad');
    assert.strictEqual(await c.bury(id, 9), true);
    has(await c.statsJob(id), { state: 'buried', pri: 9, buries: 1 });
    isJob(await c.peekState('Buried'), id, 'bad');
    has(await c.statsTube(t), { 'current-jobs-buried': 1 });
    assert.strictEqual(await c.bury(id, 9), false);
    if (c.kick) assert.strictEqual(Number(await c.kick(10)), 1);
    else assert.strictEqual(await c.kickJob(id), true);
    assert.strictEqual(await c.kickJob(id), false);
    isJob(await c.reserve(5), id, 'bad');
    has(await c.statsJob(id), { state: 'reserved', pri: 9, kicks: 1, reserves: 2 });
    if (c.kick) assert.strictEqual(Number(await c.kick(10)), 0);
  },

  async 'reserve-job'(c) {
    if (!c.reserveJob) return 'not in this library';
    const ids = [await c.put('a', 1, 0, 60), await c.put('b', 1, 0, 60)];
    isJob(await c.reserveJob(ids[1]), ids[1], 'b');
    assert.strictEqual(await c.reserveJob(ids[1]), null);
    isJob(await c.reserve(5), ids[0], 'a');
  },

  async 'watch, ignore and lists'(c, t) {
    assert.strictEqual(Number(await c.watch(t + '.w')), 2);
    assert.deepStrictEqual((await c.watched()).sort(), [t, t + '.w']);
    assert.strictEqual(await c.used(), t);
    await c.use(t + '.u');
    assert.strictEqual(await c.used(), t + '.u');
    const tubes = await c.tubes();
    for (const name of [t, t + '.w', t + '.u']) assert(tubes.includes(name), name + ' in ' + tubes);
    assert.notStrictEqual(await c.ignore(t), null);
    assert.deepStrictEqual(await c.watched(), [t + '.w']);
    assert.strictEqual(await c.ignore(t + '.w'), null);
    assert.strictEqual(await c.statsTube(t + '.none'), null);
  },

  async 'priorities, then age'(c) {
    const ids = [];
    for (const priority of [5, 1, 5, 1, 9]) ids.push(await c.put('p' + priority, priority, 0, 60));
    for (const i of [1, 3, 0, 2, 4]) assert.strictEqual(String((await c.reserve(5)).id), String(ids[i]));
  },

  async 'a waiting reserve'(c, t) {
    const other = await worker(t);
    const waiting = other.reserve();
    await pausing(200);
    const id = await c.put('come', 0, 0, 60);
    isJob(await waiting, id, 'come');
    assert.strictEqual(await c.delete(id), false);
    assert.strictEqual(await other.delete(id), true);
    const delayed = other.reserve(20);
    const late = await c.put('late', 0, 1, 60);
    isJob(await delayed, late, 'late');
    await other.close();
  },

  async 'a worker that goes away'(c, t) {
    const other = await worker(t);
    const id = await c.put('again', 0, 0, 60);
    isJob(await other.reserve(5), id, 'again');
    await other.close();
    isJob(await c.reserve(20), id, 'again');
    has(await c.statsJob(id), { reserves: 2, timeouts: 0 });
  },

  async 'pause'(c, t) {
    if (!c.pause) return 'not in this library';
    const id = await c.put('held', 0, 0, 60);
    assert.strictEqual(await c.pause(t, 1000), true);
    assert.strictEqual(await c.reserve(0), null);
    has(await c.statsTube(t), { pause: 1000, 'cmd-pause-tube': 1 });
    assert.strictEqual(await c.pause(t, 0), true);
    isJob(await c.reserve(20), id, 'held');
  },

  async 'binary and large bodies'(c) {
    const binary = c.text ? Buffer.from('a\r\n\0\r\nb\u00e9') : Buffer.from([0, 13, 10, 255, 13, 10, 128, 0]);
    const id = await c.put(binary, 0, 0, 60);
    isJob(await c.reserve(5), id, binary);
    const large = Buffer.alloc(60000, 'x\r\n');
    const big = await c.put(large, 0, 0, 60);
    isJob(await c.reserve(5), big, large);
    isJob(await c.peek(big), big, large);
  },

  async 'many jobs, three workers'(c, t) {
    const bodies = Array.from({ length: 60 }, (_, i) => 'job ' + i);
    const done = [];
    const until = Date.now() + 60000;
    const work = async () => {
      const w = await worker(t);
      while (done.length < bodies.length && Date.now() < until) {
        const job = await w.reserve(1);
        if (!job) continue;
        done.push(String(job.body));
        assert.strictEqual(await w.delete(job.id), true);
      }
      await w.close();
    };
    const workers = [work(), work(), work()];
    for (const body of bodies) await c.put(body, 0, 0, 60);
    await Promise.all(workers);
    assert.deepStrictEqual(done.sort(), bodies.slice().sort());
  },

  async 'stats'(c) {
    const stats = await c.stats();
    const keys = ['current-jobs-ready', 'cmd-put', 'total-jobs', 'max-job-size', 'current-tubes', 'version', 'uptime'];
    for (const key of keys) assert(stats[key] !== undefined, key);
    assert(Number(stats['cmd-put']) > 0 && Number(stats['total-jobs']) > 0);
  },
};

async function main() {
  let number = 0;
  for (const [name, flow] of Object.entries(flows)) {
    const t = tube + '.' + (number += 1);
    let c;
    try {
      c = await worker(t);
      const said = await flow(c, t);
      console.log((said ? 'skip ' : 'ok ') + name + (said ? ': ' + said : ''));
    } catch (error) {
      console.log('FAIL ' + name + ': ' + String(error.stack).replace(/\s*\n\s*/g, ' / '));
    }
    if (c) await c.close();
  }
  setTimeout(() => process.exit(0), 50);
}

main();

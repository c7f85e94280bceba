# The flows of beanstalkd_clients.py for Beaneater (Debian: ruby-beaneater): ruby beanstalkd_clients.rb HOST PORT TUBE
# Prints "ok FLOW" or "FAIL FLOW: what" a line.
require 'beaneater'

HOST, PORT, TUBE = ARGV
Beaneater.configure { |config| config.job_parser = ->(body) { body } }

def same(found, wanted, what = 'value')
  raise "#{what}: #{found.inspect} instead of #{wanted.inspect}" unless found == wanted
end

def has(found, wanted)
  wanted.each { |key, value| same(found[key].to_s, value.to_s, key) }
end

def job?(job, id, body)
  raise 'no job' unless job
  same(job.id, id, 'id')
  same(job.body.b, body.b, 'body')
end

def refused(kind)
  yield
rescue kind
  nil
else
  raise 'it was not refused'
end

def client
  Beaneater.new("#{HOST}:#{PORT}")
end

FLOWS = {
  'put with priority, delay and ttr' => lambda do |c, t|
    tube = c.tubes[t]
    id = tube.put('one', pri: 7, delay: 0, ttr: 60)[:id]
    has(c.jobs.find(id).stats, id: id, tube: t, state: 'ready', pri: 7, delay: 0, ttr: 60, reserves: 0)
    later = tube.put('two', pri: 5, delay: 1000, ttr: 61)[:id]
    has(c.jobs[later].stats, state: 'delayed', pri: 5, delay: 1000, ttr: 61)
    has(tube.stats, name: t, current_jobs_ready: 1, current_jobs_delayed: 1, total_jobs: 2)
    job?(tube.peek(:ready), id, 'one')
    job?(tube.peek(:delayed), later, 'two')
    same(tube.peek(:buried), nil)
    job = c.jobs[later]
    c.jobs[id].delete
    job.delete
    refused(Beaneater::NotFoundError) { job.delete }
    same(c.jobs.find(id), nil)
    same(tube.peek(:ready), nil)
  end,

  'reserve, touch, release, delete' => lambda do |c, t|
    tube = c.tubes[t]
    id = tube.put('body', pri: 7, ttr: 60)[:id]
    job = tube.reserve(5)
    job?(job, id, 'body')
    job.touch
    has(job.stats, state: 'reserved', reserves: 1)
    job.release(pri: 3, delay: 1000)
    has(job.stats, state: 'delayed', pri: 3, delay: 1000, releases: 1)
    refused(Beaneater::JobNotReserved) { job.touch }
    job.kick
    job = tube.reserve
    job?(job, id, 'body')
    job.release(pri: 4, delay: 0)
    has(job.stats, state: 'ready', pri: 4, reserves: 2, releases: 2, kicks: 1)
    tube.reserve(0).delete
    has(tube.stats, current_jobs_ready: 0, current_jobs_reserved: 0, cmd_delete: 1)
  end,

  'reserve with a timeout' => lambda do |c, t|
    began = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    refused(Beaneater::TimedOutError) { c.tubes[t].reserve(0) }
    refused(Beaneater::TimedOutError) { c.tubes[t].reserve(1) }
    same(Process.clock_gettime(Process::CLOCK_MONOTONIC) - began > 0.9, true, 'late enough')
  end,

  'bury, peek, kick' => lambda do |c, t|
    tube = c.tubes[t]
    id = tube.put('bad', pri: 1, ttr: 60)[:id]
    job = tube.reserve(5)
    job.bury(pri: 9)
    has(job.stats, state: 'buried', pri: 9, buries: 1)
    job?(tube.peek(:buried), id, 'bad')
    has(tube.stats, current_jobs_buried: 1)
    same(tube.kick(10)[:id], '1')
    refused(Beaneater::NotFoundError) { job.kick }
    job = tube.reserve(5)
    job?(job, id, 'bad')
    has(job.stats, pri: 9, kicks: 1, reserves: 2)
    same(tube.kick(10)[:id], '0')
  end,

  'watch, ignore and lists' => lambda do |c, t|
    c.tubes.watch!(t)
    c.tubes.watch("#{t}.w")
    same(c.tubes.watched.map(&:name).sort, [t, "#{t}.w"])
    c.tubes.use("#{t}.u")
    same(c.tubes.used.name, "#{t}.u")
    same([t, "#{t}.u", "#{t}.w", 'default'] - c.tubes.all.map(&:name), [])
    c.tubes.ignore(t)
    same(c.tubes.watched.map(&:name), ["#{t}.w"])
    refused(Beaneater::NotIgnoredError) { c.tubes.ignore("#{t}.w") }
    refused(Beaneater::InvalidTubeName) { c.tubes.watch('a!b') }
    refused(Beaneater::NotFoundError) { c.tubes["#{t}.none"].stats }
  end,

  'priorities, then age' => lambda do |c, t|
    ids = [5, 1, 5, 1, 9].map { |pri| c.tubes[t].put("p#{pri}", pri: pri)[:id] }
    [1, 3, 0, 2, 4].each { |i| same(c.tubes[t].reserve(5).id, ids[i]) }
  end,

  'a waiting reserve' => lambda do |c, t|
    other = client
    waiting = Thread.new { other.tubes[t].reserve(20).tap(&:delete) }
    sleep 0.2
    id = c.tubes[t].put('come')[:id]
    job?(waiting.value, id, 'come')
    other.close
  end,

  'a worker that goes away' => lambda do |c, t|
    other = client
    id = c.tubes[t].put('again', ttr: 60)[:id]
    job?(other.tubes[t].reserve(5), id, 'again')
    other.close
    job = c.tubes[t].reserve(20)
    job?(job, id, 'again')
    has(job.stats, reserves: 2, timeouts: 0)
  end,

  'pause' => lambda do |c, t|
    tube = c.tubes[t]
    id = tube.put('held')[:id]
    tube.pause(1000)
    refused(Beaneater::TimedOutError) { tube.reserve(0) }
    has(tube.stats, pause: 1000, cmd_pause_tube: 1)
    tube.pause(0)
    job?(tube.reserve(20), id, 'held')
  end,

  'a processor of jobs' => lambda do |c, t|
    done = []
    tries = 0
    5.times { |i| c.tubes[t].put("job #{i}", ttr: 60) }
    c.jobs.register(t, retry_on: [IOError]) do |job|
      raise IOError, 'once more' if job.body == 'job 2' && (tries += 1) == 1
      done << job.body
      raise Beaneater::AbortProcessingError if done.size == 5
    end
    c.jobs.process!(release_delay: 1)
    same(done.sort, (0..4).map { |i| "job #{i}" })
    same(done.last, 'job 2')
  end,

  'binary and large bodies' => lambda do |c, t|
    ["\0\r\n\xff\r\n\x80\0".b, 'x' * 60_000].each do |body|
      id = c.tubes[t].put(body, ttr: 60)[:id]
      job?(c.tubes[t].reserve(5), id, body)
    end
  end,

  'clear a tube, and stats' => lambda do |c, t|
    tube = c.tubes[t]
    3.times { |i| tube.put("job #{i}", delay: i == 2 ? 1000 : 0) }
    tube.reserve(5).bury
    tube.clear
    tube.put('kept')
    has(tube.stats, current_jobs_ready: 1, current_jobs_delayed: 0, current_jobs_buried: 0, cmd_delete: 3)
    stats = c.stats
    %i[current_jobs_ready cmd_put total_jobs max_job_size current_tubes version uptime].each { |key| same(stats[key].nil?, false, key) }
  end
}.freeze

$stdout.sync = true
FLOWS.each_with_index do |(name, flow), i|
  connection = client
  flow.call(connection, "#{TUBE}.#{i}")
  puts "ok #{name}"
rescue StandardError => e
  puts "FAIL #{name}: #{e.class} #{e.message.tr("\n", '/')} #{e.backtrace.grep(/beanstalkd_clients/).first}"
ensure
  connection&.close
end

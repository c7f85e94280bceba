/* Every bound of belfry in one place, with what happens when it is reached. */
#ifndef BELFRY_LIMITS_H
#define BELFRY_LIMITS_H

/* HTTP: refused with the status named. */
#define LIMIT_HEAD_BYTES (16 * 1024)           /* request line and headers: 431 */
#define LIMIT_TARGET_BYTES (8 * 1024)          /* request target: 414 */
#define LIMIT_HEADERS 100                      /* header fields: 431 */
#define LIMIT_BODY_BYTES (1024 * 1024)         /* 413, where an operation has no limit of its own (body_max) */
#define LIMIT_BODY_BYTES_MAX (3 * 1024 * 1024) /* of any operation: 413 */
#define LIMIT_BODY_BYTES_MIN 4096       /* of any operation: shorter bodies are let in without asking whose they are */
#define LIMIT_JSON_DEPTH 32             /* 400 */
#define LIMIT_CONNECTIONS 50000         /* a worker; further ones are closed when accepted */
#define LIMIT_FILES_KEPT 256            /* file descriptors of the process that connections leave free */
#define LIMIT_HEAD_MS 10000             /* from the first byte of a head to its end: 408 */
#define LIMIT_BODY_MS 30000             /* from the head to the end of the body: 408 */
#define LIMIT_IDLE_MS 75000             /* a kept-alive connection without a request: closed */
#define LIMIT_SEND_MS 30000             /* a response that is not taken: closed */
#define LIMIT_OUT_BYTES (256 * 1024)    /* unsent response bytes before requests wait */
#define LIMIT_KERNEL_BYTES (128 * 1024) /* of a connection, kept by the kernel: unread, and not yet sent */
#define LIMIT_HELD_BYTES (256 * 1024 * 1024) /* in buffers of a worker's connections: beyond that, */
#define LIMIT_HELD_EACH (64 * 1024)          /* those that take more than so much are closed */

/* The request path. */
#define LIMIT_COMMIT_MS 8000                  /* a command not answered by then: 504 */
#define LIMIT_READ_MS 1800                    /* a read barrier not passed by then: 503 no_quorum */
#define LIMIT_COMPUTE_MS 30000                /* a hash not computed by then: 504 */
#define LIMIT_JOINED_ITEMS 256                /* of one joined command; */
#define LIMIT_JOINED_BYTES (512 * 1024)       /* of its items together, if more than one */
#define LIMIT_JOINED_ITEM_BYTES (3072 * 1024) /* an item: too_large */
#define LIMIT_JOINED_FLIGHTS 2                /* joined commands under way, of one actor and operation on a worker */
#define LIMIT_JOINED_WAITING 4096             /* items that wait for them: 503 overloaded */
#define LIMIT_WATCHES 1000                    /* ids that one script watches; so many tubes a beanstalkd client */
#define LIMIT_RUNG_MS 2                       /* and for so long, at least one of them */
#define LIMIT_LATE_MS 2                       /* who asked in vain looks so much later (node/watch.h) */
#define LIMIT_RUNG 256              /* scripts that waited and go on in one turn of a worker; the rest: the next */
#define LIMIT_MAILBOX 256           /* commands waiting in one actor: 503 overloaded */
#define LIMIT_COMPUTE_QUEUE 256     /* hashes waiting on a node: 503 with Retry-After */
#define LIMIT_INFLIGHT_ENTRIES 4096 /* proposed, not applied, a partition: they wait in mailboxes */
#define LIMIT_TOKEN_CACHE 65536     /* verified tokens a worker: the cache starts afresh */
#define LIMIT_ACTOR_IDLE_MS 60000   /* an actor without work is passivated */

/* Maps of strings (TYPE_MAP): 422. */
#define LIMIT_MAP_ENTRIES 50
#define LIMIT_MAP_KEY_BYTES 128
#define LIMIT_MAP_VALUE_BYTES 4096

/* Replicated state. */
#define LIMIT_KEY_BYTES 511               /* LMDB's own bound */
#define LIMIT_COMMAND_BYTES (3200 * 1024) /* in the log: holds an item, a body, and what is around them */
#define LIMIT_ACTOR_KEY_BYTES 256         /* the key of an actor */
#define LIMIT_CLOCK_SKEW_MS 250           /* between the clocks of a majority */
#define LIMIT_DEFER_MS 1000               /* by which who doubts its clock, or stops, stands for election later */
#define LIMIT_REQUEST_WINDOW_MS 120000    /* request ids are remembered this long, older ones refused */
#define LIMIT_IDEMPOTENCY_MS (24LL * 3600 * 1000)
#define LIMIT_IDEMPOTENCY_KEYS 10000 /* kept per account: further ones 422 limit_reached */
#define LIMIT_IDEMPOTENCY_KEY_BYTES 255
#define LIMIT_STAMPED 100    /* commands of a partition with one stamp (a millisecond) */
#define LIMIT_EXPIRE_STEP 16 /* expired rows erased with each command */

/* Between nodes. */
#define LIMIT_PEERS 64                       /* nodes of a cluster */
#define LIMIT_PEER_RETRY_MS 500              /* between attempts to reach a node, at most */
#define LIMIT_PEER_CONNECT_MS 2000           /* from a connection to its hello */
#define LIMIT_PEER_SILENCE_MS 1000           /* sent and not acknowledged by then: the connection is given up */
#define LIMIT_PEER_FRAME_BYTES (1024 * 1024) /* gathered in a turn before it is sent */
#define LIMIT_PEER_QUEUE_BYTES (64ULL << 20) /* waiting on one connection: then messages are dropped */
#define LIMIT_PEER_CONNECTIONS 1024          /* of nodes to one worker: further ones are closed */
#define LIMIT_PEER_KEEP_MS 10000             /* an address nobody speaks of is forgotten */
#define LIMIT_KEEP_BYTES (1024 * 1024)       /* newest entries of a partition kept in memory for replicas */
#define LIMIT_APPEND_BYTES (1024 * 1024)     /* entries in one message to a replica, if more than one */
#define LIMIT_LOADS 4                        /* reads of old entries for replicas, a partition, at a time */
#define LIMIT_CONTACT_MS 1000                /* without the system partition's leader: nobody is authenticated */
#define LIMIT_RETRY_MS 1800                  /* a command that reaches no leader by then: 503 no_quorum */
#define LIMIT_OPEN_ASKS 4096                 /* questions of others that wait for a majority, a worker */
#define LIMIT_RESEND_MS 700                  /* a forwarded command without an answer is sent again */

/* Password hashes on other nodes. */
#define LIMIT_LOAD_FRESH_MS 600       /* a node that has not reported its load for so long gets no hashes, */
#define LIMIT_LOAD_LOST_MS 1500       /* and those it has are sent elsewhere */
#define LIMIT_LOAD_KEEP_MS 60000      /* what is known of it is forgotten */
#define LIMIT_HASH_RETRY_MS 1000      /* a hash that is not answered is sent elsewhere, at the earliest, */
#define LIMIT_HASH_RETRY_MS_MAX 10000 /* and at the latest */
#define LIMIT_HASH_TRIES 3            /* on other nodes, then here */
#define LIMIT_BREAKER_FAILURES 3      /* in a row: the node gets no hashes for a pause */
#define LIMIT_BREAKER_MS 1000         /* the first pause, doubled each time up to */
#define LIMIT_BREAKER_MS_MAX 30000

/* Pages and scans. */
#define LIMIT_PAGE 200
#define LIMIT_PAGE_DEFAULT 50
#define LIMIT_SCAN_ROWS 5000                 /* rows looked at for one page, then a short page with a cursor */
#define LIMIT_ANSWER_ROWS 20000              /* looked at for all lists of one facade's answer: the rest is left out */
#define LIMIT_ANSWER_BYTES (8 * 1024 * 1024) /* a facade's list ends behind so much */

/* Accounts. */
#define LIMIT_USERNAME_CHARS 64
#define LIMIT_EMAIL_BYTES 254
#define LIMIT_NAME_CHARS 100
#define LIMIT_ALIAS_BYTES 254 /* what a facade's client calls itself */
#define LIMIT_PASSWORD_BYTES_MIN 8
#define LIMIT_PASSWORD_BYTES 1024
#define LIMIT_SESSIONS 50 /* an account; the oldest is ended for a new one */
#define LIMIT_ACCESS_TOKEN_S 900
#define LIMIT_FOREIGN_TOKEN_S 360000               /* of a facade, at most: account revocations are kept as long */
#define LIMIT_SESSION_MS (30LL * 24 * 3600 * 1000) /* a refresh token unused for so long is dead */
#define LIMIT_SAGA_SWEEP_MS 5000                   /* a reservation older than that is settled by the sweeper */
#define LIMIT_ERASE_STEP 200                       /* rows erased in one command of a deletion */

/* Reminders. */
#define LIMIT_TITLE_CHARS 200
#define LIMIT_CONTENT_BYTES (64 * 1024)
#define LIMIT_QUERY_CHARS 200
#define LIMIT_ZONE_BYTES 64        /* the name of a time zone */
#define LIMIT_RECURRENCE_BYTES 512 /* RRULE and EXDATE */
#define LIMIT_SNOOZE_MS (366LL * 24 * 3600 * 1000)
#define LIMIT_FIRE_BATCH 64                      /* due reminders in one command */
#define LIMIT_FIRE_SERIES 8                      /* of them, series whose next time is computed */
#define LIMIT_MISSED_MS (7LL * 24 * 3600 * 1000) /* occurrences of a series missed longer ago do not ring */
#define LIMIT_FEED_EVENTS 1000                   /* in an iCalendar feed: the newest */
#define LIMIT_FEED_DESCRIPTION_BYTES 2000        /* of a content, in the feed; the rest is cut off */

/* Event logs: what goes beyond is dropped from the oldest on, and whoever resumes there is told of the gap. */
#define LIMIT_EVENTS 1000                /* kept for an account */
#define LIMIT_EVENTS_BYTES (1024 * 1024) /* of an account's events together */
#define LIMIT_EVENTS_MS (7LL * 24 * 3600 * 1000)
#define LIMIT_RELAY_BATCH 64             /* events carried to another partition in one command */
#define LIMIT_STREAMS 50                 /* open event streams of an account on a node: 429 */
#define LIMIT_STREAM_BYTES (64 * 1024)   /* sent ahead on an event stream: it waits until the client has taken them */
#define LIMIT_STREAM_BEAT_MS 15000       /* a comment is sent on a silent event stream */
#define LIMIT_STREAM_IGNORED (64 * 1024) /* bytes of a stream's client, thrown away: then it is closed */

/* The queue. */
#define LIMIT_TOPIC_BYTES 200                 /* the name of a topic or group */
#define LIMIT_MESSAGE_BYTES (1024 * 1024)     /* a body: 422 */
#define LIMIT_PUBLISH_BYTES (2 * 1024 * 1024) /* a request that publishes: 413 */
#define LIMIT_BATCH 1000                      /* messages or receipts in a request: 422 */
#define LIMIT_MESSAGE_KEY_BYTES 256           /* what order is kept by */
#define LIMIT_MESSAGE_HEADERS 50
#define LIMIT_DEDUP_ID_BYTES 256
#define LIMIT_DEDUP_MS (24LL * 3600 * 1000)
#define LIMIT_DEDUP_USUAL_MS (120LL * 1000)
#define LIMIT_DELAY_MS 4294967295000LL /* 136 years, beanstalkd's longest */
#define LIMIT_VISIBILITY_MS (12LL * 3600 * 1000)
#define LIMIT_VISIBILITY_USUAL_MS (30LL * 1000)
#define LIMIT_ATTEMPTS 10000
#define LIMIT_ATTEMPTS_USUAL 16
#define LIMIT_RETENTION_MS (3660LL * 24 * 3600 * 1000)
#define LIMIT_RETENTION_USUAL_MS (7LL * 24 * 3600 * 1000)
#define LIMIT_TOPIC_MESSAGES 100000000LL /* in a topic's partition: 409 topic_full, or the oldest go */
#define LIMIT_TOPIC_MESSAGES_USUAL 10000000LL
#define LIMIT_TOPIC_USERS 100             /* in a list of a topic's users: 422 */
#define LIMIT_GROUPS 100                  /* of a topic: 422 */
#define LIMIT_PRIORITIES 1000             /* different ones among a topic's messages: 422 */
#define LIMIT_PARKED 10000                /* messages of busy keys that a group looks past; then it waits */
#define LIMIT_RECEIVE 1000                /* messages in an answer, */
#define LIMIT_RECEIVE_BYTES (1024 * 1024) /* and bytes of them, if more than one */
#define LIMIT_WAIT_MS 60000               /* a receive waits for so long at most */
#define LIMIT_PICK_LOOKS 2000             /* messages looked at for one receive; then it asks again */
#define LIMIT_RECEIVE_LOOKS 10000         /* for all receives of one command */
#define LIMIT_DELIVERIES_EACH 1024        /* in one command */
#define LIMIT_RECLAIM_STEP 100            /* erased beyond what is needed when a topic is full */
#define LIMIT_RING_MOVES 1000             /* messages moved or erased in one command */
#define LIMIT_RING_ALONE 2000             /* of what is due, in one command; a crowd has half of it */
#define LIMIT_RING_BESIDE 200             /* the same beside other work, divided by the alarms at work in the node */
#define LIMIT_ALARM_LATE_MS 120000        /* what is due for longer waits for nobody */
#define LIMIT_METRICS_ROWS 2000           /* topics and groups shown in /metrics: the first by name */
#define LIMIT_CREDIT_USUAL 10             /* messages on their way to a subscriber */
#define LIMIT_CREDIT_TRIES 100
#define LIMIT_DESTINATIONS 16      /* topics that a message goes on to: 422 */
#define LIMIT_RETURNED 10000       /* dead letters of a group that came back: the oldest goes */
#define LIMIT_SLIPS 100            /* messages that go on with one command */
#define LIMIT_REDRIVE 100000       /* in one request */
#define LIMIT_HELD_JOBS 5000       /* reserved by one beanstalkd connection: OUT_OF_MEMORY */
#define LIMIT_TUBES_WATCHED 200000 /* by all connections of a node together: OUT_OF_MEMORY */
#define LIMIT_TUBES_LISTED 5000    /* tubes in lists and sums of the beanstalkd facade: the first of each partition */

/* Storage. */
#define LIMIT_SEGMENT_MIB 32                /* a file of the log */
#define LIMIT_LOG_KEEP_MIB 256              /* of the log, for replicas that lag; a tenth of the disk at most */
#define LIMIT_DISK_SPARE_BYTES (8ULL << 20) /* kept for deletions, votes and durable points */
#define LIMIT_SEGMENT_MIB_MIN 4             /* holds any record, and the preamble */
#define LIMIT_DISK_RESERVE_MIB 64           /* below it 507, but for deletions */
#if defined(__SANITIZE_THREAD__)
#define LIMIT_MAP_BYTES (1ULL << 34) /* its shadow memory leaves no more room */
#else
#define LIMIT_MAP_BYTES (1ULL << 40) /* address space reserved for the state */
#endif
#define LIMIT_DURABLE_MS 2000  /* between durable points */
#define LIMIT_APPLY_BATCH 1024 /* entries applied in one transaction */
#define LIMIT_APPLY_MS 40      /* for which one stays open while nobody waits for its end */

#endif

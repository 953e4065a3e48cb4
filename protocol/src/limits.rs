//! Every bound of the system, and what happens beyond it. The asserts at the end relate them.

/// Largest WebSocket message from a client, bytes. Beyond: close 1009.
pub const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Largest content of a message, bytes. Beyond: refused as too large.
pub const CONTENT_BYTES_MAX: usize = 32 << 10;
/// Largest HTTP upgrade request, bytes. Beyond: 431 and close.
pub const HANDSHAKE_BYTES_MAX: usize = 8 << 10;
/// Most headers in an upgrade request. Beyond: 431 and close.
pub const HANDSHAKE_HEADERS_MAX: usize = 64;
/// A handshake that is not complete after this long is closed with 408.
pub const HANDSHAKE_MS_MAX: u64 = 5_000;
/// Bytes of a token. Beyond: refused as malformed.
pub const TOKEN_BYTES_MAX: usize = 512;
/// Keys that verify tokens. A further one makes the oldest go.
pub const TOKEN_KEYS_MAX: usize = 16;
/// Bytes of a client_msg_id.
pub const CLIENT_MSG_ID_BYTES: usize = 16;

/// A client that was silent this long is pinged.
pub const PING_AFTER_MS: u64 = 30_000;
/// A client that was silent this long is closed.
pub const EVICT_AFTER_MS: u64 = 45_000;
/// Bytes queued for one client. Beyond: it is a slow reader and is closed; what it missed is synced when it is back.
pub const EGRESS_BYTES_MAX: usize = 1 << 20;
/// Sends of one session that are not receipted yet. Beyond: refused as overloaded.
pub const SESSION_IN_FLIGHT_MAX: usize = 256;
/// Pushes to one session that its client has not acknowledged. Beyond: the window is closed and reopens as acks come.
pub const SESSION_UNACKED_MAX: usize = 1_000;
/// Bad packets of one session. Beyond: closed.
pub const SESSION_FAULTS_MAX: u32 = 64;
/// Receipts of a session are held this long, so that one advance stands for several.
pub const RECEIPT_COALESCE_MS: u64 = 100;
/// Message ids handed out in one batch.
pub const ID_BATCH: usize = 1_000;
/// Message ids that a thread takes from the process's generator at a time. A generator gives 4,096 for each millisecond.
pub const ID_BLOCK_MAX: usize = 1 << 16;

/// Events in one pack.
pub const PACK_EVENTS_MAX: usize = 1_024;
/// Bytes of one pack.
pub const PACK_BYTES_MAX: usize = 1 << 20;
/// Packs of one topic that the embedded log has taken and not receipted. Beyond: refused as full.
pub const BUS_QUEUE_PACKS_MAX: usize = 16_384;
/// Bytes of those packs. Beyond: refused as full.
pub const BUS_QUEUE_BYTES_MAX: usize = 16 << 20;
/// Bytes of one topic that not all of its subscriptions have acknowledged, on the embedded log, 32 more for each pack.
/// Beyond: publishers are refused as full; nothing is ever evicted. Takes up to four times as much disk, and 12 bytes of
/// memory for each pack.
pub const BUS_BACKLOG_BYTES_MAX: u64 = 1 << 30;
/// Bytes of one partition that the embedded log keeps in memory for its readers. Beyond: they read from disk.
pub const BUS_TAIL_BYTES_MAX: usize = 1 << 20;
/// Bytes of a segment of the embedded log. A segment goes when all in it is acknowledged, so this much stays on disk.
pub const BUS_SEGMENT_BYTES: u64 = 16 << 20;
/// Packs that a reader takes from the embedded log in one go.
pub const BUS_READ_PACKS: usize = 64;
/// Bytes that a reader takes from the embedded log in one go (one pack more than this at most).
pub const BUS_READ_BYTES: usize = 256 << 10;
/// An acknowledgement is written to the embedded log this long after it was given, at most.
pub const BUS_ACK_MS_MAX: u64 = 500;
/// While publishing goes on, acknowledgements are written at most this often.
pub const BUS_ACK_MS_MIN: u64 = 50;
/// A log that cannot be written is tried again this often.
pub const BUS_RETRY_MS: u64 = 1_000;
/// A pack that cannot be handed to a broker for this long is refused as unavailable; it was not sent.
pub const BUS_HOLD_MS: u64 = 2_000;
/// A pack that has waited for this long behind others is refused as full; it was not sent.
pub const BUS_QUEUE_MS_MAX: u64 = 10_000;
/// A pack that a broker has, and has not receipted for this long, has an unknown outcome. It is also the longest that one
/// request to a broker may take.
pub const BUS_PUBLISH_MS_MAX: u64 = 10_000;
/// A broker that is away is tried again at least this often.
pub const BUS_RECONNECT_MS_MAX: u64 = 500;
/// Packs of one partition that a broker has and has not receipted. Beyond: they wait, and count as not handed over.
pub const BUS_LANE_IN_FLIGHT_MAX: usize = 64;
/// Packs of one partition that were read from a broker and not taken by their reader; up to three times as many with what
/// the client holds. Beyond: they wait at the broker.
pub const BUS_PREFETCH_PACKS: usize = 32;
/// What is under way when a log on a broker is closed is waited for this long. Beyond: its outcome is unknown.
pub const BUS_CLOSE_MS_MAX: u64 = 3_000;
/// Events of one shard that the bus has not receipted. Beyond: refused as overloaded.
pub const SHARD_IN_FLIGHT_MAX: usize = 8_192;
/// Sends of one shard that are accepted and not yet stored: the whole pipeline's credit, which bounds the delay of what
/// is accepted. Beyond: refused as overloaded.
pub const SHARD_UNSTORED_MAX: usize = 1_024;
/// Acks of one session whose message is being looked up. Beyond: refused as overloaded.
pub const SESSION_RESOLVING_MAX: usize = 16;
/// Conversations of one session that wait for a resend. Beyond: its sends are refused until one is resent or given up.
pub const SESSION_HELD_MAX: usize = 64;
/// A session's own messages whose highest status is remembered.
pub const SESSION_STATUSES: usize = 32;
/// What a session told and acknowledged lately is remembered for this long after its last use, at least. Judges of what a
/// client sees ask for 2 s: what the client gets is late by different times, and it has only its own clock.
pub const SESSION_MEMORY_MS: u64 = 8_000;
/// Messages that a session acknowledged lately, kept so that a read receipt needs no look-up.
pub const SESSION_RECENT_ACKS: usize = 64;
/// Syncs of one shard that persist is asked for at a time. Beyond: they wait in the shard, one for each session at most, so
/// that a storm of connects neither fills persist's queue nor is refused by it.
pub const SHARD_SYNCS_MAX: usize = 32;
/// Messages waiting in a shard's inbox. Beyond: sessions are marked dirty instead.
pub const SHARD_INBOX_MAX: usize = 16_384;

/// Rows of one conversation that a client holds while an earlier one is missing. Beyond: it closes and is synced.
pub const CLIENT_HELD_MAX: usize = 4_096;

/// A recall comes this long after the message at most, by the edges' stamps.
pub const RECALL_WINDOW_MS: u64 = 120_000;
/// A reader of `uplink` remembers the keys of this much edge-stamped time.
pub const DEDUP_WINDOW_MS: u64 = 120_000;
/// No sender publishes an event again later than this after its first try.
pub const REPUBLISH_MS_MAX: u64 = DEDUP_WINDOW_MS / 4;
/// Events in one batch of a sequencer; the last pack may exceed it.
pub const SEQUENCER_BATCH_EVENTS: usize = 1_024;
/// Events that wait in a sequencer. Beyond: it reads no more, and they wait in the log.
pub const SEQUENCER_WAITING_EVENTS_MAX: usize = 4_096;
/// Heads in each of the two generations that a sequencer keeps (about 130 bytes each). Beyond: the oldest are read again.
pub const SEQUENCER_HEADS_MAX: usize = 1 << 16;
/// Keys in each of the two generations that a sequencer remembers (5 bytes a bucket, 2^20 buckets). Beyond: the oldest
/// are forgotten, and looked up instead.
pub const SEQUENCER_KEYS_MAX: usize = (1 << 20) / 8 * 7;
/// Records that persist takes from a partition in one go.
pub const PERSIST_READ_RECORDS: usize = 256;
/// What persist has done is synced, and then acknowledged, this long after it was done.
pub const PERSIST_SYNC_MS: u64 = 200;
/// Events that persist has done and not synced. Beyond: it syncs at once.
pub const PERSIST_SYNC_EVENTS: usize = 64 << 10;
/// Receipts are gathered this long before cursors are written.
pub const PERSIST_RECEIPTS_MS: u64 = 100;
/// Packs of receipts in one write of cursors. Beyond: the next write follows at once.
pub const PERSIST_RECEIPT_PACKS: usize = 1_024;
/// Calls that wait for persist. Beyond: refused as full.
pub const PERSIST_CALLS_MAX: usize = 4_096;
/// Calls that persist answers at once from a remote store; from the embedded one it is one. Beyond: they wait.
pub const PERSIST_CALL_THREADS: usize = 8;
/// Writes that persist has under way in a remote store. Beyond: they wait for those.
pub const STORE_WRITES_IN_FLIGHT: usize = 128;
/// Partitions in one write to a remote store, and heads in one read of them: above this many Cassandra warns by default.
pub const STORE_BUNDLE_PARTITIONS: usize = 10;
/// About the bytes of such a write: Cassandra warns above 5 KiB by default. Beyond: a further write.
pub const STORE_BUNDLE_BYTES: usize = 4 << 10;
/// Reads that one call has under way in a remote store. Beyond: they wait for those.
pub const STORE_READS_IN_FLIGHT: usize = 32;
/// Ranges of a sync whose first rows are read from a remote store at once. Beyond: they wait for those.
pub const STORE_RANGES_AHEAD: usize = 16;
/// Messages in one answer of a remote store: 4 MiB of contents at most. Beyond: a further request.
pub const STORE_PAGE_MESSAGES: usize = 64;
/// Cursors of one user in one write to a remote store. Beyond: a further write.
pub const STORE_BATCH_ROWS: usize = 256;
/// Blocks of the embedded store that are kept in memory, bytes.
pub const STORE_CACHE_BYTES: u64 = 64 << 20;
/// What a busy table of the embedded store holds in memory before it is written out, bytes; up to four times as much
/// while that goes on. Beyond: writing waits. Larger ones cost more for each insert than they save in writing out.
pub const STORE_MEMTABLE_BYTES: u64 = 8 << 20;
/// Conversations whose last seq the embedded store keeps in memory, in each of two generations (33 bytes a bucket, 2^19
/// buckets). Beyond: the oldest are read from disk, 5 µs each.
pub const STORE_SEQS_MAX: usize = (1 << 19) / 8 * 7;
/// Journal of the embedded store, bytes: what a start after a crash has to read.
pub const STORE_JOURNAL_BYTES_MAX: u64 = 256 << 20;
/// Bytes of contents in one sync or history reply; the last row may exceed it.
pub const SYNC_BYTES_MAX: usize = 1 << 20;
/// Rows that one sync or history call reads, a device's own sends included. Beyond: the next page.
pub const SYNC_READS_MAX: usize = 4_096;
/// Conversations that one sync call goes through. Beyond: the next page.
pub const SYNC_CONVERSATIONS_MAX: usize = 1_024;
/// Rows in one sync reply.
pub const SYNC_ROWS_MAX: usize = 256;

/// An edge renews its lease this often.
pub const LEASE_RENEW_MS: u64 = 2_000;
/// A lease that was not renewed for this long is over.
pub const LEASE_MS: u64 = 6_000;
/// A router looks this often which edges have come and gone by way of other routers.
pub const LEASE_FOLLOW_MS: u64 = 500;
/// Incarnations of edges that router knows, dead ones included until their routes are swept. Beyond: a lease is refused.
pub const LEASES_MAX: usize = 4_096;
/// Dead incarnations of one edge that are remembered, so that none of them renews. Beyond: the oldest is forgotten.
pub const LEASES_DEAD_MAX: usize = 16;
/// Routers and persists that are known at once. Beyond: a new one is not noted until another has lapsed.
pub const SERVICES_MAX: usize = 256;
/// A session asks this often, at the most, whether its route is its own still; each at a time of its own between half of
/// it and all. What a lost route costs at worst: so long without pushes, then a sync.
pub const ASSERT_MS: u64 = 300_000;
/// A route that was not asserted for this long is forgotten.
pub const ROUTE_MS: u64 = 3 * ASSERT_MS;
/// Claims, assertions and releases of routes under way to Redis. Beyond: refused, and tried again by the session's sweep.
pub const ROUTES_CALLS_MAX: usize = 4_096;
/// A call to Redis that is not answered after this long has failed; what it would have done may have been done.
pub const ROUTES_CALL_MS_MAX: u64 = 1_000;
/// Users whose routes are looked up in one round trip to Redis. Beyond: several, one after another.
pub const ROUTES_LOOK_UP_MAX: usize = 4_096;
/// A look-up or a revocation that failed is tried again after this long, for as long as it takes.
pub const ROUTES_RETRY_MS: u64 = 100;
/// Rounds of the fan-out (one batched look-up each) that wait for their look-up or for edges. Beyond: router reads no more.
pub const FANOUT_ROUNDS_MAX: usize = 16;
/// Records in one round of the fan-out.
pub const FANOUT_ROUND_RECORDS_MAX: usize = 256;
/// Bytes of packs in one round of the fan-out; the last pack may exceed it.
pub const FANOUT_ROUND_BYTES_MAX: usize = 1 << 20;
/// Bytes of packs in all rounds under way. Beyond: router reads no more.
pub const FANOUT_BYTES_MAX: usize = 8 << 20;
/// Conversations whose last answered seq is remembered, in each of two generations. Beyond: a replay is pushed once more.
pub const FANOUT_ANSWERED_MAX: usize = 16_384;
/// Incarnations of edges whose batches were given up, so that nothing later goes to them. Beyond: the oldest is
/// forgotten; look-ups have not shown it for long.
pub const FANOUT_ENDED_MAX: usize = 256;
/// Deliveries in one batch to an edge. Beyond: a further batch.
pub const DELIVER_BATCH_MAX: usize = 4_096;
/// Bytes of packets in one batch to an edge; the last packet may exceed it. Beyond: a further batch.
pub const DELIVER_BATCH_BYTES_MAX: usize = 2 << 20;
/// A batch that an edge could not take is tried again after this long.
pub const DELIVER_RETRY_MS: u64 = 50;
/// An edge that has not answered a batch for this long has its epoch revoked.
pub const DELIVER_ANSWER_MS_MAX: u64 = 3_000;

/// Calls of one link between processes that have no answer yet. Beyond: answered as full; a server reads no more of a
/// caller that keeps more than this open.
pub const LINK_CALLS_MAX: usize = 16_384;
/// Bytes that wait to be sent on one link, each way. Beyond: a call is answered as full.
pub const LINK_QUEUE_BYTES_MAX: usize = 32 << 20;
/// Bytes after which a message of a link is closed; its last call may exceed it.
pub const LINK_MESSAGE_BYTES: usize = 1 << 20;
/// Largest message of a link. Beyond: the call is answered as unavailable and logged; from a peer, the link is closed.
pub const LINK_MESSAGE_BYTES_MAX: usize = 8 << 20;
/// Bytes under way on one link that the reader has not taken yet, each way. Beyond: they wait with the sender.
pub const LINK_WINDOW_BYTES: u32 = 4 << 20;
/// A link that is not open after this long is tried again.
pub const LINK_OPEN_MS_MAX: u64 = 1_000;
/// A link that does not open is tried again after at least this long, doubled each time.
pub const LINK_BACKOFF_MS_MIN: u64 = 50;
/// But never later than after this.
pub const LINK_BACKOFF_MS_MAX: u64 = 2_000;
/// A link is pinged this often.
pub const LINK_PING_MS: u64 = 1_000;
/// A link whose ping is not answered for this long is closed.
pub const LINK_PONG_MS_MAX: u64 = 2_000;
/// Processes of one service that are called. Beyond: the others are left out.
pub const LINK_POOL_MAX: usize = 64;
/// A process that failed a call is passed over for this long, while there are others.
pub const LINK_SKIP_MS: u64 = 1_000;
/// A call that decides over a lease is given up after this long.
pub const LEASE_CALL_MS_MAX: u64 = LEASE_RENEW_MS;

/// Username and password, bytes.
pub const USERNAME_BYTES_MAX: usize = 64;
/// Beyond it argon2 would only cost more.
pub const PASSWORD_BYTES_MAX: usize = 128;
/// Largest body of an HTTP request.
pub const HTTP_BODY_BYTES_MAX: usize = 16 << 10;
/// HTTP connections held at once. Beyond: new ones wait in the listener's backlog.
pub const HTTP_CONNECTIONS_MAX: usize = 1_024;
/// Connections to a service's health address held at once. Beyond: new ones wait in the listener's backlog.
pub const HEALTH_CONNECTIONS_MAX: usize = 64;
/// An HTTP request's head that is not complete after this long, or a connection idle this long, is closed.
pub const HTTP_HEAD_MS_MAX: u64 = 10_000;
/// An HTTP request's body that is not complete after this long is answered with 408.
pub const HTTP_BODY_MS_MAX: u64 = 10_000;
/// An HTTP connection takes no further requests after this long.
pub const HTTP_CONNECTION_MS_MAX: u64 = 300_000;
/// Passwords hashed at once: each takes 19 MiB and a core for some tens of ms.
pub const HASHES_AT_ONCE: usize = 1;
/// Passwords that wait for it. Beyond: 503 with `retry-after`.
pub const HASHES_WAITING_MAX: usize = 64;
/// Failed logins of one account within the window. Beyond: 429 until it ends.
pub const LOGIN_FAILURES_MAX: u32 = 10;
/// That window.
pub const LOGIN_FAILURES_MS: u64 = 60_000;
/// Accounts whose failures are counted. Beyond: the oldest count is forgotten.
pub const LOGIN_FAILURES_ACCOUNTS_MAX: usize = 65_536;
/// Revocations that wait for Redis. Beyond: answered with 503; the store has them, and asking again does the rest.
pub const REVOCATIONS_WAITING_MAX: usize = 1_024;
/// Users whose latest revocation is remembered, in each of two generations.
pub const REVOCATIONS_MAX: usize = 65_536;
/// A call to persist that is not answered after this long is answered to the client with 503.
pub const PERSIST_CALL_MS_MAX: u64 = 5_000;
/// A page of a sync that has something to give ends after this long, however much is left, so that on a slow store those
/// that wait behind it are answered in time too.
pub const SYNC_PAGE_MS: u64 = 250;

const _: () = {
    assert!(SYNC_PAGE_MS * 16 <= PERSIST_CALL_MS_MAX);
    assert!(CONTENT_BYTES_MAX < MESSAGE_BYTES_MAX);
    assert!(MESSAGE_BYTES_MAX < PACK_BYTES_MAX);
    assert!(PACK_BYTES_MAX < 4 << 20, "Pulsar refuses messages above 5 MiB");
    assert!(MESSAGE_BYTES_MAX < EGRESS_BYTES_MAX);
    assert!(PACK_BYTES_MAX <= BUS_QUEUE_BYTES_MAX);
    assert!(PACK_BYTES_MAX <= BUS_TAIL_BYTES_MAX);
    assert!((BUS_QUEUE_BYTES_MAX as u64) < BUS_BACKLOG_BYTES_MAX);
    assert!(4 * (PACK_BYTES_MAX as u64) < BUS_SEGMENT_BYTES && BUS_SEGMENT_BYTES < u32::MAX as u64 / 2);
    assert!(BUS_ACK_MS_MIN < BUS_ACK_MS_MAX);
    assert!(
        BUS_QUEUE_MS_MAX + BUS_HOLD_MS + BUS_PUBLISH_MS_MAX < REPUBLISH_MS_MAX,
        "the client sends again by itself until then"
    );
    assert!(BUS_HOLD_MS < BUS_PUBLISH_MS_MAX);
    assert!(TOKEN_BYTES_MAX < HANDSHAKE_BYTES_MAX);
    assert!(ID_BATCH <= ID_BLOCK_MAX);
    assert!(PING_AFTER_MS < EVICT_AFTER_MS);
    assert!(LEASE_RENEW_MS * 2 < LEASE_MS);
    assert!(LEASE_MS < ASSERT_MS && ASSERT_MS < ROUTE_MS);
    assert!(DELIVER_RETRY_MS < DELIVER_ANSWER_MS_MAX && DELIVER_ANSWER_MS_MAX < LEASE_MS);
    assert!(LEASES_MAX < 1 << 16, "a route names its lease by 16 bits");
    assert!(FANOUT_ROUND_BYTES_MAX + PACK_BYTES_MAX <= FANOUT_BYTES_MAX);
    assert!(DELIVER_BATCH_BYTES_MAX + PACK_BYTES_MAX < 4 << 20, "gRPC takes 4 MiB unasked");
    assert!(
        LINK_MESSAGE_BYTES + DELIVER_BATCH_BYTES_MAX + PACK_BYTES_MAX + (1 << 20) < LINK_MESSAGE_BYTES_MAX
    );
    assert!(LINK_MESSAGE_BYTES + 2 * SYNC_BYTES_MAX < LINK_MESSAGE_BYTES_MAX);
    assert!(LINK_MESSAGE_BYTES_MAX <= LINK_QUEUE_BYTES_MAX && FANOUT_BYTES_MAX <= LINK_QUEUE_BYTES_MAX);
    assert!(LINK_PING_MS + LINK_PONG_MS_MAX < LEASE_MS);
    assert!(SESSION_IN_FLIGHT_MAX < SHARD_IN_FLIGHT_MAX);
    assert!(SHARD_UNSTORED_MAX <= SHARD_IN_FLIGHT_MAX);
    assert!(SYNC_ROWS_MAX <= SESSION_UNACKED_MAX);
    assert!(SYNC_ROWS_MAX <= SYNC_READS_MAX);
    assert!(SEQUENCER_BATCH_EVENTS <= SEQUENCER_WAITING_EVENTS_MAX);
    assert!(2 * (SEQUENCER_BATCH_EVENTS + PACK_EVENTS_MAX) < SEQUENCER_KEYS_MAX);
    assert!(DEDUP_WINDOW_MS >= 4 * REPUBLISH_MS_MAX);
    assert!(SESSION_UNACKED_MAX < CLIENT_HELD_MAX);
};

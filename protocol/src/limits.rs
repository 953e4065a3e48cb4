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

/// Events in one pack.
pub const PACK_EVENTS_MAX: usize = 1_024;
/// Bytes of one pack.
pub const PACK_BYTES_MAX: usize = 1 << 20;
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
/// Messages that a session acknowledged lately, kept so that a read receipt needs no look-up.
pub const SESSION_RECENT_ACKS: usize = 64;
/// Messages waiting in a shard's inbox. Beyond: sessions are marked dirty instead.
pub const SHARD_INBOX_MAX: usize = 16_384;

/// A recall comes this long after the message at most, by the edges' stamps.
pub const RECALL_WINDOW_MS: u64 = 120_000;
/// A reader of `uplink` remembers the keys of this much edge-stamped time.
pub const DEDUP_WINDOW_MS: u64 = 120_000;
/// No sender publishes an event again later than this after its first try.
pub const REPUBLISH_MS_MAX: u64 = DEDUP_WINDOW_MS / 4;
/// Rows in one sync reply.
pub const SYNC_ROWS_MAX: usize = 256;

/// An edge renews its lease this often.
pub const LEASE_RENEW_MS: u64 = 2_000;
/// A lease that was not renewed for this long is over.
pub const LEASE_MS: u64 = 6_000;
/// Username and password, bytes.
pub const USERNAME_BYTES_MAX: usize = 64;
/// Beyond it argon2 would only cost more.
pub const PASSWORD_BYTES_MAX: usize = 128;
/// Largest body of an HTTP request.
pub const HTTP_BODY_BYTES_MAX: usize = 16 << 10;

const _: () = {
    assert!(CONTENT_BYTES_MAX < MESSAGE_BYTES_MAX);
    assert!(MESSAGE_BYTES_MAX < PACK_BYTES_MAX);
    assert!(PACK_BYTES_MAX < 4 << 20, "Pulsar refuses messages above 5 MiB");
    assert!(MESSAGE_BYTES_MAX < EGRESS_BYTES_MAX);
    assert!(PING_AFTER_MS < EVICT_AFTER_MS);
    assert!(LEASE_RENEW_MS * 2 < LEASE_MS);
    assert!(SESSION_IN_FLIGHT_MAX < SHARD_IN_FLIGHT_MAX);
    assert!(SHARD_UNSTORED_MAX <= SHARD_IN_FLIGHT_MAX);
    assert!(SYNC_ROWS_MAX <= SESSION_UNACKED_MAX);
};

//! Deliberate mistakes, to prove that the checkers notice them.

/// A mistake that the world makes on purpose. None of them exists in the machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mutation {
    /// persist acknowledges `uplink` when it has read a record, not when it has had its effect.
    AckUplinkBeforeEffect,
    /// router acknowledges `stored` when it has read a record, not when the edges have answered.
    AckStoredBeforeEffect,
    /// A fresh reader takes it that no key was ever used.
    ForgetKeys,
    /// A reader that has a partition again does not notice that another one has read there meanwhile.
    KeepStaleHeads,
    /// The seqs in users' lists are written before the rows that they count.
    ListBeforeRows,
    /// A replay does not write again what goes beside a head.
    ReplayLeavesLists,
    /// Heads are written before the rows that they count.
    HeadBeforeRows,
    /// Events are published on `stored` before they are stored.
    DeliverBeforeStored,
    /// The store keeps what was written last, not what has the highest write timestamp.
    LastWriteWins,
    /// The insert of a message clears the mark of its recall.
    InsertUndoesRecall,
    /// Reads give the content of recalled messages.
    ServeRecalled,
    /// A route is removed without comparing its address.
    ReleaseWithoutCompare,
    /// An edge's answers and receipts find their session by its slot alone.
    SlotWithoutGeneration,
    /// A delivery is shown to whoever has the slot now.
    DeliverToAnyUser,
    /// A full inbox drops deliveries and marks nobody dirty.
    DropDirtyMark,
    /// A new epoch does not make the sessions claim their routes again.
    KeepOldRoutes,
    /// The cursor moves when a row is sent, not when it was acknowledged.
    CursorBeforeAck,
    /// A status is told in the order of arrival, lower ones after higher ones.
    StatusFalls,
    /// The edge says accepted when it has handed a pack to the bus.
    AcceptBeforeReceipt,
    /// An unknown outcome is told as a certain refusal.
    UnknownAsRefused,
    /// The packs of a partition go out side by side, without an order.
    PacksOvertake,
    /// An assertion takes a route that was lost, while its session shows pushes as they come.
    AssertionTakes,
    /// The pipeline's credit is not given back when a session ends.
    LeakCredit,
    /// Whoever finds a key takes it for a message that is stored, even its own unfinished one.
    KeyIsMessage,
    /// A write that timed out is taken for done.
    SkipFailedWrite,
    /// What is delivered again while it is under way is acknowledged at once.
    AckRedelivered,
    /// persist stamps events with its own clock.
    PersistClock,
    /// A reader that begins takes what comes from then on, as without a subscription that was there before.
    SubscribeAtEnd,
    /// A new generation of `uplink` does not say that it is one.
    WipedBus,
    /// `uplink` is acknowledged before the store has synced.
    AckBeforeSync,
    /// After a loss of power, calls are answered before the store has caught up with the log.
    AnswerBeforeRecovery,
    /// A session that lost its route to a login elsewhere is not told.
    ReplacedIsNotTold,
    /// A device is synced before its claim is confirmed.
    ClaimIsNotAwaited,
    /// A cursor is what came last, not the maximum.
    CursorFalls,
    /// A recall has no row of its own that syncs would show.
    RecallWithoutRow,
    /// The second id of a resend is not remembered.
    ForgetAliases,
    /// A client's key is looked up without its sender.
    KeysWithoutSender,
    /// Refusals by the log are not published.
    DropRefusals,
    /// A sync's answer claims to cover more than it holds.
    RangeClaimsMore,
    /// An edge forgets up to where its message ids were given out.
    ForgetIdMark,
    /// A sync ends with its first page.
    FirstPageOnly,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Self; 41] = [
        Self::AckUplinkBeforeEffect,
        Self::AckStoredBeforeEffect,
        Self::ForgetKeys,
        Self::KeepStaleHeads,
        Self::ListBeforeRows,
        Self::ReplayLeavesLists,
        Self::HeadBeforeRows,
        Self::DeliverBeforeStored,
        Self::LastWriteWins,
        Self::InsertUndoesRecall,
        Self::ServeRecalled,
        Self::ReleaseWithoutCompare,
        Self::SlotWithoutGeneration,
        Self::DeliverToAnyUser,
        Self::DropDirtyMark,
        Self::KeepOldRoutes,
        Self::CursorBeforeAck,
        Self::StatusFalls,
        Self::AcceptBeforeReceipt,
        Self::UnknownAsRefused,
        Self::PacksOvertake,
        Self::AssertionTakes,
        Self::LeakCredit,
        Self::KeyIsMessage,
        Self::SkipFailedWrite,
        Self::AckRedelivered,
        Self::PersistClock,
        Self::SubscribeAtEnd,
        Self::WipedBus,
        Self::AckBeforeSync,
        Self::AnswerBeforeRecovery,
        Self::ReplacedIsNotTold,
        Self::ClaimIsNotAwaited,
        Self::CursorFalls,
        Self::RecallWithoutRow,
        Self::ForgetAliases,
        Self::KeysWithoutSender,
        Self::DropRefusals,
        Self::RangeClaimsMore,
        Self::ForgetIdMark,
        Self::FirstPageOnly,
    ];

    /// Its name on the command line.
    pub fn name(self) -> String {
        let mut name = String::new();
        for letter in format!("{self:?}").chars() {
            if letter.is_ascii_uppercase() && !name.is_empty() {
                name.push('-');
            }
            name.push(letter.to_ascii_lowercase());
        }
        name
    }

    /// The mutation of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|m| m.name() == name)
    }
}

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
}

impl Mutation {
    /// All of them.
    pub const ALL: [Self; 21] = [
        Self::AckUplinkBeforeEffect,
        Self::AckStoredBeforeEffect,
        Self::ForgetKeys,
        Self::KeepStaleHeads,
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

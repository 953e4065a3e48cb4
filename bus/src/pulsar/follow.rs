//! Which records a reader is given, and whether one follows on the one before it.

/// A record's place in its partition: ledger and entry. Both only grow.
pub(super) type Place = (u64, u64);

/// What one consumer has had.
#[derive(Debug, Default)]
pub(super) struct Follow {
    /// The furthest record that was given.
    last: Option<Place>,
    /// Everything up to here is acknowledged by this process.
    acked: Option<Place>,
    /// The subscription has begun again, and nothing was given since.
    is_fresh: bool,
}

/// What to do with a record that came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Give it to the reader.
    Give {
        /// It does not follow on the one before it.
        is_resumed: bool,
    },
    /// It was acknowledged, and comes again since that was lost.
    AckAgain(Place),
}

impl Follow {
    /// A consumer that goes on where another of this process has acknowledged.
    pub(super) fn new(acked: Option<Place>) -> Self {
        Self { last: None, acked, is_fresh: true }
    }

    pub(super) fn subscribed(&mut self) {
        self.is_fresh = true;
    }

    pub(super) fn acked(&self) -> Option<Place> {
        self.acked
    }

    /// Takes an acknowledgement; whether it is news.
    pub(super) fn ack(&mut self, place: Place) -> bool {
        let is_news = self.acked < Some(place);
        self.acked = self.acked.max(Some(place));
        is_news
    }

    pub(super) fn came(&mut self, place: Place) -> Next {
        if let Some(acked) = self.acked.filter(|acked| place <= *acked) {
            return Next::AckAgain(acked);
        }
        // Another reader may have had what is between, and whether anything is between two ledgers cannot be seen.
        let follows = self.last.is_some_and(|(ledger, entry)| place <= (ledger, entry + 1));
        let is_resumed = std::mem::take(&mut self.is_fresh) || !follows;
        self.last = self.last.max(Some(place));
        Next::Give { is_resumed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOLLOWS: Next = Next::Give { is_resumed: false };
    const RESUMED: Next = Next::Give { is_resumed: true };

    #[test]
    fn the_first_is_resumed_and_the_next_follow() {
        let mut follow = Follow::new(None);
        assert_eq!(follow.came((7, 3)), RESUMED);
        assert_eq!(follow.came((7, 4)), FOLLOWS);
        assert_eq!(follow.came((7, 5)), FOLLOWS);
    }

    #[test]
    fn what_comes_again_follows_and_a_gap_does_not() {
        let mut follow = Follow::new(None);
        for entry in 0..10 {
            follow.came((7, entry));
        }
        // The partition was away, and comes back with what was not acknowledged.
        for entry in 4..10 {
            assert_eq!(follow.came((7, entry)), FOLLOWS, "{entry}");
        }
        assert_eq!(follow.came((7, 10)), FOLLOWS);
        assert_eq!(follow.came((7, 12)), RESUMED, "somebody else has had 11");
        assert_eq!(follow.came((7, 13)), FOLLOWS);
        assert_eq!(follow.came((8, 0)), RESUMED, "another ledger");
        assert_eq!(follow.came((7, 13)), FOLLOWS);
        assert_eq!(follow.came((8, 1)), FOLLOWS);
    }

    #[test]
    fn a_new_subscription_is_resumed_whatever_comes() {
        let mut follow = Follow::new(None);
        follow.came((7, 0));
        follow.subscribed();
        assert_eq!(follow.came((7, 0)), RESUMED);
        assert_eq!(follow.came((7, 1)), FOLLOWS);
    }

    #[test]
    fn what_was_acknowledged_is_not_given_again() {
        let mut follow = Follow::new(Some((7, 1)));
        assert_eq!(follow.came((7, 0)), Next::AckAgain((7, 1)));
        assert_eq!(follow.came((7, 2)), RESUMED);
        follow.came((7, 3));
        assert!(follow.ack((7, 3)));
        assert!(!follow.ack((7, 2)), "never backwards");
        follow.subscribed();
        assert_eq!(follow.came((7, 2)), Next::AckAgain((7, 3)));
        assert_eq!(follow.came((7, 4)), RESUMED, "the first that is given");
    }
}

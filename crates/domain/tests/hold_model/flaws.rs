//! Ways to build the holds wrong. Each breaks one of the promises, which shows that the search would see it, and what the
//! rule is there for.

/// What is built other than it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// What is decided about a hold can be decided again until it is confirmed.
    DecidedAgain,
    /// The provider ends a hold once for each key, and not once.
    EndedByEachKey,
    /// The request does not say how much is captured: all of it is.
    AmountLeftOut,
    /// A capture whose outcome is unknown counts as a hold that is gone.
    UnknownIsGone,
    /// A void that meets a captured hold counts as done.
    VoidDoneAnyway,
    /// A cancelled order asks no more what became of the capture that was decided before.
    CaptureDropped,
    /// What was captured beyond the decision is not refunded.
    ExcessKept,
    /// What a person captured of a served order's hold beyond the decision is refunded without a look at what that person
    /// refunded.
    ExcessUnlooked,
    /// The same, of an order that was cancelled with a fee.
    FeeUnlooked,
    /// A cancellation refunds its fee, too.
    FeeRefunded,
    /// A served order of which less was captured than was decided is not flagged.
    ShortUnflagged,
    /// A payment is compared with the provider's record while the ledger has it as held.
    ComparedWhileHeld,
    /// That a refund of the order itself was made is no news while the order is worked on.
    OwnNewsDropped,
    /// An operator refunds again what failed while another driver is looked for.
    AgainWhileSearching,
    /// A hold that is gone is charged anew.
    GoneChargedAnew,
    /// Each send has the first key.
    OneKey,
    /// Writes ask neither for the fence nor for the status.
    WritesWithoutFence,
}

//! Ways to build the refunds wrong. Each breaks one of the promises, which shows that the search would see it, and what
//! the rule is there for.

/// What is built other than it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// Each send has a key of its own.
    NewKeyEachSend,
    /// A refund is sent again however old its key is.
    OldKeySentAgain,
    /// A refund that failed is opened again by the saga.
    FailedOpenedAgain,
    /// What a person refunds by hand is not looked at.
    HandNotCounted,
    /// An old refund is closed while its request may still arrive.
    OldKeyClosedEarly,
    /// An operator pays what the ledger says is left, without a look at the provider.
    PaidUnlooked,
    /// An operator pays past the provider what is pending there.
    PaidWhilePending,
    /// An operator pays past the provider while a worker that sleeps may send what is open.
    PaidWhileSent,
    /// An operator refunds again what may still be made, or is pending.
    AgainWhileSent,
    /// Writes do not ask for the fence.
    WritesWithoutFence,
    /// A requested refund for which too little is left is made smaller.
    ImpossibleMadeSmaller,
    /// A comparison ends also those that were requested after it had read the provider's list.
    LaterNewsDropped,
}

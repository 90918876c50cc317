//! Ways to build the service wrong. Each breaks one of the promises, which shows that the search would see it, and
//! what the rule is there for.

/// What is built other than it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// Writes ask neither for the fence nor for the status.
    WritesWithoutFence,
    /// Each charge has a key of its own.
    RandomChargeKey,
    /// Each refund has a key of its own, and the provider goes by keys alone.
    RandomRefundKey,
    /// No answer to a charge is taken for a decline.
    SilenceMeansFailed,
    /// No answer to a charge is taken for a success.
    SilenceMeansCharged,
    /// No answer to a refund is taken for a success.
    SilenceMeansRefunded,
    /// A charge that the provider does not find is taken for a decline.
    NotFoundMeansFailed,
    /// The charge is sent again however old its key is.
    OldKeySentAgain,
    /// The key is revoked however old it is.
    OldKeyRevoked,
    /// A refusal of the second send is taken for one of the first, too.
    RefusalEndsDoubt,
    /// A charge that was refused is sent again without a record of it.
    SendNotRecorded,
    /// A person says that there was no charge while its key may still be sent.
    PersonDecidesEarly,
    /// A refund that gets no answer is left to itself.
    RefundTriedOnce,
    /// A cancellation fails an order whose charge may be on its way.
    CancelFailsChargingOrder,
    /// A worker honours a cancellation whatever the rulebook says is pending.
    CancelHonouredInDoubt,
    /// A driver is bound although a cancellation was accepted.
    AssignmentIgnoresCancel,
    /// An order whose service was rendered can still be cancelled.
    CancelAfterCompletion,
    /// An order that lost its driver begins anew.
    LostDriverChargedAgain,
}

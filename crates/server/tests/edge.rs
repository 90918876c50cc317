//! The edge of the service on real sockets: what is counted and shown, what is refused, and what a peer that breaks
//! the rules can do to others (nothing).

#[path = "edge/admin.rs"]
mod admin;

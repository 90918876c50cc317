//! What a store that fails over is to the rig, whichever it is.

use std::path::Path;

use testkit::process::Flags;

use crate::network::Machine;

/// How soon one who says nothing counts as failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// Soon: who leads is to be replaced.
    Eager,
    /// Late: a machine that does all it can is slow to say anything, and no one is to be replaced. And what is written is durable, as in
    /// production.
    Patient,
}

/// A store on several machines, one of which leads.
pub trait Engine {
    /// Its name, for people.
    const NAME: &'static str;

    /// The settings by which Waybill uses it, over those by which the other store is used.
    fn flags(&self) -> Flags;

    /// Its machines that hold data.
    fn machines(&mut self) -> &mut [Machine];

    /// The number of a machine that leads now; `turn` chooses one of several.
    async fn leader(&self, turn: usize) -> Option<usize>;

    /// Whether another machine leads in the place of this one. It is asked every few milliseconds.
    async fn has_successor(&self, of: usize) -> bool;

    /// Whether all machines are there and follow their leader; else what is not so.
    async fn is_whole(&self) -> Result<(), String>;

    /// Whether the settings promise that no acknowledged fix is lost.
    fn keeps_fixes(&self) -> bool;
}

/// A file that programs of whatever rights can read.
pub fn write(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).expect("a file");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).expect("a file of ours");
}

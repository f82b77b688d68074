//! What big values have besides tables of records, once they are taken apart to be freed in steps. It knows no member.

use super::list::Chunks;
use super::ordered::Ordered;

/// A tree or a queue that nobody reads any more.
pub(crate) enum Remains {
    /// Of a sorted set, or the deadlines of a hash.
    #[expect(private_interfaces, reason = "only freed from outside")]
    Tree(Ordered),
    /// Of a list.
    #[expect(private_interfaces, reason = "only freed from outside")]
    Chunks(Chunks),
}

impl Remains {
    /// Frees one node; false when there was none.
    pub fn free_some(&mut self) -> bool {
        match self {
            Remains::Tree(tree) => tree.fell(),
            Remains::Chunks(chunks) => chunks.free_last(),
        }
    }
}

//! What a handler works on. It borrows everything from the server for the time of one command.

use larder_base::rng::Rng;
use larder_protocol::reply::Reply;
use larder_store::{Kind, Settings, View};

use crate::effects::Effects;
use crate::fault::Fault;

/// The surroundings of one command. The fields are public so that handlers can borrow them apart.
pub struct Context<'a> {
    /// The locked keys, at the moment of the command.
    pub keys: View<'a>,
    /// Where the reply goes.
    pub reply: Reply<'a>,
    /// What a copy of the data must repeat.
    pub effects: Effects,
    /// Randomness, seeded by the server.
    pub rng: &'a mut Rng,
    /// The data-relevant configuration.
    pub settings: &'a Settings,
    /// Whether a blocking command may wait: not within a transaction.
    pub may_block: bool,
    /// The key for whose sake a command that waited is run again; it looks at no other. Whichever key became
    /// ready first serves, wherever it stands in the request.
    pub ready: Option<&'a [u8]>,
    /// Bytes of output above which the connection is closed without sending them: who writes very much may
    /// stop there. `usize::MAX` = none.
    pub reply_max: usize,
}

impl Context<'_> {
    /// Whether so many draws with repetition (a negative count) may be made.
    ///
    /// # Errors
    /// They are more than memory has room for, and nothing else would end them.
    pub fn allow_draws(&self, count: i64) -> Result<(), Fault> {
        /// Elements drawn with repetition where no limit on output ends them.
        const DRAW_MAX: i64 = 10_000_000;
        if count < -DRAW_MAX && self.reply_max == usize::MAX {
            return Err(Fault::text("ERR value is out of range"));
        }
        Ok(())
    }
}

/// How a handler ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The reply is written.
    Done,
    /// Nothing is written: the client waits.
    Wait(Wait),
}

/// What a client waits for. If the time is over the answer is a null array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Positions of the arguments that are the keys waited for, in order of preference.
    pub keys: Vec<usize>,
    /// The type that a key must have to be ready.
    pub wants: Kind,
    /// Milliseconds; `None` = for ever.
    pub timeout_ms: Option<u64>,
}

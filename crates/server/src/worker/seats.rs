//! A worker's connections by position, and its counters: what the exclusive section may see of it. It knows
//! no socket events.

use crate::client::Client;
use crate::observe::pulse::Pulse;
use crate::stats::{CommandStats, Stats};

/// The state that the exclusive section may see; everything else of a worker is its thread's own.
#[derive(Default)]
pub struct WorkerState {
    /// Connections by position; the high half of a token is the generation.
    pub clients: Vec<Seat>,
    /// Free positions.
    free: Vec<usize>,
    /// Counters.
    pub stats: Stats,
    /// Counters per command, by the registry's numbers.
    pub commands: Vec<CommandStats>,
    /// The recent past.
    pub pulse: Pulse,
}

/// One position of the connection table.
#[derive(Default)]
pub struct Seat {
    generation: u32,
    /// Who sits here.
    pub client: Option<Box<Client>>,
}

impl Seat {
    /// Which tenant of this position it is.
    pub fn generation(&self) -> u32 {
        self.generation
    }
}

impl WorkerState {
    /// A turn of the event loop is over. `commands`: how many had run before it.
    #[inline]
    pub(super) fn note_turn(&mut self, nanos: u64, commands: u64) {
        let WorkerState { stats, pulse, .. } = self;
        stats.turns += 1;
        stats.turn_nanos += nanos;
        pulse.turn_nanos_max = pulse.turn_nanos_max.max(nanos);
        let commands = stats.commands.saturating_sub(commands);
        pulse.turn_commands_max = pulse.turn_commands_max.max(commands);
    }

    /// Counts a command that was repeated, not sent by a client.
    pub fn count(&mut self, number: usize, nanos: u64, failed: bool, tracked: bool) {
        self.stats.commands += 1;
        if self.commands.len() <= number {
            self.commands.resize_with(number + 1, CommandStats::default);
        }
        if let Some(stats) = self.commands.get_mut(number) {
            stats.note(nanos, failed, tracked);
        }
    }

    /// Adds the counts of a state that nobody sees.
    pub fn add_counts(&mut self, other: &WorkerState) {
        self.stats.add(&other.stats);
        if self.commands.len() < other.commands.len() {
            self.commands.resize_with(other.commands.len(), CommandStats::default);
        }
        for (sum, one) in self.commands.iter_mut().zip(&other.commands) {
            sum.add(one);
        }
    }

    pub(super) fn seat(&mut self, client: Client) -> u64 {
        let at = self.free.pop().unwrap_or_else(|| {
            self.clients.push(Seat::default());
            self.clients.len() - 1
        });
        let Some(seat) = self.clients.get_mut(at) else { return 0 };
        seat.generation = seat.generation.wrapping_add(1) & 0x7fff_ffff;
        seat.client = Some(Box::new(client));
        u64::from(seat.generation) << 32 | at as u64
    }

    fn index(&self, token: u64) -> Option<usize> {
        let at = usize::try_from(token & u64::from(u32::MAX)).ok()?;
        let seat = self.clients.get(at)?;
        (u64::from(seat.generation) == token >> 32 && seat.client.is_some()).then_some(at)
    }

    /// The connection with this token, unless it is gone.
    pub fn client(&mut self, token: u64) -> Option<&mut Client> {
        find(&mut self.clients, token)
    }

    pub(super) fn take(&mut self, token: u64) -> Option<Box<Client>> {
        let at = self.index(token)?;
        self.clients.get_mut(at)?.client.take()
    }

    pub(super) fn put_back(&mut self, token: u64, client: Box<Client>) {
        let at = usize::try_from(token & u64::from(u32::MAX)).unwrap_or(usize::MAX);
        if let Some(seat) = self.clients.get_mut(at) {
            seat.client = Some(client);
        }
    }

    pub(super) fn remove(&mut self, token: u64) -> Option<Box<Client>> {
        let at = self.index(token)?;
        self.free.push(at);
        self.clients.get_mut(at)?.client.take()
    }

    /// The tokens of every `step`th position from `first` on.
    pub(super) fn tokens_from(&self, first: usize, step: usize) -> Vec<u64> {
        let seats = self.clients.iter().enumerate().skip(first).step_by(step);
        let taken = seats.filter(|(_, seat)| seat.client.is_some());
        taken.map(|(at, seat)| u64::from(seat.generation) << 32 | at as u64).collect()
    }
}

/// The connection with this token, borrowed apart from the counters.
#[inline]
pub(super) fn find(seats: &mut [Seat], token: u64) -> Option<&mut Client> {
    let at = usize::try_from(token & u64::from(u32::MAX)).ok()?;
    let seat = seats.get_mut(at)?;
    if u64::from(seat.generation) != token >> 32 {
        return None;
    }
    seat.client.as_deref_mut()
}

//! Names of statements and portals, seen from both ends.
//!
//! Messages and their replies are apart in time, so a name has two meanings. `confirmed` is what the server has said: it
//! changes when a reply is read. `ahead` is what a client that sends on without waiting means: it changes when a message is
//! forwarded, and is computed anew from `confirmed` when the server failed a pipeline and dropped what was sent ahead.
//!
//! A name may be used where there is only one thing it can mean:
//!   1. its message was confirmed, or
//!   2. its message is in the same pipeline (no Sync between): if that message fails, the server drops the use as well.
//!
//! Anything else waits until the replies of the earlier pipelines are there.
use std::collections::HashMap;
use std::sync::Arc;

use crate::statement::Nameable;

/// The pipeline of what was meant before SQL was sent that may give names itself.
pub(crate) const AGED: u64 = u64::MAX;

/// What a name means to the client.
pub(crate) struct Slot<T> {
    pub item: Arc<T>,
    /// The pipeline its message was sent in.
    pub segment: u64,
    /// Whether a Describe of it was sent, so that its rows will be known before they come.
    pub is_described: bool,
    /// When it was last meant, in messages that mean something of this kind.
    last_used: u64,
}

/// One kind of name.
pub(crate) struct Names<T> {
    confirmed: HashMap<String, Arc<T>>,
    ahead: HashMap<String, Slot<T>>,
    weight: usize,
    uses: u64,
    has_forgotten: bool,
}

impl<T: Nameable> Names<T> {
    pub fn new() -> Names<T> {
        Names {
            confirmed: HashMap::new(),
            ahead: HashMap::new(),
            weight: 0,
            uses: 0,
            has_forgotten: false,
        }
    }

    /// What the client means by a name.
    pub fn get(&self, name: &str) -> Option<&Slot<T>> {
        self.ahead.get(name).filter(|slot| !slot.item.is_void())
    }

    pub fn is_confirmed(&self, slot: &Slot<T>, name: &str) -> bool {
        self.confirmed
            .get(name)
            .is_some_and(|known| Arc::ptr_eq(known, &slot.item))
    }

    /// Notes that a message means `name`.
    pub fn touch(&mut self, name: &str) {
        self.uses += 1;
        if let Some(slot) = self.ahead.get_mut(name) {
            slot.last_used = self.uses;
        }
    }

    /// Forgets the name that was not meant for the longest time. A client that made it with Parse and ended it with SQL
    /// (`DEALLOCATE`) will not miss it; another one is told that it does not exist and makes it again.
    pub fn forget_oldest(&mut self) {
        let oldest = self
            .ahead
            .iter()
            .min_by_key(|(_, slot)| slot.last_used)
            .map(|(name, _)| name.clone());
        if let Some(name) = oldest {
            self.send_close(&name);
            self.confirmed.remove(&name);
            self.has_forgotten = true;
        }
    }

    /// Whether a name may be unknown because there were too many.
    pub fn has_forgotten(&self) -> bool {
        self.has_forgotten
    }

    pub fn mark_described(&mut self, name: &str) {
        if let Some(slot) = self.ahead.get_mut(name) {
            slot.is_described = true;
        }
    }

    /// The Describe that was sent gave nothing to go by.
    pub fn unmark_described(&mut self, name: &str) {
        if let Some(slot) = self.ahead.get_mut(name) {
            slot.is_described = false;
        }
    }

    /// Names in use and the bytes they keep.
    pub fn size(&self) -> (usize, usize) {
        (self.ahead.len(), self.weight)
    }

    /// A message that makes `name` was forwarded.
    pub fn send(&mut self, name: &str, item: Arc<T>, segment: u64, is_described: bool) {
        self.weight += item.weight();
        self.uses += 1;
        let slot = Slot {
            item,
            segment,
            is_described,
            last_used: self.uses,
        };
        if let Some(old) = self.ahead.insert(name.to_owned(), slot) {
            self.weight -= old.item.weight();
        }
    }

    /// A message that ends `name` was forwarded.
    pub fn send_close(&mut self, name: &str) {
        if let Some(old) = self.ahead.remove(name) {
            self.weight -= old.item.weight();
        }
    }

    /// The server confirmed the message that makes `name`.
    pub fn confirm(&mut self, name: &str, item: Arc<T>) {
        self.confirmed.insert(name.to_owned(), item);
    }

    /// The server said, or it follows from what it said, that `name` is gone.
    pub fn confirm_close(&mut self, name: &str) {
        self.confirmed.remove(name);
    }

    /// The server has none of these names any more.
    pub fn confirm_clear(&mut self) {
        self.confirmed.clear();
    }

    /// Whether no name is in use at either end.
    pub fn is_empty(&self) -> bool {
        self.confirmed.is_empty() && self.ahead.is_empty()
    }

    /// SQL that may put other things under the names is on its way.
    pub fn age(&mut self) {
        self.ahead.values_mut().for_each(|slot| slot.segment = AGED);
    }

    /// A cursor was made, which may have the name of a portal that went without a word; the unnamed one cannot be meant.
    pub fn void_named(&mut self) {
        let unnamed = self.confirmed.remove_entry("");
        self.void_confirmed();
        self.confirmed.extend(unnamed);
    }

    /// SQL may have put other things under the names: whatever they stood for must not be used again.
    pub fn void_confirmed(&mut self) {
        for (_, item) in self.confirmed.drain() {
            item.void();
        }
        self.ahead.retain(|_, slot| !slot.item.is_void());
        self.weight = self.ahead.values().map(|slot| slot.item.weight()).sum();
    }

    /// Calls `visit` for each confirmed item.
    pub fn for_each(&self, mut visit: impl FnMut(&T)) {
        self.confirmed.values().for_each(|item| visit(item));
        self.ahead.values().for_each(|slot| visit(&slot.item));
    }

    /// Begins computing `ahead` anew: what the server has confirmed, in pipelines long settled. The caller applies what is
    /// still on its way.
    pub fn rewind(&mut self, is_described: impl Fn(&T) -> bool) {
        let before = std::mem::take(&mut self.ahead);
        self.weight = 0;
        for (name, item) in &self.confirmed {
            self.weight += item.weight();
            let slot = Slot {
                item: Arc::clone(item),
                segment: 0,
                is_described: is_described(item),
                last_used: before.get(name).map_or(0, |slot| slot.last_used),
            };
            self.ahead.insert(name.clone(), slot);
        }
    }
}

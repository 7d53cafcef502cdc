//! The closed set of effects a statement can have (`sealgate.input/1`, `action.effects`).

/// One effect. The order is that of the bit in [`EffectSet`]; names are those of the input document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Effect {
    /// Data or settings are returned to the client.
    Read = 1,
    /// Rows change.
    Write = 1 << 1,
    /// Schema objects are created, changed or dropped.
    Define = 1 << 2,
    /// Code the text does not show runs: DO, CALL, EXECUTE.
    Execute = 1 << 3,
    /// A file of the server is read or written.
    File = 1 << 4,
    /// A program starts on the server, or native code is loaded into it.
    Program = 1 << 5,
    /// Rows leave in bulk, outside row results.
    Export = 1 << 6,
    /// The session's own state changes.
    Session = 1 << 7,
    /// Rows or relations stay locked for others.
    Lock = 1 << 8,
    /// Who may do what changes: roles, grants, owners, row security.
    Privilege = 1 << 9,
    /// The server connects to another one.
    Network = 1 << 10,
    /// Not understood. Policy must not allow it by accident.
    Unknown = 1 << 11,
}

const ALL: [(Effect, &str); 12] = [
    (Effect::Define, "define"),
    (Effect::Execute, "execute"),
    (Effect::Export, "export"),
    (Effect::File, "file"),
    (Effect::Lock, "lock"),
    (Effect::Network, "network"),
    (Effect::Privilege, "privilege"),
    (Effect::Program, "program"),
    (Effect::Read, "read"),
    (Effect::Session, "session"),
    (Effect::Unknown, "unknown"),
    (Effect::Write, "write"),
];

/// A set of effects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EffectSet(u16);

impl EffectSet {
    /// The empty set.
    pub const EMPTY: EffectSet = EffectSet(0);

    /// Adds one effect.
    pub fn add(&mut self, effect: Effect) {
        self.0 |= effect as u16;
    }

    /// Adds every effect of another set.
    pub fn merge(&mut self, other: EffectSet) {
        self.0 |= other.0;
    }

    /// Whether the effect is in the set.
    pub fn contains(self, effect: Effect) -> bool {
        self.0 & effect as u16 != 0
    }

    /// Whether nothing is in the set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The names, sorted.
    pub fn names(self) -> Vec<&'static str> {
        ALL.iter()
            .filter(|(effect, _)| self.contains(*effect))
            .map(|(_, name)| *name)
            .collect()
    }
}

impl From<&[Effect]> for EffectSet {
    fn from(effects: &[Effect]) -> Self {
        let mut set = EffectSet::EMPTY;
        effects.iter().for_each(|effect| set.add(*effect));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_complete() {
        let mut set = EffectSet::EMPTY;
        ALL.iter().for_each(|(effect, _)| set.add(*effect));
        let names = set.names();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        assert_eq!(names, sorted);
        assert_eq!(names.len(), 12);
        assert_eq!(set.0, (1 << 12) - 1);
    }
}

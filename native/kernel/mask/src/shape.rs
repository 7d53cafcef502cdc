//! What the values of a type are made of, as far as masks look inside: arrays and composites down to scalars.

/// Longest chain of types inside types that is followed; what lies deeper is opaque.
pub const MAX_SHAPE_DEPTH: usize = 16;

/// A type by its OID and its inner structure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// OID as binary values name it; 0 where it is not known and therefore not compared.
    pub oid: u32,
    /// The structure.
    pub kind: Kind,
}

/// The inner structure of a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Written as the type of this OID: a type of PostgreSQL's own, or the base type of a domain.
    Scalar(u32),
    /// A type of a user whose text form takes any text (citext); its binary form is not known.
    Text,
    /// An array.
    Array {
        /// What its elements are.
        element: Box<Shape>,
        /// What stands between elements in text format.
        delimiter: u8,
    },
    /// A row type: the fields by name, dropped ones left out.
    Composite(Vec<(String, Shape)>),
    /// Nothing is known of its values: a mask makes them null.
    Opaque,
}

/// PostgreSQL's own array types whose elements can carry a replacement, with the type of their elements: text, varchar, bpchar,
/// name, xml, json, jsonb. Any other array of its own is a scalar that carries nothing.
const ARRAYS: [(u32, u32); 7] = [
    (1009, 25),
    (1015, 1043),
    (1014, 1042),
    (1003, 19),
    (143, 142),
    (199, 114),
    (3807, 3802),
];

/// The first OID PostgreSQL gives to objects that are not its own (FirstNormalObjectId).
pub(crate) const FIRST_USER_OID: u32 = 16384;

impl Shape {
    /// What is known of a type by its OID alone.
    pub fn of(oid: u32) -> Shape {
        let element = ARRAYS.iter().find(|(array, _)| *array == oid);
        let kind = match element {
            Some((_, element)) => Kind::Array {
                element: Box::new(Shape::of(*element)),
                delimiter: b',',
            },
            None if oid >= FIRST_USER_OID => Kind::Opaque,
            None => Kind::Scalar(oid),
        };
        Shape { oid, kind }
    }

    /// Whether the OID that a binary value names for a part is the one expected.
    pub(crate) fn is_named(&self, oid: u32) -> bool {
        self.oid == 0 || self.oid == oid
    }

    /// How many types lie inside one another.
    pub fn depth(&self) -> usize {
        match &self.kind {
            Kind::Array { element, .. } => 1 + element.depth(),
            Kind::Composite(fields) => {
                1 + fields
                    .iter()
                    .map(|(_, field)| field.depth())
                    .max()
                    .unwrap_or(0)
            }
            Kind::Scalar(_) | Kind::Text | Kind::Opaque => 0,
        }
    }
}

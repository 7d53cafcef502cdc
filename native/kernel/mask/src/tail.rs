//! Findings without a natural length: once one is recognised, its bytes are dropped until it ends, however far that is.

/// What is being dropped and where in it we are. Fed byte by byte, so that a chunk border changes nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Tail {
    /// A run of bytes of one class.
    Run(fn(u8) -> bool),
    /// The inside of a PEM block: up to its END line, or to the first byte that cannot belong to one.
    Pem(PemTail),
}

/// Place inside a PEM block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct PemTail {
    dashes: u8,
    end_letters: u8,
    in_end_line: bool,
}

/// The longest END line, in bytes; a longer one is not an END line and ends the block.
const MAX_END_LINE_BYTES: u8 = 80;

impl Tail {
    /// How many of `bytes` belong to the finding, and whether it ended there.
    pub(crate) fn consume(&mut self, bytes: &[u8]) -> (usize, bool) {
        for (at, byte) in bytes.iter().enumerate() {
            match self {
                Tail::Run(accepts) if accepts(*byte) => {}
                Tail::Run(_) => return (at, true),
                Tail::Pem(pem) => match pem.step(*byte) {
                    Step::Inside => {}
                    Step::Last => return (at + 1, true),
                    Step::Outside => return (at, true),
                },
            }
        }
        (bytes.len(), false)
    }
}

enum Step {
    Inside,
    Last,
    Outside,
}

impl PemTail {
    fn step(&mut self, byte: u8) -> Step {
        if self.in_end_line {
            self.dashes = if byte == b'-' { self.dashes + 1 } else { 0 };
            self.end_letters += 1;
            return match byte {
                _ if self.dashes == 5 => Step::Last,
                b'-' | b' ' | b'A'..=b'Z' | b'0'..=b'9'
                    if self.end_letters < MAX_END_LINE_BYTES =>
                {
                    Step::Inside
                }
                _ => Step::Outside,
            };
        }
        match byte {
            b'-' => {
                self.dashes = self.dashes.saturating_add(1);
                self.end_letters = 0;
                return Step::Inside;
            }
            b'E' | b'N' | b'D'
                if self.dashes >= 5 && byte == b"END"[usize::from(self.end_letters)] =>
            {
                self.end_letters += 1;
                if self.end_letters == 3 {
                    *self = PemTail {
                        in_end_line: true,
                        ..PemTail::default()
                    };
                }
                return Step::Inside;
            }
            _ => {}
        }
        *self = PemTail::default();
        // Base64, line ends (also escaped, as inside JSON), and the headers of encrypted keys such as `DEK-Info: AES-128-CBC,…`.
        match byte {
            b'A'..=b'Z'
            | b'a'..=b'z'
            | b'0'..=b'9'
            | b'+'
            | b'/'
            | b'='
            | b':'
            | b','
            | b'\\'
            | b'.'
            | b'_' => Step::Inside,
            _ if byte.is_ascii_whitespace() => Step::Inside,
            _ => Step::Outside,
        }
    }
}

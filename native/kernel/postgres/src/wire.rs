//! Reading the fields of a message body. Every read checks that the bytes are there; nothing is skipped or guessed.
use crate::Violation;

/// A position in a message body.
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Cursor<'a> {
    /// Starts at the beginning of `body`; `what` names the message in violations.
    pub fn new(body: &'a [u8], what: &'static str) -> Cursor<'a> {
        Cursor { rest: body, what }
    }

    fn short(&self) -> Violation {
        Violation::malformed(format!("{} ends inside a field", self.what))
    }

    /// The next `count` bytes.
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], Violation> {
        if self.rest.len() < count {
            return Err(self.short());
        }
        let (taken, rest) = self.rest.split_at(count);
        self.rest = rest;
        Ok(taken)
    }

    pub fn byte(&mut self) -> Result<u8, Violation> {
        Ok(self.bytes(1)?[0])
    }

    pub fn uint16(&mut self) -> Result<u16, Violation> {
        let bytes = self.bytes(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    pub fn int16(&mut self) -> Result<i16, Violation> {
        let bytes = self.bytes(2)?;
        Ok(i16::from_be_bytes([bytes[0], bytes[1]]))
    }

    pub fn int32(&mut self) -> Result<i32, Violation> {
        let bytes = self.bytes(4)?;
        Ok(i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// An object identifier: the unsigned reading of an Int32.
    pub fn oid(&mut self) -> Result<u32, Violation> {
        let bytes = self.bytes(4)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// An Int16 that counts something.
    ///
    /// The server reads these counts as unsigned 16-bit numbers.
    pub fn count(&mut self) -> Result<usize, Violation> {
        self.uint16().map(usize::from)
    }

    /// The bytes up to a zero byte, which is consumed too.
    pub fn string_bytes(&mut self) -> Result<&'a [u8], Violation> {
        let end = self.rest.iter().position(|byte| *byte == 0);
        let Some(end) = end else {
            return Err(Violation::malformed(format!(
                "{} holds a string without its end",
                self.what
            )));
        };
        let text = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        Ok(text)
    }

    /// A string that has to be UTF-8.
    pub fn string(&mut self) -> Result<&'a str, Violation> {
        let what = self.what;
        std::str::from_utf8(self.string_bytes()?)
            .map_err(|_| Violation::malformed(format!("{what} holds a string that is not UTF-8")))
    }

    /// A value with its Int32 length; none for the length -1, which is null.
    pub fn value(&mut self) -> Result<Option<&'a [u8]>, Violation> {
        match self.int32()? {
            -1 => Ok(None),
            length => match usize::try_from(length) {
                Ok(length) => self.bytes(length).map(Some),
                Err(_) => Err(Violation::malformed(format!(
                    "{} holds a negative length",
                    self.what
                ))),
            },
        }
    }

    /// What is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Whether everything was read.
    pub fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Checks that everything was read.
    pub fn end(&self) -> Result<(), Violation> {
        if self.is_at_end() {
            Ok(())
        } else {
            Err(Violation::malformed(format!(
                "{} goes on after its last field",
                self.what
            )))
        }
    }
}

//! Bodies of the messages a session has to understand (protocol documentation, 55.7).
use crate::encode::Fields;
use crate::wire::Cursor;
use crate::Violation;

/// A parameter value of a Bind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// 0 for text, 1 for binary.
    pub format: u16,
    /// The bytes; none for null.
    pub value: Option<Vec<u8>>,
}

/// Longest name of a statement or portal, in bytes. The server cuts longer ones (NAMEDATALEN), so that two of them could be one name to it.
const MAX_NAME_BYTES: usize = 63;

/// The name of a statement or portal.
fn name<'a>(body: &mut Cursor<'a>) -> Result<&'a str, Violation> {
    let name = body.string()?;
    if name.len() > MAX_NAME_BYTES {
        return Err(Violation::malformed(format!(
            "the name of a statement or portal has {} bytes; the server tells names of at most {MAX_NAME_BYTES} apart",
            name.len()
        )));
    }
    Ok(name)
}

/// The pseudo-type `unknown`, which a client may declare: the server takes it for none and infers the type.
const UNKNOWN: u32 = 705;

/// Body of Parse: statement name, query bytes, parameter types, 0 where the server infers one.
pub(crate) struct Parse<'a> {
    pub name: &'a str,
    pub sql: &'a [u8],
    pub param_oids: Vec<u32>,
}

pub(crate) fn parse(body: &[u8]) -> Result<Parse<'_>, Violation> {
    let mut body = Cursor::new(body, "Parse");
    let (name, sql) = (name(&mut body)?, body.string_bytes()?);
    let param_oids = (0..body.count()?)
        .map(|_| body.oid().map(|oid| if oid == UNKNOWN { 0 } else { oid }))
        .collect::<Result<_, _>>()?;
    body.end()?;
    Ok(Parse {
        name,
        sql,
        param_oids,
    })
}

/// Body of Bind: portal name, statement name, parameters. The result formats show again in the portal's RowDescription,
/// which is where they are read from.
pub(crate) struct Bind<'a> {
    pub portal: &'a str,
    pub statement: &'a str,
    pub params: Vec<Parameter>,
}

pub(crate) fn bind(body: &[u8]) -> Result<Bind<'_>, Violation> {
    let mut body = Cursor::new(body, "Bind");
    let (portal, statement) = (name(&mut body)?, name(&mut body)?);
    let params = parameters(&mut body)?;
    self::formats(&mut body)?;
    body.end()?;
    Ok(Bind {
        portal,
        statement,
        params,
    })
}

/// Values with their formats, as Bind and FunctionCall have them.
fn parameters(body: &mut Cursor<'_>) -> Result<Vec<Parameter>, Violation> {
    let formats = formats(body)?;
    let count = body.count()?;
    if formats.len() > 1 && formats.len() != count {
        return Err(Violation::malformed(
            "formats are given for another number of values than there are",
        ));
    }
    let mut params = Vec::with_capacity(count.min(64));
    for index in 0..count {
        let format = match formats.len() {
            0 => 0,
            1 => formats[0],
            _ => formats[index],
        };
        params.push(Parameter {
            format,
            value: body.value()?.map(<[u8]>::to_vec),
        });
    }
    Ok(params)
}

/// The value of a FunctionCallResponse, which may be NULL.
pub(crate) fn function_value(body: &[u8]) -> Result<(), Violation> {
    let mut body = Cursor::new(body, "FunctionCallResponse");
    body.value()?;
    body.end()
}

/// The number of the function and its arguments, of a FunctionCall.
pub(crate) fn function_call(body: &[u8]) -> Result<(u32, Vec<Parameter>), Violation> {
    let mut body = Cursor::new(body, "FunctionCall");
    let oid = body.oid()?;
    let params = parameters(&mut body)?;
    format_code(&mut body)?;
    body.end()?;
    Ok((oid, params))
}

fn formats(body: &mut Cursor<'_>) -> Result<Vec<u16>, Violation> {
    (0..body.count()?).map(|_| format_code(body)).collect()
}

fn format_code(body: &mut Cursor<'_>) -> Result<u16, Violation> {
    match body.uint16()? {
        code @ (0 | 1) => Ok(code),
        other => Err(Violation::malformed(format!(
            "format code {other} is neither text (0) nor binary (1)"
        ))),
    }
}

/// What Describe and Close name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    Statement,
    Portal,
}

/// Body of Describe or Close.
pub(crate) fn named<'a>(body: &'a [u8], what: &'static str) -> Result<(Named, &'a str), Violation> {
    let mut body = Cursor::new(body, what);
    let kind = match body.byte()? {
        b'S' => Named::Statement,
        b'P' => Named::Portal,
        _ => {
            return Err(Violation::malformed(format!(
                "{what} names neither a statement nor a portal"
            )))
        }
    };
    let name = name(&mut body)?;
    body.end()?;
    Ok((kind, name))
}

/// Body of Execute: portal name and the largest number of rows, 0 for all.
pub(crate) fn execute(body: &[u8]) -> Result<(&str, i32), Violation> {
    let mut body = Cursor::new(body, "Execute");
    let result = (name(&mut body)?, body.int32()?);
    body.end()?;
    Ok(result)
}

/// A body that is one string, as its bytes.
pub(crate) fn only_string<'a>(body: &'a [u8], what: &'static str) -> Result<&'a [u8], Violation> {
    let mut body = Cursor::new(body, what);
    let text = body.string_bytes()?;
    body.end()?;
    Ok(text)
}

/// A body that has to be empty.
pub(crate) fn empty(body: &[u8], what: &'static str) -> Result<(), Violation> {
    Cursor::new(body, what).end()
}

/// One field of a RowDescription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Name of the column in the result.
    pub name: String,
    /// OID of the relation the column comes from; 0 where the server knows none.
    pub table_oid: u32,
    /// Number of the column in that relation; 0 where the server knows none or the whole row is meant.
    pub attnum: i16,
    /// OID of the type.
    pub type_oid: u32,
    /// Size of the type in bytes; negative for variable size.
    pub type_size: i16,
    /// Modifier of the type; -1 for none.
    pub type_modifier: i32,
}

/// Body of RowDescription: fields, and the format of each.
pub(crate) fn row_description(body: &[u8]) -> Result<(Vec<Field>, Vec<u16>), Violation> {
    let mut body = Cursor::new(body, "RowDescription");
    let count = body.count()?;
    let (mut fields, mut formats) = (
        Vec::with_capacity(count.min(64)),
        Vec::with_capacity(count.min(64)),
    );
    for _ in 0..count {
        fields.push(Field {
            name: body.string()?.to_owned(),
            table_oid: body.oid()?,
            attnum: body.int16()?,
            type_oid: body.oid()?,
            type_size: body.int16()?,
            type_modifier: body.int32()?,
        });
        formats.push(format_code(&mut body)?);
    }
    body.end()?;
    Ok((fields, formats))
}

/// Body of ParameterDescription: the types of a statement's parameters.
pub(crate) fn parameter_description(body: &[u8]) -> Result<Vec<u32>, Violation> {
    let mut body = Cursor::new(body, "ParameterDescription");
    let oids = (0..body.count()?)
        .map(|_| body.oid())
        .collect::<Result<_, _>>()?;
    body.end()?;
    Ok(oids)
}

/// Body of CopyInResponse and CopyOutResponse: overall format and column formats.
pub(crate) fn copy_response(body: &[u8]) -> Result<(u16, Vec<u16>), Violation> {
    let mut body = Cursor::new(body, "a COPY response");
    let format = match body.byte()? {
        code @ (0 | 1) => u16::from(code),
        _ => {
            return Err(Violation::malformed(
                "a COPY response whose format is neither text nor binary",
            ))
        }
    };
    let columns = formats(&mut body)?;
    body.end()?;
    Ok((format, columns))
}

/// Field codes and texts as they came.
pub(crate) type RawFields<'a> = Vec<(u8, &'a [u8])>;

/// Body of ErrorResponse and NoticeResponse, as bytes: servers may answer in an encoding of their own before a session is set up.
pub(crate) fn fields(body: &[u8]) -> Result<RawFields<'_>, Violation> {
    let mut body = Cursor::new(body, "ErrorResponse or NoticeResponse");
    let mut fields = Vec::new();
    loop {
        match body.byte()? {
            0 => break,
            code => fields.push((code, body.string_bytes()?)),
        }
    }
    body.end()?;
    Ok(fields)
}

/// Fields of an ErrorResponse or NoticeResponse as text, for the login phases.
pub fn error_fields(body: &[u8]) -> Result<Fields, Violation> {
    let text = |(code, text)| (code, String::from_utf8_lossy(text).into_owned());
    Ok(fields(body)?.into_iter().map(text).collect())
}

/// Body of ParameterStatus: name and value.
pub(crate) fn parameter_status(body: &[u8]) -> Result<(&str, &str), Violation> {
    let mut body = Cursor::new(body, "ParameterStatus");
    let pair = (body.string()?, body.string()?);
    body.end()?;
    Ok(pair)
}

/// Body of NotificationResponse: process, channel, payload.
pub(crate) fn notification(body: &[u8]) -> Result<(i32, &str, &[u8]), Violation> {
    let mut body = Cursor::new(body, "NotificationResponse");
    let parts = (body.int32()?, body.string()?, body.string_bytes()?);
    body.end()?;
    Ok(parts)
}

/// Body of ReadyForQuery: the transaction status.
pub(crate) fn ready(body: &[u8]) -> Result<u8, Violation> {
    match body {
        [status @ (b'I' | b'T' | b'E')] => Ok(*status),
        _ => Err(Violation::malformed(
            "ReadyForQuery without a transaction status",
        )),
    }
}

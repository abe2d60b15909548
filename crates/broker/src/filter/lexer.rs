//! Words of an SQL92 filter. Tokens are cut one by one, because Java's parser never looks beyond the
//! token that ends an expression.

use super::SyntaxError;

#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    Word(String),
    Int(i32),
    Long(i64),
    Double(f64),
    /// A number that no type holds: a mistake where it is used, while Java ignores it behind a whole expression.
    Beyond(SyntaxError),
    Text(String),
    Sign(&'static str),
    End,
}

const SIGNS: [&str; 11] = ["<>", "<=", ">=", "=", "<", ">", "(", ")", ",", "+", "-"];

/// The token at or behind byte `at`: where it starts, itself, and where it ends.
pub fn next(sql: &str, at: usize) -> Result<(usize, Token, usize), SyntaxError> {
    let start = skip_blanks(sql, at);
    let rest = &sql[start..];
    let Some(first) = rest.bytes().next() else { return Ok((start, Token::End, start)) };
    if first == b'\'' {
        return text(sql, start);
    }
    if let Some(length) = float_length(rest.as_bytes()) {
        return Ok((start, double(&rest[..length], start), start + length));
    }
    if first.is_ascii_digit() {
        return Ok(decimal(rest, start));
    }
    if first.is_ascii_alphabetic() || matches!(first, b'_' | b'$') {
        let length = rest.bytes().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$')).count();
        return Ok((start, Token::Word(rest[..length].to_owned()), start + length));
    }
    match SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
        Some(sign) => Ok((start, Token::Sign(sign), start + sign.len())),
        None => Err(SyntaxError::at(start, "this character has no meaning here")),
    }
}

/// Blanks, `/* */`, and `--` up to the end of its line; a `--` without one is two signs, as in Java.
fn skip_blanks(sql: &str, mut at: usize) -> usize {
    loop {
        let rest = &sql[at..];
        let blank = rest.bytes().take_while(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r' | 0x0C)).count();
        let comment = if rest.starts_with("--") {
            rest.find(['\n', '\r']).map_or(0, |end| end + 1)
        } else if let Some(comment) = rest.strip_prefix("/*") {
            comment.find("*/").map_or(0, |end| end + 4)
        } else {
            0
        };
        if blank + comment == 0 {
            return at;
        }
        at += blank.max(comment);
    }
}

/// A string; two quotes within are one. Where its end is missing it ends at the last quote that can be one, as in Java,
/// where what follows a whole expression may be anything.
fn text(sql: &str, start: usize) -> Result<(usize, Token, usize), SyntaxError> {
    let mut value = String::new();
    let mut at = start + 1;
    let mut doubled = None;
    while let Some(length) = sql[at..].find('\'') {
        value.push_str(&sql[at..at + length]);
        at += length + 1;
        if !sql[at..].starts_with('\'') {
            return Ok((start, Token::Text(value), at));
        }
        doubled = Some((value.len(), at));
        value.push('\'');
        at += 1;
    }
    let (length, end) = doubled.ok_or(SyntaxError::at(start, "this string has no end: a ' is missing"))?;
    value.truncate(length);
    Ok((start, Token::Text(value), end))
}

fn decimal(rest: &str, start: usize) -> (usize, Token, usize) {
    // A leading zero is a number of its own in Java's grammar, without a suffix.
    let digits = if rest.starts_with('0') { 1 } else { rest.bytes().take_while(u8::is_ascii_digit).count() };
    let suffix = usize::from(!rest.starts_with('0') && rest[digits..].starts_with(['l', 'L']));
    let token = match rest[..digits].parse::<i64>() {
        Ok(number) => i32::try_from(number).map_or(Token::Long(number), Token::Int),
        Err(_) => Token::Beyond(SyntaxError::at(start, "this number is beyond 9223372036854775807")),
    };
    (start, token, start + digits + suffix)
}

fn double(text: &str, start: usize) -> Token {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value > 0.0 => Token::Double(value),
        _ => Token::Beyond(SyntaxError::at(start, "this number is not between 4.9E-324 and 1.7976931348623157E308")),
    }
}

/// How many bytes a number with a point or an exponent takes; `None` where there is no such number.
fn float_length(bytes: &[u8]) -> Option<usize> {
    let digits = |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    let whole = digits(0);
    let mut end = whole;
    if bytes.get(whole) == Some(&b'.') {
        end += 1 + digits(whole + 1);
        if end == 1 {
            return None;
        }
    } else if whole == 0 {
        return None;
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let power = digits((end + 1 + sign).min(bytes.len()));
        if power > 0 {
            return Some(end + 1 + sign + power);
        }
    }
    (end > whole).then_some(end)
}

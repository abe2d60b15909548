//! SQL92 filters: RocketMQ's grammar and its comparison rules (Java: module `filter`), evaluated over a
//! record's properties without a map. What Java's parser ignores behind a whole expression is ignored here.

mod eval;
mod lexer;
mod parser;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

pub use eval::EvaluationError;
use parking_lot::Mutex;
pub use parser::parse;
use protocol::properties::Name;

/// The longest expression in bytes.
pub const MAX_LENGTH: usize = 64 * 1024;
/// How deep parentheses, signs and NOTs may nest, and how many operators may follow a comparison.
pub const MAX_DEPTH: usize = 100;
/// Bytes of expressions that are kept read, each counted with [`ENTRY_BYTES`]; beyond that all are forgotten.
const MAX_KEPT_BYTES: usize = 256 * 1024;
const ENTRY_BYTES: usize = 64;

/// Why an expression is refused, and at which byte.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{what}, at position {position}")]
pub struct SyntaxError {
    pub position: usize,
    pub what: &'static str,
}

impl SyntaxError {
    fn at(position: usize, what: &'static str) -> Self {
        Self { position, what }
    }
}

/// A checked expression with a truth value.
#[derive(Debug)]
pub struct Filter(Expression);

/// What reading an expression gave.
pub type Parsed = Result<Arc<Filter>, SyntaxError>;

/// Expressions that were read, good ones and bad ones: pulls and heartbeats say theirs again and again.
#[derive(Default)]
pub struct Expressions {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    parsed: HashMap<String, Parsed>,
    bytes: usize,
}

impl Expressions {
    /// [`parse`], once for an expression that comes often.
    pub fn parse(&self, sql: &str) -> Parsed {
        if let Some(parsed) = self.kept.lock().parsed.get(sql) {
            return parsed.clone();
        }
        let parsed = parse(sql).map(Arc::new);
        let bytes = sql.len() + ENTRY_BYTES;
        if sql.len() <= MAX_LENGTH {
            let mut kept = self.kept.lock();
            if kept.bytes + bytes > MAX_KEPT_BYTES {
                *kept = Kept::default();
            }
            if kept.parsed.insert(sql.to_owned(), parsed.clone()).is_none() {
                kept.bytes += bytes;
            }
        }
        parsed
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Search {
    Contains,
    StartsWith,
    EndsWith,
}

#[derive(Debug)]
enum Expression {
    Null,
    Bool(bool),
    Int(i32),
    Long(i64),
    Double(f64),
    Text(String),
    Property(Name),
    /// A property where a truth value is asked for: unknown when missing, else false.
    Cast(Name),
    Negate(Box<Expression>),
    Not(Box<Expression>),
    And(Vec<Expression>),
    Or(Vec<Expression>),
    Equal(Box<(Expression, Expression)>),
    Compare(Comparison, Box<(Expression, Expression)>),
    /// The value is between the second and the third; `true` turns it round.
    Between(bool, Box<[Expression; 3]>),
    In {
        property: Name,
        list: Vec<String>,
        not: bool,
    },
    Search {
        kind: Search,
        value: Box<Expression>,
        text: String,
        not: bool,
    },
}

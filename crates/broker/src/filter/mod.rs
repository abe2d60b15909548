//! SQL92 filters: RocketMQ's grammar and its comparison rules (Java: module `filter`), evaluated over a
//! record's properties without a map. What Java's parser ignores behind a whole expression is ignored here.

mod eval;
mod lexer;
mod parser;
#[cfg(test)]
mod tests;

pub use eval::EvaluationError;
pub use parser::parse;

/// The longest expression in bytes.
pub const MAX_LENGTH: usize = 64 * 1024;
/// How deep parentheses, signs and NOTs may nest, and how many operators may follow a comparison.
pub const MAX_DEPTH: usize = 100;

/// Why an expression is refused, and at which byte.
#[derive(Debug, PartialEq, thiserror::Error)]
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
    Property(String),
    /// A property where a truth value is asked for: unknown when missing, else false.
    Cast(String),
    Negate(Box<Expression>),
    Not(Box<Expression>),
    And(Vec<Expression>),
    Or(Vec<Expression>),
    Equal(Box<(Expression, Expression)>),
    Compare(Comparison, Box<(Expression, Expression)>),
    /// The value is between the second and the third; `true` turns it round.
    Between(bool, Box<[Expression; 3]>),
    In {
        property: String,
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

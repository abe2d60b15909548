//! Evaluation with three values: true, false, unknown (`None`).

use std::cmp::Ordering;

use protocol::properties::Name;

use super::{Comparison, Expression, Filter, Search};

/// A value that cannot be read as the number that it is compared with. Such a message does not match.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("a property is no number, or has another type than the value that it is compared with")]
pub struct EvaluationError;

#[derive(Clone, Copy, Debug)]
enum Value<'a> {
    Null,
    Bool(bool),
    Int(i32),
    Long(i64),
    Double(f64),
    Text(&'a str),
}

impl Filter {
    /// Whether a message with these properties is wanted; unknown and errors are no.
    pub fn matches(&self, properties: &str) -> bool {
        self.evaluate(properties) == Ok(Some(true))
    }

    /// The expression's value; `None` is unknown.
    pub fn evaluate(&self, properties: &str) -> Result<Option<bool>, EvaluationError> {
        truth(&self.0, properties)
    }
}

fn truth(expression: &Expression, properties: &str) -> Result<Option<bool>, EvaluationError> {
    Ok(match value(expression, properties)? {
        Value::Bool(value) => Some(value),
        _ => None,
    })
}

fn value<'a>(expression: &'a Expression, properties: &'a str) -> Result<Value<'a>, EvaluationError> {
    let property = |name: &Name| name.get(properties);
    Ok(match expression {
        Expression::Null => Value::Null,
        Expression::Bool(value) => Value::Bool(*value),
        Expression::Int(value) => Value::Int(*value),
        Expression::Long(value) => Value::Long(*value),
        Expression::Double(value) => Value::Double(*value),
        Expression::Text(text) => Value::Text(text),
        Expression::Property(name) => property(name).map_or(Value::Null, Value::Text),
        Expression::Cast(name) => property(name).map_or(Value::Null, |_| Value::Bool(false)),
        Expression::Negate(inner) => match value(inner, properties)? {
            Value::Int(number) => Value::Int(number.wrapping_neg()),
            Value::Long(number) => Value::Long(number.wrapping_neg()),
            Value::Double(number) => Value::Double(-number),
            _ => Value::Null,
        },
        Expression::Not(inner) => bool_value(truth(inner, properties)?.map(|value| !value)),
        Expression::And(parts) => all(parts, properties, false)?,
        Expression::Or(parts) => all(parts, properties, true)?,
        Expression::Equal(sides) => equal(value(&sides.0, properties)?, value(&sides.1, properties)?)?,
        Expression::Compare(kind, sides) => bool_value(compare(*kind, &sides.0, &sides.1, properties)?),
        Expression::Between(not, parts) => between(*not, parts, properties)?,
        Expression::In { property: name, list, not } => {
            property(name).map_or(Value::Null, |value| Value::Bool(list.iter().any(|item| item == value) != *not))
        }
        Expression::Search { text, .. } if text.is_empty() => Value::Bool(false),
        Expression::Search { kind, value: inner, text, not } => match value(inner, properties)? {
            Value::Text(value) => Value::Bool(search(*kind, value, text) != *not),
            _ => Value::Bool(false),
        },
    })
}

fn bool_value<'a>(value: Option<bool>) -> Value<'a> {
    value.map_or(Value::Null, Value::Bool)
}

/// AND (`deciding` is false) and OR (`deciding` is true): the first deciding part ends it.
fn all<'a>(parts: &[Expression], properties: &str, deciding: bool) -> Result<Value<'a>, EvaluationError> {
    let mut known = true;
    for part in parts {
        match truth(part, properties)? {
            Some(value) if value == deciding => return Ok(Value::Bool(deciding)),
            Some(_) => {}
            None => known = false,
        }
    }
    Ok(bool_value(known.then_some(!deciding)))
}

fn between<'a>(not: bool, parts: &[Expression; 3], properties: &str) -> Result<Value<'a>, EvaluationError> {
    let [value, low, high] = parts;
    let (first, second) = match not {
        false => (Comparison::GreaterOrEqual, Comparison::LessOrEqual),
        true => (Comparison::Less, Comparison::Greater),
    };
    let below = compare(first, value, low, properties)?;
    if below == Some(not) {
        return Ok(Value::Bool(not));
    }
    let above = compare(second, value, high, properties)?;
    if above == Some(not) {
        return Ok(Value::Bool(not));
    }
    Ok(bool_value(below.and(above)))
}

fn search(kind: Search, value: &str, text: &str) -> bool {
    match kind {
        Search::Contains => value.contains(text),
        Search::StartsWith => value.starts_with(text),
        Search::EndsWith => value.ends_with(text),
    }
}

/// Two missing values are equal; a missing left side is unknown, a missing right side is false: Java's rule.
fn equal<'a>(left: Value, right: Value) -> Result<Value<'a>, EvaluationError> {
    Ok(match (left, right) {
        (Value::Null, Value::Null) => Value::Bool(true),
        (Value::Null, _) => Value::Null,
        (_, Value::Null) => Value::Bool(false),
        _ => Value::Bool(order(left, right)? == Ordering::Equal),
    })
}

/// Where the left side is unknown the right one is not looked at, whatever is wrong with it.
fn compare(kind: Comparison, left: &Expression, right: &Expression, properties: &str) -> Result<Option<bool>, EvaluationError> {
    let left = value(left, properties)?;
    if let Value::Null = left {
        return Ok(None);
    }
    let ordering = match (left, value(right, properties)?) {
        (_, Value::Null) => return Ok(None),
        (Value::Text(left), Value::Text(right)) => double(left)?.total_cmp(&double(right)?),
        (left, right) => order(left, right)?,
    };
    Ok(Some(match kind {
        Comparison::Greater => ordering.is_gt(),
        Comparison::GreaterOrEqual => ordering.is_ge(),
        Comparison::Less => ordering.is_lt(),
        Comparison::LessOrEqual => ordering.is_le(),
    }))
}

/// A text takes the type of the number or boolean beside it; types that do not meet are "less", as in Java.
fn order(left: Value, right: Value) -> Result<Ordering, EvaluationError> {
    use Value::*;
    Ok(match (left, right) {
        (Text(l), Text(r)) => l.cmp(r),
        (Bool(l), Bool(r)) => l.cmp(&r),
        (Text(l), Bool(r)) => l.eq_ignore_ascii_case("true").cmp(&r),
        (Bool(_), Text(_)) => return Err(EvaluationError),
        (Text(l), Int(r)) => integer::<i32>(l)?.cmp(&r),
        (Int(l), Text(r)) => l.cmp(&integer(r)?),
        (Text(l), Long(r)) => integer::<i64>(l)?.cmp(&r),
        (Long(l), Text(r)) => l.cmp(&integer(r)?),
        (Text(l), Double(r)) => double(l)?.total_cmp(&r),
        (Double(l), Text(r)) => l.total_cmp(&double(r)?),
        (Int(l), Int(r)) => l.cmp(&r),
        (Int(l), Long(r)) => i64::from(l).cmp(&r),
        (Long(l), Int(r)) => l.cmp(&i64::from(r)),
        (Long(l), Long(r)) => l.cmp(&r),
        (Double(l), Double(r)) => l.total_cmp(&r),
        (Int(l), Double(r)) => f64::from(l).total_cmp(&r),
        (Double(l), Int(r)) => l.total_cmp(&f64::from(r)),
        (Long(l), Double(r)) => (l as f64).total_cmp(&r),
        (Double(l), Long(r)) => l.total_cmp(&(r as f64)),
        (Null | Bool(_), _) | (_, Null | Bool(_)) => Ordering::Less,
    })
}

/// How two numbers of an expression compare; `None` where one is no number.
pub(super) fn order_of_numbers(left: &Expression, right: &Expression) -> Option<Ordering> {
    let number = |expression: &Expression| match expression {
        Expression::Int(number) => Some(Value::Int(*number)),
        Expression::Long(number) => Some(Value::Long(*number)),
        Expression::Double(number) => Some(Value::Double(*number)),
        _ => None,
    };
    order(number(left)?, number(right)?).ok()
}

fn integer<T: std::str::FromStr>(text: &str) -> Result<T, EvaluationError> {
    text.parse().map_err(|_| EvaluationError)
}

/// Java's `Double.valueOf` without its hexadecimal form: blanks around, a suffix `d` or `f`, `NaN`, `Infinity`.
fn double(text: &str) -> Result<f64, EvaluationError> {
    let text = text.trim_matches(|c| c <= ' ');
    match text.trim_start_matches(['+', '-']) {
        "NaN" if text.len() <= 4 => return Ok(f64::NAN),
        "Infinity" if text.len() <= 9 => {
            return Ok(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY });
        }
        _ => {}
    }
    let number = text.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(text);
    if !number.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E')) {
        return Err(EvaluationError);
    }
    number.parse().map_err(|_| EvaluationError)
}

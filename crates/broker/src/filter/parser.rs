//! Recursive descent over the grammar of Java's `SelectorParser.jj`.

use std::cmp::Ordering;

use protocol::properties::Name;

use super::lexer::{self, Token};
use super::{Comparison, Expression, Filter, MAX_DEPTH, MAX_LENGTH, Search, SyntaxError, eval};

type Parsed = Result<Expression, SyntaxError>;

/// Reads and checks an expression. Errors: the first mistake, with its place.
pub fn parse(sql: &str) -> Result<Filter, SyntaxError> {
    if sql.len() > MAX_LENGTH {
        return Err(SyntaxError::at(MAX_LENGTH, "the expression is too long"));
    }
    let (start, token, end) = lexer::next(sql, 0)?;
    let mut parser = Parser { sql, start, token, end, depth: 0, links: 0 };
    let whole = parser.or()?;
    truth(whole, 0).map(Filter)
}

struct Parser<'a> {
    sql: &'a str,
    start: usize,
    token: Token,
    end: usize,
    depth: usize,
    /// Operators behind a finished comparison: each makes the tree deeper.
    links: usize,
}

impl Parser<'_> {
    fn advance(&mut self) -> Result<Token, SyntaxError> {
        let (start, token, end) = lexer::next(self.sql, self.end)?;
        (self.start, self.end) = (start, end);
        Ok(std::mem::replace(&mut self.token, token))
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(&self.token, Token::Word(w) if w.eq_ignore_ascii_case(word))
    }

    fn take_word(&mut self, word: &str) -> Result<bool, SyntaxError> {
        let found = self.is_word(word);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn take_sign(&mut self, sign: &str) -> Result<bool, SyntaxError> {
        let found = matches!(self.token, Token::Sign(s) if s == sign);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn need(&self, found: bool, what: &'static str) -> Result<(), SyntaxError> {
        if found { Ok(()) } else { Err(SyntaxError::at(self.start, what)) }
    }

    fn or(&mut self) -> Parsed {
        let at = self.start;
        let first = self.and()?;
        if !self.is_word("OR") {
            return Ok(first);
        }
        let mut parts = vec![truth(first, at)?];
        while self.take_word("OR")? {
            let at = self.start;
            parts.push(truth(self.and()?, at)?);
        }
        Ok(Expression::Or(parts))
    }

    fn and(&mut self) -> Parsed {
        let at = self.start;
        let first = self.equality()?;
        if !self.is_word("AND") {
            return Ok(first);
        }
        let mut parts = vec![truth(first, at)?];
        while self.take_word("AND")? {
            let at = self.start;
            parts.push(truth(self.equality()?, at)?);
        }
        Ok(Expression::And(parts))
    }

    fn link(&mut self, first: &mut bool) -> Result<(), SyntaxError> {
        self.links += usize::from(!std::mem::replace(first, false));
        self.need(self.links <= MAX_DEPTH, "too many operators follow one another")
    }

    fn equality(&mut self) -> Parsed {
        let at = self.start;
        let mut left = self.comparison()?;
        let mut first = true;
        loop {
            let equal = self.take_sign("=")?;
            if equal || self.take_sign("<>")? {
                let right_at = self.start;
                let right = self.comparison()?;
                check_equal(&left, at, &right, right_at)?;
                left = Expression::Equal(Box::new((left, right)));
                if !equal {
                    left = Expression::Not(Box::new(left));
                }
            } else if self.take_word("IS")? {
                let not = self.take_word("NOT")?;
                let null = self.take_word("NULL")?;
                self.need(null, "NULL is missing after IS")?;
                left = Expression::Equal(Box::new((left, Expression::Null)));
                if not {
                    left = Expression::Not(Box::new(left));
                }
            } else {
                return Ok(left);
            }
            self.link(&mut first)?;
        }
    }

    fn comparison(&mut self) -> Parsed {
        let at = self.start;
        let mut left = self.unary()?;
        let mut first = true;
        loop {
            if let Some(kind) = self.take_comparison()? {
                check_order(&left, at)?;
                let right_at = self.start;
                let right = self.unary()?;
                check_order(&right, right_at)?;
                left = Expression::Compare(kind, Box::new((left, right)));
            } else {
                let not = self.take_word("NOT")?;
                if let Some(kind) = self.take_search()? {
                    left = Expression::Search { kind, value: Box::new(left), text: self.text()?, not };
                } else if self.take_word("BETWEEN")? {
                    left = self.between(left, at, not)?;
                } else if self.take_word("IN")? {
                    left = self.in_list(left, at, not)?;
                } else {
                    self.need(!not, "BETWEEN, IN, CONTAINS, STARTSWITH or ENDSWITH is missing after NOT")?;
                    return Ok(left);
                }
            }
            self.link(&mut first)?;
        }
    }

    fn take_comparison(&mut self) -> Result<Option<Comparison>, SyntaxError> {
        let kind = match self.token {
            Token::Sign(">") => Comparison::Greater,
            Token::Sign(">=") => Comparison::GreaterOrEqual,
            Token::Sign("<") => Comparison::Less,
            Token::Sign("<=") => Comparison::LessOrEqual,
            _ => return Ok(None),
        };
        self.advance()?;
        Ok(Some(kind))
    }

    fn take_search(&mut self) -> Result<Option<Search>, SyntaxError> {
        let words = [("CONTAINS", Search::Contains), ("STARTSWITH", Search::StartsWith), ("ENDSWITH", Search::EndsWith)];
        let kind = words.into_iter().find(|(word, _)| self.is_word(word)).map(|(_, kind)| kind);
        if kind.is_some() {
            self.advance()?;
        }
        Ok(kind)
    }

    fn text(&mut self) -> Result<String, SyntaxError> {
        self.need(matches!(self.token, Token::Text(_)), "a string in ' is missing")?;
        match self.advance()? {
            Token::Text(text) => Ok(text),
            other => unreachable!("{other:?} was a text"),
        }
    }

    fn between(&mut self, value: Expression, at: usize, not: bool) -> Parsed {
        let low_at = self.start;
        let low = self.unary()?;
        let and = self.take_word("AND")?;
        self.need(and, "AND is missing after BETWEEN")?;
        let high_at = self.start;
        let high = self.unary()?;
        check_order(&value, at)?;
        check_order(&low, low_at)?;
        check_order(&high, high_at)?;
        if !not && eval::order_of_numbers(&high, &low) == Some(Ordering::Less) {
            return Err(SyntaxError::at(low_at, "the lower value of BETWEEN is above the upper one"));
        }
        Ok(Expression::Between(not, Box::new([value, low, high])))
    }

    fn in_list(&mut self, left: Expression, at: usize, not: bool) -> Parsed {
        let Expression::Property(property) = left else {
            return Err(SyntaxError::at(at, "only a property can stand before IN"));
        };
        let open = self.take_sign("(")?;
        self.need(open, "( is missing after IN")?;
        let mut list = vec![self.text()?];
        while self.take_sign(",")? {
            list.push(self.text()?);
        }
        let close = self.take_sign(")")?;
        self.need(close, ") is missing")?;
        Ok(Expression::In { property, list, not })
    }

    fn unary(&mut self) -> Parsed {
        self.depth += 1;
        self.need(self.depth <= MAX_DEPTH, "the expression is nested too deep")?;
        let value = if self.take_sign("+")? {
            self.unary()?
        } else if self.take_sign("-")? {
            Expression::Negate(Box::new(self.unary()?))
        } else if self.take_word("NOT")? {
            let at = self.start;
            Expression::Not(Box::new(truth(self.unary()?, at)?))
        } else {
            self.primary()?
        };
        self.depth -= 1;
        Ok(value)
    }

    fn primary(&mut self) -> Parsed {
        let reserved = ["AND", "OR", "BETWEEN", "IN", "IS", "CONTAINS", "STARTSWITH", "ENDSWITH"];
        if self.take_sign("(")? {
            let inner = self.or()?;
            let close = self.take_sign(")")?;
            self.need(close, ") is missing")?;
            return Ok(inner);
        }
        let missing = matches!(self.token, Token::Sign(_) | Token::End) || reserved.iter().any(|w| self.is_word(w));
        self.need(!missing, "a value is missing")?;
        Ok(match self.advance()? {
            Token::Int(value) => Expression::Int(value),
            Token::Long(value) => Expression::Long(value),
            Token::Double(value) => Expression::Double(value),
            Token::Beyond(error) => return Err(error),
            Token::Text(value) => Expression::Text(value),
            Token::Word(word) if word.eq_ignore_ascii_case("TRUE") => Expression::Bool(true),
            Token::Word(word) if word.eq_ignore_ascii_case("FALSE") => Expression::Bool(false),
            Token::Word(word) if word.eq_ignore_ascii_case("NULL") => Expression::Null,
            Token::Word(word) => Expression::Property(Name::new(&word)),
            other => unreachable!("{other:?} is no value"),
        })
    }
}

/// The expression where a truth value is asked for.
fn truth(expression: Expression, at: usize) -> Parsed {
    use Expression::*;
    match expression {
        Property(name) => Ok(Cast(name)),
        Int(_) | Long(_) | Double(_) | Text(_) | Negate(_) => Err(SyntaxError::at(at, "this is neither true nor false")),
        boolean => Ok(boolean),
    }
}

/// What `<` and its kin take: numbers, properties and their negations.
fn check_order(expression: &Expression, at: usize) -> Result<(), SyntaxError> {
    use Expression::*;
    match expression {
        Int(_) | Long(_) | Double(_) | Property(_) | Negate(_) => Ok(()),
        _ => Err(SyntaxError::at(at, "only numbers and properties can be compared by order")),
    }
}

fn check_equal(left: &Expression, at: usize, right: &Expression, right_at: usize) -> Result<(), SyntaxError> {
    use Expression::*;
    match (left, right) {
        (Null, _) => Err(SyntaxError::at(at, "NULL cannot be compared: write IS NULL")),
        (_, Null) => Err(SyntaxError::at(right_at, "NULL cannot be compared: write IS NULL")),
        (Bool(_), Int(_) | Long(_) | Double(_) | Text(_)) => {
            Err(SyntaxError::at(right_at, "this cannot be compared with TRUE or FALSE"))
        }
        _ => Ok(()),
    }
}

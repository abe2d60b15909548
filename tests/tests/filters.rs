//! SQL92 filters and Java's own evaluator 5.4.0 give the same value to the same expression and message, and refuse the
//! same expressions.

use std::collections::BTreeMap;

use fastrand::Rng;
use tests::{Client, java_filter};

/// Three messages each; a campaign has `FILTER_EXPRESSIONS` of them, from the seed `FILTER_SEED`.
const EXPRESSIONS: u64 = 10_000;
const MESSAGES: usize = 3;
const SEED: u64 = 92;

/// Properties that messages have; some names look like reserved words at first.
const NAMES: [&str; 11] = ["a", "b", "c", "A", "TAGS", "_x", "$y9", "INside", "notNull", "ORder", "truely"];
/// Properties that none has.
const MISSING: [&str; 2] = ["x", "nowhere"];
#[rustfmt::skip]
const VALUES: &[&str] = &[
    "0", "-0", "1", "5", "+5", "-5", "007", "2147483647", "2147483648", "-2147483648", "-2147483649", "9007199254740992",
    "9007199254740993", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "1.5", "1.50", ".5", "5.", ".",
    "-1.5", "-0.0", "1e3", "1E-3", "1e", "e1", "1d", "1.5F", "1.5ff", "1e400", "-1e400", "1e-400", "NaN", "+NaN", "-NaN",
    "nan", "Infinity", "-Infinity", "+Infinity", "inf", "true", "TRUE", "tRue", "false", "truth", "it's", "a", "ab", "abc",
    "a b", " 5 ", "5 ", " ", "é", "日本", "%", "_", "TagA", "TagB", "null", "1_000", "1,5", "--5", "+-5", "0b1", "𝟓",
];
#[rustfmt::skip]
const NUMBERS: &[&str] = &[
    "0", "1", "5", "05", "00", "5L", "5l", "0L", "1000", "2147483647", "2147483648", "9007199254740992", "9007199254740993",
    "9007199254740992.0", "9223372036854775807", "9223372036854775807L", "9223372036854775808", "1.5", "5.", ".5", "1.50",
    "5e0", "5E+1", "5e-1", "5.e1", ".5E1", "007.5", "00e5", "1e308", "1e309", "0.0", "0e1", "1e-324", "4.9e-324", "4.9E-325",
    "1e", "1.5.2", "5abc", "0x1F", "1.5d", "1.5f", ".",
];
const TEXTS: &[&str] =
    &["''", "'a'", "'b'", "'abc'", "'5'", "'it''s'", "''''", "' '", "'true'", "'TagA'", "'TagB'", "'é'", "'日本'", "'\n'"];
/// What damage puts into an expression.
#[rustfmt::skip]
const SPLINTERS: &[&str] = &[
    "#", "'", "''", "(", ")", ",", "=", "<>", "!=", "==", "<", ">", "<=", ">=", "+", "-", "--", "--\n", "/*", "*/", "/**/",
    "*", "/", "%", "\"", "\\", ";", "NOT", "AND", "OR", "IS", "IN", "NULL", "TRUE", "FALSE", "BETWEEN", "CONTAINS",
    "STARTSWITH", "ENDSWITH", "LIKE", "ESCAPE", "a", "5", "é", "\u{a0}", "\u{b}", "\u{0}", ":", "&&", "||", "now()",
];

/// Expressions and messages, from one seed.
struct Generator {
    rng: Rng,
    words: Vec<String>,
}

impl Generator {
    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.rng.usize(..from.len())]
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.rng.usize(..n) == 0
    }

    fn put(&mut self, word: &str) {
        self.words.push(word.to_owned());
    }

    /// A reserved word, in any case.
    fn keyword(&mut self, word: &str) {
        let word = match self.rng.u8(..4) {
            0 => word.to_lowercase(),
            1 => word.chars().map(|c| if self.rng.bool() { c.to_ascii_lowercase() } else { c }).collect(),
            _ => word.to_owned(),
        };
        self.words.push(word);
    }

    fn maybe_not(&mut self) {
        if self.one_in(3) {
            self.keyword("NOT");
        }
    }

    fn property(&mut self) {
        let name = if self.one_in(8) { self.pick(&MISSING) } else { self.pick(&NAMES) };
        self.put(name);
    }

    fn operand(&mut self, depth: usize) {
        match self.rng.u8(..20) {
            0..=8 => self.property(),
            9..=13 => {
                let number = self.pick(NUMBERS);
                self.put(number);
            }
            14 | 15 => {
                let text = self.pick(TEXTS);
                self.put(text);
            }
            16 => {
                let sign = self.pick(&["-", "+"]);
                self.put(sign);
                self.operand(depth);
            }
            17 => {
                let word = self.pick(&["TRUE", "FALSE", "NULL"]);
                self.keyword(word);
            }
            18 if depth > 0 => self.in_parentheses(depth),
            _ => {
                let number = self.pick(&["1", "5", "1.5", "2147483648"]);
                self.put(number);
            }
        }
    }

    fn in_parentheses(&mut self, depth: usize) {
        self.put("(");
        if self.rng.bool() {
            self.operand(depth - 1)
        } else {
            self.truth(depth - 1)
        }
        self.put(")");
    }

    /// An expression that mostly has a truth value.
    fn truth(&mut self, depth: usize) {
        match self.rng.u8(..if depth > 0 { 20 } else { 12 }) {
            0..=3 => {
                self.operand(depth);
                let sign = self.pick(&["=", "=", "<>", "<", "<=", ">", ">="]);
                self.put(sign);
                self.operand(depth);
            }
            4 | 5 => self.between(depth),
            6 => self.in_list(),
            7 => {
                self.operand(depth);
                self.keyword("IS");
                self.maybe_not();
                self.keyword("NULL");
            }
            8 | 9 => {
                self.operand(depth);
                self.maybe_not();
                let search = self.pick(&["CONTAINS", "STARTSWITH", "ENDSWITH"]);
                self.keyword(search);
                let text = self.pick(TEXTS);
                self.put(text);
            }
            10 => self.property(),
            11 => {
                let word = self.pick(&["TRUE", "FALSE", "NULL"]);
                self.keyword(word);
            }
            12 => {
                self.keyword("NOT");
                self.truth(depth - 1);
            }
            13 | 14 => self.in_parentheses(depth),
            15 => {
                self.in_parentheses(depth);
                let sign = self.pick(&["=", "<>"]);
                self.put(sign);
                self.in_parentheses(depth);
            }
            _ => {
                self.truth(depth - 1);
                let word = self.pick(&["AND", "OR"]);
                self.keyword(word);
                self.truth(depth - 1);
            }
        }
    }

    fn between(&mut self, depth: usize) {
        self.operand(depth);
        self.maybe_not();
        self.keyword("BETWEEN");
        self.operand(depth);
        self.keyword("AND");
        self.operand(depth);
    }

    fn in_list(&mut self) {
        if self.one_in(10) {
            self.operand(0)
        } else {
            self.property()
        }
        self.maybe_not();
        self.keyword("IN");
        self.put("(");
        // Java keeps lists of five and more in a set.
        for n in 0..self.rng.usize(1..8) {
            if n > 0 {
                self.put(",");
            }
            let text = self.pick(TEXTS);
            self.put(text);
        }
        self.put(")");
    }

    /// Takes words out, doubles them, swaps them, or puts others in.
    fn damage(&mut self) {
        let at = self.rng.usize(..self.words.len());
        match self.rng.u8(..5) {
            0 => drop(self.words.remove(at)),
            1 => self.words.insert(at, self.words[at].clone()),
            2 => {
                let other = self.rng.usize(..self.words.len());
                self.words.swap(at, other);
            }
            _ => {
                let splinter = self.pick(SPLINTERS).to_owned();
                let at = self.rng.usize(..=self.words.len());
                self.words.insert(at, splinter);
            }
        }
    }

    fn expression(&mut self) -> String {
        self.words.clear();
        let depth = self.rng.usize(..4);
        self.truth(depth);
        if self.one_in(6) {
            self.damage();
        }
        let words = std::mem::take(&mut self.words);
        let mut text = String::new();
        for word in &words {
            text.push_str(word);
            let gap = self.pick(&[" ", " ", " ", " ", " ", "  ", "\t", "\n", "\r\n", "\u{c}", "/* ' */", "/***/", "-- '\n", ""]);
            text.push_str(gap);
        }
        text
    }

    /// A message's properties as they stand in its record.
    fn message(&mut self) -> String {
        let mut text = String::new();
        for name in NAMES {
            if !self.one_in(5) {
                let value = self.pick(VALUES);
                text.push_str(&format!("{name}\u{1}{value}\u{2}"));
            }
        }
        text
    }
}

/// Bytes as %hex, so that nothing is taken for the end of a word or a line.
fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

fn java_values(java: &mut Client, sql: &str, messages: &[String]) -> Vec<String> {
    let mut words = vec!["Filter".to_owned(), escaped(sql)];
    words.extend(messages.iter().map(|message| escaped(message)));
    java.call(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

fn our_values(sql: &str, messages: &[String]) -> Vec<String> {
    let Ok(filter) = broker::filter::parse(sql) else { return vec!["refused".into()] };
    let value = |message: &String| match filter.evaluate(message) {
        Ok(Some(value)) => value.to_string(),
        Ok(None) => "null".to_owned(),
        Err(_) => "error".to_owned(),
    };
    messages.iter().map(value).collect()
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect(name))
}

#[test]
fn generated_expressions_have_javas_values() {
    let Some(mut java) = java_filter() else { return };
    let (count, seed) = (setting("FILTER_EXPRESSIONS", EXPRESSIONS), setting("FILTER_SEED", SEED));
    let mut generator = Generator { rng: Rng::with_seed(seed), words: Vec::new() };
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    let mut wrong = Vec::new();
    for _ in 0..count {
        let sql = generator.expression();
        let messages: Vec<String> = (0..MESSAGES).map(|_| generator.message()).collect();
        let (theirs, ours) = (java_values(&mut java, &sql, &messages), our_values(&sql, &messages));
        if theirs != ours {
            wrong.push(format!("{sql:?}: Java {theirs:?}, here {ours:?}, of {messages:?}"));
        }
        theirs.into_iter().for_each(|value| *seen.entry(value).or_default() += 1);
    }
    println!("{seen:?}");
    assert!(wrong.is_empty(), "{} of {count} differ:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
    for value in ["true", "false", "null", "error", "refused"] {
        assert!(seen.get(value).is_some_and(|given| *given > count / 50), "too few are {value}: {seen:?}");
    }
}

/// What differs on purpose.
#[test]
fn differences_from_java_are_those_that_are_known() {
    let Some(mut java) = java_filter() else { return };
    let nested = |n: usize| format!("{}a = 5{}", "(".repeat(n), ")".repeat(n));
    for (sql, message, theirs, ours, why) in [
        ("a > 1.5".to_owned(), "a\u{1}0x1.8p3\u{2}", "true", "error", "hexadecimal doubles are no numbers: nobody writes them"),
        ("a = 5".into(), "a\u{1}٥\u{2}", "true", "error", "digits beyond ASCII are no numbers"),
        (nested(100), "a\u{1}5\u{2}", "true", "refused", "nesting is bounded: Java's parser runs until its stack is full"),
        (
            format!("a = 5{}", " = TRUE".repeat(102)),
            "a\u{1}5\u{2}",
            "true",
            "refused",
            "chains of comparisons are bounded, as each makes evaluation deeper",
        ),
        (
            format!("a = 5{}", " ".repeat(64 * 1024)),
            "a\u{1}5\u{2}",
            "true",
            "refused",
            "expressions are bounded: they come with every pull",
        ),
    ] {
        let messages = [message.to_owned()];
        let short: String = sql.chars().take(40).collect();
        assert_eq!(java_values(&mut java, &sql, &messages), [theirs], "Java, {short}: {why}");
        assert_eq!(our_values(&sql, &messages), [ours], "{short}: {why}");
    }
}

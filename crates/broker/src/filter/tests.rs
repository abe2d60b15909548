use std::sync::Arc;

use super::{Expressions, MAX_DEPTH, MAX_KEPT_BYTES, MAX_LENGTH, parse};

const MESSAGE: &str = "TAGS\u{1}TagA\u{2}a\u{1}5\u{2}big\u{1}3000000000\u{2}d\u{1}1.5\u{2}s\u{1}it's\u{2}t\u{1}true\u{2}";

fn value(sql: &str) -> &'static str {
    match parse(sql).unwrap_or_else(|e| panic!("{sql}: {e}")).evaluate(MESSAGE) {
        Ok(Some(true)) => "true",
        Ok(Some(false)) => "false",
        Ok(None) => "null",
        Err(_) => "error",
    }
}

#[test]
fn expressions_have_the_values_of_javas_rules() {
    for (sql, wanted) in [
        ("a = 5", "true"),
        ("a <> 5", "false"),
        ("5 >= a AND a > 4", "true"),
        ("a BETWEEN 1 AND 5", "true"),
        ("a NOT BETWEEN 1 AND 5", "false"),
        ("a not between 6 and 3", "true"),
        ("x BETWEEN 1 AND 5", "null"),
        ("big BETWEEN 9007199254740993 AND 9007199254740992.0", "false"),
        ("big > 1", "error"),
        ("big > 1L", "error"),
        ("big >= 3000000000", "true"),
        ("d = 1", "error"),
        ("d > 1.25 and d < 15E-1 or d = .15e1", "true"),
        ("a > d", "true"),
        ("s > d", "error"),
        ("s = 'it''s'", "true"),
        ("TAGS IN ('TagA', 'TagB')", "true"),
        ("TAGS NOT IN ('TagA')", "false"),
        ("x NOT IN ('TagA')", "null"),
        ("x IS NULL AND a IS NOT NULL", "true"),
        ("x = y", "true"),
        ("x = 1", "null"),
        ("a = x", "false"),
        ("NOT x", "null"),
        ("t", "false"),
        ("t = TRUE", "true"),
        ("TRUE = t", "error"),
        ("x = 1 OR TRUE", "true"),
        ("x = 1 AND FALSE", "false"),
        ("x = 1 AND TRUE", "null"),
        ("a = 1 OR a = 5 AND s CONTAINS ''", "false"),
        ("s STARTSWITH 'it' AND s ENDSWITH '''s' AND s NOT CONTAINS 'z'", "true"),
        ("x NOT CONTAINS 'z'", "false"),
        ("a > -1 AND -a IS NULL", "true"),
        ("/* c */ a -- d\n = 5", "true"),
        ("a = 5 trailing words", "true"),
        ("a = 5 1e309", "true"),
        ("a = 5 'x''", "true"),
        ("(s > d) CONTAINS ''", "false"),
        ("x > -(s > d)", "null"),
    ] {
        assert_eq!(value(sql), wanted, "{sql}");
    }
}

#[test]
fn mistakes_are_refused_at_their_place() {
    for (sql, position) in [
        ("", 0),
        ("5", 0),
        ("a =", 3),
        ("a = 'x", 4),
        ("a = 'x''", 7),
        ("a = NULL", 4),
        ("a > 'x'", 4),
        ("TRUE = 1", 7),
        ("a BETWEEN 5 AND 1", 10),
        ("a BETWEEN 9007199254740993 AND 9007199254740992", 10),
        ("a IN (1)", 6),
        ("5 IN ('a')", 0),
        ("a NOT 5", 6),
        ("a IS 5", 5),
        ("(a = 1", 6),
        ("a = 9223372036854775808", 4),
        ("a = 0.0", 4),
        ("a = 1 AND 2", 10),
        ("a = #", 4),
    ] {
        assert_eq!(parse(sql).expect_err(sql).position, position, "{sql}");
    }
}

#[test]
fn long_and_deep_expressions_are_refused_without_overflow() {
    let deep = |n: usize| format!("{}a = 1{}", "(".repeat(n), ")".repeat(n));
    assert!(parse(&deep(MAX_DEPTH - 1)).is_ok());
    assert!(parse(&deep(MAX_DEPTH)).is_err());
    assert!(parse(&"NOT ".repeat(10_000)).is_err());
    assert!(parse(&format!("a{}", " IS NULL".repeat(MAX_DEPTH + 2))).is_err());
    assert!(parse(&" ".repeat(MAX_LENGTH + 1)).is_err());
    assert_eq!(parse(&format!("a = 5{}", " OR a = 6".repeat(5_000))).unwrap().evaluate(MESSAGE), Ok(Some(true)));
}

#[test]
fn an_expression_is_read_once_and_what_is_kept_is_bounded() {
    let expressions = Expressions::default();
    let first = expressions.parse("a = 5").unwrap();
    assert!(Arc::ptr_eq(&first, &expressions.parse("a = 5").unwrap()));
    assert_eq!(expressions.parse("a =").unwrap_err(), parse("a =").unwrap_err());
    assert!(expressions.kept.lock().parsed.contains_key("a ="));
    assert!(expressions.parse(&" ".repeat(MAX_LENGTH + 1)).is_err());
    assert_eq!(expressions.kept.lock().parsed.len(), 2);
    for n in 0..10_000 {
        expressions.parse(&format!("a = {n}")).unwrap();
        assert!(expressions.kept.lock().bytes <= MAX_KEPT_BYTES);
    }
    assert!(!Arc::ptr_eq(&first, &expressions.parse("a = 5").unwrap()));
    assert!(expressions.kept.lock().parsed.len() < 10_000);
}

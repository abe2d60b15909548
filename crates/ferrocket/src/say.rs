//! Words for whoever started the process. They may have stopped reading (`| head -1`, a terminal that is closed), and neither
//! a broker nor a move in the middle may end by that, as with `println!`.

/// Prints a line.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}

/// Prints a line to stderr.
macro_rules! complain {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}

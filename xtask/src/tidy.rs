//! Rules that no compiler checks: layers, sizes, words.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

const MAX_FILE_LINES: usize = 900;
const MAX_FUNCTION_LINES: usize = 70;
const MAX_TOTAL_LINES: usize = 50_000;

/// What a crate of the workspace may name of the others. Cores know neither tokio nor each other's shells.
const LAYERS: &[(&str, &[&str])] = &[
    ("stdx", &[]),
    ("protocol", &["stdx"]),
    ("replication", &["stdx"]),
    ("store", &["stdx", "protocol", "replication"]),
    ("broker", &["stdx", "protocol", "replication", "store"]),
    ("namesrv", &["stdx", "protocol", "replication"]),
    ("net", &["stdx", "protocol"]),
    ("admin", &["stdx", "protocol", "net", "store"]),
    ("bench", &["stdx", "protocol", "net"]),
];

/// Crates that must not name these outside their tests.
const CORES: [&str; 5] = ["protocol", "replication", "store", "broker", "namesrv"];
const NOT_IN_CORES: [&str; 4] = ["tokio", "SystemTime::now", "Instant::now", "thread::spawn"];

/// Left-overs, spelt so that this list does not find itself.
const BANNED: [&str; 4] =
    [concat!("todo", "!("), concat!("unimplemented", "!("), concat!("allow(dead", "_code"), concat!("dbg", "!(")];

pub fn run() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace's root")?;
    let mut problems = Vec::new();
    let mut total = 0;
    for file in rust_files(root)? {
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let name = file.strip_prefix(root).unwrap_or(&file).display().to_string();
        total += text.lines().count();
        check_file(&name, &text, &mut problems);
    }
    check_layers(root, &mut problems)?;
    if total > MAX_TOTAL_LINES {
        problems.push(format!("{total} lines of Rust in all, {MAX_TOTAL_LINES} are allowed"));
    }
    for problem in &problems {
        println!("tidy: {problem}");
    }
    if !problems.is_empty() {
        bail!("{} problems", problems.len());
    }
    println!("tidy: {total} lines of Rust, in good order");
    Ok(())
}

fn rust_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![root.join("crates"), root.join("tests"), root.join("xtask")];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).with_context(|| directory.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() && path.file_name().is_some_and(|n| n != "target") {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn check_file(name: &str, text: &str, problems: &mut Vec<String>) {
    let lines = text.lines().count();
    if lines > MAX_FILE_LINES {
        problems.push(format!("{name} has {lines} lines, {MAX_FILE_LINES} are allowed: which two subjects are in it?"));
    }
    for (number, line) in text.lines().enumerate() {
        for word in BANNED.iter().filter(|word| line.contains(**word)) {
            problems.push(format!("{name}:{}: {word}", number + 1));
        }
        if line.contains("unsafe ")
            && !line.trim_start().starts_with("//")
            && name != "crates/store/src/segment.rs"
            && !name.starts_with("xtask")
        {
            problems.push(format!("{name}:{}: unsafe lives in store's segment file alone", number + 1));
        }
    }
    check_core(name, text, problems);
    for (line, length) in long_functions(text) {
        problems.push(format!("{name}:{line}: a function of {length} lines, {MAX_FUNCTION_LINES} are allowed"));
    }
}

fn check_core(name: &str, text: &str, problems: &mut Vec<String>) {
    let Some(core) = CORES.iter().find(|core| name.starts_with(&format!("crates/{core}/src/"))) else { return };
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    if name.ends_with("tests.rs") {
        return;
    }
    for word in NOT_IN_CORES.iter().filter(|word| code.contains(**word)) {
        problems.push(format!("{name}: {word} has no place in {core}, a core without clock, socket or thread"));
    }
}

/// Functions that are too long: the line of their head and how many lines they have.
fn long_functions(text: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut open: Vec<(usize, usize)> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let head = line.trim_start();
        let words = head.split("fn ").next().unwrap_or_default();
        let is_head =
            head.contains("fn ") && words.chars().all(|c| c.is_alphanumeric() || " ()_\"".contains(c)) && !head.ends_with(';');
        if is_head {
            open.push((indent, number));
        }
        if head == "}"
            && let Some((_, start)) = open.pop_if(|(i, _)| *i == indent)
        {
            let length = number - start + 1;
            if length > MAX_FUNCTION_LINES {
                found.push((start + 1, length));
            }
        }
    }
    found
}

fn check_layers(root: &Path, problems: &mut Vec<String>) -> Result<()> {
    let layers: BTreeMap<&str, &[&str]> = LAYERS.iter().copied().collect();
    for (name, allowed) in &layers {
        let manifest = root.join("crates").join(name).join("Cargo.toml");
        let text = fs::read_to_string(&manifest).with_context(|| manifest.display().to_string())?;
        let dependencies = text.split("[dev-dependencies]").next().unwrap_or_default();
        for line in dependencies.lines() {
            let dependency = line.split('=').next().unwrap_or_default().trim();
            if layers.contains_key(dependency) && !allowed.contains(&dependency) {
                problems.push(format!("crates/{name} depends on {dependency}, which lies above it"));
            }
        }
    }
    Ok(())
}

//! The page of bounds has the values of the code.

use crate::docs::root;

/// A row: the value, the constant, and the tests.
struct Bound {
    value: String,
    file: String,
    constant: String,
    tests: String,
}

fn rows() -> Vec<Bound> {
    let page = std::fs::read_to_string(root().join("docs/development/bounds.md")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with('|') && line.contains("::"));
    rows.map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let (file, constant) = cells[3].trim_matches('`').split_once("::").unwrap();
        Bound {
            value: cells[2].to_owned(),
            file: file.to_owned(),
            constant: constant.to_owned(),
            tests: cells[5].to_owned(),
        }
    })
    .collect()
}

/// Returns a value of the page: a number with a unit of time or size, or a count.
fn shown(value: &str) -> f64 {
    let (number, unit) = value.split_once(' ').unwrap_or((value, ""));
    let number: f64 = number.replace(',', "").parse().unwrap();
    number
        * match unit {
            "" | "s" => 1.0,
            "min" => 60.0,
            "KiB" => 1024.0,
            "MiB" => 1024.0 * 1024.0,
            _ => panic!("{value}: write s, min, KiB or MiB"),
        }
}

/// Returns the value of a constant in the source: in seconds, in bytes, or a count.
fn declared(source: &str, constant: &str) -> f64 {
    let (_, rest) =
        source.split_once(&format!("const {constant}: ")).unwrap_or_else(|| panic!("{constant} is missing"));
    let expression = rest.split_once(';').unwrap().0.split_once("= ").unwrap().1;
    let (factor, expression) = match expression.split_once("::from_") {
        None => (1.0, expression),
        Some((_, call)) => {
            let (unit, argument) = call.trim_end_matches(')').split_once('(').unwrap();
            let seconds = [("secs", 1.0), ("mins", 60.0), ("millis", 0.001)];
            (seconds.iter().find(|(name, _)| *name == unit).unwrap().1, argument)
        }
    };
    let kib = if constant.ends_with("_KIB") { 1024.0 } else { 1.0 };
    let factors = expression.split('*').map(|factor| factor.trim().replace('_', "").parse::<f64>().unwrap());
    factor * kib * factors.product::<f64>()
}

#[test]
fn each_bound_on_the_page_has_the_value_of_the_code_and_a_test() {
    let bounds = rows();
    assert!(bounds.len() > 20);
    for Bound { value, file, constant, tests } in bounds {
        let source = std::fs::read_to_string(root().join(&file)).unwrap();
        let (shown, declared) = (shown(&value), declared(&source, &constant));
        assert!((shown - declared).abs() < 1e-6, "{file}::{constant} is {declared}, and the page has {value}");
        assert!(tests.contains("::"), "{constant} has no test");
    }
}

//! The direction of dependencies: the modules that each module may use, without cycles between files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The modules that a module may use, besides itself. The groups of the core are listed separately; other modules are
/// listed as a whole.
const MAY_USE: &[(&str, &[&str])] = &[
    ("api", &[]),
    ("core::compact_time", &[]),
    ("core::hex", &[]),
    ("core::object", &["api", "core::hex"]),
    ("core::spec", &["api"]),
    ("core::rare", &[]),
    ("core::scheduling", &["api", "core::compact_time", "core::rare"]),
    ("core::election", &["api"]),
    ("core::server_clock", &[]),
    ("core::secrets", &["api", "core::hex", "core::object", "core::spec"]),
    (
        "core::reconcile",
        &["api", "core::compact_time", "core::object", "core::rare", "core::spec", "core::scheduling", "core::secrets"],
    ),
    (
        "core::report",
        &[
            "api",
            "core::compact_time",
            "core::object",
            "core::spec",
            "core::scheduling",
            "core::secrets",
            "core::reconcile",
        ],
    ),
    ("arcgis", &["api", "core"]),
    ("cluster", &["api", "core"]),
    ("index", &["api", "core", "cluster"]),
    ("ops", &["api", "index"]),
    ("controller", &["api", "core", "arcgis", "cluster", "index", "ops"]),
    ("cli", &["core", "ops"]),
    ("commands", &["api", "arcgis", "cli", "cluster", "controller", "core", "index", "ops"]),
];

/// The source text of each module, without its unit tests.
type Sources = BTreeMap<String, String>;

fn sources() -> Sources {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Sources::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(&root).unwrap().with_extension("");
            let name = name.to_str().unwrap().replace('/', "::");
            let name = name.strip_suffix("::mod").unwrap_or(&name);
            let tests = name.split("::").any(|part| part == "tests");
            if !tests && !["lib", "main"].contains(&name) {
                let text = std::fs::read_to_string(&path).unwrap();
                let text = text.split("\nmod tests {").next().unwrap().to_owned();
                found.insert(name.to_owned(), text);
            }
        }
    }
    found
}

/// Returns the paths of a use tree: `a::{b, c::{d, e}}` contains `a::b`, `a::c::d` and `a::c::e`.
fn leaves(tree: &str) -> Vec<String> {
    let Some((head, rest)) = tree.split_once('{') else { return vec![tree.to_owned()] };
    let mut depth = 0;
    let inner = rest.strip_suffix('}').unwrap_or(rest).split(|c: char| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    inner.filter(|tree| !tree.is_empty()).flat_map(leaves).map(|leaf| format!("{head}{leaf}")).collect()
}

/// Returns the paths that a module imports, as absolute paths without `crate::`.
fn imports(module: &str, text: &str) -> Vec<String> {
    let parent = module.rsplit_once("::").map_or("", |(parent, _)| parent);
    let used = text.split(';').filter_map(|statement| statement.rsplit_once("use ").map(|(_, tree)| tree));
    let used = used.flat_map(|tree| leaves(&tree.split_whitespace().collect::<String>()));
    used.filter_map(|leaf| {
        if let Some(path) = leaf.strip_prefix("crate::") {
            Some(path.to_owned())
        } else if let Some(path) = leaf.strip_prefix("super::") {
            Some(format!("{parent}::{path}").trim_start_matches(':').to_owned())
        } else {
            // A folder may re-export its children.
            let child = leaf.split("::").next().unwrap();
            text.contains(&format!("mod {child};")).then(|| format!("{module}::{leaf}"))
        }
    })
    .collect()
}

/// Returns the module that an imported path belongs to: its longest prefix that is a module.
fn module_of(path: &str, sources: &Sources) -> Option<String> {
    let mut path = path;
    loop {
        if sources.contains_key(path) {
            return Some(path.to_owned());
        }
        path = path.rsplit_once("::")?.0;
    }
}

fn graph(sources: &Sources) -> BTreeMap<String, BTreeSet<String>> {
    let edges = |(module, text): (&String, &String)| {
        let used = imports(module, text).into_iter().filter_map(|path| module_of(&path, sources));
        let used = used.filter(|used| used != module);
        (module.clone(), used.collect())
    };
    sources.iter().map(edges).collect()
}

/// Returns the entry of [`MAY_USE`] that a module belongs to; `core` itself only re-exports its groups.
fn group(module: &str) -> Option<&'static str> {
    let within = |name: &str| module == name || module.starts_with(&format!("{name}::"));
    MAY_USE.iter().map(|(name, _)| *name).find(|name| within(name))
}

fn forbidden_imports(sources: &Sources) -> Vec<String> {
    let mut found = Vec::new();
    for (module, used) in graph(sources) {
        let Some(from) = group(&module) else { continue };
        let allowed = MAY_USE.iter().find(|(name, _)| *name == from).unwrap().1;
        for used in used {
            let to = group(&used).unwrap_or("core");
            let fits = from == to || allowed.iter().any(|name| *name == to || to.starts_with(&format!("{name}::")));
            if !fits {
                found.push(format!("{module} may not use {used}"));
            }
        }
    }
    found
}

fn cycle(sources: &Sources) -> Option<String> {
    let mut graph = graph(sources);
    // Removes modules that use nothing or that nothing uses, until only cycles and the modules between them are left.
    loop {
        let used: BTreeSet<String> = graph.values().flatten().cloned().collect();
        let free = |(module, uses): &(&String, &BTreeSet<String>)| uses.is_empty() || !used.contains(*module);
        let Some(free) = graph.iter().find(free).map(|(module, _)| module.clone()) else { break };
        graph.remove(&free);
        for uses in graph.values_mut() {
            uses.remove(&free);
        }
    }
    let cycles: Vec<String> = graph.into_iter().map(|(module, used)| format!("{module} -> {used:?}")).collect();
    (!cycles.is_empty()).then(|| cycles.join("\n"))
}

#[test]
fn no_module_imports_a_forbidden_module() {
    let sources = sources();
    assert!(sources.len() > 40, "{}", sources.len());
    assert_eq!(forbidden_imports(&sources), [""; 0]);
}

#[test]
fn there_is_no_cycle_between_files() {
    assert_eq!(cycle(&sources()), None);
}

#[test]
fn a_source_file_has_at_most_300_lines() {
    let long = |(module, text): (&String, &String)| (text.lines().count() > 300).then(|| module.clone());
    assert_eq!(sources().iter().filter_map(long).collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn a_forbidden_import_and_a_cycle_are_found() {
    for (module, line, found) in [
        ("core::spec::plan", "use crate::arcgis::CaBundle;\n", "core::spec::plan may not use arcgis"),
        ("ops::series", "use crate::{index::Key, controller::run};\n", "ops::series may not use controller::run"),
        (
            "core::secrets::token",
            "use crate::core::reconcile::Situation;\n",
            "core::secrets::token may not use core::reconcile",
        ),
    ] {
        let mut sources = sources();
        sources.get_mut(module).unwrap().insert_str(0, line);
        assert_eq!(forbidden_imports(&sources), [found], "{line}");
    }
    let mut sources = sources();
    sources.get_mut("arcgis::answer").unwrap().insert_str(0, "use super::exchange::exchange;\n");
    assert!(cycle(&sources).unwrap().contains("arcgis::exchange -> {\"arcgis::answer\"}"));
}

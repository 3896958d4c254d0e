//! Programs that the tests of the chart, the docs and monitoring need.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Returns the folder that `make tools` builds into.
pub fn folder() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty()).map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache"));
    cache.join("arcgis-credential-operator/bin")
}

/// Returns the program in PATH, or the one that `make tools` has built.
pub fn tool(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).chain([folder()]).map(|dir| dir.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("no {name}: run make tools"))
}

/// Builds a package of one of the Go modules in this repository; returns the program.
pub fn go_build(module: &str, package: &str) -> PathBuf {
    let name = Path::new(if package == "." { module } else { package }).file_name().unwrap();
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let mut build = Command::new("go");
    build.arg("-C").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(module)).args(["build", "-o"]).arg(&program);
    succeed(build.arg(package), "");
    program
}

/// Whether a command succeeded, and its standard output and standard error.
pub struct Printed {
    pub success: bool,
    pub out: String,
    pub err: String,
}

/// Runs a command with this input.
pub fn run(command: &mut Command, input: &str) -> Printed {
    use std::io::Write;
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("cannot start");
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // A thread writes the input, because the command may print before it has read all of it.
    let writer = std::thread::spawn(move || {
        // A command that does not read its input is no error.
        let _ = stdin.write_all(input.as_bytes());
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Printed { success: output.status.success(), out: text(output.stdout), err: text(output.stderr) }
}

/// Runs a command that must succeed; returns its output.
pub fn succeed(command: &mut Command, input: &str) -> String {
    let printed = run(command, input);
    assert!(printed.success, "{command:?}: {}{}", printed.err, printed.out);
    printed.out
}

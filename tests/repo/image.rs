//! The image that `make image` assembles: the one that IMAGE names, or one assembled from the binary of this build.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, OnceLock};

use crate::support::tools::{go_build, succeed};
use serde_json::{Value, json};
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_arcgis-credential-operator");
const EPOCH: &str = "1700000000";

/// Writes the root certificates of the crate that `Cargo.lock` pins.
fn roots(folder: &Path) -> PathBuf {
    let program = Path::new(BINARY).with_file_name("ca-bundle");
    assert!(program.exists(), "cargo build --workspace");
    let path = folder.join("ca.crt");
    std::fs::write(&path, succeed(&mut Command::new(program), "")).unwrap();
    path
}

fn assemble(binary: &str, to: &Path) {
    static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| go_build("hack/tools", "./assemble-image"));
    let folder = TempDir::new().unwrap();
    let mut command = Command::new(&*PROGRAM);
    command.arg("-ca").arg(roots(folder.path()));
    command.args(["-binary", binary, "-version", env!("CARGO_PKG_VERSION"), "-revision", "0123abc", "-epoch", EPOCH]);
    let digest = succeed(command.arg("-out").arg(to), "");
    let index: Value = serde_json::from_str(&tar(&["-x", "-O", "index.json"], to)).unwrap();
    assert_eq!(digest.trim(), index["manifests"][0]["digest"]);
}

fn tar(arguments: &[&str], archive: &Path) -> String {
    succeed(Command::new("tar").args(arguments).arg("-f").arg(archive), "")
}

/// An unpacked image layout.
struct Image {
    layout: TempDir,
    manifest: Value,
    config: Value,
}

impl Image {
    fn open(archive: &Path) -> Self {
        let layout = TempDir::new().unwrap();
        tar(&["-x", "-C", layout.path().to_str().unwrap()], archive);
        let index: Value = serde_json::from_slice(&std::fs::read(layout.path().join("index.json")).unwrap()).unwrap();
        let manifest = Self::json(&layout, &index["manifests"][0]);
        let config = Self::json(&layout, &manifest["config"]);
        Self { layout, manifest, config }
    }

    fn blob(layout: &TempDir, descriptor: &Value) -> PathBuf {
        layout.path().join("blobs").join(descriptor["digest"].as_str().unwrap().replace(':', "/"))
    }

    fn json(layout: &TempDir, descriptor: &Value) -> Value {
        serde_json::from_slice(&std::fs::read(Self::blob(layout, descriptor)).unwrap()).unwrap()
    }

    fn layers(&self) -> Vec<PathBuf> {
        self.manifest["layers"].as_array().unwrap().iter().map(|layer| Self::blob(&self.layout, layer)).collect()
    }
}

/// Returns the image under test, and whether it is the one to be released.
fn image() -> (PathBuf, bool) {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    if let Some(for_release) = std::env::var_os("IMAGE") {
        return (for_release.into(), true);
    }
    let made = MADE.get_or_init(|| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("image.tar");
        assemble(BINARY, &path);
        path
    });
    (made.clone(), false)
}

#[test]
fn the_image_runs_the_operator_as_a_non_root_user() {
    let image = Image::open(&image().0);
    let config = &image.config["config"];
    assert_eq!(config["User"], "65532:65532");
    assert_eq!(config["Entrypoint"], json!(["/arcgis-credential-operator"]));
    assert_eq!(config["Cmd"], json!(["run"]));
    assert_eq!(config["ExposedPorts"], json!({"8080/tcp": {}}));
    assert_eq!(image.config["os"], "linux");
    for labels in [&config["Labels"], &image.manifest["annotations"]] {
        for (label, value) in [("title", "arcgis-credential-operator"), ("version", env!("CARGO_PKG_VERSION"))] {
            assert_eq!(labels[format!("org.opencontainers.image.{label}")], value);
        }
        assert_eq!(labels["org.opencontainers.image.licenses"], "Apache-2.0");
        assert!(labels["org.opencontainers.image.revision"].as_str().unwrap().len() >= 7);
        assert!(labels["org.opencontainers.image.created"].as_str().unwrap().ends_with('Z'));
    }
}

#[test]
fn the_image_contains_only_the_binary_the_root_certificates_and_the_user() {
    let (archive, for_release) = image();
    let image = Image::open(&archive);
    let layers = image.layers();
    let listed: String = layers.iter().map(|layer| tar(&["-t", "-z"], layer)).collect();
    let mut files: Vec<&str> = listed.lines().filter(|path| !path.ends_with('/')).collect();
    files.sort_unstable();
    let roots = "etc/ssl/certs/ca-certificates.crt";
    assert_eq!(files, ["arcgis-credential-operator", "etc/group", "etc/passwd", roots]);

    let root = TempDir::new().unwrap();
    for layer in &layers {
        tar(&["-x", "-z", "-p", "-C", root.path().to_str().unwrap()], layer);
    }
    let read = |path: &str| std::fs::read_to_string(root.path().join(path)).unwrap();
    assert!(read("etc/passwd").contains("nonroot:x:65532:65532:"));
    assert!(read("etc/group").contains("nonroot:x:65532:"));
    let folder = TempDir::new().unwrap();
    assert!(
        read(roots) == std::fs::read_to_string(self::roots(folder.path())).unwrap(),
        "they are not those of the crate"
    );
    assert!(read(roots).matches("BEGIN CERTIFICATE").count() > 50);
    if for_release {
        let size = std::fs::metadata(&archive).unwrap().len();
        assert!(size <= 20 * 1024 * 1024, "{size} bytes");
        let binary = std::fs::read(root.path().join("arcgis-credential-operator")).unwrap();
        // A dynamically linked program contains the name of its loader.
        assert!(!binary.windows(8).any(|bytes| bytes == b"/ld-musl" || bytes == b"/ld-linu"), "not static");
    } else {
        let version = succeed(Command::new(root.path().join("arcgis-credential-operator")).arg("--version"), "");
        assert_eq!(version.trim(), concat!("arcgis-credential-operator ", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    let folder = TempDir::new().unwrap();
    let made = ["one.tar", "two.tar"].map(|name| folder.path().join(name));
    for path in &made {
        // Any file can replace the binary.
        assemble(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock"), path);
    }
    assert!(std::fs::read(&made[0]).unwrap() == std::fs::read(&made[1]).unwrap());
}

#[test]
fn the_dockerfile_describes_the_same_image() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Dockerfile")).unwrap();
    let image = Image::open(&image().0);
    let config = &image.config["config"];
    // The instructions of the last stage.
    let last = text.rsplit("\nFROM ").next().unwrap();
    let instruction = |word: &str| {
        last.lines().find_map(|line| line.strip_prefix(word)).unwrap_or_else(|| panic!("no {word}")).trim().to_owned()
    };
    assert_eq!(config["User"], instruction("USER"));
    assert_eq!(config["Entrypoint"], serde_json::from_str::<Value>(&instruction("ENTRYPOINT")).unwrap());
    assert_eq!(config["Cmd"], serde_json::from_str::<Value>(&instruction("CMD")).unwrap());
    assert!(config["ExposedPorts"][format!("{}/tcp", instruction("EXPOSE"))].is_object());
    assert_eq!(instruction("ARG VERSION="), env!("CARGO_PKG_VERSION"));
    let env: Vec<&str> = config["Env"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(env, instruction("ENV").split_whitespace().collect::<Vec<_>>());
    assert!(last.starts_with("scratch\n"), "no base brings certificates");
    assert!(text.contains("--package ca-bundle > /image/etc/ssl/certs/ca-certificates.crt"));
    let labels: Vec<&str> = last.split_whitespace().filter(|word| word.starts_with("org.opencontainers.")).collect();
    assert!(labels.len() >= 5, "{labels:?}");
    for label in labels {
        assert!(config["Labels"][label.split('=').next().unwrap()].is_string(), "{label}");
    }
}

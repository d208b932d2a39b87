use super::{
    super::scratch::{TestDirectory, error_chain, error_kind},
    *,
};

fn record(version: &str, programs: &[&str]) -> InstallRecord {
    InstallRecord {
        name: "widgets".into(),
        version: version.into(),
        source: "registry+oci://a.b/widgets".into(),
        programs: programs.iter().map(|&program| program.to_owned()).collect(),
        version_req: None,
        target: Some("x-y-z".into()),
        profile: None,
        followed_tag: None,
        selected_target: None,
    }
}

#[tokio::test]
async fn packages_omits_packages_that_cargo_installed() {
    let scratch = TestDirectory::new();
    let built = "built 1.0.0 (registry+file:///index)";
    let foreign = "mine 1.0.0 (path+file:///x)";
    let unknown = "unknown 1.0.0 (registry+file:///index)";
    let old = "old 1.0.0 (registry+file:///index)";
    let records: String = [built, foreign, unknown, old]
        .map(|key| format!("\"{key}\" = [\"one\"]\n"))
        .concat();
    scratch.write("root/.crates.toml", &format!("[v1]\n{records}"));
    // Cargo adds details without the version of the compiler to a record without details.
    let details = json!({ "installs": {
        built: { "rustc": "rustc 1.90.0", FOLLOWED_TAG: null },
        old: { "rustc": null },
    } });
    scratch.write("root/.crates2.json", &details.to_string());
    let mut installed = open(&scratch).await;
    let mut own = record("1.0.0", &["three"]);
    own.followed_tag = Some("nightly".into());
    installed.record(&own).unwrap();
    let packages = installed.packages();
    assert_eq!(packages.len(), 1);
    assert_eq!(packages[0].key, own.key());
    assert_eq!(packages[0].location.to_string(), "a.b/widgets");
    assert_eq!(packages[0].followed_tag.as_deref(), Some("nightly"));
    let shown = describe_package(&own.key());
    assert_eq!(shown, "widgets v1.0.0 (a.b/widgets)");
}

async fn open(scratch: &TestDirectory) -> InstalledPackages {
    let installed = InstalledPackages::open(scratch.path().join("root"), |_| ());
    installed.await.unwrap()
}

#[tokio::test]
async fn record_with_invalid_program_name_is_rejected() {
    for program in [
        "../mine",
        "/mine",
        "a/b",
        "..",
        ".",
        "",
        "a/",
        r"a\u001b[2J",
        r"a\nb",
    ] {
        let scratch = TestDirectory::new();
        let text = format!("[v1]\n\"a 1.0.0 (registry+oci://a.b/c)\" = [\"{program}\"]\n");
        scratch.write("root/.crates.toml", &text);
        let refused = InstalledPackages::open(scratch.path().join("root"), |_| ()).await;
        let refused = error_chain(&refused.unwrap_err());
        assert!(
            refused.contains("is not a program name"),
            "{program}: {refused}"
        );
    }
}

#[tokio::test]
async fn new_version_replaces_programs_of_earlier_version() {
    let scratch = TestDirectory::new();
    let foreign = "[v1]\n\"else 1.0.0 (path+file:///x)\" = [\"else\", \"mine\"]\n";
    scratch.write("root/.crates.toml", foreign);
    for program in ["old", "both", "mine", "else", "manual"] {
        scratch.write(&format!("root/bin/{program}"), "");
    }
    open(&scratch)
        .await
        .record(&record("1.0.0", &["old", "both"]))
        .unwrap();
    let mut installed = open(&scratch).await;
    let next = record("1.1.0", &["both", "new"]);
    installed.check(&next).unwrap();
    installed.record(&next).unwrap();
    drop(installed);
    let text = fs::read_to_string(scratch.path().join("root/.crates.toml")).unwrap();
    assert_eq!(
        text,
        format!("{foreign}\"widgets 1.1.0 (registry+oci://a.b/widgets)\" = [\"both\", \"new\"]\n")
    );
    assert!(!scratch.path().join("root/bin/old").exists());

    let mut installed = open(&scratch).await;
    for (program, owner) in [
        ("mine", "belongs to `else 1.0.0 (path+file:///x)`"),
        ("manual", "was not installed by cargo"),
    ] {
        let error = installed.check(&record("1.2.0", &[program])).unwrap_err();
        assert_eq!(error_kind(&error), ErrorKind::Conflict);
        assert!(
            error_chain(&error).contains(owner),
            "{}",
            error_chain(&error)
        );
    }
    installed.record(&record("1.2.0", &["mine"])).unwrap();
    assert_eq!(
        installed.owner("mine"),
        Some("widgets 1.2.0 (registry+oci://a.b/widgets)")
    );
    assert_eq!(installed.owner("else"), Some("else 1.0.0 (path+file:///x)"));
    let found = installed.packages();
    assert_eq!(found.len(), 1);
    installed.remove(&found[0].key).unwrap();
    assert!(!scratch.path().join("root/bin/mine").exists());
    drop(installed);
    let details = fs::read_to_string(scratch.path().join("root/.crates2.json")).unwrap();
    assert_eq!(details, r#"{"installs":{}}"#);
    // The record has the default mode of new files.
    let root = scratch.path().join("root");
    fs::write(root.join("plain"), "").unwrap();
    let permissions = |name: &str| fs::metadata(root.join(name)).unwrap().permissions();
    assert_eq!(permissions(DETAILS), permissions("plain"));
}

#[cfg(unix)]
#[tokio::test]
async fn records_that_are_a_fifo_are_rejected() {
    for name in [RECORDS, DETAILS] {
        let scratch = TestDirectory::new();
        let path = scratch.path().join("root").join(name);
        fs::create_dir(scratch.path().join("root")).unwrap();
        let status = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(status.unwrap().success());
        let opened = InstalledPackages::open(scratch.path().join("root"), |_| ()).await;
        let error = opened.unwrap_err();
        assert_eq!(error_kind(&error), ErrorKind::Io);
        assert!(
            error_chain(&error).contains(name),
            "{}",
            error_chain(&error)
        );
    }
}

#[tokio::test]
async fn open_waits_for_lock_and_reads_new_records() {
    let scratch = TestDirectory::new();
    let mut first = open(&scratch).await;
    let root = scratch.path().join("root");
    let (sender, waiting) = tokio::sync::oneshot::channel();
    let second = tokio::spawn(InstalledPackages::open(root, |_| sender.send(()).unwrap()));
    waiting.await.unwrap();
    first.record(&record("1.0.0", &["one"])).unwrap();
    drop(first);
    let second = second.await.unwrap().unwrap();
    assert!(second.owner("one").is_some());
}

/// Opens a record file as cargo does.
fn open_as_cargo(path: &Path) -> File {
    let mut options = OpenOptions::new();
    options.read(true).write(true).open(path).unwrap()
}

#[tokio::test]
async fn records_of_process_that_waits_for_lock_are_kept() {
    let scratch = TestDirectory::new();
    let root = scratch.path().join("root");
    let mut first = open(&scratch).await;
    first.record(&record("1.0.0", &["one"])).unwrap();
    let mut files = [RECORDS, DETAILS].map(|name| open_as_cargo(&root.join(name)));
    let cargo = std::thread::spawn(move || {
        let texts = files.each_mut().map(|file| {
            file.lock().unwrap();
            io::read_to_string(file).unwrap()
        });
        let foreign = "\"else 1.0.0 (path+file:///x)\" = [\"two\"]\n";
        let records = texts[0].clone() + foreign;
        for (mut file, text) in files.iter().zip([&records, &texts[1]]) {
            file.rewind().unwrap();
            file.set_len(0).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        }
    });
    first.record(&record("1.1.0", &["one"])).unwrap();
    drop(first);
    cargo.join().unwrap();
    let installed = open(&scratch).await;
    assert_eq!(installed.owner("two"), Some("else 1.0.0 (path+file:///x)"));
    let packages = installed.packages();
    assert_eq!(packages.len(), 1);
    assert_eq!(packages[0].version, "1.1.0");
}

#[tokio::test]
async fn unchanged_records_are_not_written() {
    let scratch = TestDirectory::new();
    let root = scratch.path().join("root");
    let modified = || {
        [RECORDS, DETAILS].map(|name| fs::metadata(root.join(name)).unwrap().modified().unwrap())
    };
    let mut installed = open(&scratch).await;
    installed.record(&record("1.0.0", &["one"])).unwrap();
    for name in [RECORDS, DETAILS] {
        let file = open_as_cargo(&root.join(name));
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
    }
    installed.record(&record("1.0.0", &["one"])).unwrap();
    assert_eq!(modified(), [std::time::UNIX_EPOCH; 2]);
    installed.record(&record("1.1.0", &["one"])).unwrap();
    assert!(modified().iter().all(|time| *time > std::time::UNIX_EPOCH));
}

#[cfg(unix)]
#[tokio::test]
async fn records_that_are_symbolic_links_remain_links() {
    let scratch = TestDirectory::new();
    let root = scratch.path().join("root");
    fs::create_dir(&root).unwrap();
    for name in [RECORDS, DETAILS] {
        scratch.write(&format!("dotfiles/{name}"), "");
        let target = Path::new("../dotfiles").join(name);
        std::os::unix::fs::symlink(target, root.join(name)).unwrap();
    }
    let mut installed = open(&scratch).await;
    installed.record(&record("1.0.0", &["one"])).unwrap();
    for name in [RECORDS, DETAILS] {
        assert!(root.join(name).is_symlink());
        let text = fs::read_to_string(scratch.path().join("dotfiles").join(name)).unwrap();
        assert!(text.contains("widgets 1.0.0"), "{text}");
    }
}

#[test]
fn install_root_has_the_same_precedence_as_in_cargo() {
    let scratch = TestDirectory::new();
    let mut environment = scratch.environment();
    environment
        .variables
        .remove(std::ffi::OsStr::new("CARGO_HOME"));
    environment
        .variables
        .insert("HOME".into(), "/home/me".into());
    let root = |environment: &CargoEnvironment, flag: Option<&str>| {
        install_root(environment, flag.map(Path::new)).unwrap()
    };
    let here = scratch.path();
    assert_eq!(root(&environment, None), Path::new("/home/me/.cargo"));
    environment
        .variables
        .insert("CARGO_HOME".into(), "own".into());
    assert_eq!(root(&environment, None), here.join("own"));
    scratch.write(".cargo/config.toml", "[install]\nroot = \"tools\"\n");
    assert_eq!(root(&environment, None), here.join("tools"));
    environment
        .variables
        .insert("CARGO_INSTALL_ROOT".into(), "/opt".into());
    assert_eq!(root(&environment, None), Path::new("/opt"));
    assert_eq!(root(&environment, Some("flag")), here.join("flag"));
    scratch.write(".cargo/config.toml", "install = 1");
    environment
        .variables
        .remove(std::ffi::OsStr::new("CARGO_INSTALL_ROOT"));
    let error = install_root(&environment, None).unwrap_err();
    assert_eq!(error_kind(&error), ErrorKind::InvalidInput);
}

#[test]
fn recorded_source_of_installed_package_is_registry_url() {
    let here = Path::new("/here");
    let reference = "127.0.0.1:5000/acme/widgets:1.2.3".parse().unwrap();
    assert_eq!(
        source_of(&Location::Registry(reference), here).as_deref(),
        Some("registry+oci://127.0.0.1:5000/acme/widgets")
    );
    assert_eq!(
        source_of(&Location::layout("out/my widgets"), here).as_deref(),
        Some("registry+file:///here/out/my%20widgets")
    );
}

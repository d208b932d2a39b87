//! Shell completions and man pages.

use std::fs;

use e2e::program::Home;
use e2e::require;
use e2e::terminal::Terminal;
use e2e::testbed::program_path;

#[test]
fn bash_completes_subcommands_and_flags() {
    let home = Home::new();
    let script = home.cargo_oci(["completions", "bash"]).succeeds().stdout;
    fs::write(home.path().join("completions"), script).unwrap();
    let complete = |words: &str, at: usize| {
        let last = words.rsplit(' ').next().unwrap();
        let line = format!(
            "source ./completions; COMP_WORDS=({words}); COMP_CWORD={at}; \
             _cargo__oci cargo-oci {last} x; echo \"${{COMPREPLY[@]}}\""
        );
        home.bash(&line).succeeds().stdout.trim().to_owned()
    };
    assert_eq!(complete("cargo-oci who", 1), "whoami");
    assert_eq!(
        complete("cargo-oci push --message-f", 2),
        "--message-format"
    );
    assert_eq!(complete("cargo-oci completions nu", 2), "nushell");
}

#[test]
fn nushell_completions_define_externs() {
    require!(Nu);
    let home = Home::new();
    let script = home.cargo_oci(["completions", "nushell"]).succeeds().stdout;
    fs::write(home.path().join("completions.nu"), script).unwrap();
    let known = home.nu("source completions.nu; scope externs | get name | str join ' '");
    let known = known.succeeds().stdout;
    for command in ["cargo-oci", "cargo-oci push", "cargo-oci whoami"] {
        assert!(known.contains(command), "{known}");
    }
    home.cargo_oci(["completions", "tcsh"])
        .outcome()
        .code
        .filter(|code| *code == 2)
        .unwrap();
}

#[test]
fn man_writes_all_pages_or_prints_one() {
    let home = Home::new();
    home.cargo_oci(["man", "--output", "share/man1"]).succeeds();
    let directory = home.path().join("share/man1");
    let mut pages: Vec<_> = fs::read_dir(&directory)
        .unwrap()
        .map(|page| page.unwrap().file_name().into_string().unwrap())
        .collect();
    pages.sort();
    for page in ["cargo-oci.1", "cargo-oci-push.1", "cargo-oci-index-add.1"] {
        assert!(pages.contains(&page.to_owned()), "{pages:?}");
    }
    let written = fs::read_to_string(directory.join("cargo-oci-push.1")).unwrap();
    let printed = home.cargo_oci(["man", "push"]).succeeds().stdout;
    assert_eq!(printed, written);
    let version = r#".TH CARGO-OCI-PUSH 1  "cargo-oci 0.1.0" "Cargo OCI Manual""#;
    assert!(printed.contains(version), "{printed}");
    home.cargo_oci(["man", "pusj"]).fails_with(2);
}

#[test]
fn man_on_terminal_runs_man_or_prints_the_page() {
    let home = Home::new();
    let bin = home.path().join("bin");
    fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(program_path("cargo-oci"), bin.join("cargo-oci")).unwrap();
    let show = || {
        let line = format!("PATH={}; exec cargo-oci man push", bin.display());
        let (code, _, output) = Terminal::start(&home.bash(&line)).wait_for_end();
        assert_eq!(code, Some(0), "{output}");
        output
    };
    let page = home.cargo_oci(["man", "push"]).succeeds().stdout;
    assert!(show().starts_with(page.lines().next().unwrap()));
    let man = "#!/bin/sh\necho \"$*\" >arguments\n/bin/cat >page\n";
    fs::write(bin.join("man"), man).unwrap();
    fs::set_permissions(
        bin.join("man"),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    assert_eq!(show(), "");
    let read = |name: &str| fs::read_to_string(home.path().join(name)).unwrap();
    assert_eq!((read("arguments"), read("page")), ("-l -\n".into(), page));
    let left = fs::read_dir(home.path().join("tmp")).unwrap();
    assert_eq!(left.count(), 0);
}

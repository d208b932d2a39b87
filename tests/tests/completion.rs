//! Completion of `cargo oci` in real shells, together with cargo's own completion.

use std::fs;

use e2e::program::Home;
use e2e::require;
use e2e::testbed::Tool;

/// Writes a completion script to a file in the home directory.
fn write_script(home: &Home, shell: &str, path: &str) {
    let script = home.cargo_oci(["completions", shell]).succeeds().stdout;
    let path = home.path().join(path);
    fs::create_dir_all(path.parent().expect("a directory")).expect("it can be created");
    fs::write(path, script).expect("the script can be written");
}

/// Asserts that a completion offers the commands and flags of `cargo oci`, the values of a flag, and cargo's commands.
fn check(complete: impl Fn(&str) -> Vec<String>, has_cargo: bool) {
    for (line, expected) in [
        ("cargo oci pu", &["pull", "push"][..]),
        ("cargo oci push --message-f", &["--message-format"]),
        ("cargo oci push --message-format ", &["human", "json"]),
        ("cargo oci index as", &["assemble"]),
    ] {
        let mut offered = complete(line);
        offered.sort();
        assert_eq!(offered, expected, "{line}");
    }
    assert_eq!(
        complete("cargo bui").contains(&"build".to_owned()),
        has_cargo
    );
    let flags = complete("cargo build --rel");
    assert_eq!(flags.contains(&"--release".to_owned()), has_cargo);
}

/// Completes a line in bash: runs the registered function as bash does, again if it returns 124.
fn complete_in_bash(home: &Home, startup: &str, line: &str) -> Vec<String> {
    let words = if line.ends_with(' ') {
        format!("{line}''")
    } else {
        line.to_owned()
    };
    let script = format!(
        r#"{startup}
status=124
while ((status == 124)); do
    COMP_LINE='{line}' COMP_POINT=${{#COMP_LINE}} COMP_WORDS=({words}) COMPREPLY=()
    COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
    [[ $(complete -p cargo) =~ \ -F\ ([^ ]+) ]] || exit
    "${{BASH_REMATCH[1]}}" cargo "${{COMP_WORDS[COMP_CWORD]}}" "${{COMP_WORDS[COMP_CWORD - 1]}}"
    status=$?
done 2>/dev/null
printf '%s\n' "${{COMPREPLY[@]}}""#
    );
    let offered = home.bash(&script).succeeds().stdout;
    offered.split_whitespace().map(str::to_owned).collect()
}

/// Line that loads cargo's own completion script for bash.
const CARGO_BASH: &str = r#"source "$(rustc --print sysroot)/etc/bash_completion.d/cargo""#;

#[test]
fn bash_completes_cargo_oci_without_cargo_completion() {
    let home = Home::new();
    write_script(&home, "bash", "script");
    check(
        |line| complete_in_bash(&home, "source ./script", line),
        false,
    );
}

#[test]
fn bash_completes_cargo_oci_after_cargo_completion() {
    require!(BashCompletion);
    let home = Home::new();
    write_script(&home, "bash", "script");
    let library = Tool::BashCompletion.path();
    let startup = format!(
        "source '{}'; {CARGO_BASH}; source ./script; source ./script",
        library.display()
    );
    check(|line| complete_in_bash(&home, &startup, line), true);
}

#[test]
fn bash_loads_cargo_completion_when_it_is_needed() {
    require!(BashCompletion);
    let home = Home::new();
    write_script(&home, "bash", "script");
    let directory = home.path().join(".local/share/bash-completion/completions");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("cargo"), CARGO_BASH).unwrap();
    let library = Tool::BashCompletion.path();
    let startup = format!("source '{}'; source ./script", library.display());
    check(|line| complete_in_bash(&home, &startup, line), true);
}

/// Completes a line in an interactive zsh. Candidates are written to a file, the end of the completion to the terminal.
fn complete_in_zsh(home: &Home, line: &str) -> Vec<String> {
    let startup = r#"
fpath=(~/.zfunc ~/.zlate $fpath)
autoload -Uz compinit
compinit -D -u
bindkey '^I' complete-word
compadd() {
    if [[ ${@[1,(i)(-|--)]} != *-(O|A|D)\ * ]]; then
        local -a matching
        builtin compadd -A matching "$@"
        print -rl -- $matching >>~/offered
    fi
    builtin compadd "$@"
}
report_end() { print -n COMPLETED >/dev/tty; }
precmd() { comppostfuncs=(report_end); print -n PROMPT >/dev/tty; }
"#;
    fs::write(home.path().join(".zshrc"), startup).expect("a file of the home directory");
    fs::write(home.path().join("offered"), "").expect("a file of the home directory");
    let script = format!(
        "zmodload zsh/zpty
zpty shell {} -i
zpty -r shell output '*PROMPT*'
zpty -w -n shell '{line}'$'\\t'
zpty -r shell output '*COMPLETED*'
zpty -d shell",
        Tool::Zsh.path().display()
    );
    home.shell(Tool::Zsh, &script)
        .with("TERM", "xterm")
        .succeeds();
    let offered =
        fs::read_to_string(home.path().join("offered")).expect("a file of the home directory");
    offered.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn zsh_completes_cargo_oci_without_cargo_completion() {
    require!(Zsh);
    let home = Home::new();
    write_script(&home, "zsh", ".zfunc/_cargo-oci");
    check(|line| complete_in_zsh(&home, line), false);
}

#[test]
fn zsh_completes_cargo_oci_with_cargo_completion() {
    require!(Zsh);
    let home = Home::new();
    write_script(&home, "zsh", ".zfunc/_cargo-oci");
    let script =
        "#compdef cargo\nsource \"$(rustc --print sysroot)\"/share/zsh/site-functions/_cargo\n";
    // `compinit` registers the first function for `cargo` that it finds.
    for directory in [".zlate", ".zfunc"] {
        let directory = home.path().join(directory);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("_cargo"), script).unwrap();
        check(|line| complete_in_zsh(&home, line), true);
        fs::remove_file(directory.join("_cargo")).unwrap();
    }
}

#[test]
fn fish_completes_cargo_oci_with_cargo_completion() {
    require!(Fish);
    let home = Home::new();
    write_script(&home, "fish", ".config/fish/conf.d/cargo-oci.fish");
    let complete = |line: &str| {
        let script = format!("complete -C '{line}'");
        let offered = home.shell(Tool::Fish, &script).succeeds().stdout;
        let names = offered.lines().filter_map(|line| line.split('\t').next());
        names.map(str::to_owned).collect()
    };
    check(complete, true);
}

#[test]
fn nushell_completes_cargo_oci() {
    require!(Nu);
    let home = Home::new();
    write_script(&home, "nushell", "script.nu");
    let complete = |line: &str| {
        let script = format!(
            "source script.nu; '{line}' | commandline complete --detailed | get value | str join ' '"
        );
        let offered = home.nu_without_plugins(&script).succeeds().stdout;
        offered.split_whitespace().map(str::to_owned).collect()
    };
    check(complete, false);
}

/// A typed `extern` would parse the arguments: it would change `--plain-http=false` to `--plain-http false`.
#[test]
fn nushell_passes_arguments_of_cargo_oci_unchanged() {
    require!(Nu);
    let home = Home::new();
    write_script(&home, "nushell", "script.nu");
    fs::create_dir(home.path().join("bin")).unwrap();
    let cargo = home.path().join("bin/cargo");
    fs::write(&cargo, "#!/bin/sh\necho \"$@\"\n").unwrap();
    fs::set_permissions(&cargo, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let script = "source script.nu; $env.PATH = [$'($env.PWD)/bin' /usr/bin /bin]; cargo oci tags a.b/c --plain-http=false -x --plain-http";
    let printed = home.nu_without_plugins(script).succeeds().stdout;
    assert_eq!(
        printed,
        "oci tags a.b/c --plain-http=false -x --plain-http\n"
    );
}

//! What runs on this machine: its target triples, the best first, and the version of its glibc.
//!
//! The triples are those of `detect-targets`, which installs of programs that others built go by too. A machine with
//! glibc runs static programs as well; that is for whoever chooses to know, so that musl is not a machine of its own there.

use oci_package::{GlibcVersion, Machine};

use super::{Environment, process};

/// The machines that this one can be, the best first.
pub(crate) async fn machines(environment: &Environment) -> Vec<Machine> {
    let (mut targets, glibc) = tokio::join!(detect_targets::detect_targets(), glibc(environment));
    if cfg!(target_os = "linux") {
        targets.truncate(1);
    }
    let machine = |target: String| Machine {
        glibc: glibc.filter(|_| target.contains("-gnu")),
        target,
    };
    targets.into_iter().map(machine).collect()
}

/// The version of glibc, where there is one that says so.
async fn glibc(environment: &Environment) -> Option<GlibcVersion> {
    let mut command = process::command(environment, "getconf");
    command.arg("GNU_LIBC_VERSION");
    parse(&process::capture(command).await.ok()?)
}

fn parse(answer: &str) -> Option<GlibcVersion> {
    answer.trim().strip_prefix("glibc ")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{super::scratch::Scratch, *};

    #[test]
    fn a_version_is_read_as_getconf_says_it() {
        assert_eq!(parse("glibc 2.36\n"), Some(GlibcVersion::new(2, 36)));
        assert_eq!(parse("undefined\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn this_machine_is_one() {
        let scratch = Scratch::new();
        let machines = machines(&scratch.environment()).await;
        assert_eq!(machines.len(), 1);
        let architecture = std::env::consts::ARCH;
        assert!(machines[0].target.starts_with(architecture), "{machines:?}");
    }
}

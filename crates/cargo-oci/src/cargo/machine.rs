//! Target triples that run on this machine, the best first, and the version of its glibc.
//!
//! The triples are those of `detect-targets`, which installers of prebuilt programs use as well. A machine with glibc also
//! runs static programs; [`oci_package::find`] knows this, so musl is no separate machine there.

use std::path::Path;

use oci_package::{GlibcVersion, Machine};

/// The machines that this one can be, the best first.
pub(crate) async fn machines() -> Vec<Machine> {
    let mut targets = detect_targets::detect_targets().await;
    if cfg!(target_os = "linux") {
        targets.truncate(1);
    }
    let machine = |target: String| Machine {
        glibc: GlibcVersion::installed(Path::new("/"), &target),
        target,
    };
    targets.into_iter().map(machine).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn this_machine_is_one() {
        let machines = machines().await;
        assert_eq!(machines.len(), 1);
        let architecture = std::env::consts::ARCH;
        assert!(machines[0].target.starts_with(architecture), "{machines:?}");
    }
}

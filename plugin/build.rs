//! Passes the target triple of the build to the program. `oci pull` selects the files for this target by default.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[expect(
        clippy::disallowed_methods,
        reason = "cargo passes arguments to build scripts in environment variables"
    )]
    let target = std::env::var("TARGET").expect("cargo sets TARGET for build scripts");
    println!("cargo::rustc-env=BUILT_FOR={target}");
}

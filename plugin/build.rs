//! Sets the environment variable `BUILT_FOR` to the target triple of the build. By default, `oci pull` selects the
//! files for this target.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[expect(
        clippy::disallowed_methods,
        reason = "cargo passes arguments to build scripts in environment variables"
    )]
    let target = std::env::var("TARGET").expect("cargo sets TARGET for build scripts");
    println!("cargo::rustc-env=BUILT_FOR={target}");
}

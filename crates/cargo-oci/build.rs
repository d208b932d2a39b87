//! Sets `BUILT_FOR` to the target triple that this program is built for. `pull` and `install` use it as the default.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[expect(
        clippy::disallowed_methods,
        reason = "cargo passes the target to build scripts in a variable"
    )]
    let target = std::env::var("TARGET").expect("cargo sets `TARGET` for build scripts");
    println!("cargo::rustc-env=BUILT_FOR={target}");
}

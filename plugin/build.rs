//! Tells the program which target it was built for, which is the one it pulls for unless told otherwise.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[expect(
        clippy::disallowed_methods,
        reason = "cargo talks to build scripts in variables"
    )]
    let target = std::env::var("TARGET").expect("cargo names the target to build scripts");
    println!("cargo::rustc-env=BUILT_FOR={target}");
}

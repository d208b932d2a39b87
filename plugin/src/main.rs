//! Entry point of the plugin. The implementation is in the library.

fn main() -> std::process::ExitCode {
    nu_plugin_oci::serve()
}

//! Serves the plugin; everything else is the library's.

fn main() -> std::process::ExitCode {
    nu_plugin_oci::serve()
}

//! Serves the plugin; everything else is the library's.

fn main() {
    nu_plugin::serve_plugin(
        &nu_plugin_oci::OciPlugin::default(),
        nu_plugin::MsgPackSerializer,
    );
}

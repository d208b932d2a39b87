//! File `oci-layout` of a layout (image-spec, `image-layout.md`, "oci-layout file").

use serde::{Deserialize, Serialize};

/// Supported version of the layout format.
pub(crate) const VERSION: &str = "1.0.0";

/// Content of the `oci-layout` file.
#[derive(Serialize, Deserialize)]
pub(crate) struct Marker {
    #[serde(rename = "imageLayoutVersion")]
    pub(crate) version: String,
}

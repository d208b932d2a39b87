#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oci_registry::fuzzing::check_credentials(data));

# Shortcuts for developers. CI calls the same scripts.

# List the recipes.
default:
    @just --list

# Build both programs and run all tests, with real registries and Nushell.
test:
    ./tests/run

# Run rustfmt, clippy, rustdoc, and the license and spelling checks whose tools are installed.
lint:
    ./tests/checks format lint docs fuzz licenses spelling

# Check the dependencies of the core.
features:
    ./tests/checks features

# Run everything that CI runs. A released version is immutable, so the registry is emptied first.
ci:
    rm -rf target/oci
    CI=true .ci/run

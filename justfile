# The one door for a developer. CI calls the same scripts.

# What there is.
default:
    @just --list

# Builds both programs and runs every test, against real registries and a real Nushell.
test:
    ./tests/run

# Format, clippy, rustdoc, and the licenses and spelling checks whose tools are there.
lint:
    ./tests/checks format lint docs fuzz licenses spelling

# What the core may not pull.
features:
    ./tests/checks features

# What CI does. A version that is out keeps its files, so a change needs an empty registry.
ci:
    rm -rf target/oci
    CI=true .ci/run

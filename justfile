# Shortcuts for developers. CI calls the same scripts.

# List the recipes.
default:
    @just --list

# Build both programs and run all tests, with real registries and Nushell.
test:
    ./tests/run

# Run the checks of CI. Those whose tools are not installed are skipped.
lint:
    ./tests/checks

# Run everything that CI runs. A released version is immutable, so the registry is emptied first.
ci:
    rm -rf target/oci
    CI=true .ci/run


# Completes `cargo oci` like `cargo-oci`, and all other commands with cargo's own completion, which calls this function
# with `oci` as the first word.
_cargo-oci() {
    if [[ $service == cargo && $words[1] != oci ]]; then
        local at=2
        while [[ $words[at] == [+-]* ]]; do
            ((at++))
        done
        if [[ $words[at] != oci ]] || ((CURRENT <= at)); then
            if (($+functions[_cargo])); then
                _cargo
            else
                _default
            fi
            return
        fi
        shift $((at - 1)) words
        ((CURRENT -= at - 1))
    fi
    _cargo-oci_main
}

if [ "$funcstack[1]" = "_cargo-oci" ]; then
    _cargo-oci "$@"
else
    compdef _cargo-oci cargo-oci cargo
fi


# Completes `cargo oci` like `cargo-oci`, and all other commands with cargo's own completion.
_cargo_oci_after_cargo() {
    local at=1
    while [[ ${COMP_WORDS[at]} == [+-]* ]]; do
        ((at++))
    done
    if [[ ${COMP_WORDS[at]} == oci ]] && ((at < COMP_CWORD)); then
        COMP_WORDS=(cargo-oci "${COMP_WORDS[@]:at+1}")
        ((COMP_CWORD -= at))
        compopt -o bashdefault -o default 2>/dev/null
        _cargo__oci cargo-oci "$2" "$3"
    elif [[ -n ${_cargo_oci_other-} ]]; then
        "$_cargo_oci_other" "$@"
    elif [[ -z ${_cargo_oci_loaded-} ]]; then
        # bash-completion loads the completion of a command only if the command has none.
        _cargo_oci_loaded=true
        complete -r cargo
        if [[ $(complete -p -D 2>/dev/null) =~ \ -F\ ([^ ]+) ]]; then
            "${BASH_REMATCH[1]}" cargo
        fi
        _cargo_oci_register
        return 124 # bash starts this completion again
    fi
}

# Registers the function for `cargo`, with the options of the function that is registered now.
_cargo_oci_register() {
    local registered
    registered=$(complete -p cargo 2>/dev/null)
    if [[ $registered == *_cargo_oci_after_cargo* ]]; then
        return
    elif [[ $registered =~ \ -F\ ([^ ]+) ]]; then
        _cargo_oci_other=${BASH_REMATCH[1]}
        eval "${registered/ -F $_cargo_oci_other / -F _cargo_oci_after_cargo }"
    else
        complete -F _cargo_oci_after_cargo -o bashdefault -o default cargo
    fi
}
_cargo_oci_register

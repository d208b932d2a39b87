
# Prints the words after `cargo oci`, and fails for other commands of cargo.
function __fish_cargo_oci_after_cargo
    set -l words (commandline -opc)[2..-1]
    while string match -qr '^[+-]' -- $words[1]
        set -e words[1]
    end
    test "$words[1]" = oci
    and string escape -- $words[2..-1]
    or test "$words" = oci
end

# Completes `cargo oci` like `cargo-oci`.
function __fish_cargo_oci_complete
    set -l words cargo-oci (__fish_cargo_oci_after_cargo) (commandline -ct)
    complete -C "$words"
end
complete -c cargo -n '__fish_cargo_oci_after_cargo >/dev/null' -f -a '(__fish_cargo_oci_complete)'


# Completes `cargo oci` like `cargo-oci`. The arguments are untyped, so Nushell passes them to cargo unchanged.
def "nu-complete cargo oci" [words: list<string>] {
  let line = $"cargo-oci ($words | skip 1 | str join ' ')"
  $line | commandline complete --detailed | each {|found|
    let value = $found.value | str replace --regex '^cargo-oci (.* )?' ''
    {value: $value, description: ($found.description? | default '')}
  }
}

@complete "nu-complete cargo oci"
export extern "cargo oci" [...arguments: string]

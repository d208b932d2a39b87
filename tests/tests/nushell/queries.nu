# Queries of a registry with fifty repositories and two thousand tags.
# `queries.rs` pushes the content, runs this script and checks the results.

let registry = $env.REGISTRY
let app = $"($registry)/team-a/app-0"
let mirror = $"($registry)/mirror"

let queries = {
    "how many repositories are there": {||
        oci catalog $registry | length
    }
    "how many has each team": {||
        oci catalog $registry
        | group-by {|row| $row.name | split row / | first }
        | transpose team apps
        | update apps { length }
    }
    "how many tags are there in all": {||
        oci catalog $registry | oci tags | length
    }
    "which repositories have anything new since 19 March": {||
        oci catalog $registry
        | oci tags --long
        | where created >= 2026-03-19
        | get repository
        | uniq
        | length
    }
    "what are the newest tags": {||
        oci tags $app --long | sort-by created name --reverse | first 5 | get name
    }
    "how much is stored": {||
        oci tags $app --long
        | where platforms not-has linux/amd64
        | uniq-by digest
        | get size
        | math sum
        | into int
    }
    "which releases are large and old": {||
        oci tags $app --long
        | where size > 100kB and created < 2026-01-01T12:00:00Z
        | get name
        | sort
    }
    "how many releases were there each day": {||
        oci tags $app --long
        | where name starts-with '1.'
        | group-by {|tag| $tag.created | format date '%F' }
        | transpose day releases
        | update releases { length }
        | sort-by day
    }
    "which tags are one and the same": {||
        oci tags $app --long
        | group-by digest --to-table
        | where ($it.items | length) > 1
        | each {|group| $group.items.name | sort }
    }
    "which files does each release have": {||
        let manifests = oci tags $app | where name starts-with '1.0.' | oci manifest
        oci tags $app --long
        | where name starts-with '1.0.'
        | select name digest
        | join $manifests digest
        | each {|row| {name: $row.name, files: $row.layers.title} }
        | sort-by name
        | first 2
    }
    "which version is the latest of each team": {||
        oci catalog $registry
        | where name ends-with app-0
        | each {|row| oci inspect $"($row.reference):latest" }
        | select name version
    }
    "what is the highest release of a team's repositories": {||
        oci catalog $registry
        | where name starts-with team-b/
        | oci inspect
        | group-by version
        | transpose version apps
        | update apps { length }
    }
    "for which platforms is the nightly": {||
        oci manifest $"($app):nightly" | get manifests.platform
    }
    "which version is the nightly for ARM": {||
        oci inspect $"($app):nightly" --platform linux/arm64 | get version
    }
    "what are three of the tags": {||
        oci tags $app | first 3 | length
    }
    "is a layer what its digest says": {||
        let layer = oci manifest $"($app):1.0.0" | get layers | first
        $layer.digest == $"sha256:(oci blob $layer.reference | hash sha256)"
    }
    "which files does a pull write": {||
        let pulled = oci pull $"($app):1.0.1" --output pulled
        $pulled
        | select kind size
        | insert written {|row| ls pulled | get size | first | $in == $row.size }
        | update size { into int }
    }
    "what does mirroring a team's latest do": {||
        oci catalog $registry
        | where name starts-with team-c/
        | oci tags
        | where name == latest
        | oci copy $"($mirror)/"
        | get action
        | uniq --count
    }
    "and doing it again": {||
        oci catalog $registry
        | where name starts-with team-c/
        | oci tags
        | where name == latest
        | oci copy $"($mirror)/"
        | get action
        | uniq --count
    }
    "has the mirror the same digests": {||
        let digests = {|prefix|
            0..9 | each {|n| oci manifest $"($prefix)/team-c/app-($n):latest" | get digest }
        }
        (do $digests $mirror) == (do $digests $registry)
    }
    "can a release be promoted": {||
        oci tag $"($mirror)/team-c/app-1:latest" stable latest | select action
    }
    "what would go with the releases of the first hours": {||
        oci tags $app --long
        | where created < 2026-01-01T03:00:00Z
        | oci delete --dry-run
        | insert name {|row| $row.reference | split row : | last }
        | select name action
        | sort-by name
    }
    "is it all still there": {||
        oci tags $app | length
    }
    "what goes with a tag": {||
        let gone = oci tags $"($mirror)/team-c/app-1" | where name == stable | oci delete
        {gone: $gone.action, left: (oci tags $"($mirror)/team-c/app-1").name}
    }
    "what went wrong": {||
        [$"($registry)/none" "no reference" "127.0.0.1:1/none" $"($app):1.0.0"]
        | each {|name|
            try { oci tags $name --retries 0 | collect | ignore } catch {|e| $e.details.code }
        }
    }
    "which word of a list was wrong": {||
        try { [$app "ghcr.io/acme/Widgets"] | oci tags } catch {|e|
            {help: $e.details.help, label: $e.details.labels.0.text}
        }
    }
}

$queries
| items {|question ask| {question: $question, answer: (do $ask)} }
| to json --raw

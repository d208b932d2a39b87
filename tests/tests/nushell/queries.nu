# Queries of a registry with fifty repositories and two thousand tags.
# `queries.rs` pushes the content, runs this script and checks the results.

let registry = $env.REGISTRY
let app = $"($registry)/team-a/app-0"
let mirror = $"($registry)/mirror"

let queries = {
    "number of repositories": {||
        oci catalog $registry | length
    }
    "repositories of each team": {||
        oci catalog $registry
        | group-by {|row| $row.name | split row / | first }
        | transpose team apps
        | update apps { length }
    }
    "number of tags": {||
        oci catalog $registry | oci tags | length
    }
    "repositories with tags since 19 March": {||
        oci catalog $registry
        | oci tags --long
        | where created >= 2026-03-19
        | get repository
        | uniq
        | length
    }
    "newest tags": {||
        oci tags $app --long | sort-by created name --reverse | first 5 | get name
    }
    "total size": {||
        oci tags $app --long
        | where platforms not-has linux/amd64
        | uniq-by digest
        | get size
        | math sum
        | into int
    }
    "large and old releases": {||
        oci tags $app --long
        | where size > 100kB and created < 2026-01-01T12:00:00Z
        | get name
        | sort
    }
    "releases of each day": {||
        oci tags $app --long
        | where name starts-with '1.'
        | group-by {|tag| $tag.created | format date '%F' }
        | transpose day releases
        | update releases { length }
        | sort-by day
    }
    "tags of the same manifest": {||
        oci tags $app --long
        | group-by digest --to-table
        | where ($it.items | length) > 1
        | each {|group| $group.items.name | sort }
    }
    "files of each release": {||
        let manifests = oci tags $app | where name starts-with '1.0.' | oci manifest
        oci tags $app --long
        | where name starts-with '1.0.'
        | select name digest
        | join $manifests digest
        | each {|row| {name: $row.name, files: $row.layers.title} }
        | sort-by name
        | first 2
    }
    "latest version of each team": {||
        oci catalog $registry
        | where name ends-with app-0
        | each {|row| oci inspect $"($row.reference):latest" }
        | select name version
    }
    "highest releases of a team": {||
        oci catalog $registry
        | where name starts-with team-b/
        | oci inspect
        | group-by version
        | transpose version apps
        | update apps { length }
    }
    "platforms of nightly": {||
        oci manifest $"($app):nightly" | get manifests.platform
    }
    "version of nightly for ARM": {||
        oci inspect $"($app):nightly" --platform linux/arm64 | get version
    }
    "first three tags": {||
        oci tags $app | first 3 | length
    }
    "digest of a layer matches": {||
        let layer = oci manifest $"($app):1.0.0" | get layers | first
        $layer.digest == $"sha256:(oci blob $layer.reference | hash sha256)"
    }
    "files of a pull": {||
        let pulled = oci pull $"($app):1.0.1" --output pulled
        $pulled
        | select kind size
        | insert written {|row| ls pulled | get size | first | $in == $row.size }
        | update size { into int }
    }
    "copies of the latest releases of a team": {||
        oci catalog $registry
        | where name starts-with team-c/
        | oci tags
        | where name == latest
        | oci copy $"($mirror)/"
        | get action
        | uniq --count
    }
    "repeated copies": {||
        oci catalog $registry
        | where name starts-with team-c/
        | oci tags
        | where name == latest
        | oci copy $"($mirror)/"
        | get action
        | uniq --count
    }
    "digests of copies match": {||
        let digests = {|prefix|
            0..9 | each {|n| oci manifest $"($prefix)/team-c/app-($n):latest" | get digest }
        }
        (do $digests $mirror) == (do $digests $registry)
    }
    "additional tag of a release": {||
        oci tag $"($mirror)/team-c/app-1:latest" stable latest | select action
    }
    "dry run of deletion of the first releases": {||
        oci tags $app --long
        | where created < 2026-01-01T03:00:00Z
        | oci delete --dry-run
        | insert name {|row| $row.reference | split row : | last }
        | select name action
        | sort-by name
    }
    "tags after the dry run": {||
        oci tags $app | length
    }
    "deletion of a tag": {||
        let gone = oci tags $"($mirror)/team-c/app-1" | where name == stable | oci delete
        {gone: $gone.action, left: (oci tags $"($mirror)/team-c/app-1").name}
    }
    "error codes": {||
        [$"($registry)/none" "no reference" "127.0.0.1:1/none" $"($app):1.0.0"]
        | each {|name|
            try { oci tags $name --retries 0 | collect | ignore } catch {|e| $e.details.code }
        }
    }
    "label of an invalid list item": {||
        try { [$app "ghcr.io/acme/Widgets"] | oci tags } catch {|e|
            {help: $e.details.help, label: $e.details.labels.0.text}
        }
    }
}

$queries
| items {|query run| {query: $query, result: (do $run)} }
| to json --raw

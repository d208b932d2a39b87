"""Command line for the Python library of oras, which has none: `push`, `pull` and `copy` over plain HTTP.

`copy` transfers the bytes of a manifest unchanged: a manifest that is parsed and serialized again has another digest.
"""

import json
import os
import sys
import tempfile

import oras.client
import oras.defaults

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def raw_manifest(client, container):
    url = f"{client.prefix}://{container.manifest_url()}"
    answer = client.do_request(url, "GET", headers={"Accept": MANIFEST})
    answer.raise_for_status()
    return answer.content


def copy(client, source, target):
    source, target = client.get_container(source), client.get_container(target)
    manifest = raw_manifest(client, source)
    parsed = json.loads(manifest)
    with tempfile.TemporaryDirectory() as directory:
        for number, blob in enumerate([parsed["config"], *parsed["layers"]]):
            path = os.path.join(directory, str(number))
            client.download_blob(source, blob["digest"], path)
            client.upload_blob(path, target, blob).raise_for_status()
    url = f"{client.prefix}://{target.manifest_url()}"
    answer = client.do_request(url, "PUT", data=manifest, headers={"Content-Type": MANIFEST})
    answer.raise_for_status()


def main(verb, *arguments):
    client = oras.client.OrasClient(insecure=True)
    if verb == "push":
        target, *files = arguments
        client.push(target=target, files=files, quiet=True)
    elif verb == "pull":
        source, directory = arguments
        client.pull(target=source, outdir=directory, allowed_media_type=[MANIFEST])
    elif verb == "copy":
        copy(client, *arguments)
    elif verb == "help":
        print(__doc__)
    else:
        sys.exit(f"error: unknown verb `{verb}`: expected push, pull or copy")


main(*sys.argv[1:])

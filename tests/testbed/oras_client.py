"""Command line for the Python library of oras, which has no command line: `push`, `pull` and `copy` over plain HTTP.

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
    response = client.do_request(url, "GET", headers={"Accept": MANIFEST})
    response.raise_for_status()
    return response.content


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
    response = client.do_request(url, "PUT", data=manifest, headers={"Content-Type": MANIFEST})
    response.raise_for_status()


def main(command, *arguments):
    client = oras.client.OrasClient(insecure=True)
    if command == "push":
        target, *files = arguments
        client.push(target=target, files=files, quiet=True)
    elif command == "pull":
        source, directory = arguments
        client.pull(target=source, outdir=directory, allowed_media_type=[MANIFEST])
    elif command == "copy":
        copy(client, *arguments)
    elif command == "help":
        print(__doc__)
    else:
        sys.exit(f"error: unknown command `{command}`: expected push, pull or copy")


main(*sys.argv[1:])

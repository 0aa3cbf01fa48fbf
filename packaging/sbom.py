#!/usr/bin/env python3
"""Prints what is linked into the files of one target, as a CycloneDX bill of materials (JSON, version 1.5).

    packaging/sbom.py TARGET

Libraries are named by their package URL, with the checksum that Cargo.lock has. Test and build tools are
left out: they are not in the files.
"""
import datetime
import json
import os
import subprocess
import sys
import tomllib

OURS = ("mosquitto-auth0", "cli", "mosquitto-ctrl-auth0")


def output(*command):
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout


def linked(node):
    """Returns the IDs of the packages that are linked into a package: no build scripts' and no tests'."""
    return [d["pkg"] for d in node["deps"] if any(kind["kind"] is None for kind in d["dep_kinds"])]


def compiled(target):
    """Returns (name, version) of what is compiled into our files. `cargo metadata` would add what tests switch on."""
    ours = [word for name in OURS for word in ("-p", name)]
    options = ("--target", target, "--edges", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}")
    lines = output("cargo", "tree", "--locked", *ours, *options).splitlines()
    return {(words[0], words[1].removeprefix("v")) for words in map(str.split, lines) if words}


def main(target):
    metadata = json.loads(output("cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target))
    with open("Cargo.lock", "rb") as lock:
        checksums = {(p["name"], p["version"]): p.get("checksum") for p in tomllib.load(lock)["package"]}
    packages = {p["id"]: p for p in metadata["packages"]}
    nodes = {n["id"]: n for n in metadata["resolve"]["nodes"]}
    ours = {p["name"]: p["id"] for p in metadata["packages"] if p["source"] is None}

    def reference(package_id):
        package = packages[package_id]
        return f"pkg:cargo/{package['name']}@{package['version']}"

    def component(package_id):
        package = packages[package_id]
        made = {
            "type": "library",
            "bom-ref": reference(package_id),
            "name": package["name"],
            "version": package["version"],
            "purl": reference(package_id),
        }
        if package["license"]:
            # Older manifests write a slash for OR.
            made["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
        if checksum := checksums.get((package["name"], package["version"])):
            made["hashes"] = [{"alg": "SHA-256", "content": checksum}]
        if package["repository"]:
            made["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
        return made

    main_id = ours["mosquitto-auth0"]
    names = compiled(target)
    in_it = {i for i, package in packages.items() if (package["name"], package["version"]) in names}
    date = datetime.datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), datetime.timezone.utc)
    root = component(main_id) | {"type": "application"}
    depends = {reference(i): sorted(reference(d) for d in linked(nodes[i]) if d in in_it) for i in in_it}
    # The module and the tool are in the package as the plugin is.
    depends[reference(main_id)] = sorted(
        set(depends[reference(main_id)]) | {reference(ours[name]) for name in OURS if name != "mosquitto-auth0"}
    )
    bom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": date.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": root,
            "properties": [
                {"name": "target", "value": target},
                {"name": "rustc", "value": output("rustc", "--version").strip()},
            ],
        },
        "components": sorted((component(i) for i in in_it if i != main_id), key=lambda c: c["bom-ref"]),
        "dependencies": [{"ref": ref, "dependsOn": depends[ref]} for ref in sorted(depends)],
    }
    print(json.dumps(bom, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    main(sys.argv[1])

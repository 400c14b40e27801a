"""Reads a compose file and prints what a shell can check, a fact a line: `service NAME`, `needs SERVICE`, `image NAME`, `setting PROGRAM NAME`,
`variable NAME`, `file PATH`, `address SERVICE ADDRESS`, `redis SERVICE --OPTION VALUE...`."""

import pathlib
import re
import shlex
import sys

import yaml

path = pathlib.Path(sys.argv[1])
text = path.read_text(encoding="utf-8")
compose = yaml.safe_load(text)

for name, service in compose["services"].items():
    print("service", name)
    for needed in service.get("depends_on", {}):
        print("needs", needed)
    build = service.get("build")
    if not build:
        print("image", service["image"])
    if build:
        print("file", path.parent / build["context"] / build["dockerfile"])
        for setting in service["environment"]:
            print("setting", service["command"][0], setting)
    server = re.search(r"exec redis-server \S+ (.*)", str(service.get("command", [""])[-1]), re.DOTALL)
    if server:
        print("redis", name, *shlex.split(server[1].replace("\\\n", "")))
    networks = service.get("networks", {})
    if "default" in networks:
        print("address", name, networks["default"]["ipv4_address"])
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        if source.startswith("."):
            print("file", path.parent / source)
        elif source not in compose["volumes"]:
            sys.exit(f"{name} uses the volume {source}, which is not declared")

# Compose reads $VAR and ${VAR...} as variables, and $$ as a dollar for the container.
for variable in sorted(set(re.findall(r"\$\{?(\w+)", text.replace("$$", "")))):
    print("variable", variable)

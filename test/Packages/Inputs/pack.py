"""pack.py SOURCE FOLDER: packs small files as scripts/package.py packs the programs, and prints what the tarball and the wheel hold."""
import base64
import csv
import hashlib
import sys
import tarfile
import zipfile
from pathlib import Path

sys.dont_write_bytecode = True
source, out = Path(sys.argv[1]), Path(sys.argv[2])
sys.path.insert(0, str(source / "scripts"))
import package


def link(build, folder, scratch):
    for name in package.PROGRAMS + package.MODULES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


package.link_programs, package.closure = link, lambda roots: {"libZoptCompiler.so": roots[0]}
folder = out / "zopt-0-linux"
package.licences(folder, package.gather(out, folder, out))
package.write_tarball(folder, out / "zopt.tar.xz", 0)
package.write_wheel(folder, out / "zopt.whl", "0", 1)

with tarfile.open(out / "zopt.tar.xz") as tar:
    for entry in tar:
        if entry.isfile():
            print(entry.name.removeprefix("zopt-0-linux/"), f"{entry.mode:o}")
with zipfile.ZipFile(out / "zopt.whl") as wheel:
    record = {row[0]: row[1] for row in csv.reader(wheel.read("zopt-0.dist-info/RECORD").decode().splitlines())}
    hashes = {name: "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(wheel.read(name)).digest()).rstrip(b"=").decode() for name in wheel.namelist() if not name.endswith("RECORD")}
    hashes["zopt-0.dist-info/RECORD"] = ""
    print("wheel: every file with its hash" if record == hashes else f"wheel: {set(record.items()) ^ set(hashes.items())}")
    for entry in wheel.infolist():
        print("wheel:", entry.filename, f"{entry.external_attr >> 16 & 0o777:o}")

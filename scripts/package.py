#!/usr/bin/env python3
"""What scripts/package.sh does: links zopt and zrun as scripts/gpu-bundle.sh does, LLVM and MLIR from their archives, gathers the libraries they need, and writes a tarball and a wheel."""
import argparse
import base64
import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

from gpu_bundle import MIB, MODULES, PROGRAMS, ROOT, closure, die, link_programs, run, say

# Of the machine that packs, which must be the oldest that is served.
PLATFORM = "manylinux_2_36_x86_64"


def version():
    return re.search(r"project\(zopt VERSION (\S+)", (ROOT / "CMakeLists.txt").read_text()).group(1)


def gather(build, folder, scratch):
    """bin and lib, with every library that the programs and modules need, found through $ORIGIN alone, and the scripts that zrun starts. Gives where the libraries came from."""
    link_programs(build, folder, scratch)
    libraries = closure([folder / name for name in PROGRAMS + MODULES])
    for name, path in libraries.items():
        if name != "libZoptCompiler.so":
            target = folder / "lib" / name
            shutil.copyfile(path, target)
            run("strip", "--strip-unneeded", target)
            # A library that was found here beside others must not go looking elsewhere there.
            if re.search(r"\((RPATH|RUNPATH)\)", run("readelf", "-dW", target)):
                die(f"{path} has a run path of its own")
    (folder / "share/zopt").mkdir(parents=True)
    shutil.copyfile(ROOT / "scripts/wandb_bridge.py", folder / "share/zopt/wandb_bridge.py")  # of zrun --wandb
    for path in [*(folder / "bin").iterdir(), *(folder / "lib").iterdir()]:
        path.chmod(0o755 if path.parent.name == "bin" else 0o644)
    return [path for name, path in libraries.items() if name != "libZoptCompiler.so"]


def owner(path):
    """The Debian package that a library came with."""
    for candidate in (path, Path("/usr") / str(path).lstrip("/"), Path(str(path).removeprefix("/usr"))):
        done = subprocess.run(["dpkg", "-S", str(candidate)], capture_output=True, text=True)
        if done.returncode == 0:
            return done.stdout.split(":")[0]
    return None


def licences(folder, libraries):
    """What the bundled libraries' packages say of their licences, beside ours."""
    target = folder / "share/doc/zopt"
    target.mkdir(parents=True)
    shutil.copyfile(ROOT / "LICENSE", target / "LICENSE")
    shutil.copyfile(ROOT / "README.md", target / "README.md")
    packages = {"libllvm22", "libmlir-22"}  # linked in
    for path in libraries:
        packages.add(owner(path) or die(f"no package owns {path}"))
    for package in sorted(packages):
        text = Path("/usr/share/doc") / package / "copyright"
        if text.exists():
            (target / "licenses").mkdir(exist_ok=True)
            shutil.copyfile(text, target / "licenses" / f"{package}.txt")
        else:
            say(f"{package}: no copyright file here")


def write_tarball(folder, path, preset):
    with tarfile.open(path.with_suffix(""), "w") as tar:
        for file in sorted(folder.rglob("*")):
            info = tar.gettarinfo(file, f"{folder.name}/{file.relative_to(folder).as_posix()}")
            info.uid = info.gid = 0
            info.uname = info.gname = "root"
            if file.is_file():
                with open(file, "rb") as content:
                    tar.addfile(info, content)
            else:
                tar.addfile(info)
    with open(path, "wb") as target:
        if subprocess.run(["xz", "-c", "-T0", "--x86", f"--lzma2=preset={preset},dict=64MiB", path.with_suffix("")], stdout=target).returncode:
            die(f"xz failed on {path.with_suffix('')}")
    path.with_suffix("").unlink()


STARTER = '''"""The two programs of zopt, as pip installs them: each starts the program of its name that lies beside this file."""
import os
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def _start(name):
    program = FOLDER / "bin" / name
    os.execv(program, [str(program), *sys.argv[1:]])


def zopt():
    _start("zopt")


def zrun():
    _start("zrun")
'''


def write_wheel(folder, path, version, level):
    """Its files are those of the tarball below zopt/, python/zopt_data, and what pip wants to know."""
    info = f"zopt-{version}.dist-info"
    records = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as wheel:
        def add(name, content, mode=0o644):
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = (0o100000 | mode) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            wheel.writestr(entry, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            records.append(f"{name},sha256={digest},{len(content)}")
        for part in ("bin", "lib", "share"):
            for file in sorted((folder / part).rglob("*")):
                if file.is_file():
                    name = file.relative_to(folder).as_posix()
                    name = f"{info}/{name.removeprefix('share/doc/zopt/')}" if name.startswith("share/doc/") else f"zopt/{name}"
                    add(name, file.read_bytes(), 0o755 if part == "bin" else 0o644)
        add("zopt/__init__.py", STARTER.encode())
        for file in sorted((ROOT / "python/zopt_data").glob("*.py")):
            add(f"zopt_data/{file.name}", file.read_bytes())
        add(f"{info}/METADATA", "\n".join([
            "Metadata-Version: 2.1", "Name: zopt", f"Version: {version}", "Summary: Compiles ONNX models into distributed training steps, and runs them", "License: Apache-2.0 WITH LLVM-exception",
            "Requires-Python: >=3.9", "Provides-Extra: data", 'Requires-Dist: tokenizers>=0.20; extra == "data"', 'Requires-Dist: jinja2>=3.1; extra == "data"', "Description-Content-Type: text/markdown", "",
            (ROOT / "README.md").read_text()]).encode())
        add(f"{info}/WHEEL", f"Wheel-Version: 1.0\nGenerator: zopt\nRoot-Is-Purelib: false\nTag: py3-none-{PLATFORM}\n".encode())
        add(f"{info}/entry_points.txt", b"[console_scripts]\nzopt = zopt:zopt\nzrun = zopt:zrun\n")
        wheel.writestr(zipfile.ZipInfo(f"{info}/RECORD", (1980, 1, 1, 0, 0, 0)), "\n".join([*records, f"{info}/RECORD,,", ""]))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--preset", type=int, default=6, help="of the compression, 1 to 9")
    args = parser.parse_args()
    for program in PROGRAMS + MODULES:
        if not (args.build / program).exists():
            die(f"{args.build / program} does not exist: build it first (scripts/setup.sh)")
    begin, name = time.time(), f"zopt-{version()}-linux-x86_64"
    args.output.mkdir(parents=True, exist_ok=True)
    for old in (*args.output.glob("zopt-*"),):
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    folder = args.output / name
    with tempfile.TemporaryDirectory(dir=args.output) as scratch:
        libraries = gather(args.build, folder, Path(scratch))
    licences(folder, libraries)
    linked = time.time()
    tarball, wheel = args.output / f"{name}.tar.xz", args.output / f"zopt-{version()}-py3-none-{PLATFORM}.whl"
    write_tarball(folder, tarball, args.preset)
    write_wheel(folder, wheel, version(), args.preset)
    files = [p for p in folder.rglob("*") if p.is_file()]
    say(f"{len(files)} files, {sum(p.stat().st_size for p in files) / MIB:.1f} MiB: " + ", ".join(f"{p.name} {p.stat().st_size / MIB:.1f}" for p in sorted(files, key=lambda p: -p.stat().st_size)[:6]))
    for path in (tarball, wheel):
        say(f"{path}: {path.stat().st_size / MIB:.1f} MiB")
    say(f"linked in {linked - begin:.0f} s, packed in {time.time() - linked:.0f} s")
    shutil.rmtree(folder)


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    main()

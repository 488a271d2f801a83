#!/usr/bin/env python3
"""What scripts/gpu-bundle.sh does: packs zopt, zrun and their libraries for a machine that has none of them, and unpacks them there."""
import argparse
import ctypes
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MIB = 1 << 20

# Never packed: the C and C++ runtimes (the other machine's are as new or newer), MPI with all that only it needs, and what belongs to the driver.
SYSTEM = re.compile(r"^(ld-linux.*|lib(c|m|dl|rt|pthread|resolv|util|stdc\+\+|gcc_s|mpi|cuda|cudart|cublas.*|cudnn.*|nccl|nvidia.*))\.so")
PROGRAMS = ("bin/zopt", "bin/zrun", "lib/libZoptCompiler.so")
MODULES = ("lib/libZoptMpi.so", "lib/libZoptGloo.so")  # which zrun loads when it needs them
TARGETS = ("X86", "NVPTX")  # what plans are compiled for
GRAPHS = ("gpt2-124m", "gpt2-355m", "gpt2-1.5b", "llama-1.1b")


def die(text):
    sys.exit(f"{Path(sys.argv[0]).name}: error: {text}")


def say(text):
    print(f"==> {text}", flush=True)


def run(*command, **options):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **options)
    if done.returncode:
        die(f"{' '.join(map(str, command))[:300]} failed: {done.stderr.strip()[-3000:]}")
    return done.stdout


# ---------------------------------------------------------------------------------------------------------------------
# ELF files
# ---------------------------------------------------------------------------------------------------------------------

def needed(path):
    return re.findall(r"\(NEEDED\).*\[(.*)\]", run("readelf", "-dW", path))


def resolved(path):
    """{soname: file} of all that the loader would load for `path` here."""
    return dict(re.findall(r"^\s*(\S+) => (/\S+)", run("ldd", path), re.M))


def closure(roots):
    """{soname: file} of every library that `roots` need, directly or not, but for SYSTEM ones and what only those need."""
    found, todo, files = {}, list(roots), {}
    for root in roots:
        files.update(resolved(root))
    while todo:
        for name in needed(todo.pop()):
            if SYSTEM.match(name) or name in found:
                continue
            if name not in files:
                die(f"{name} is needed, but the loader does not find it here")
            found[name] = Path(files[name]).resolve()
            todo.append(found[name])
    return found


# ---------------------------------------------------------------------------------------------------------------------
# Linking
# ---------------------------------------------------------------------------------------------------------------------

def write_target_stubs(llvm, folder):
    """Defines the initializers of LLVM's targets other than TARGETS as empty functions, and Polly's, so that their archives are left out."""
    others = [t for t in run(llvm / "bin/llvm-config", "--targets-built").split() if t not in TARGETS]
    source = folder / "targets.c"
    text = "".join(f"void LLVMInitialize{target}{part}(void) {{}}\n" for target in others for part in ("TargetInfo", "Target", "TargetMC", "AsmPrinter", "AsmParser", "Disassembler"))
    # lld's optimization at link time, which nothing asks for, names Polly's entry: getPollyPluginInfo().
    source.write_text(text + "void _Z18getPollyPluginInfov(void) { __builtin_trap(); }\n")
    run("clang-22", "-O1", "-fPIC", "-c", source, "-o", folder / "targets.o")
    return folder / "targets.o"


def link(build, target, output, extra):
    """Repeats the build's own link of `target` into `output`, with `extra` in the place of the shared LLVM and MLIR and the bundle's run path."""
    lines = run("ninja", "-C", build, "-t", "commands", target).splitlines()
    command = [word for word in shlex.split(lines[-1]) if word not in (":", "&&")] if lines else []
    if "-o" not in command:
        die(f"{build}: no command that links {target}")
    command[command.index("-o") + 1] = str(output)
    command = [word for word in command if not re.search(r"/lib(MLIR|LLVM)[^/]*\.so|^-Wl,-rpath", word)]
    command += [*extra, "-Wl,-rpath,$ORIGIN/../lib", "-Wl,--disable-new-dtags", "-Wl,--as-needed", "-Wl,--strip-all", "-Wl,--build-id"]
    run(*command, cwd=build)


def link_programs(build, folder, scratch):
    """zopt, zrun and the compiler library into folder/bin and folder/lib. LLVM and MLIR are linked in from their archives: what is not called stays behind."""
    (folder / "bin").mkdir(parents=True)
    (folder / "lib").mkdir()
    llvm = Path("/usr/lib/llvm-22")
    archives = sorted(a for kind in ("MLIR", "LLVM") for a in (llvm / "lib").glob(f"lib{kind}*.a") if "Test" not in a.name)
    if not archives:
        die(f"{llvm}/lib has no archives of LLVM and MLIR")
    exports = scratch / "exports.map"
    exports.write_text("{ global: zoptCompile; _ZN4zopt8zoptMainEiPPc; local: *; };\n")
    library = folder / "lib/libZoptCompiler.so"
    link(build, "lib/libZoptCompiler.so", library, [write_target_stubs(llvm, scratch), "-Wl,--start-group", *archives, "-Wl,--end-group", "-lz", "-lzstd", "-Wl,--gc-sections",
                                                    f"-Wl,--version-script={exports}", "-Wl,-z,defs"])
    link(build, "bin/zopt", folder / "bin/zopt", [f"-L{folder / 'lib'}"])
    link(build, "bin/zrun", folder / "bin/zrun", ["-Wl,--gc-sections"])
    for module in MODULES:
        link(build, module, folder / module, ["-Wl,--gc-sections"])


# ---------------------------------------------------------------------------------------------------------------------
# Packing
# ---------------------------------------------------------------------------------------------------------------------

def pack(folder, archive, jobs):
    """Every file below `folder` as one .tar.xz, with the filter for x86 code."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    total = sum(p.stat().st_size for p in files)
    plain = archive.with_suffix("")
    with tarfile.open(plain, "w") as tar:
        for path in files:
            info = tar.gettarinfo(path, path.relative_to(folder).as_posix())
            info.uid = info.gid = 0
            info.uname = info.gname = ""
            with open(path, "rb") as content:
                tar.addfile(info, content)
    temporary = archive.with_suffix(".tmp")
    with open(plain, "rb") as source, open(temporary, "wb") as target:
        if subprocess.run(["xz", "-c", f"-T{jobs}", "--block-size=64MiB", "--x86", "--lzma2=preset=6,dict=64MiB"], stdin=source, stdout=target).returncode:
            die(f"xz failed on {plain}")
    plain.unlink()
    temporary.rename(archive)
    say(f"{archive.name}: {len(files)} files, {total / MIB:.1f} MiB as {archive.stat().st_size / MIB:.1f} MiB")


def digest(things):
    return hashlib.sha256(json.dumps(things, sort_keys=True, default=str).encode()).hexdigest()[:12]


def graph_folders(given):
    return [p for p in [given, ROOT / "test/Graphs", *sorted(ROOT.parent.glob("*/graphs"))] if p and p.is_dir()]


def make(args):
    bundle, build = args.bundle, args.build
    for program in PROGRAMS + MODULES:
        if not (build / program).exists():
            die(f"{build / program} does not exist: build it first (scripts/setup.sh)")
    bundle.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=bundle.parent) as scratch:
        scratch = Path(scratch)
        folder = scratch / "programs"
        link_programs(build, folder, scratch)
        for name in GRAPHS:
            for place in graph_folders(args.graphs):
                if (place / f"{name}.onnx").exists():
                    (folder / "graphs").mkdir(exist_ok=True)
                    shutil.copyfile(place / f"{name}.onnx", folder / "graphs" / f"{name}.onnx")
                    break
            else:
                say(f"{name}.onnx is nowhere here: left out")
        libraries = closure([folder / name for name in PROGRAMS + MODULES])
        libraries.pop("libZoptCompiler.so", None)
        pack(folder, bundle / "programs.tar.xz", args.jobs)

        # The distribution's libraries: packed again only where one has changed.
        archive = bundle / f"libraries-{digest([[name, path, path.stat().st_size, path.stat().st_mtime] for name, path in sorted(libraries.items())])}.tar.xz"
        for old in [*bundle.glob("*.tmp"), *bundle.glob("*.tar"), *bundle.glob("libraries-*.tar.xz")]:
            if old != archive:
                old.unlink()
        if archive.exists():
            say(f"{archive.name}: as it was, {archive.stat().st_size / MIB:.1f} MiB")
        else:
            target = scratch / "libraries/lib"
            target.mkdir(parents=True)
            for name, path in libraries.items():
                shutil.copyfile(path, target / name)
                run("strip", "--strip-unneeded", target / name)
            pack(target.parent, archive, args.jobs)
    total = sum(p.stat().st_size for p in bundle.iterdir())
    say(f"{bundle}: {total / MIB:.1f} MiB in {len(list(bundle.iterdir()))} files")


def unpack(args):
    begin = time.time()
    archives = sorted(args.bundle.glob("*.tar.xz"), key=lambda p: -p.stat().st_size)
    if not archives:
        die(f"no bundle in {args.bundle}: scripts/gpu-bundle.sh makes one")
    args.unpack.mkdir(parents=True, exist_ok=True)
    running = [subprocess.Popen(["tar", "-x", "-C", args.unpack, "-J", "-f", archive]) for archive in archives]
    if any([process.wait() for process in running]):
        die(f"an archive of {args.bundle} could not be unpacked")
    say(f"unpacked {', '.join(a.name for a in archives)} into {args.unpack} in {time.time() - begin:.1f} s")


def check(args):
    """Which libraries would come from elsewhere: SYSTEM ones and MPI's own may, others may not."""
    folder, bad, foreign = args.check.resolve(), [], set()
    mpi = set(resolved(next(iter(re.findall(r"libmpi\.so\.\S+ => (\S+)", run("ldd", folder / MODULES[0]))), folder / MODULES[0])))
    for path in [folder / name for name in PROGRAMS + MODULES]:
        text = run("ldd", path)
        bad += [f"{path.name}: {name} is found nowhere" for name in re.findall(r"^\s*(\S+) => not found", text, re.M)]
        for name, place in re.findall(r"^\s*(\S+) => (/\S+)", text, re.M):
            if folder in Path(place).parents or folder in Path(place).resolve().parents:
                continue
            foreign.add(name)
            if not SYSTEM.match(name) and not (path == folder / MODULES[0] and name in mpi):
                bad.append(f"{path.name}: {name} comes from {place}")
    for program in ("zopt", "zrun"):
        run(folder / "bin" / program, "--help", env={"PATH": os.environ.get("PATH", "")})
    say(f"from this machine: {', '.join(sorted(foreign))}")
    if bad:
        die("\n  ".join(["libraries that a bundle must bring:", *sorted(set(bad))]))


def programs(args):
    """Calls the compiler library as zrun does; the cache it fills is keyed by the plan's text, the world, the threads, the target and the compiler."""
    library = args.build / "lib/libZoptCompiler.so"
    compile_plan = ctypes.CDLL(str(library)).zoptCompile
    compile_plan.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.POINTER(ctypes.c_char_p), ctypes.POINTER(ctypes.c_char_p)]
    cache = args.build.parent / "gpu-programs"
    for plan in args.programs:
        program, error = ctypes.c_char_p(), ctypes.c_char_p()
        options = {"world_size": args.nproc, "threads": args.threads, "target": args.target}
        if compile_plan(str(plan).encode(), json.dumps(options).encode(), str(cache).encode(), ctypes.byref(program), ctypes.byref(error)):
            die(error.value.decode())
        say(f"{plan} -> {program.value.decode()}")


def main():
    parser = argparse.ArgumentParser(prog="gpu-bundle.sh", description=__doc__)
    parser.add_argument("--build", type=Path, default=ROOT / "build/release", help="where zopt and zrun were built")
    parser.add_argument("--bundle", type=Path, default=ROOT / "build/gpu-bundle", help="the bundle's folder")
    parser.add_argument("--graphs", type=Path, help="a folder with the benchmarks' graphs (also looked for: test/Graphs, and folders called graphs beside the checkout)")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--unpack", type=Path, metavar="DIR")
    parser.add_argument("--check", type=Path, metavar="DIR")
    parser.add_argument("--programs", type=Path, nargs="+", metavar="PLAN")
    parser.add_argument("--nproc", type=int, default=1, help="of --programs")
    parser.add_argument("--threads", type=int, default=1, help="of --programs")
    parser.add_argument("--target", default="cuda", help="of --programs")
    args = parser.parse_args()
    (unpack if args.unpack else check if args.check else programs if args.programs else make)(args)


if __name__ == "__main__":
    main()

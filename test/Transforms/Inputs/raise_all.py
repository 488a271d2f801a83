"""raise_all.py FOLDER EXPORTER PIPELINE: runs the pipeline over the exporter's files of expansions.tar.xz and prints their names and train ops, without constants and reads."""
import subprocess
import sys
import tarfile
from pathlib import Path

folder, exporter, pipeline = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
with tarfile.open(Path(__file__).with_name("expansions.tar.xz")) as archive:
    names = [name for name in archive.getnames() if name.endswith(f".{exporter}.onnx")]
    for name in names:
        (folder / Path(name).name).write_bytes(archive.extractfile(name).read())
for name in names:
    done = subprocess.run(["zopt", f"--pass-pipeline={pipeline}", str(folder / Path(name).name)], capture_output=True, text=True)
    print(f"// {name.split('.')[0]}" + (f" failed: {done.stderr}" if done.returncode else ""))
    for line in done.stdout.splitlines():
        operation = line.partition("= train.")[2]
        if operation and not operation.startswith(("constant", "read_state")):
            print(f"train.{operation}")
    print("return")

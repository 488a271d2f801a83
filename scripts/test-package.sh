#!/usr/bin/env bash
# Tests what scripts/package.sh has written, as an ordinary user who has no build of zopt: the tarball in a bare Debian 12 (debootstrap, or the folder that is given), without MPI, and
# the wheel in a virtual environment. Each compiles the example at stage 3 and trains it on 4 ranks, as threads and by --launcher=env. Needs root for the bare system; without it that
# part is left out, and said to be.
#
#   scripts/test-package.sh [ROOTFS]
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
packages="$root/build/package"
tarball=$(ls "$packages"/zopt-*.tar.xz) wheel=$(ls "$packages"/zopt-*.whl) || die "nothing is packed: run scripts/package.sh"
example="$root/examples/gpt2-text"
passed=0

# What an ordinary user types; $1 is a folder that is theirs, with the example in it. Prints the last loss of each way.
read -r -d '' session <<'SESSION' || :
set -e
cd "$1"
export HOME="$1" XDG_CACHE_HOME="$1/cache"
zopt --zero-stage=3 --bf16 --micro-batch=1 --lr=3e-3 --clip=1 model.onnx -o plan.mlir
zrun plan.mlir --comm=local --nproc 4 --data text.txt --shuffle --steps 10 --threads 1 --metrics local.jsonl --weights-out local.safetensors 2>log || { cat log; exit 1; }
pids=
for rank in 0 1 2 3; do
  RANK=$rank WORLD_SIZE=4 MASTER_ADDR=127.0.0.1 MASTER_PORT=29517 zrun plan.mlir --launcher=env --data text.txt --shuffle --steps 10 --threads 1 --metrics env.jsonl --weights-out env.safetensors 2>log$rank &
  pids="$pids $!"
done
for pid in $pids; do wait $pid || { cat log?; exit 1; }; done
cmp local.safetensors env.safetensors
zrun plan.mlir --nproc 2 --data text.txt --steps 1 2>log && { echo "ranks started without MPI"; exit 1; }
tail -n 2 local.jsonl | head -n 1
grep -h error: log
SESSION

say "the wheel, in a virtual environment as nobody"
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
chmod 755 "$place"
mkdir "$place/home"
cp "$example/model.onnx" "$example/text.txt" "$place/home"
begin=$(date +%s)
interpreter=/usr/bin/python3 # one that other users may run
"$interpreter" -c 'import ensurepip' 2>/dev/null || interpreter=python3
"$interpreter" -m venv "$place/venv"
"$place/venv/bin/pip" install -q --no-index "$wheel"
say "pip install: $(($(date +%s) - begin)) s"
as_user=()
if [ "$(id -u)" = 0 ]; then
  chown -R 65534:65534 "$place/home"
  as_user=(setpriv --reuid=65534 --regid=65534 --clear-groups)
fi
# This machine may have mpirun; the user of the test does not.
mkdir "$place/bin"
for tool in bash sh cat cmp tail head grep ls python3; do ln -s "$(command -v $tool)" "$place/bin/$tool"; done
# Who cannot run the interpreter where it lies stays who packed.
[ ${#as_user[@]} = 0 ] || "${as_user[@]}" "$place/venv/bin/python" -c '' 2>/dev/null || { say "the interpreter is not for other users: stays root"; as_user=(); }
"${as_user[@]}" env -i PATH="$place/venv/bin:$place/bin" bash -c "$session" session "$place/home"
"$place/venv/bin/python" -c 'import zopt_data'
passed=$((passed + 1))

if [ "$(id -u)" != 0 ]; then
  say "skipped: the bare system (needs root)"
else
  rootfs=${1:-$root/build/package/rootfs}
  if [ ! -e "$rootfs/bin/sh" ]; then
    command -v debootstrap >/dev/null || die "debootstrap is not installed, and no root file system is given"
    say "debootstrap of Debian 12 into $rootfs"
    debootstrap --variant=minbase bookworm "$rootfs" >"$packages/debootstrap.log" 2>&1 || { tail -5 "$packages/debootstrap.log" >&2; die "debootstrap failed"; }
  fi
  say "the tarball, in a bare Debian $(cat "$rootfs/etc/debian_version") as uid 1000"
  home="$rootfs/home/user"
  rm -rf "$home"
  mkdir -p "$home"
  begin=$(date +%s.%N)
  # The user unpacks it; xz is not part of the bare system.
  xz -dc "$tarball" | tar -x -C "$home"
  say "unpacked in $(awk "BEGIN {printf \"%.1f\", $(date +%s.%N) - $begin}") s: $(du -sm "$home" | cut -f1) MiB"
  cp "$example/model.onnx" "$example/text.txt" "$home"
  chown -R 1000:1000 "$home"
  folder=$(basename "$tarball" .tar.xz)
  unshare --mount --pid --fork --net bash -c '
    ip link set lo up
    mount -t proc proc "$1/proc"
    exec chroot --userspec=1000:1000 "$1" /usr/bin/env -i PATH="/home/user/$2/bin:/usr/bin:/bin" bash -c "$3" session /home/user' bare "$rootfs" "$folder" "$session"
  passed=$((passed + 1))
fi
echo "$passed passed, 0 failed"

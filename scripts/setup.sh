#!/usr/bin/env bash
# Installs what zopt needs (Debian 12; as root) or checks that it is there, then builds build/release. Asks nothing; running it again is quick.
#
#   scripts/setup.sh [TARGET...]      ninja targets (default: zopt and zrun; `all` builds the tests too)
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

missing_packages() {
  local package
  for package in "${packages[@]}"; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || :)" = installed ] || printf '%s\n' "$package"
  done
}

command -v dpkg-query >/dev/null || die "this script knows Debian 12; elsewhere install the counterparts of: ${packages[*]}, then run cmake --preset release && ninja -C build/release"
mapfile -t missing < <(missing_packages)
if [ ${#missing[@]} -gt 0 ]; then
  [ "$(id -u)" = 0 ] || die "missing packages (install them as root): apt-get install ${missing[*]}"
  say "installing ${#missing[@]} packages: ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -q </dev/null
  apt-get install -q -y --no-install-recommends "${missing[@]}" </dev/null
else
  say "all ${#packages[@]} packages are installed"
fi

# A build folder that CMake made for another place or compiler cannot be used: start afresh.
if [ -f "$build/CMakeCache.txt" ] && ! grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$root" "$build/CMakeCache.txt"; then
  say "removing $build: it was configured for another checkout"
  rm -rf "$build"
fi
say "configuring $build"
cmake -S "$root" --preset release -DPython3_EXECUTABLE="$(command -v "$(find_python)")"
say "building with $(jobs) jobs"
[ $# -gt 0 ] || set -- zopt zrun
ninja -C "$build" -j "$(jobs)" "$@"
say "built $build/bin/zopt and $build/bin/zrun"

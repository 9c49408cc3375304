#!/usr/bin/env bash
# Installs twinseal with all it needs into .venv, hash-checked from the lock files. Run from the repository's root:
#
#   bash requirements/install.sh             install, or do nothing when the locks have not changed since
#   bash requirements/install.sh --with-spark   with Spark too (460 MB), for validation.engine: spark; it then stays
#   bash requirements/install.sh --dry-run   say what either build of torch would bring; install neither
#
# torch's CPU build (0.2 GB) is taken when pip or uv knows a folder or an index that has it; PyPI's own (with CUDA,
# about 3 GB) otherwise. Set TWINSEAL_TORCH=cpu or =cuda to say which.
set -euo pipefail
python=${PYTHON:-python3.11}
locks=requirements
venv=.venv
stamp=$venv/.twinseal-installed

say() { printf '\033[1m%s\033[0m\n' "$*" >&2; }

command -v "$python" >/dev/null || { say "twinseal needs Python 3.11: expected '$python' on the PATH, found none"; exit 2; }
if [ ! -x "$venv/bin/uv" ]; then
  say "making $venv, with uv in it"
  "$python" -m venv "$venv"
  "$venv/bin/python" -m pip install -qq --disable-pip-version-check --require-hashes -r $locks/uv.lock
fi
uv="$venv/bin/uv"
# uv does not read pip's configuration; a folder of wheels named there, or in PIP_FIND_LINKS, is looked into all the same.
links=${PIP_FIND_LINKS:-$("$python" -m pip config get global.find-links 2>/dev/null || true)}
export UV_FIND_LINKS=${UV_FIND_LINKS:-$(printf '%s' "$links" | tr -s ' \n' ',,')}
export UV_PYTHON=$venv/bin/python VIRTUAL_ENV=
# Nor the certificates: what the system trusts is trusted here.
export UV_SYSTEM_CERTS=1

guard_dvc() { # DVC loads pickles from its site cache: before it starts, any Python of .venv makes that private
  local packages
  packages=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  # A copy: what runs before DVC must not change with the branch that is checked out.
  cp src/twinseal/trust/root/private_folders.py "$packages/twinseal_dvc_guard.py"
  printf 'import twinseal_dvc_guard; twinseal_dvc_guard.guard()\n' >"$packages/twinseal_dvc_guard.pth"
  "$venv/bin/python" -c ''
  # Where versions before this one had it, inside the checkout.
  rm -rf .dvc-site
  if grep -qs site_cache_dir .dvc/config.local; then "$venv/bin/dvc" config --quiet --local --unset core.site_cache_dir; fi
}

resolves() { # resolves BUILD: whether every file of that build's locks is to be had with the hash that its lock says
  "$uv" pip install --quiet --dry-run --reinstall --no-deps --require-hashes -r "$locks/torch-$1.lock" 2>&1
}

if [ "${1:-}" = --dry-run ]; then
  status=0
  for build in cpu cuda; do
    if why=$(resolves $build); then say "torch, $build build: can be installed, hashes as locked"
    else say "torch, $build build: not to be had here"; printf '%s\n' "$why" | head -n 5 >&2; [ $build = cpu ] || status=1; fi
  done
  exit $status
fi

build=${TWINSEAL_TORCH:-}
if [ -z "$build" ] && [ -f "$stamp" ]; then build=$(head -n 1 "$stamp"); fi
if [ -z "$build" ]; then
  if resolves cpu >/dev/null; then build=cpu; else
    build=cuda
    say "no CPU build of torch is to be had here: taking PyPI's own, which brings CUDA (about 3 GB to download)"
  fi
fi
spark=
if [ "${1:-}" = --with-spark ] || grep -qsx spark "$stamp"; then spark=$locks/spark.lock; fi
want=$(printf '%s\n' "$build"; cat $locks/core.lock "$locks/torch-$build.lock" $spark pyproject.toml | sha256sum
  ${spark:+echo spark})
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ]; then guard_dvc; exit 0; fi
say "installing the locked packages (torch: $build build)"
"$uv" pip sync --quiet --compile-bytecode --require-hashes $locks/uv.lock $locks/core.lock "$locks/torch-$build.lock"
# Spark is built here, from source with its jars in it: by the locked setuptools, which is there now.
if [ "$spark" ]; then "$uv" pip install --quiet --no-deps --no-build-isolation --require-hashes -r $spark; fi
"$uv" pip install --quiet --no-deps --no-build-isolation --offline --editable .
guard_dvc
printf '%s\n' "$want" >"$stamp"

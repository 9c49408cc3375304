#!/usr/bin/env bash
# Makes the lock files anew. Run from the repository's root, with uv on the PATH:  bash requirements/lock.sh
#
# One lock for CPU and CUDA builds of torch cannot carry hashes for both, so there are several:
#   core.lock        everything but torch (pipeline, twin, and the developers' tools)
#   torch-cpu.lock   torch's CPU build; needs a folder or index that has it (UV_FIND_LINKS, or pip's find-links)
#   torch-cuda.lock  PyPI's own build of torch and the CUDA packages that it pulls
#   spark.lock       Spark for validation, which few want and which is 460 MB: install.sh --with-spark
#   twin.lock        twinseal[twin] alone: Linux, x86-64 and aarch64, Python 3.11 to 3.13; the versions of core.lock
#   service.lock     likewise twinseal[service]: what the twin's container and systemd unit install
# and uv.lock, for the installer itself.
set -euo pipefail
torch=2.13.0
compile=(uv pip compile --quiet --generate-hashes --no-header --no-annotate --python-version 3.11 "$@")
here=requirements
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
# What is locked stays, unless a requirement says otherwise, or `bash requirements/lock.sh --upgrade` is given.
cp "$here"/*.lock "$tmp"
export UV_FIND_LINKS=${UV_FIND_LINKS:-$(pip config get global.find-links 2>/dev/null || true)}

echo "torch==$torch+cpu" >"$tmp/cpu.in"
echo "torch==$torch" >"$tmp/cuda.in"
"${compile[@]}" pyproject.toml --extra service --extra pipeline --extra server --extra sql --extra dask --group dev \
  --constraint "$tmp/cpu.in" --no-emit-package torch --output-file "$tmp/core.lock"
# A folder of wheels publishes no hashes, so the wheel that will be installed is hashed here.
pip download --quiet --no-deps --dest "$tmp/wheel" "torch==$torch+cpu"
wheel=$(ls "$tmp"/wheel/torch-*.whl)
printf 'torch==%s+cpu \\\n    --hash=sha256:%s\n' "$torch" "$(sha256sum "$wheel" | cut -d' ' -f1)" >"$tmp/torch-cpu.lock"
# The CUDA build's own packages, at versions that agree with the core lock, less what the core lock already holds.
mapfile -t skip < <(sed -nE 's/^([a-z0-9._-]+)==.*/--no-emit-package=\1/p' "$tmp/core.lock")
UV_FIND_LINKS= "${compile[@]}" "$tmp/cuda.in" --constraint <(grep -oE '^[a-z0-9._-]+==[^ ]+' "$tmp/core.lock") \
  "${skip[@]}" --output-file "$tmp/torch-cuda.lock"
"${compile[@]}" pyproject.toml --extra spark --constraint <(grep -oE '^[a-z0-9._-]+==[^ ]+' "$tmp/core.lock") \
  "${skip[@]}" --no-emit-package torch --output-file "$tmp/spark.lock"
for extra in twin service; do
  "${compile[@]}" pyproject.toml --extra $extra --universal --no-emit-package colorama \
    --constraint <(grep -oE '^[a-z0-9._-]+==[^ ]+' "$tmp/core.lock") --output-file "$tmp/$extra.lock"
done
echo "uv" | "${compile[@]}" - --output-file "$tmp/uv.lock"
mv "$tmp"/*.lock "$here/"

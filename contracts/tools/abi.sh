#!/bin/sh
# Writes abi/<Name>.json, {"abi": [...], "bytecode": "0x…"}, from what forge compiles.
# With --check it writes nothing and exits 1 if a committed file differs.
set -eu
cd "$(dirname "$0")/.."

mode=${1:-write}
case $mode in
write | --check) ;;
*)
    echo "usage: tools/abi.sh [--check]" >&2
    exit 64
    ;;
esac

forge=node_modules/@foundry-rs/forge-linux-amd64/bin/forge
if [ ! -x "$forge" ]; then
    echo "no forge at contracts/$forge: run npm ci in contracts/" >&2
    exit 69
fi
"$forge" build --quiet src

exec node - "$mode" <<'EOF'
const fs = require("fs");
const names = ["TestDollar", "LineageRegistry", "RoyaltyPool", "PaymentChannels", "UsageLedger"];
const check = process.argv[2] === "--check";
fs.mkdirSync("abi", { recursive: true });
let stale = 0;
for (const name of names) {
  const { abi, bytecode } = JSON.parse(fs.readFileSync(`out/${name}.sol/${name}.json`, "utf8"));
  const text = JSON.stringify({ abi, bytecode: bytecode.object }, null, 1) + "\n";
  const file = `abi/${name}.json`;
  const committed = fs.existsSync(file) ? fs.readFileSync(file, "utf8") : "";
  if (committed === text) continue;
  if (check) {
    console.error(`contracts/${file} is not what forge compiles: run contracts/tools/abi.sh and commit it`);
    stale += 1;
  } else {
    fs.writeFileSync(file, text);
    console.error(`wrote contracts/${file}`);
  }
}
process.exitCode = stale === 0 ? 0 : 1;
EOF

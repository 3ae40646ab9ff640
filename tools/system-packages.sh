#!/usr/bin/env bash
# Installs the Debian packages that the tests use, as root; otherwise says which are missing.
set -euo pipefail
declare -A needs=(
    [podman]=podman [runc]=runc [mmdebstrap]=mmdebstrap [nft]=nftables [iptables]=iptables [ip]=iproute2 [sudo]=sudo
    [ssh]=openssh-client [chromium]=chromium [cc]=gcc [c++]=g++ [git]=git [gpg]=gnupg
)
missing=()
for command in "${!needs[@]}"; do
    command -v "$command" >/dev/null || missing+=("${needs[$command]}")
done
[ -x /usr/lib/podman/netavark ] || missing+=(netavark)
[ -x /usr/lib/podman/aardvark-dns ] || missing+=(aardvark-dns)
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null || missing+=(postgresql)
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "Missing, so some tests will be skipped: ${missing[*]}" >&2
    exit 0
fi
echo "Installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null

#!/bin/sh
# Builds dist/bise_VERSION_ARCH.deb: bise in a virtual environment of the system's Python, installable without a network.
#   build.sh PIP: the pip to fill it with.
set -eu
umask 022
pip=$1 python=/usr/bin/python3
cd "$(dirname "$0")/../.."
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"

home=$root/opt/bise
"$python" -m venv --without-pip "$home"
"$pip" --python "$home/bin/python" install --quiet --disable-pip-version-check --no-compile \
    --constraint constraints.txt '.[daemon,cpu]'

# It was filled here and is going to run in /opt/bise.
rm -f "$home"/bin/activate* "$home"/bin/Activate.ps1
find "$home/bin" -type f -exec sed -i '1s|^#!.*/opt/bise/bin/python.*|#!/opt/bise/bin/python3|' {} +
sed -i '/^command = /d' "$home/pyvenv.cfg"
find "$home" -name direct_url.json -delete
"$home/bin/python" -m bise deploy install --root "$root" --prefix /usr --command /usr/bin/bise >/dev/null
mkdir -p "$root/usr/bin"
ln -s /opt/bise/bin/bise "$root/usr/bin/bise"
# The daemon can't write there: without bytecode, each start would compile everything.
find "$home" -name __pycache__ -type d -prune -exec rm -rf {} +
"$home/bin/python" -m compileall -q -j 0 -s "$root" --invalidation-mode unchecked-hash "$home/lib"

version=$("$home/bin/python" -c 'from importlib.metadata import version; print(version("bise"))')
architecture=$(dpkg --print-architecture)
minor=$("$python" -c 'import sys; print(sys.version_info.minor)')
mkdir "$root/DEBIAN"
cat >"$root/DEBIAN/control" <<CONTROL
Package: bise
Version: $version
Architecture: $architecture
Maintainer: the maintainers of bise <bise@localhost>
Installed-Size: $(du -sk --exclude=DEBIAN "$root" | cut -f1)
Depends: python3 (>= 3.$minor), python3 (<< 3.$((minor + 1)))
Recommends: systemd
Section: net
Priority: optional
Description: Mistral-class language models on edge boxes
 The daemon, bised.service, and the command bise.
CONTROL
echo /etc/bise/bise.yaml >"$root/DEBIAN/conffiles"
cp deploy/deb/postinst deploy/deb/prerm deploy/deb/postrm "$root/DEBIAN/"
chmod 755 "$root/DEBIAN/postinst" "$root/DEBIAN/prerm" "$root/DEBIAN/postrm"

mkdir -p dist
dpkg-deb --root-owner-group -Zzstd -z9 --build "$root" dist

# Read by scripts/test: installs what the tests need and this computer has not, and says so.
# It uses `stop` of that script. Versions are pinned in requirements.txt and package-lock.json.

has() {
    command -v "$1" >/dev/null
}

find_browser() {
    command -v chromium || command -v chromium-browser || command -v google-chrome
}

# What is missing of Debian's packages.
packages=()
has curl || packages+=(curl)
has wget || packages+=(wget)
has wrk || packages+=(wrk)
has slowhttptest || packages+=(slowhttptest)
has ip || packages+=(iproute2)
has openssl || packages+=(openssl)
has node || packages+=(nodejs)
has npm || packages+=(npm)
[ -n "${ENCKE_CHROMIUM:=$(find_browser)}" ] || packages+=(chromium)
has python3 && python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv)
has jython || packages+=(jython)
has strace || packages+=(strace)
has valgrind || packages+=(valgrind)
has systemd-analyze || packages+=(systemd)
has ssh || packages+=(openssh-client)
has xz || packages+=(xz-utils)
has qemu-aarch64-static && has qemu-arm-static || packages+=(qemu-user-static)
has arm-linux-gnueabihf-gcc && [ -e "$(arm-linux-gnueabihf-gcc -print-file-name=crt1.o)" ] ||
    packages+=(gcc-arm-linux-gnueabihf libc6-dev-armhf-cross)
nginx="tests/.venv/nginx/usr/sbin/nginx"

if [ ${#packages[@]} -gt 0 ]; then
    command="apt-get install -y --no-install-recommends ${packages[*]}"
    has apt-get || stop "please install what the tests need: ${packages[*]}"
    [ "$(id -u)" -eq 0 ] || stop "the tests need more programs; please run: sudo $command"
    printf '== installing for the tests: %s\n' "${packages[*]}"
    apt-get update -q || printf 'the list of packages is not quite fresh; going on\n'
    DEBIAN_FRONTEND=noninteractive $command || stop "these could not be installed: ${packages[*]}"
fi
export ENCKE_CHROMIUM="${ENCKE_CHROMIUM:-$(find_browser)}"
node_major="$(node --version | sed 's/^v\([0-9]*\).*/\1/')"
[ "$node_major" -ge 20 ] || stop "node is $(node --version); the tests need version 20 or later"
cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 ||
    rustup component add rustfmt clippy || stop "rustfmt and clippy are missing"

printf '== installing into tests/.venv: PyPI packages of tests/interop/requirements.txt\n'
[ -x tests/.venv/bin/python ] || python3 -m venv tests/.venv || stop "no venv could be made"
tests/.venv/bin/python -m pip install --quiet --disable-pip-version-check \
    -r tests/interop/requirements.txt || stop "the PyPI packages could not be installed"

for folder in tests/interop tests/browser; do
    [ -f "$folder/package.json" ] || continue
    printf '== installing into %s/node_modules: its npm packages\n' "$folder"
    (cd "$folder" && npm install --no-audit --no-fund) || stop "npm failed in $folder"
done

# Taken out of its package, so that no service starts and port 80 stays as it is.
if ! has nginx && ! [ -x "$nginx" ]; then
    printf '== unpacking nginx into tests/.venv/nginx, for one proxy test\n'
    folder="$(mktemp -d)"
    chmod 755 "$folder"
    fetch() { (cd "$folder" && apt-get download -q nginx); }
    fetch || { apt-get update -q; fetch; } || stop "nginx could not be had; please install it"
    dpkg-deb -x "$folder"/nginx_*.deb tests/.venv/nginx || stop "nginx's package is broken"
    rm -r "$folder"
fi
has nginx || PATH="$PATH:$PWD/$(dirname "$nginx")"

# For a machine of the test's own, where deploy.py unpacks them: no sshd starts here.
debs="tests/.venv/debs"
if [ "$(id -u)" -eq 0 ] && ! { [ -x /usr/sbin/sshd ] && has sudo; } && ! [ -d "$debs" ]; then
    printf '== fetching openssh-server and sudo into %s, for one test\n' "$debs"
    mkdir -p "$debs.new/partial"
    fetch() {
        apt-get install -y -q --download-only --no-install-recommends \
            -o Dir::Cache::Archives="$PWD/$debs.new" openssh-server sudo
    }
    fetch || { apt-get update -q; fetch; } || stop "openssh-server and sudo could not be had"
    mv "$debs.new" "$debs"
fi

# Its parts come from PyPI one by one, which takes a minute.
autobahn="${ENCKE_SHARED:-../shared}/autobahn/autobahn-setup.sh"
if [ -x "$autobahn" ] && ! [ -f "${CARGO_TARGET_DIR:-target}/autobahn/ready" ]; then
    printf '== setting up the client of the Autobahn test suite in target/autobahn\n'
    folder="$(realpath -m "${CARGO_TARGET_DIR:-target}")/autobahn"
    rm -rf "$folder"
    mkdir -p "$folder"
    PATH="$PWD/tests/.venv/bin:$PATH" "$autobahn" "$folder" && touch "$folder/ready" ||
        stop "the client of the Autobahn test suite could not be set up"
fi

# Read by scripts/bench: installs the servers and tools that are not here yet, says so, and builds.
# It uses that script's variables and sets `triple` and `binary`. No service that ran before is
# touched.
# shellcheck shell=bash disable=SC2034,SC2154

has() {
    command -v "$1" >/dev/null
}

# Whether Debian's Python, which Debian's packages are for, has aiohttp.
has_aiohttp() {
    /usr/bin/python3 -c 'import aiohttp' 2>/dev/null
}

packages=() services=()
[ -x /usr/sbin/nginx ] || { packages+=(nginx) && services+=(nginx); }
[ -e /usr/lib/nginx/modules/ngx_nchan_module.so ] || packages+=(libnginx-mod-nchan)
[ -x /usr/sbin/mosquitto ] || { packages+=(mosquitto) && services+=(mosquitto); }
[ -x /usr/bin/node ] || packages+=(nodejs)
has python3 && python3 -c 'import venv' 2>/dev/null || packages+=(python3-venv)
has_aiohttp || [ -x "$home/venv/bin/python" ] || packages+=(python3-aiohttp)
has valgrind || packages+=(valgrind)
has strace || packages+=(strace)
has cc || packages+=(gcc libc6-dev)

# A package of Debian's starts its service at once; nobody asked for that here.
end_services() {
    local service
    for service in "${services[@]}"; do
        if [ -d /run/systemd/system ]; then
            systemctl is-active --quiet "$service" && systemctl disable --now --quiet "$service"
        else
            service "$service" status >/dev/null 2>&1 && service "$service" stop >/dev/null
        fi && say "its installation had started the service $service; it is stopped again"
    done
}

if $installs && [ ${#packages[@]} -gt 0 ]; then
    command=(apt-get install -y -qq --no-install-recommends "${packages[@]}")
    if ! has apt-get; then
        say "not everything is here, and what is missing is left out: ${packages[*]}"
    elif [ "$(id -u)" -ne 0 ]; then
        say "some programs are missing; to have them, run: sudo ${command[*]}" \
            "What they are for is left out now."
    else
        say "installing: ${packages[*]}"
        apt-get update -qq >&2 || say "the list of packages is not quite fresh; going on"
        DEBIAN_FRONTEND=noninteractive "${command[@]}" -o Dpkg::Use-Pty=0 >/dev/null ||
            stop "these could not be installed"
        end_services
    fi
fi
has cc || stop "there is no C compiler; please install gcc and libc6-dev"

# A Python of its own that sees Debian's aiohttp; else aiohttp comes from PyPI, into it alone.
if ! [ -x "$home/venv/bin/python" ]; then
    if has_aiohttp; then
        /usr/bin/python3 -m venv --without-pip --system-site-packages "$home/venv"
    elif $installs; then
        say "installing aiohttp from PyPI into $home/venv"
        { python3 -m venv "$home/venv" && "$home/venv/bin/python" -m pip install -q aiohttp; } ||
            { rm -rf "$home/venv" && say "that failed; Python is left out"; }
    fi
fi

# The static binary is what boards get; where its target cannot be had, the one of this computer.
if [ -n "$binary" ]; then
    triple="what ENCKE_BIN names"
else
    triple="$(uname -m)-unknown-linux-musl"
    binary="${CARGO_TARGET_DIR:-target}/$triple/release/encke"
    build=(cargo build --release --locked --quiet --bin encke --target)
    if ! rustup target list --installed 2>/dev/null | grep -qx "$triple" &&
        say "one thing more is needed; now: rustup target add $triple" &&
        ! rustup target add "$triple" >&2; then
        say "that failed; the binary for this computer is measured in its place"
        triple="$(rustc -vV | sed -n 's/^host: //p')"
        binary="${CARGO_TARGET_DIR:-target}/$triple/release/encke"
    fi
    "${build[@]}" "$triple" || stop "Encke does not build"
fi
# The generator is built from a copy: cargo writes a lock file beside a manifest, and what is shared
# may be read-only. The copy stands in our own tree and is no member of our workspace.
mkdir -p "$home/fan/src"
cp "$load"/fan/src/* "$home/fan/src/"
{ cat "$load/fan/Cargo.toml" && printf '\n[workspace]\n'; } >"$home/fan/Cargo.toml"
CARGO_TARGET_DIR="$home/target" cargo build --release --quiet \
    --manifest-path "$home/fan/Cargo.toml" || stop "the generator does not build"
cc -O2 -o "$home/limit" "$load/limit.c" || stop "limit.c does not build"
if $thorough && grep -q 'name = "load"' Cargo.toml; then
    cargo bench --locked --quiet --bench load --no-run || stop "our own generator does not build"
fi
